//! Measures that only runs in real time have: the lag of the loop, the time that embeddings take, and the similarity of
//! each image to its prompt by the encoder. The fold runs beside the others; simulated runs leave it empty.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::percentile::quantile;
use crate::embedding::{Embedding, similarity};
use crate::request::RequestId;
use crate::scheduler::{Action, Decision, DecisionKind, Event};
use crate::time::{Duration, Time};

/// Delays of one run in real time, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delays {
    /// Time from the due time of a request to the time at which the loop took the request. Latency includes this lag,
    /// which no model causes. The executor measures the lag, since the journal has each request at its due time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival_lag_s: Option<Delay>,
    /// Time from the due time of a request to the time at which the embedding of its prompt is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_encoding_s: Option<Delay>,
    /// Time from the completion of an image to the time at which the image can be found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_encoding_s: Option<Delay>,
}

/// Distribution of a delay, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delay {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// Longest delay.
    pub max: f64,
}

/// Quality of the images of one kind: cosine of the embeddings of prompt and image (a `CLIPScore` where the encoder is
/// CLIP's), clamped below at 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageQuality {
    /// Word for the kind of the decision, such as `miss` or `hit`.
    pub decision: String,
    /// Number of skipped steps.
    pub skipped_steps: u32,
    /// Number of images.
    pub images: u64,
    /// Mean cosine.
    pub mean: f64,
    /// Standard error of the mean.
    pub standard_error: f64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct RealTime {
    taken: BTreeMap<RequestId, Time>,
    /// Requests whose images' delays count.
    counted: BTreeSet<RequestId>,
    prompts: BTreeMap<RequestId, Embedding>,
    completed: BTreeMap<RequestId, Time>,
    prompt_encoding: Vec<Duration>,
    image_encoding: Vec<Duration>,
    /// Cosine of every image that was embedded and its prompt.
    pub(super) quality: BTreeMap<RequestId, f64>,
}

impl RealTime {
    /// Takes in an event. Delays are counted for requests from `warmup` on, like every measure; the quality is kept for
    /// every image.
    pub(super) fn event(&mut self, now: Time, event: &Event, warmup: Time) {
        match event {
            Event::Arrived(request) if request.arrival >= warmup => {
                self.taken.insert(request.id, now);
                self.counted.insert(request.id);
            }
            Event::Encoded { request, embedding } => {
                if let Some(taken) = self.taken.remove(request) {
                    self.prompt_encoding.push(now.since(taken));
                }
                if let Some(embedding) = embedding {
                    self.prompts.insert(*request, embedding.clone());
                }
            }
            Event::ImageEncoded { request, embedding: Some(image) } => {
                if let Some(completed) = self.completed.remove(request)
                    && self.counted.remove(request)
                {
                    self.image_encoding.push(now.since(completed));
                }
                // The quality is kept for requests of the warm-up too: false hits are counted in the window of their
                // routing.
                if let Some(prompt) = self.prompts.remove(request) {
                    self.quality.insert(*request, similarity(prompt.as_slice(), image.as_slice()));
                }
            }
            _ => {}
        }
    }

    pub(super) fn action(&mut self, now: Time, action: &Action) {
        if let Action::EncodeImage(request) = action {
            self.completed.insert(*request, now);
        }
    }

    pub(super) fn delays(&self) -> Delays {
        Delays {
            arrival_lag_s: None,
            prompt_encoding_s: delay(&self.prompt_encoding),
            image_encoding_s: delay(&self.image_encoding),
        }
    }

    /// Returns the quality by kind of decision and skipped steps, over requests with these decisions.
    pub(super) fn by_decision(&self, decisions: impl Iterator<Item = (RequestId, Decision)>) -> Vec<ImageQuality> {
        let mut groups: BTreeMap<(u32, DecisionKind), Vec<f64>> = BTreeMap::new();
        for (request, decision) in decisions {
            if let Some(value) = self.quality.get(&request) {
                groups.entry((decision.skipped_steps, decision.kind)).or_default().push(*value);
            }
        }
        let group = |((skipped_steps, kind), values): ((u32, DecisionKind), Vec<f64>)| {
            let (images, mean) = (values.len() as u64, mean(&values));
            let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
            let standard_error =
                if images > 1 { libm::sqrt(squares / (images - 1) as f64 / images as f64) } else { 0.0 };
            ImageQuality { decision: kind.word().to_owned(), skipped_steps, images, mean, standard_error }
        };
        groups.into_iter().map(group).collect()
    }
}

/// Returns the mean over all images of these groups; `None` without images.
pub(super) fn overall(groups: &[ImageQuality]) -> Option<f64> {
    let images: u64 = groups.iter().map(|group| group.images).sum();
    let sum: f64 = groups.iter().map(|group| group.mean * group.images as f64).sum();
    (images > 0).then(|| sum / images as f64)
}

/// Returns the mean over the images of misses; `None` without such images.
pub(super) fn mean_of_misses(groups: &[ImageQuality]) -> Option<f64> {
    groups.iter().find(|group| group.decision == DecisionKind::Miss.word()).map(|group| group.mean)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Returns the distribution of delays; `None` without delays.
#[must_use]
pub fn delay(times: &[Duration]) -> Option<Delay> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let max = sorted.last()?.seconds();
    let at = |q| quantile(&sorted, q).unwrap_or(max);
    let mean = mean(&sorted.iter().map(|time| time.seconds()).collect::<Vec<_>>());
    Some(Delay { mean, p50: at(0.5), p95: at(0.95), max })
}
