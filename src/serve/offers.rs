//! Wishes that clients may have beside their prompts: what is offered here, and what a client asks for of it.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::lock;
use crate::live::details::Details;
use crate::model::Size;
use crate::request::Ask;
use crate::trace::asks::{KeyRule, Numbering, Wishes};

/// Wishes of a request beside its prompt. Nothing stands for what is usual.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wanted {
    /// Width and height in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[u32; 2]>,
    /// Denoising steps of a full generation by the large model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// Checkpoint in place of the models' own weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Negative prompt; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub negative_prompt: String,
    /// Guidance scale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
    /// Form of the pictures' files.
    #[serde(skip_serializing_if = "Encoding::is_png")]
    pub encoding: Encoding,
}

/// Form of the files of pictures in answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// PNG.
    #[default]
    Png,
    /// JPEG of a quality from 1 to 100.
    Jpeg(u8),
    /// WebP, lossless.
    Webp,
}

impl Encoding {
    /// Quality of a JPEG if none is asked for.
    pub const USUAL_QUALITY: u8 = 95;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    const fn is_png(&self) -> bool {
        matches!(self, Self::Png)
    }

    /// Returns the encoding of this name, with a quality for JPEG.
    #[must_use]
    pub fn named(name: &str, quality: u8) -> Option<Self> {
        match name {
            "png" => Some(Self::Png),
            "jpeg" => Some(Self::Jpeg(quality)),
            "webp" => Some(Self::Webp),
            _ => None,
        }
    }

    /// Returns the name in requests and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg(_) => "jpeg",
            Self::Webp => "webp",
        }
    }
}

impl Wanted {
    /// Returns whether nothing unusual is asked for.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// Offers of a server, and the numbers of the keys of what was asked for. There are as many keys as different values of
/// the properties in `cache.key`: with `negative_prompt` among them, one for each text that clients have sent.
#[derive(Debug)]
pub struct Offers {
    /// Usual width and height of pictures, in pixels.
    pub size: [u32; 2],
    /// Further widths and heights.
    pub sizes: Vec<[u32; 2]>,
    /// Usual denoising steps of a full generation by the large model.
    pub steps: u32,
    /// Largest number of such steps.
    pub most_steps: u32,
    /// Names of the checkpoints, by number from 1.
    pub checkpoints: Vec<String>,
    /// Reason for which no guidance above 1 may be asked for, if there is one.
    pub no_guidance: Option<String>,
    /// Reason for which no negative prompt may be asked for, if there is one.
    pub no_negative_prompt: Option<&'static str>,
    /// Rule by which keys are made.
    pub rule: KeyRule,
    /// Numbers of the keys so far.
    pub numbering: Mutex<Numbering>,
}

impl Offers {
    /// Makes the offers of a server whose pictures have one size and these steps.
    #[must_use]
    pub fn of_size(size: [u32; 2], steps: u32, rule: KeyRule) -> Self {
        Self {
            size,
            sizes: Vec::new(),
            steps,
            most_steps: steps,
            checkpoints: Vec::new(),
            no_guidance: None,
            no_negative_prompt: None,
            rule,
            numbering: Mutex::default(),
        }
    }

    /// Returns the sizes that are offered, the usual one first.
    pub fn all_sizes(&self) -> impl Iterator<Item = [u32; 2]> {
        std::iter::once(self.size).chain(self.sizes.iter().copied().filter(|size| *size != self.size))
    }

    /// Returns the reason for which something is not offered, with the key of the API, or nothing if all is.
    #[must_use]
    pub fn refusal(&self, wanted: &Wanted) -> Option<(&'static str, String)> {
        let Wanted { size, steps, checkpoint, negative_prompt, guidance, encoding: _ } = wanted;
        if size.is_some_and(|size| !self.all_sizes().any(|offered| offered == size)) {
            let sizes: Vec<String> = self.all_sizes().map(|[width, height]| format!("\"{width}x{height}\"")).collect();
            let accepted = sizes.join(", ");
            return Some(("size", format!("expected {accepted} or \"auto\": no other size is drawn here")));
        }
        if steps.is_some_and(|steps| !(1..=self.most_steps).contains(&steps)) {
            let message = format!("expected a whole number from 1 to {}", self.most_steps);
            return Some(("num_inference_steps", message));
        }
        if let Some(name) = checkpoint.as_ref().filter(|name| !self.checkpoints.contains(name)) {
            let message = if self.checkpoints.is_empty() {
                format!("there is no checkpoint {name:?}: none is offered here")
            } else {
                format!("expected one of {}", self.checkpoints.join(", "))
            };
            return Some(("checkpoint", message));
        }
        if let (Some(reason), true) = (self.no_negative_prompt, !negative_prompt.is_empty()) {
            return Some(("negative_prompt", reason.to_owned()));
        }
        let is_guided = guidance.is_some_and(|scale| scale > 1.0);
        self.no_guidance.as_ref().filter(|_| is_guided).map(|reason| ("guidance_scale", reason.clone()))
    }

    /// Returns what the scheduler and the workers need to know of wishes that are offered.
    #[must_use]
    pub fn ask(&self, wanted: &Wanted) -> (Ask, Details) {
        let checkpoint = wanted.checkpoint.as_deref().unwrap_or_default();
        let wishes =
            Wishes { checkpoint, loras: "", negative_prompt: wanted.negative_prompt.trim(), guidance: wanted.guidance };
        let (key, weights) = lock(&self.numbering).number(&wishes, &self.rule);
        let size = Size::of_pixels(self.size_of(wanted), self.size);
        let details = Details {
            checkpoint: weights.checkpoint,
            negative_prompt: wishes.negative_prompt.to_owned(),
            guidance: wanted.guidance,
        };
        (Ask { size, steps: wanted.steps.unwrap_or(0), key, weights, skips: 0 }, details)
    }

    /// Returns the width and height of the pictures of a request, in pixels.
    #[must_use]
    pub fn size_of(&self, wanted: &Wanted) -> [u32; 2] {
        wanted.size.unwrap_or(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::asks::KeyPart;

    fn offers(parts: &[KeyPart]) -> Offers {
        let checkpoints = vec!["a".to_owned(), "b".to_owned()];
        Offers {
            sizes: vec![[64, 64], [32, 32]],
            most_steps: 30,
            numbering: Mutex::new(Numbering::of_checkpoints(checkpoints.iter().map(String::as_str))),
            checkpoints,
            no_negative_prompt: Some("expected nothing"),
            ..Offers::of_size([32, 32], 20, KeyRule { parts: parts.to_vec(), guidance_tolerance: 1.0 })
        }
    }

    #[test]
    fn what_is_asked_for_gets_the_numbers_of_the_scenario() {
        let offers = offers(&[KeyPart::Checkpoint, KeyPart::Guidance]);
        let ask = |checkpoint: Option<&str>, guidance, size| {
            let checkpoint = checkpoint.map(str::to_owned);
            offers.ask(&Wanted { size, checkpoint, guidance, ..Wanted::default() })
        };
        assert_eq!(ask(None, None, Some([32, 32])), (Ask::default(), Details::default()));
        let (second, details) = ask(Some("b"), None, Some([64, 64]));
        assert_eq!((second.weights.checkpoint, details.checkpoint, second.key), (2, 2, 1));
        assert_eq!(second.size, Size { width: 64, height: 64 });
        assert_eq!([ask(Some("b"), Some(3.2), None).0.key, ask(Some("b"), Some(2.9), None).0.key], [2, 2]);
        assert_eq!((ask(Some("a"), None, None).0.key, ask(Some("b"), None, None).0.key), (3, 1));
    }

    #[test]
    fn texts_that_are_no_part_of_the_key_are_not_remembered() {
        let offers = offers(&[KeyPart::Checkpoint]);
        for text in 0..100 {
            let negative_prompt = format!("no {text}");
            let (ask, details) = offers.ask(&Wanted { negative_prompt: negative_prompt.clone(), ..Wanted::default() });
            assert_eq!((ask.key, details.negative_prompt), (0, negative_prompt));
        }
        let refused = |wanted: Wanted| offers.refusal(&wanted).map(|(key, _)| key);
        assert_eq!(refused(Wanted { steps: Some(31), ..Wanted::default() }), Some("num_inference_steps"));
        assert_eq!(refused(Wanted { size: Some([64, 32]), ..Wanted::default() }), Some("size"));
        assert_eq!(refused(Wanted { checkpoint: Some("c".into()), ..Wanted::default() }), Some("checkpoint"));
        assert_eq!(refused(Wanted { negative_prompt: "x".into(), ..Wanted::default() }), Some("negative_prompt"));
        assert_eq!(refused(Wanted { steps: Some(30), size: Some([64, 64]), ..Wanted::default() }), None);
    }
}
