//! Tokenizers: from `tokenizer.json` if there is one, otherwise CLIP's tokenizer from `vocab.json` and `merges.txt`, as
//! the folders of SDXL have them. Padding and length follow the folder's configuration.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokenizers::{Encoding, PaddingDirection, PaddingStrategy, PostProcessor, Tokenizer, TruncationDirection};

use super::error::Error;
use super::pipeline::Json;
use crate::input::{self, InputError};

/// Smallest length in a `tokenizer_config.json` that means "no limit".
// transformers writes about 10^30 for a tokenizer without a limit.
const LONGEST: u64 = 1 << 20;
/// Smallest number of tokens: begin, end and something in between.
const SHORTEST: usize = 4;

/// Tokens of texts, one row of the same length for each text, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    /// Numbers of the tokens.
    pub(super) ids: Vec<u32>,
    /// 1 for each token and 0 for padding.
    pub(super) mask: Vec<u32>,
    /// Number of tokens of each text that did not fit.
    pub(super) left_out: Vec<usize>,
}

/// Tokenizer that turns each text into the same number of token numbers.
#[derive(Clone, Debug)]
pub(super) struct Words {
    file: PathBuf,
    tokenizer: Tokenizer,
    pub(super) length: usize,
    /// Number and text of the token that fills texts up.
    padding: (u32, String),
}

impl Words {
    /// Reads the folder of a tokenizer. Without `length`, the number of tokens of a text is as the folder says.
    pub(super) fn read(folder: &Path, length: Option<usize>) -> Result<Self, Error> {
        let file = folder.join("tokenizer.json");
        let config = optional(&folder.join("tokenizer_config.json"))?;
        let specials = optional(&folder.join("special_tokens_map.json"))?;
        let (file, mut tokenizer) = if file.is_file() {
            let tokenizer = Tokenizer::from_file(&file).map_err(|error| unusable(&file, &*error))?;
            (file, tokenizer)
        } else {
            let file = folder.join("vocab.json");
            let tokenizer = clip(folder, &file, &config, &specials)?;
            (file, tokenizer)
        };
        let said = config["model_max_length"].as_u64().filter(|length| (1..LONGEST).contains(length));
        let own = tokenizer.get_padding().and_then(|padding| match padding.strategy {
            PaddingStrategy::Fixed(length) => Some(length),
            PaddingStrategy::BatchLongest => None,
        });
        let length = length.or(said.map(|length| length as usize)).or(own).unwrap_or(77);
        if !(SHORTEST..=4096).contains(&length) {
            let message = format!("expected from {SHORTEST} to 4096 tokens");
            return Err(InputError::new(folder, message).value("model_max_length", length).into());
        }
        let named = |source: &Value| {
            let token = &source["pad_token"];
            token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
        };
        let own = tokenizer.get_padding().map(|padding| padding.pad_token.clone());
        let pad_token =
            named(&config).or_else(|| named(&specials)).or(own).unwrap_or_else(|| "<|endoftext|>".to_owned());
        let pad_id = tokenizer.token_to_id(&pad_token).ok_or_else(|| {
            Error::from(
                InputError::new(&file, "is not in the vocabulary").value("pad_token", format_args!("{pad_token:?}")),
            )
        })?;
        // A tokenizer that cuts texts itself stops early, and does not know how many tokens it has left out.
        tokenizer.with_truncation(None).map_err(|error| unusable(&file, &*error))?;
        tokenizer.with_padding(None);
        Ok(Self { file, tokenizer, length, padding: (pad_id, pad_token) })
    }

    /// Returns a tokenizer that turns each text into another number of tokens.
    pub(super) fn with_length(self, length: usize) -> Self {
        Self { length, ..self }
    }

    /// Returns the tokens of these texts.
    pub(super) fn encode(&self, texts: &[&str]) -> Result<Tokens, Error> {
        let capacity = texts.len() * self.length;
        let mut tokens =
            Tokens { ids: Vec::with_capacity(capacity), mask: Vec::with_capacity(capacity), left_out: Vec::new() };
        let room = self.length.saturating_sub(self.specials());
        for text in texts {
            let mut encoding = self.words_of(text)?;
            tokens.left_out.push(encoding.len().saturating_sub(room));
            encoding.truncate(room, 0, TruncationDirection::Right);
            let whole = self.tokenizer.post_process(encoding, None, true);
            let mut encoding = whole.map_err(|error| unusable(&self.file, &*error))?;
            let (pad_id, pad_token) = &self.padding;
            encoding.pad(self.length, *pad_id, 0, pad_token, PaddingDirection::Right);
            tokens.ids.extend_from_slice(encoding.get_ids());
            tokens.mask.extend_from_slice(encoding.get_attention_mask());
        }
        Ok(tokens)
    }

    /// Returns the number of tokens of a text that is neither cut nor padded, special tokens included.
    pub(super) fn count(&self, text: &str) -> Result<usize, Error> {
        Ok(self.words_of(text)?.len() + self.specials())
    }

    /// Returns the tokens of a text without the special tokens around them.
    fn words_of(&self, text: &str) -> Result<Encoding, Error> {
        self.tokenizer.encode(text, false).map_err(|error| unusable(&self.file, &*error))
    }

    /// Returns the number of special tokens around a text.
    fn specials(&self) -> usize {
        self.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false))
    }
}

fn unusable(file: &Path, error: &dyn std::error::Error) -> Error {
    InputError::new(file, format!("is no tokenizer that can be used: {error}")).into()
}

/// Reads a JSON file, or returns null if the file is missing.
fn optional(file: &Path) -> Result<Value, Error> {
    if file.is_file() { Ok(Json::read(file)?.into_value()) } else { Ok(Value::Null) }
}

/// Makes CLIP's tokenizer from its vocabulary and merges. Texts are converted to lower case and split into words by
/// CLIP's pattern. Pairs of bytes are merged, and each text gets a token before it and a token after it.
fn clip(folder: &Path, vocabulary: &Path, config: &Value, specials: &Value) -> Result<Tokenizer, Error> {
    let vocab = Json::read(vocabulary)?.into_value();
    let merges = input::text(folder.join("merges.txt"))?;
    let merges: Vec<&str> = merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty()).collect();
    let id = |token: &str| {
        vocab[token].as_u64().ok_or_else(|| InputError::new(vocabulary, "is missing from the vocabulary").key(token))
    };
    let (begin, end) = ("<|startoftext|>", "<|endoftext|>");
    let (begin_id, end_id) = (id(begin)?, id(end)?);
    // A word that pads becomes a special token wherever it stands in a text: SDXL's second tokenizer pads with "!".
    let mut added = vec![added_token(begin_id, &json!(begin)), added_token(end_id, &json!(end))];
    if let Some(tokens) = config["added_tokens_decoder"].as_object() {
        added = tokens.iter().filter_map(|(id, token)| Some(added_token(id.parse().ok()?, token))).collect();
    } else if let Some(pad) = specials["pad_token"].as_str().or_else(|| specials["pad_token"]["content"].as_str())
        && pad != begin
        && pad != end
    {
        added.push(added_token(id(pad)?, &specials["pad_token"]));
    }
    // CLIP's pattern without its first part, the special tokens: these are added tokens here. The whole description is
    // the one that `CLIPConverter` of transformers makes.
    let pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    let description = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "NFC" },
            { "type": "Replace", "pattern": { "Regex": "\\s+" }, "content": " " },
            { "type": "Lowercase" },
        ]},
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Removed", "invert": true },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        ]},
        "post_processor": {
            "type": "RobertaProcessing", "sep": [end, end_id], "cls": [begin, begin_id], "trim_offsets": false, "add_prefix_space": false,
        },
        // Nothing turns tokens back into text.
        "decoder": null,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": end, "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges,
        },
    });
    let bytes = serde_json::to_vec(&description).map_err(|error| unusable(vocabulary, &error))?;
    Tokenizer::from_bytes(bytes).map_err(|error| unusable(vocabulary, &*error))
}

/// Describes a token that is special wherever it stands in a text. `token` is its text, or a table with its properties.
fn added_token(id: u64, token: &Value) -> Value {
    let flag = |key: &str, default: bool| token[key].as_bool().unwrap_or(default);
    let content = token.as_str().or_else(|| token["content"].as_str()).unwrap_or_default();
    json!({
        "id": id, "content": content, "single_word": flag("single_word", false), "lstrip": flag("lstrip", false),
        "rstrip": flag("rstrip", false), "normalized": flag("normalized", true), "special": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the tokens of texts that are hard to split with those of the reference implementation.
    #[test]
    fn texts_become_the_tokens_of_the_reference() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
        let cases: Value = serde_json::from_str(&input::text(folder.join("tokens.json")).unwrap()).unwrap();
        let tokenizers = [
            ("clip", "sdxl/model/tokenizer", None),
            ("clip", "sd3/model/tokenizer", None),
            ("clip_2", "sdxl/model/tokenizer_2", None),
            ("clip_2", "sd3/model/tokenizer_2", None),
            ("t5", "sd3/model/tokenizer_3", Some(256)),
            ("t5", "flux-dev/model/tokenizer_2", Some(256)),
            ("gemma", "sana/model/tokenizer", Some(300)),
        ];
        for (name, place, length) in tokenizers {
            let words = Words::read(&folder.join(place), length).unwrap();
            for case in cases.as_array().unwrap() {
                let text = case["text"].as_str().unwrap();
                let expected: Vec<u32> = serde_json::from_value(case[name].clone()).unwrap();
                let tokens = words.encode(&[text]).unwrap();
                assert_eq!(tokens.ids.len(), length.unwrap_or(77));
                assert_eq!(tokens.ids[..expected.len()], expected, "{place}: {text:?}");
                assert_eq!(tokens.mask.iter().sum::<u32>() as usize, expected.len(), "{place}: {text:?}");
                let all = words.count(text).unwrap();
                assert_eq!(tokens.left_out, [all - expected.len()], "{place}: {text:?}");
                let whole = words.clone().with_length(1000).encode(&[text]).unwrap();
                assert_eq!(whole.mask.iter().sum::<u32>() as usize, all, "{place}: {text:?}");
            }
        }
    }
}
