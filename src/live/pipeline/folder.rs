//! Folder of a model as Hugging Face Optimum exports it: `model_index.json`, and a folder for each part with its
//! `config.json` and `model.onnx`. The configuration is read here, and no session is opened.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::error::Error;
use crate::input::{self, InputError};

/// Names of pipeline classes in `model_index.json`, each with its family.
const CLASSES: [(&str, Family); 5] = [
    ("ShapesPipeline", Family::Shapes),
    ("StableDiffusionXLPipeline", Family::StableDiffusionXl),
    ("StableDiffusion3Pipeline", Family::StableDiffusion3),
    ("FluxPipeline", Family::Flux),
    ("SanaPipeline", Family::Sana),
];

/// Family of models that are drawn with in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Small models of this project (models/shapes): SD3's inputs and outputs, on pixels.
    Shapes,
    /// SDXL: two CLIP encoders, a U-Net, Euler's method on noise levels.
    StableDiffusionXl,
    /// SD3 and SD3.5: two CLIP encoders, T5 if it is there, flow matching.
    StableDiffusion3,
    /// FLUX.1: CLIP's embedding of the prompt, T5's tokens, latents packed two by two, flow matching.
    Flux,
    /// SANA: Gemma behind an instruction, an autoencoder of factor 32, a second-order solver of flow matching.
    Sana,
}

/// Folder of a model, with the content of its index.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
    pub(super) family: Family,
    index: Json,
}

/// JSON file whose name is kept for errors.
#[derive(Clone, Debug)]
pub(in crate::live) struct Json {
    pub(in crate::live) file: PathBuf,
    value: Value,
}

impl Folder {
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let index = Json::read(&path.join("model_index.json"))?;
        let class = index.value["_class_name"].as_str().unwrap_or_default();
        // Optimum writes the name of its own class, which is diffusers' name after `ORT`.
        let known = CLASSES.iter().find(|(name, _)| *name == class.trim_start_matches("ORT"));
        let Some((_, family)) = known else {
            let names: Vec<&str> = CLASSES.iter().map(|(name, _)| *name).collect();
            let message = format!("expected one of {}", names.join(", "));
            return Err(InputError::new(&index.file, message).value("_class_name", format_args!("{class:?}")).into());
        };
        Ok(Self { path: path.to_owned(), family: *family, index })
    }

    /// Returns whether the model has this part, as its index says.
    pub(super) fn has(&self, part: &str) -> bool {
        // diffusers writes `[null, null]` for an optional part that is missing.
        self.index.value[part].as_array().is_some_and(|names| names.iter().any(Value::is_string))
    }

    /// Returns the guidance scale in the index, if the index has one.
    pub(super) fn guidance_scale(&self) -> Result<Option<f32>, Error> {
        // -1 stands for an absent key here. The second arm tells it from a -1 in the file.
        match self.index.single_or("guidance_scale", -1.0)? {
            scale if (0.0..=1000.0).contains(&scale) => Ok(Some(scale)),
            _ if self.index.value["guidance_scale"].is_null() => Ok(None),
            _ => Err(self.index.wrong("guidance_scale", "a scale from 0 to 1000")),
        }
    }

    /// Returns whether the denoiser can be guided. FLUX.1-schnell cannot: it was distilled without guidance.
    pub(super) fn takes_guidance(&self) -> Result<bool, Error> {
        Ok(match self.family {
            Family::Flux => self.config("transformer")?.flag("guidance_embeds")?,
            _ => true,
        })
    }

    /// Returns a flag of the index, false if it is absent.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.index.value[key].as_bool().unwrap_or(false)
    }

    pub(super) fn part(&self, part: &str) -> PathBuf {
        self.path.join(part)
    }

    pub(super) fn onnx(&self, part: &str) -> PathBuf {
        self.path.join(part).join("model.onnx")
    }

    pub(super) fn config(&self, part: &str) -> Result<Json, Error> {
        Json::read(&self.path.join(part).join("config.json"))
    }

    pub(super) fn scheduler(&self) -> Result<Json, Error> {
        Json::read(&self.path.join("scheduler").join("scheduler_config.json"))
    }
}

impl Json {
    pub(in crate::live) fn read(file: &Path) -> Result<Self, Error> {
        let text = input::text(file)?;
        let value = serde_json::from_str(&without_python_numbers(&text))
            .map_err(|error| InputError::new(file, format!("expected JSON: {error}")).line(error.line()))?;
        Ok(Self::parse(file, value))
    }

    /// Wraps a value that was read elsewhere. Errors name `file`.
    pub(in crate::live) fn parse(file: &Path, value: Value) -> Self {
        Self { file: file.to_owned(), value }
    }

    /// Returns the whole value.
    pub(in crate::live) fn into_value(self) -> Value {
        self.value
    }

    pub(in crate::live) fn get(&self, key: &str) -> &Value {
        &self.value[key]
    }

    /// Returns a number, or the default if the key is absent or null.
    pub(in crate::live) fn number_or(&self, key: &str, default: f64) -> Result<f64, Error> {
        match &self.value[key] {
            Value::Null => Ok(default),
            value => value.as_f64().ok_or_else(|| self.wrong(key, "a number")),
        }
    }

    /// Returns a number that single precision holds, or the default if the key is absent or null.
    pub(in crate::live) fn single_or(&self, key: &str, default: f64) -> Result<f32, Error> {
        let number = self.number_or(key, default)? as f32;
        if number.is_finite() { Ok(number) } else { Err(self.wrong(key, "a number that single precision holds")) }
    }

    /// Returns a number that values are divided by: as [`Json::single_or`], but not 0.
    pub(super) fn divisor_or(&self, key: &str, default: f64) -> Result<f32, Error> {
        let number = self.number_or(key, default)? as f32;
        let accepted = "a number other than 0 that single precision holds: values are divided by it";
        // A division by a subnormal number could give infinite values as well.
        if number.is_normal() { Ok(number) } else { Err(self.wrong(key, accepted)) }
    }

    /// Returns a whole number above 0.
    pub(in crate::live) fn count(&self, key: &str) -> Result<usize, Error> {
        let count = self.value[key].as_u64().filter(|count| *count > 0);
        count.map(|count| count as usize).ok_or_else(|| self.wrong(key, "a whole number above 0"))
    }

    /// Returns the word of a key, which must be one of `accepted`. A key that is absent means the first word.
    pub(in crate::live) fn one_of(&self, key: &str, accepted: &[&'static str]) -> Result<&'static str, Error> {
        match &self.value[key] {
            Value::Null => Ok(accepted[0]),
            value => {
                let found = accepted.iter().find(|word| value.as_str() == Some(word));
                found.copied().ok_or_else(|| self.wrong(key, &accepted.join(" or ")))
            }
        }
    }

    /// Returns a flag, false if it is absent or null.
    pub(super) fn flag(&self, key: &str) -> Result<bool, Error> {
        match &self.value[key] {
            Value::Null => Ok(false),
            value => value.as_bool().ok_or_else(|| self.wrong(key, "true or false")),
        }
    }

    /// Checks that a key has a value. A key that is absent has the value `default`.
    pub(in crate::live) fn must_be(&self, key: &str, value: &Value, default: &Value) -> Result<(), Error> {
        let found = if self.value[key].is_null() { default } else { &self.value[key] };
        if found == value { Ok(()) } else { Err(self.wrong(key, &value.to_string())) }
    }

    /// Checks that a key is off, because the feature of the key is not supported.
    pub(in crate::live) fn off(&self, key: &str) -> Result<(), Error> {
        match &self.value[key] {
            Value::Null | Value::Bool(false) => Ok(()),
            _ => Err(self.wrong(key, "false")),
        }
    }

    fn wrong(&self, key: &str, accepted: &str) -> Error {
        InputError::new(&self.file, format!("expected {accepted}")).value(key, &self.value[key]).into()
    }
}

/// Replaces `NaN`, `Infinity` and `-Infinity`, which Python writes into its JSON files, by `null`. diffusers writes
/// `-Infinity` into the configuration of SANA's scheduler. Lines stay where they are.
fn without_python_numbers(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    if !WORDS.iter().any(|word| text.contains(word)) {
        return text.into();
    }
    let mut json = String::with_capacity(text.len());
    let (mut rest, mut quoted) = (text, false);
    while let Some(letter) = rest.chars().next() {
        let word = WORDS.iter().find(|word| !quoted && rest.starts_with(**word));
        let length = match (word, letter) {
            (Some(word), _) => {
                json.push_str("null");
                rest = &rest[word.len()..];
                continue;
            }
            (None, '\\') => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (None, '"') => {
                quoted = !quoted;
                1
            }
            (None, letter) => letter.len_utf8(),
        };
        json.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    json.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_only_python_writes_are_read_as_null() {
        let text = r#"{"a": -Infinity, "b": [NaN, Infinity], "c": "\"NaN -Infinity", "é": 1}"#;
        let value: Value = serde_json::from_str(&without_python_numbers(text)).expect("JSON");
        assert_eq!(value, serde_json::json!({ "a": null, "b": [null, null], "c": "\"NaN -Infinity", "é": 1 }));
        assert!(matches!(without_python_numbers("{\"a\": 1}"), Cow::Borrowed(_)));
    }
}
