//! Tokenizers: from `tokenizer.json` if there is one, otherwise CLIP's tokenizer from `vocab.json` and `merges.txt`, as
//! the folders of SDXL have them. Padding and length follow the folder's configuration.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokenizers::{Encoding, PaddingDirection, PaddingParams, PaddingStrategy, Tokenizer, TruncationParams};

use super::error::Error;
use super::pipeline::Json;
use crate::input::{self, InputError};

/// Smallest length in a `tokenizer_config.json` that means "no limit".
// transformers writes about 10^30 for a tokenizer without a limit.
const LONGEST: u64 = 1 << 20;
/// Smallest number of tokens: begin, end and something in between.
const SHORTEST: usize = 4;

/// Tokenizer that turns each text into the same number of token numbers.
#[derive(Clone, Debug)]
pub(super) struct Words {
    file: PathBuf,
    tokenizer: Tokenizer,
    pub(super) length: usize,
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
        let truncation = TruncationParams { max_length: length, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| unusable(&file, &*error))?;
        tokenizer.with_padding(Some(PaddingParams {
            strategy: PaddingStrategy::Fixed(length),
            direction: PaddingDirection::Right,
            pad_id,
            pad_token,
            ..PaddingParams::default()
        }));
        Ok(Self { file, tokenizer, length })
    }

    /// Returns the token numbers of these texts, one row after the other.
    pub(super) fn rows(&self, texts: &[&str]) -> Result<Vec<u32>, Error> {
        self.encode(texts, Encoding::get_ids)
    }

    /// Returns 1 for each token of these texts and 0 for padding, one row after the other.
    pub(super) fn masks(&self, texts: &[&str]) -> Result<Vec<u32>, Error> {
        self.encode(texts, Encoding::get_attention_mask)
    }

    fn encode(&self, texts: &[&str], of: fn(&Encoding) -> &[u32]) -> Result<Vec<u32>, Error> {
        let mut rows = Vec::with_capacity(texts.len() * self.length);
        for text in texts {
            let encoding = self.tokenizer.encode(*text, true).map_err(|error| unusable(&self.file, &*error))?;
            rows.extend_from_slice(of(&encoding));
        }
        Ok(rows)
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
        ];
        for (name, place, length) in tokenizers {
            let words = Words::read(&folder.join(place), length).unwrap();
            for case in cases.as_array().unwrap() {
                let text = case["text"].as_str().unwrap();
                let expected: Vec<u32> = serde_json::from_value(case[name].clone()).unwrap();
                let rows = words.rows(&[text]).unwrap();
                assert_eq!(rows.len(), length.unwrap_or(77));
                assert_eq!(rows[..expected.len()], expected, "{place}: {text:?}");
                let mask = words.masks(&[text]).unwrap();
                assert_eq!(mask.iter().sum::<u32>() as usize, expected.len(), "{place}: {text:?}");
            }
        }
    }
}
