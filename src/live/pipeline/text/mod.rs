//! Conditioning of a family's denoiser on prompts: the states of the tokens and, in most families, an embedding of the
//! whole prompt, from one, two or three text encoders. With guidance, rows without a prompt come first.

use std::borrow::Cow;

use ort::value::DynTensor;

use super::super::error::Error;
use super::super::onnx::{check_finite, precision_advice, tokens};
use super::super::words::{Tokens, Words};
use super::Cut;
use super::folder::{Family, Folder};
use super::sessions::{Part, Sessions};

mod instruction;
mod rows;

pub(super) use rows::Rows;

/// Number of tokens that T5 sees of a prompt in SD3. Zeros for as many tokens stand for T5 if it is absent. The number
/// is the default of diffusers.
const T5_TOKENS: usize = 256;
/// Number of tokens that T5 sees of a prompt in FLUX.1-dev, and in FLUX.1-schnell, which was distilled with fewer (the
/// model's card and its published code).
const FLUX_TOKENS: [usize; 2] = [512, 256];

/// Names of the denoiser's inputs that are filled here.
pub(super) const STATES: &str = "encoder_hidden_states";
pub(super) const STATES_MASK: &str = "encoder_attention_mask";
pub(super) const POOLED: &str = "pooled_projections";
pub(super) const POOLED_XL: &str = "text_embeds";
pub(super) const TIME_IDS: &str = "time_ids";
pub(super) const TEXT_IDS: &str = "txt_ids";

/// Text encoder with its tokenizer.
#[derive(Debug)]
struct TextEncoder {
    /// Folder of the encoder within the model's folder.
    part: String,
    words: Words,
    model: Part,
}

/// Text encoders of a model.
#[derive(Debug)]
pub(super) struct Text {
    encoders: Vec<TextEncoder>,
    kind: Kind,
}

/// Use of the encoders by family.
#[derive(Debug)]
enum Kind {
    Shapes,
    /// `zero_without_prompt` is true if rows without a prompt are zero, false if they are the result of the empty text.
    StableDiffusionXl {
        zero_without_prompt: bool,
    },
    /// `state_width` is the width of the states that the denoiser takes.
    StableDiffusion3 {
        t5: Option<Box<TextEncoder>>,
        state_width: usize,
    },
    Flux {
        t5: Box<TextEncoder>,
    },
    /// `alone` is the tokenizer of the text without a prompt, which has no instruction before it.
    Sana {
        alone: Box<Words>,
    },
}

/// Conditioning of a denoiser on prompts.
#[derive(Clone, Debug)]
pub(super) struct Conditioning {
    /// Number of rows that the denoiser takes.
    pub(super) rows: usize,
    /// Inputs of the denoiser that stay the same in all steps, by name.
    pub(super) inputs: Vec<(&'static str, Rows)>,
}

impl TextEncoder {
    fn open(sessions: &mut Sessions, folder: &Folder, suffix: &str, length: Option<usize>) -> Result<Self, Error> {
        let words = Words::read(&folder.part(&format!("tokenizer{suffix}")), length)?;
        let part = format!("text_encoder{suffix}");
        let model = sessions.open(&folder.onnx(&part))?;
        Ok(Self { part, words, model })
    }

    fn run(&mut self, texts: &[&str], outputs: &[&str]) -> Result<Vec<Rows>, Error> {
        let tokens = self.words.encode(texts)?;
        self.run_tokens(&tokens, outputs)
    }

    fn run_tokens(&mut self, encoded: &Tokens, outputs: &[&str]) -> Result<Vec<Rows>, Error> {
        let rows = encoded.left_out.len();
        let shape = [rows, encoded.ids.len() / rows.max(1)];
        let ids = tokens(self.model.input_type("input_ids")?, &shape, &encoded.ids)?;
        let mask;
        let mut inputs: Vec<(&str, &DynTensor)> = vec![("input_ids", &ids)];
        if self.model.has_input("attention_mask") {
            mask = tokens(self.model.input_type("attention_mask")?, &shape, &encoded.mask)?;
            inputs.push(("attention_mask", &mask));
        }
        let tensors = self.model.run(&inputs, outputs, true)?;
        let rows = |(tensor, name): (&DynTensor, &&str)| {
            let rows = Rows::from_tensor(tensor)?;
            let advice = precision_advice(*tensor.data_type());
            check_finite(&self.model.file, &rows.values, advice, || format!("in its output `{name}`"))?;
            Ok(rows)
        };
        tensors.iter().zip(outputs).map(rows).collect()
    }

    /// Returns the output name of the states before the last layer. SDXL and SD3 condition on these states.
    fn penultimate(&self) -> Result<String, Error> {
        let layers =
            self.model.output_names().filter_map(|name| name.strip_prefix("hidden_states.")?.parse::<usize>().ok());
        match layers.max() {
            Some(last) if last > 0 => Ok(format!("hidden_states.{}", last - 1)),
            _ => Err(Error::model(
                &self.model.file,
                "has no outputs `hidden_states.N`: export it with its hidden states",
            )),
        }
    }
}

/// Returns the suffixes of the folders of a model's text encoders and tokenizers.
pub(super) fn suffixes(folder: &Folder) -> Vec<&'static str> {
    match folder.family {
        Family::Shapes | Family::Sana => vec![""],
        Family::StableDiffusion3 if folder.has("text_encoder_3") => vec!["", "_2", "_3"],
        Family::StableDiffusionXl | Family::StableDiffusion3 | Family::Flux => vec!["", "_2"],
    }
}

impl Text {
    pub(super) fn open(sessions: &mut Sessions, folder: &Folder, denoiser: &str) -> Result<Self, Error> {
        let mut open = |suffix: &str, length| TextEncoder::open(sessions, folder, suffix, length);
        let config = folder.config(denoiser)?;
        let mut encoders = vec![open("", None)?];
        let kind = match folder.family {
            Family::Shapes => Kind::Shapes,
            Family::StableDiffusionXl => {
                encoders.push(open("_2", None)?);
                config.count("cross_attention_dim")?;
                Kind::StableDiffusionXl { zero_without_prompt: folder.flag("force_zeros_for_empty_prompt") }
            }
            Family::StableDiffusion3 => {
                encoders.push(open("_2", None)?);
                let has_t5 = suffixes(folder).contains(&"_3");
                let t5 = has_t5.then(|| open("_3", Some(T5_TOKENS)).map(Box::new)).transpose()?;
                Kind::StableDiffusion3 { t5, state_width: config.count("joint_attention_dim")? }
            }
            Family::Flux => {
                let length = FLUX_TOKENS[usize::from(!folder.takes_guidance()?)];
                Kind::Flux { t5: Box::new(open("_2", Some(length))?) }
            }
            Family::Sana => {
                let [gemma] = &mut encoders[..] else { unreachable!("one encoder") };
                let alone = gemma.words.clone().with_length(instruction::TOKENS);
                // The first token begins the text, and the prompt's share of the instruction's last token is counted as
                // the prompt's: diffusers takes two tokens off.
                let length = gemma.words.count(&instruction::before(""))? + instruction::TOKENS - 2;
                gemma.words = alone.clone().with_length(length);
                Kind::Sana { alone: Box::new(alone) }
            }
        };
        Ok(Self { encoders, kind })
    }

    /// Gives up the sessions, for a model that can take them over.
    pub(super) fn into_sessions(self) -> impl Iterator<Item = Part> {
        let last = match self.kind {
            Kind::Flux { t5 } | Kind::StableDiffusion3 { t5: Some(t5), .. } => Some(*t5),
            _ => None,
        };
        self.encoders.into_iter().chain(last).map(|encoder| encoder.model)
    }

    /// Computes the conditioning on prompts for pictures of this size. With guidance, as many rows of the negative
    /// prompt come first, which is empty for none.
    pub(super) fn condition(
        &mut self,
        prompts: &[&str],
        negative: Option<&str>,
        size: [u32; 2],
    ) -> Result<Conditioning, Error> {
        // diffusers has the rows without a prompt first, too: the graph of the step splits the prediction in this
        // order.
        let before = if negative.is_some() { prompts.len() } else { 0 };
        let negative = negative.unwrap_or_default();
        let texts: Vec<&str> = std::iter::repeat_n(negative, before).chain(prompts.iter().copied()).collect();
        let inputs = match self.kind {
            Kind::Shapes => self.shapes(&texts)?,
            Kind::StableDiffusionXl { zero_without_prompt } => {
                let [mut states, mut pooled] = self.clips(&texts)?;
                // diffusers does this for an index with `force_zeros_for_empty_prompt`, if no negative prompt is given.
                if zero_without_prompt && negative.is_empty() {
                    states.clear_first(before);
                    pooled.clear_first(before);
                }
                vec![(STATES, states), (POOLED_XL, pooled), (TIME_IDS, time_ids(size, texts.len()))]
            }
            Kind::StableDiffusion3 { .. } => self.stable_diffusion_3(&texts)?,
            Kind::Flux { .. } => self.flux(&texts)?,
            Kind::Sana { .. } => self.sana(prompts, negative, before)?,
        };
        Ok(Conditioning { rows: texts.len(), inputs })
    }

    /// Returns the parts of a prompt that its encoders do not see.
    pub(super) fn cuts(&self, prompt: &str) -> Result<Vec<Cut>, Error> {
        let (text, last) = match &self.kind {
            Kind::Shapes | Kind::StableDiffusionXl { .. } => (Cow::Borrowed(prompt), None),
            Kind::StableDiffusion3 { t5, .. } => (Cow::Borrowed(prompt), t5.as_ref()),
            Kind::Flux { t5 } => (Cow::Borrowed(prompt), Some(t5)),
            Kind::Sana { .. } => (Cow::Owned(instruction::before(prompt)), None),
        };
        let mut cuts = Vec::new();
        for encoder in self.encoders.iter().chain(last.map(Box::as_ref)) {
            let left_out: usize = encoder.words.encode(&[&text])?.left_out.iter().sum();
            if left_out > 0 {
                let limit =
                    if matches!(self.kind, Kind::Sana { .. }) { instruction::TOKENS } else { encoder.words.length };
                cuts.push(Cut { encoder: encoder.part.clone(), limit, left_out });
            }
        }
        Ok(cuts)
    }

    /// Makes the error for text encoders that do not fit together.
    fn mismatch(&self, expected: &str) -> Error {
        Error::model(&self.encoders[0].model.file, format!("its text encoders do not go together: {expected}"))
    }

    fn shapes(&mut self, texts: &[&str]) -> Result<Vec<(&'static str, Rows)>, Error> {
        let [states, pooled] = two(self.encoders[0].run(texts, &["last_hidden_state", "text_embeds"])?);
        Ok(vec![(STATES, states), (POOLED, pooled)])
    }

    /// Runs the two CLIP encoders. Their penultimate states are joined side by side, and so are the embeddings that
    /// they have. Returns states and embeddings.
    fn clips(&mut self, texts: &[&str]) -> Result<[Rows; 2], Error> {
        let mut parts = Vec::new();
        for encoder in &mut self.encoders {
            let penultimate = encoder.penultimate()?;
            let embeds = encoder.model.output_names().any(|name| name == "text_embeds");
            let outputs: &[&str] = if embeds { &[&penultimate, "text_embeds"] } else { &[&penultimate] };
            parts.push(encoder.run(texts, outputs)?);
        }
        let pooled: Vec<&Rows> = parts.iter().filter_map(|part| part.get(1)).collect();
        // SDXL's U-Net takes only the embedding of the last encoder, but the first encoder may be exported with one,
        // too.
        let pooled = if matches!(self.kind, Kind::StableDiffusionXl { .. }) {
            &pooled[pooled.len().saturating_sub(1)..]
        } else {
            &pooled[..]
        };
        let states: Vec<&Rows> = parts.iter().map(|part| &part[0]).collect();
        let joined = Rows::beside(&states).zip(Rows::beside(pooled));
        let (states, pooled) =
            joined.ok_or_else(|| self.mismatch("expected as many tokens of each, and `text_embeds`"))?;
        Ok([states, pooled])
    }

    /// Pads CLIP's states to T5's width, and appends T5's tokens to CLIP's.
    fn stable_diffusion_3(&mut self, texts: &[&str]) -> Result<Vec<(&'static str, Rows)>, Error> {
        let [states, pooled] = self.clips(texts)?;
        let Kind::StableDiffusion3 { t5, state_width } = &mut self.kind else { unreachable!("the kind of the caller") };
        let width = *state_width;
        let t5 = match t5 {
            Some(t5) => t5.run(texts, &["last_hidden_state"])?.remove(0),
            None => Rows::zeros(vec![texts.len(), T5_TOKENS, width]),
        };
        let states = states.padded(width).and_then(|states| Rows::after(&states, &t5));
        let states = states.ok_or_else(|| self.mismatch("expected states as wide as the transformer's"))?;
        Ok(vec![(STATES, states), (POOLED, pooled)])
    }

    /// Takes the embedding of the prompt from CLIP and the states of the tokens from T5. Tokens of the text have the
    /// position 0.
    fn flux(&mut self, texts: &[&str]) -> Result<Vec<(&'static str, Rows)>, Error> {
        let Kind::Flux { t5 } = &mut self.kind else { unreachable!("the kind of the caller") };
        let states = t5.run(texts, &["last_hidden_state"])?.remove(0);
        let positions = Rows::zeros(vec![t5.words.length, 3]);
        let pooled = self.encoders[0].run(texts, &["pooler_output"])?.remove(0);
        Ok(vec![(STATES, states), (POOLED, pooled), (TEXT_IDS, positions)])
    }

    /// Runs Gemma on the instruction with the prompt, and keeps the first token and those of the prompt. The
    /// negative prompt has no instruction, and is the same for all rows.
    fn sana(&mut self, prompts: &[&str], negative: &str, before: usize) -> Result<Vec<(&'static str, Rows)>, Error> {
        let Kind::Sana { alone } = &self.kind else { unreachable!("the kind of the caller") };
        let gemma = &mut self.encoders[0];
        let texts: Vec<String> = prompts.iter().map(|prompt| instruction::before(prompt)).collect();
        let told = gemma.words.encode(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
        let length = gemma.words.length;
        let kept: Vec<usize> = std::iter::once(0).chain(length - instruction::TOKENS + 1..length).collect();
        let of_prompts = |all: Rows| all.keep(&kept);
        let states = gemma.run_tokens(&told, &["last_hidden_state"])?.remove(0);
        let mut states = of_prompts(states);
        let mut mask = of_prompts(Rows::of_tokens(&told.mask, prompts.len()));
        if before > 0 {
            let free = alone.encode(&[negative])?;
            let free_states = gemma.run_tokens(&free, &["last_hidden_state"])?.remove(0).repeated(before);
            let free_mask = Rows::of_tokens(&free.mask, 1).repeated(before);
            states = states.and_then(|states| free_states.above(&states));
            mask = mask.and_then(|mask| free_mask.above(&mask));
        }
        let (states, mask) = states.zip(mask).ok_or_else(|| self.mismatch("expected a state for each token"))?;
        Ok(vec![(STATES, states), (STATES_MASK, mask)])
    }
}

/// Returns the sizes that SDXL takes: the original size, the corner of its crop, and the target size, each as height
/// and width.
fn time_ids([width, height]: [u32; 2], rows: usize) -> Rows {
    let (width, height) = (width as f32, height as f32);
    Rows { shape: vec![rows, 6], values: [height, width, 0.0, 0.0, height, width].repeat(rows) }
}

fn two(parts: Vec<Rows>) -> [Rows; 2] {
    parts.try_into().unwrap_or_else(|_| unreachable!("as many outputs as were asked for"))
}
