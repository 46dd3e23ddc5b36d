//! Quality of completed images in points of `CLIPScore` (100 x cosine). It is measured or published where the profile
//! says so, and estimated otherwise. The formula is that of docs/semantics.md, section 7.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::percentile::quantile_of_numbers;
use super::rows::RequestRow;
use super::summary::{Quality, Summary};
use crate::denoising::Denoising;
use crate::embedding::{EmbeddingMatrix, similarity};
use crate::image::ImageId;
use crate::model::ModelId;
use crate::request::RequestId;
use crate::scheduler::{Decision, DecisionKind};

/// Name of the measure in which qualities are estimated, as the profile's rows have it.
pub const CLIP: &str = "clip";

/// Points taken off the cosine of a retrieved image, because the nearest of many images is partly so by chance. It is
/// the one constant that is fitted (b in docs/semantics.md, section 7).
const CHANCE: f64 = 4.0;

/// Share of the large model's own score below which an image counts for `below_alpha`; the paper's alpha.
pub const ALPHA: f64 = 0.95;

/// Kinds of quality values, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QualityKind {
    /// Value computed from the own scores of models and from similarities.
    Estimated,
    /// Published score of the model.
    Published,
    /// Measured score for the model and the skipped steps.
    Measured,
}

impl QualityKind {
    /// Returns the word for the kind in tables and files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Estimated => "estimated",
            Self::Published => "published",
            Self::Measured => "measured",
        }
    }
}

/// Source of the cosine of a prompt and an image: the image that a hit starts from or that a return gives back.
#[derive(Clone, Debug, Default)]
pub enum SourceCosine {
    /// Unknown cosine: prompts were compared with prompts, and there are no embeddings of the images.
    #[default]
    Unknown,
    /// Similarity of the decision, in systems that look prompts up among images.
    Decision,
    /// Embeddings of prompts and images, in systems that look prompts up among prompts.
    Embeddings {
        /// Embedding of the prompt of each request.
        prompts: EmbeddingMatrix,
        /// Embedding of the image that each request would produce.
        images: EmbeddingMatrix,
        /// Embeddings of the images that were cached before the first request, where they are known.
        warm: Option<EmbeddingMatrix>,
    },
}

impl SourceCosine {
    fn of_request(&self, request: RequestId, decision: &Decision) -> Option<f64> {
        match self {
            Self::Unknown => None,
            Self::Decision => decision.similarity,
            Self::Embeddings { prompts, images, warm } => {
                let (matrix, row) = source_row(decision.source?, images, warm.as_ref())?;
                let prompt = (request.0 as usize) < prompts.rows();
                let known = prompt && row < matrix.rows() && matrix.dimension() == prompts.dimension();
                let cosine = || {
                    let (prompt, image) = (prompts.embedding(request.0 as usize), matrix.embedding(row));
                    similarity(prompt.as_slice(), image.as_slice())
                };
                known.then(cosine)
            }
        }
    }
}

/// Returns the matrix and the row of a source's embedding.
fn source_row<'a>(
    source: ImageId,
    images: &'a EmbeddingMatrix,
    warm: Option<&'a EmbeddingMatrix>,
) -> Option<(&'a EmbeddingMatrix, usize)> {
    match source.warm_row() {
        Some(row) => warm.map(|warm| (warm, row as usize)),
        None => source.request().map(|request| (images, request.0 as usize)),
    }
}

/// Scores of the profile and similarities from which the quality of images follows.
#[derive(Clone, Debug, Default)]
pub struct QualitySettings {
    /// Measured rows: (model, skipped steps, measure, value).
    pub measured: Vec<(ModelId, u32, String, f64)>,
    /// Published score of each model's own images in points of `CLIPScore`.
    pub own: Vec<Option<f64>>,
    /// Source of the cosine of hits and returns.
    pub cosine: SourceCosine,
    /// Denoising steps of the large model (T), which a measured row of returned images names as skipped.
    pub large_steps: u32,
}

impl QualitySettings {
    /// Returns the measured value for a model, skipped steps and a measure.
    fn row(&self, model: ModelId, skipped_steps: u32, measure: &str) -> Option<f64> {
        let skipped_steps = if skipped_steps == RETURNED { self.large_steps } else { skipped_steps };
        let rows = self.measured.iter();
        rows.filter(|row| (row.0, row.1) == (model, skipped_steps)).find(|row| row.2 == measure).map(|row| row.3)
    }

    /// Returns the score of a model's own images, made without a cache: the measured score, or else the published one.
    fn own(&self, model: ModelId) -> Option<(f64, QualityKind)> {
        let measured = self.row(model, 0, CLIP).map(|value| (value, QualityKind::Measured));
        let published = || self.own.get(model.index()).copied().flatten().map(|value| (value, QualityKind::Published));
        measured.or_else(published)
    }

    /// Returns the names of the measures in the measured rows.
    fn measures(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.measured.iter().map(|row| row.2.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns whether the quality of any image can be known: there is a score, or there are embeddings, from which the
    /// quality of returned images follows.
    #[must_use]
    pub fn is_known(&self) -> bool {
        let own = self.own.iter().any(Option::is_some);
        own || self.measured.iter().any(|row| row.2 == CLIP) || matches!(self.cosine, SourceCosine::Embeddings { .. })
    }

    /// Returns the quality of a completed request's image and the kind of the value; `None` if a score or a similarity
    /// is missing.
    #[must_use]
    pub fn of_request(&self, row: &RequestRow, denoising: &Denoising) -> Option<(f64, QualityKind)> {
        let (model, skipped_steps) = made(row);
        // What was measured goes before any estimate.
        if let Some(value) = self.row(model, skipped_steps, CLIP) {
            return Some((value, QualityKind::Measured));
        }
        let decision = row.decision.filter(|decision| decision.kind.is_hit());
        // A miss or a draft is an image of the model's own.
        let Some(decision) = decision else { return self.own(model) };
        let retrieved = 100.0 * self.cosine.of_request(row.id, &decision)? - CHANCE;
        if decision.kind == DecisionKind::Return {
            return Some((retrieved, QualityKind::Estimated));
        }
        let share = denoising.part_of_source(row.work()?);
        // Part of the denoising is the model's own, the rest of the image is the retrieved one (docs/semantics.md,
        // section 7).
        let (own, _) = self.own(model)?;
        Some(((1.0 - share) * own + share * retrieved, QualityKind::Estimated))
    }
}

/// Returns the model and its skipped steps that made a completed request's image. A returned image counts as made by
/// the large model with [`RETURNED`] in place of the steps.
pub(super) fn made(row: &RequestRow) -> (ModelId, u32) {
    let model = row.run.map_or(ModelId::LARGE, |run| run.model);
    (model, if row.returned() { RETURNED } else { row.steps.1 })
}

/// Skipped steps of a returned image in the counts of images by model.
pub(super) const RETURNED: u32 = u32::MAX;

/// Qualities of the completed requests that count.
#[derive(Clone, Debug, Default)]
pub(super) struct QualityFold {
    values: Vec<f64>,
    kind: Option<QualityKind>,
    /// Number of requests without a quality, by model and skipped steps.
    missing: BTreeMap<(ModelId, u32), u64>,
}

impl QualityFold {
    /// Takes in a completed request that counts.
    pub(super) fn completed(&mut self, row: &RequestRow) {
        let Some((value, kind)) = row.quality else {
            *self.missing.entry(made(row)).or_insert(0) += 1;
            return;
        };
        self.values.push(value);
        self.kind = Some(self.kind.map_or(kind, |weakest| weakest.min(kind)));
    }

    /// Writes mean, 5th percentile and shares into the summary. Without a value for every request it writes none of
    /// them, because the mean over the other requests would be taken for the mean over all.
    pub(super) fn summarise(&mut self, settings: &QualitySettings, made: &[((ModelId, u32), u64)], to: &mut Summary) {
        to.quality = Quality { kind: None, measures: means(settings, made) };
        to.quality.kind = (!to.quality.measures.is_empty()).then_some(QualityKind::Measured);
        if self.values.is_empty() || !self.missing.is_empty() {
            return;
        }
        self.values.sort_unstable_by(f64::total_cmp);
        // The values are summed in rising order, so that the mean does not depend on the order in which requests ended.
        let count = self.values.len() as f64;
        let mean = sum(&self.values) / count;
        to.quality.measures.insert(CLIP.to_owned(), mean);
        to.quality.kind = self.kind;
        to.quality_p5 = quantile_of_numbers(&self.values, 0.05);
        if let Some((large, _)) = settings.own(ModelId::LARGE).filter(|(large, _)| *large > 0.0) {
            let below = self.values.iter().filter(|value| **value < ALPHA * large).count();
            to.below_alpha = Some(below as f64 / count);
            to.quality_kept = Some(mean / large);
        }
    }

    /// Returns sentences on the rows that the profile lacks.
    pub(super) fn warnings(
        &self,
        settings: &QualitySettings,
        made: &[((ModelId, u32), u64)],
        models: &[String],
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        // Counts are in the order in which images were first made, which is no order for a sentence.
        let mut made: Vec<_> = made.to_vec();
        made.sort_unstable();
        let name = |(model, skipped): (ModelId, u32)| match models.get(model.index()) {
            _ if skipped == RETURNED => "returned images".to_owned(),
            Some(model) => format!("{model} with {skipped} steps skipped"),
            None => format!("model {} with {skipped} steps skipped", model.0),
        };
        for measure in settings.measures() {
            let known = |(model, skipped): (ModelId, u32)| settings.row(model, skipped, measure).is_some();
            let own =
                |(model, skipped): (ModelId, u32)| measure == CLIP && skipped == 0 && settings.own(model).is_some();
            let lacks = made.iter().filter(|(what, _)| !known(*what) && !own(*what));
            let lacks: Vec<String> = lacks.map(|(what, count)| format!("{} ({count} images)", name(*what))).collect();
            if !lacks.is_empty() {
                let instead = if measure != CLIP {
                    "this measure has no mean"
                } else if self.missing.is_empty() {
                    "their quality is estimated"
                } else {
                    "it has no mean"
                };
                let rows = lacks.join(", ");
                warnings.push(format!("quality ({measure}): the profile has no [[quality]] row for {rows}; {instead}"));
            }
        }
        warnings.extend(self.without_score(settings, &name));
        warnings
    }

    /// Returns a sentence on the completed requests whose quality cannot be estimated.
    fn without_score(&self, settings: &QualitySettings, name: &impl Fn((ModelId, u32)) -> String) -> Option<String> {
        let images: u64 = self.missing.values().sum();
        let listed: Vec<String> = self.missing.keys().map(|what| name(*what)).collect();
        let unscored =
            self.missing.keys().any(|(model, skipped)| *skipped != RETURNED && settings.own(*model).is_none());
        let cause = if unscored {
            "the profile has no [[own_quality]] row (measure clip) to estimate them from"
        } else {
            "there are no embeddings of the images they start from"
        };
        (images > 0).then(|| format!("the quality of {images} images is not known ({}): {cause}", listed.join(", ")))
    }
}

/// Returns the sum of values, with the error of each addition carried on (Neumaier). A million equal scores have
/// exactly their mean, so that a share of 1 is reached.
fn sum(values: &[f64]) -> f64 {
    let (mut sum, mut carried) = (0.0_f64, 0.0);
    for &value in values {
        let next = sum + value;
        carried += if sum.abs() >= value.abs() { (sum - next) + value } else { (value - next) + sum };
        sum = next;
    }
    sum + carried
}

/// Returns the mean of each measure that has a row for every model and number of skipped steps that made an image.
fn means(settings: &QualitySettings, made: &[((ModelId, u32), u64)]) -> BTreeMap<String, f64> {
    let total: u64 = made.iter().map(|(_, count)| count).sum();
    let mean = |measure: &str| -> Option<f64> {
        let weighed = |((model, skipped), count): &((ModelId, u32), u64)| {
            Some(settings.row(*model, *skipped, measure)? * *count as f64)
        };
        let sum = made.iter().try_fold(0.0, |sum, what| Some(sum + weighed(what)?))?;
        (total > 0).then(|| sum / total as f64)
    };
    settings.measures().into_iter().filter_map(|measure| Some((measure.to_owned(), mean(measure)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Ask, Outcome, Place, TenantId};
    use crate::scheduler::{Run, WorkerId};
    use crate::time::Time;

    fn settings() -> QualitySettings {
        let measured = vec![(ModelId(1), 25, CLIP.to_owned(), 27.0), (ModelId(1), 25, "fid".to_owned(), 9.0)];
        QualitySettings { measured, own: vec![Some(28.0), Some(30.0)], cosine: SourceCosine::Decision, large_steps: 50 }
    }

    fn row(kind: DecisionKind, skipped_steps: u32, model: u16) -> RequestRow {
        let hit = kind.is_hit().then_some(0.3);
        let decision = Decision { skipped_steps, similarity: hit, ..Decision::new(kind) };
        let run = Run { worker: WorkerId(0), model: ModelId(model), start: Time::ZERO, together: 1 };
        RequestRow {
            id: RequestId(0),
            arrival: Time::ZERO,
            deadline: None,
            tenant: TenantId(0),
            decision: Some(decision),
            run: (kind != DecisionKind::Return).then_some(run),
            finish: Time::ZERO,
            attempts: 1,
            outcome: Outcome::Completed,
            similarity_to_prompt: None,
            steps: (50, skipped_steps),
            ask: Ask::default(),
            place: Place::ONLY,
            quality: None,
        }
    }

    fn steps() -> Denoising {
        Denoising::alike(2, 50)
    }

    #[test]
    fn quality_is_measured_published_or_estimated() {
        let of = |kind, skipped, model| settings().of_request(&row(kind, skipped, model), &steps()).expect("a quality");
        assert_eq!(of(DecisionKind::Miss, 0, 0), (28.0, QualityKind::Published));
        assert_eq!(of(DecisionKind::Hit, 25, 1), (27.0, QualityKind::Measured));
        let (value, kind) = of(DecisionKind::Hit, 10, 1);
        assert!((value - (0.8 * 30.0 + 0.2 * 26.0)).abs() < 1e-12 && kind == QualityKind::Estimated);
        let (value, kind) = of(DecisionKind::Return, 50, 0);
        assert!((value - 26.0).abs() < 1e-12 && kind == QualityKind::Estimated);
        let unknown = QualitySettings { own: vec![Some(28.0), None], ..settings() };
        assert_eq!(unknown.of_request(&row(DecisionKind::Hit, 10, 1), &steps()), None);
    }

    #[test]
    fn what_the_profile_lacks_is_named_and_no_mean_is_of_the_rest_alone() {
        let unknown = QualitySettings { own: vec![Some(28.0), None], ..settings() };
        let (mut fold, mut summary) = (QualityFold::default(), Summary::default());
        let mut made_counts = Vec::new();
        for (kind, skipped, model) in [(DecisionKind::Miss, 0, 0), (DecisionKind::Hit, 10, 1)] {
            let mut row = row(kind, skipped, model);
            row.quality = unknown.of_request(&row, &steps());
            fold.completed(&row);
            made_counts.push((made(&row), 1));
        }
        fold.summarise(&unknown, &made_counts, &mut summary);
        assert_eq!((summary.quality.clip(), summary.quality_p5, summary.quality_kept), (None, None, None));
        let models = ["large".to_owned(), "small".to_owned()];
        let warnings = fold.warnings(&unknown, &made_counts, &models);
        assert!(warnings.iter().any(|text| text.contains("(clip)") && text.contains("small with 10 steps skipped")));
        assert!(warnings.iter().any(|text| text.contains("(fid)") && text.contains("this measure has no mean")));
        assert!(warnings.iter().any(|text| text.contains("no [[own_quality]] row")), "{warnings:?}");
    }

    #[test]
    fn equal_scores_keep_everything() {
        let (mut fold, mut summary) = (QualityFold::default(), Summary::default());
        let settings = QualitySettings { own: vec![Some(28.55)], ..QualitySettings::default() };
        for _ in 0..1000 {
            let mut row = row(DecisionKind::Miss, 0, 0);
            row.quality = settings.of_request(&row, &steps());
            fold.completed(&row);
        }
        fold.summarise(&settings, &[((ModelId::LARGE, 0), 1000)], &mut summary);
        assert_eq!((summary.quality_kept, summary.below_alpha), (Some(1.0), Some(0.0)));
        assert_eq!(summary.quality.kind, Some(QualityKind::Published));
    }
}
