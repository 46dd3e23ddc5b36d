//! Results of a run, which are made of the fold's sums once the run has ended: docs/semantics.md, section 7, formula by
//! formula.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::bound::fewest_violations;
use super::cache::CacheTimeline;
use super::cluster::{AbsenceRow, WorkerRow};
use super::fold::{Metrics, TickRow};
use super::quality::RETURNED;
use super::real_time::{mean_of_misses, overall};
use super::rows::{Keep, RequestEnd, RequestRow, sort_by_request};
use super::summary::{Definitions, Quality, Summary};
use super::timeline::Timeline;
use super::warnings::{Topic, Warning};
use crate::time::Duration;

/// Results of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// Measures of the run.
    pub summary: Summary,
    /// Timeline of the run, by window.
    pub timeline: Timeline,
    /// Image cache over time, by window; `None` for a system that keeps no images.
    pub cache: Option<CacheTimeline>,
    /// Time spent in each state, by worker.
    pub workers: Vec<WorkerRow>,
    /// Times in which a worker could serve no request, in the order of their starts; kept with the ends of requests.
    pub absences: Vec<AbsenceRow>,
    /// Decisions of the monitor.
    pub ticks: Vec<TickRow>,
    /// Ends of requests in the order of the trace's rows, if they were kept.
    pub ends: Vec<RequestEnd>,
    /// Requests in the order of the trace's rows, if they were kept.
    pub requests: Vec<RequestRow>,
    /// Latencies of the completed requests that count, in rising order.
    pub latencies: Vec<Duration>,
    /// Warnings for the reader: rows that the profile lacks, and what the caller adds about bounds and hidden hits.
    pub warnings: Vec<Warning>,
}

impl Metrics {
    /// Returns the results, once the run has ended.
    #[must_use]
    pub fn finish_run(mut self) -> Results {
        // The run ends with its last request: what happened after that is taken back.
        if let Some((mark, cache_mark)) = self.at_end.take() {
            self.cluster.back_to_mark();
            self.windows.back_to(mark);
            self.cache.iter_mut().zip(cache_mark).for_each(|(cache, mark)| cache.back_to(mark));
        }
        if self.settings.keep >= Keep::Ends {
            // An absence that ends after the run is cut at its end: the restored cluster has it as going on.
            self.absences.retain(|row| row.end <= self.end);
            self.absences
                .extend((0..self.cluster.workers()).filter_map(|worker| self.cluster.absence(self.end, worker)));
            self.absences.sort_by_key(|row| (row.start, row.worker));
        }
        self.cluster.settle(self.end);
        self.ticks.retain(|row| row.time <= self.end);
        let mut summary = self.summarise();
        summary.latency_s = self.aggregate.latency();
        self.quality.summarise(&self.settings.quality, &self.made, &mut summary);
        let warnings = self.quality.warnings(&self.settings.quality, &self.made, &self.settings.models);
        let warnings = warnings.into_iter().map(|text| Warning { topic: Topic::Quality, text }).collect();
        sort_by_request(&mut self.ends);
        sort_by_request(&mut self.requests);
        if !self.ends.is_empty() {
            for (slo, limit) in summary.slo.iter_mut().zip(&self.limits) {
                slo.least_violation_rate = fewest_violations(&self.settings, &self.ends, *limit);
            }
        }
        if let Some(real_time) = &self.real_time {
            for row in &mut self.requests {
                row.similarity_to_prompt = real_time.quality.get(&row.id).copied();
            }
            let counted = self.requests.iter().filter(|row| row.arrival >= self.settings.warmup);
            let decisions = counted.filter_map(|row| Some((row.id, row.decision?)));
            summary.image_quality = real_time.by_decision(decisions);
            summary.quality.measured("similarity", overall(&summary.image_quality));
            summary.delays = Some(real_time.delays());
        }
        let misses = mean_of_misses(&summary.image_quality);
        let measured = self.real_time.as_ref().zip(misses).map(|(real_time, mean)| (&real_time.quality, mean));
        let (cache, cache_summary) = self.cache.take().map(|cache| cache.finish(measured)).unzip();
        summary.cache = cache_summary;
        let timeline = Timeline {
            models: self.settings.models,
            slo_multiples: self.settings.slo_multiples,
            window_s: self.settings.window.seconds(),
            rows: self.windows.finish(self.end, self.waiting),
        };
        Results {
            summary,
            timeline,
            cache,
            workers: self.cluster.rows(),
            absences: self.absences,
            ticks: self.ticks,
            ends: self.ends,
            requests: self.requests,
            latencies: self.aggregate.latencies,
            warnings,
        }
    }

    fn summarise(&self) -> Summary {
        let sums = &self.aggregate;
        Summary {
            profile_range: None,
            requests: sums.requests,
            completed: sums.completed,
            images: (self.pictures != self.completed && self.settings.requests_differ).then_some(self.pictures),
            returned: sums.returned,
            rejected: sums.rejected,
            failed: sums.failed,
            cancelled: sums.cancelled,
            makespan_s: self.end.seconds(),
            throughput_per_min: sums.throughput_per_min(),
            throughput_steady_per_min: sums.steady.per_min(),
            hit_rate: sums.hit_rate(),
            hits_by_skipped_steps: sums.hits_by_skipped_steps.clone(),
            mean_refine_fraction: sums.mean_refine_fraction(),
            cache: None,
            completed_by_model: self.completed_by_model(),
            requests_per_job: (self.settings.most_together > 1 && self.jobs_begun.0 > 0)
                .then(|| self.jobs_begun.1 as f64 / self.jobs_begun.0 as f64),
            assumed_quality: self.assumed_quality(),
            hits_by_level: self.hits_by_level.clone(),
            latency_s: None,
            slo: sums.slo(&self.thresholds),
            deadline_attainment: sums.deadline_attainment(),
            serving_gpu_s_per_request: (self.completed > 0).then(|| self.cluster.busy_s() / self.completed as f64),
            model_loads: self.cluster.loads(),
            checkpoint_changes: self.changes.0,
            lora_changes: self.changes.1,
            energy_j: self.energy_j(),
            energy_j_per_image: self.energy_j().and_then(|joules| self.per_image(joules)),
            cost_usd: self.cost_usd(),
            cost_usd_per_image: self.cost_usd().and_then(|dollars| self.per_image(dollars)),
            quality: Quality::default(),
            quality_p5: None,
            below_alpha: None,
            quality_kept: None,
            definitions: Definitions::default(),
            retrieval: self.retrieval.quality(),
            network: self.network.as_ref().map(|network| network.summary(self.end)),
            image_quality: Vec::new(),
            delays: None,
        }
    }

    fn assumed_quality(&self) -> Option<f64> {
        let completed = self.aggregate.completed;
        let hits: u64 = self.hits_by_level.iter().sum();
        let levels = self.settings.assumed_quality.iter().zip(&self.hits_by_level);
        // Whatever is no hit was drawn by the large model and keeps all of its quality.
        let sum = levels.fold(completed.saturating_sub(hits) as f64, |sum, (kept, hits)| sum + kept * *hits as f64);
        (!self.settings.assumed_quality.is_empty() && completed > 0).then(|| sum / completed as f64)
    }

    fn completed_by_model(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        // A returned image was drawn by no model of this run.
        let drawn = self.made.iter().filter(|((_, skipped), _)| *skipped != RETURNED);
        for ((model, _), count) in drawn {
            *counts.entry(self.settings.models[model.index()].clone()).or_insert(0) += count;
        }
        counts
    }

    /// Returns the energy in joules: the sum over workers of (busy s x active W + loading s x load W + idle s x idle
    /// W).
    fn energy_j(&self) -> Option<f64> {
        let mut joules = 0.0;
        for (worker, model, spent) in self.cluster.by_model() {
            let service = self.settings.profile.service(self.settings.gpus[worker], model);
            for (seconds, watts) in spent.iter().zip([service.active_w, service.load_w, service.idle_w]) {
                // A power that is not known matters only where time was spent at it.
                if *seconds > Duration::ZERO {
                    joules += seconds.seconds() * watts?;
                }
            }
        }
        Some(joules)
    }

    /// Returns the cost in dollars: wall hours x $ per hour.
    fn cost_usd(&self) -> Option<f64> {
        let per_hour: Option<f64> = self.settings.usd_per_hour.iter().copied().sum();
        per_hour.map(|dollars| dollars * self.end.seconds() / 3600.0)
    }

    /// Returns a total of the whole run divided by the completed pictures of the whole run.
    fn per_image(&self, total: f64) -> Option<f64> {
        (self.pictures > 0).then(|| total / self.pictures as f64)
    }
}
