//! Inputs of a run's warnings (`metrics::warnings`): the embeddings that its system compares, and their source.

use std::collections::BTreeSet;

use super::Simulation;
use crate::metrics::Results;
use crate::metrics::warnings::{
    Compared, KeptImages, RetrievalTotals, Rows, Timing, Topic, Warning, bounds_warning, hidden_hits,
};
use crate::model::{GpuId, ModelId, Size};
use crate::profile::SourceKind;
use crate::scheduler::routing::System;
use crate::time::Duration;

/// Number of sizes that a warning names.
const NAMED_SIZES: usize = 5;

/// Number of pairs of GPU type and model that a warning names.
const NAMED_TIMES: usize = 4;

impl Simulation {
    /// Returns the warnings for a reader of a simulated run, beside those of its metrics. If the run kept no ends of
    /// requests, there is no warning of hidden hits.
    #[must_use]
    pub fn warnings(&self, results: &Results) -> Vec<Warning> {
        self.of_retrieval(results).into_iter().chain(self.assumed_sizes()).chain(self.assumed_times()).collect()
    }

    /// Returns the warnings of what the system finds by embeddings.
    fn of_retrieval(&self, results: &Results) -> Vec<Warning> {
        let trace = &self.inputs.trace.trace;
        let rows = |matrix: Option<&crate::embedding::EmbeddingMatrix>| matrix.cloned().map(Rows::Matrix);
        let (queries, keys) = match self.scenario.system.policy {
            System::Modm => (rows(trace.prompt_embeddings()), rows(trace.image_embeddings())),
            System::Nirvana | System::Pinecone => (rows(trace.text_embeddings()), rows(trace.text_embeddings())),
            System::Vanilla | System::Cascade => return Vec::new(),
        };
        let Some((queries, keys)) = queries.zip(keys) else { return Vec::new() };
        let scenario = &self.scenario;
        let timing = Timing {
            retrieval: Duration::from_seconds_saturating(scenario.retrieval.latency_s),
            image_encoding: Duration::from_seconds_saturating(scenario.retrieval.image_latency_s),
            warmup: self.warmup(),
        };
        self.warnings_of(results, self.compared(queries, keys, self.origin(), "trace.warm_requests"), timing)
    }

    /// Returns a warning that names the sizes whose service times are assumed.
    fn assumed_sizes(&self) -> Option<Warning> {
        let asks = self.inputs.trace.trace.columns().asks.iter().flatten();
        let mut sizes: BTreeSet<Size> = asks.map(|ask| ask.size).filter(|size| !size.is_usual()).collect();
        sizes.insert(self.scenario.models.usual_size());
        sizes.retain(|size| self.inputs.profile.is_assumed(size.pixels()));
        let mut names: Vec<String> =
            sizes.iter().take(NAMED_SIZES).map(|size| format!("{} x {}", size.width, size.height)).collect();
        if sizes.len() > NAMED_SIZES {
            names.push(format!("{} more", sizes.len() - NAMED_SIZES));
        }
        (!names.is_empty()).then(|| Warning {
            topic: Topic::Sizes,
            text: format!(
                "service times are assumed to be in proportion to the pixels for {}: the profile knows no such size \
                 (`pixels` and `sizes` of its rows)",
                names.join(", ")
            ),
        })
    }

    /// Returns a warning that names the pairs of GPU type and model whose rows say that their times are assumed.
    fn assumed_times(&self) -> Option<Warning> {
        let (gpus, models) = (self.scenario.gpu_types(), self.scenario.model_names());
        let mut assumed: Vec<String> = Vec::new();
        for (gpu, gpu_name) in gpus.iter().enumerate() {
            for (model, model_name) in models.iter().enumerate() {
                let row = self.inputs.profile.service(GpuId(gpu as u16), ModelId(model as u16));
                if row.source_kind() == Some(SourceKind::Assumed) {
                    // The reason behind the colon stands in the source of the service times.
                    let source = row.source.as_deref().unwrap_or_default();
                    let rule = source.split(':').next().unwrap_or_default();
                    assumed.push(format!("{gpu_name} with {model_name} ({rule})"));
                }
            }
        }
        let (count, all) = (assumed.len(), gpus.len() * models.len());
        if count > NAMED_TIMES {
            assumed.truncate(NAMED_TIMES);
            assumed.push(format!("{} more", count - NAMED_TIMES));
        }
        (count > 0).then(|| Warning {
            topic: Topic::Times,
            text: format!(
                "service times are assumed for {count} of {all} pairs of GPU type and model: {}; measure yours with \
                 `modm profile` before you rely on them (docs/profiles.md)",
                assumed.join(", ")
            ),
        })
    }

    /// Returns the same warnings for a live run. Its embeddings are those that its encoder gave.
    #[cfg(feature = "live")]
    pub fn live_warnings(&self, results: &Results, prompts: Rows, images: Rows) -> Vec<Warning> {
        let keys = match self.scenario.system.policy {
            System::Modm => images,
            System::Nirvana | System::Pinecone => prompts.clone(),
            System::Vanilla | System::Cascade => return Vec::new(),
        };
        let encoder = self.scenario.live.encoder.as_ref();
        let origin = encoder.map_or_else(|| "the encoder".to_owned(), |path| format!("the encoder {}", path.display()));
        // In a live run the look-up counts as at the arrival (docs/semantics.md, section 8).
        let timing = Timing { warmup: self.warmup(), ..Timing::default() };
        self.warnings_of(results, self.compared(prompts, keys, origin, "live.store"), timing)
    }

    fn warnings_of(&self, results: &Results, compared: Option<Compared>, timing: Timing) -> Vec<Warning> {
        let Some(compared) = compared else { return Vec::new() };
        let kept = match self.scenario.system.policy {
            System::Modm => KeptImages::Images(self.scenario.cache.admission),
            _ => KeptImages::Misses,
        };
        // Which image might have served which request is not known here where requests differ.
        if self.inputs.trace.trace.differs() {
            return bounds_warning(&compared, looked(results)).into_iter().collect();
        }
        let hidden = hidden_hits(&results.ends, &compared, kept, timing, &self.inputs.tenancy);
        bounds_warning(&compared, looked(results)).into_iter().chain(hidden).collect()
    }

    fn compared(&self, queries: Rows, keys: Rows, origin: String, warmed_by: &'static str) -> Option<Compared> {
        let scenario = &self.scenario;
        let system = scenario.system.policy;
        let (lowest_bound, _) = *scenario.bounds().first()?;
        Some(Compared {
            queries,
            keys,
            lowest_bound,
            // Nirvana's bounds must be exceeded, those of the other systems only reached.
            strict: system == System::Nirvana,
            keys_are: if system == System::Modm { "image" } else { "prompt" },
            origin,
            warmed_by,
            seed: scenario.seed,
        })
    }

    /// Returns the source of the embeddings in words. A file of embeddings does not say which encoder made it.
    fn origin(&self) -> String {
        let section = &self.scenario.trace;
        let Some(prompts) = &section.prompt_embeddings else {
            return "the stand-in embeddings (hashed n-grams)".to_owned();
        };
        let prompts = format!("the embeddings of {}", prompts.display());
        if self.scenario.system.policy != System::Modm {
            return prompts;
        }
        match &section.image_embeddings {
            Some(images) => format!("{prompts} and {}", images.display()),
            None => format!("{prompts} and the stand-ins for images made of them"),
        }
    }
}

fn looked(results: &Results) -> RetrievalTotals {
    let summary = &results.summary;
    let cached = summary.cache.map_or(0, |cache| cache.inserts);
    RetrievalTotals { hit_rate: summary.hit_rate, requests: summary.requests, cached }
}
