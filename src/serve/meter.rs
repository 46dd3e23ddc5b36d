//! Counters for Prometheus: what came, what became of it and how long it took, by model and decision; gauges are set when
//! somebody looks.

use std::sync::Mutex;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::desk::WorkerNow;
use crate::request::Outcome;
use crate::scheduler::{Decision, DecisionKind};
use crate::time::Duration;

/// Upper ends of the histograms, seconds: from small models on a CPU to queues of an hour.
const BUCKETS: [f64; 16] =
    [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct One {
    outcome: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Decided {
    decision: String,
    skipped_steps: u32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Made {
    model: String,
    decision: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Held {
    model: String,
    state: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Why {
    reason: String,
}

type Histograms = Family<Made, Histogram, fn() -> Histogram>;

/// The counters.
pub struct Meter {
    registry: Mutex<Registry>,
    requests: Family<One, Counter>,
    decisions: Family<Decided, Counter>,
    latency: Histograms,
    queue: Histograms,
    loads: Family<Of, Counter>,
    within: Counter,
    answers: Family<Answered, Counter>,
    refused: Family<Why, Counter>,
    waiting: Gauge,
    running: Gauge,
    cached: Gauge,
    cache_bytes: Gauge,
    workers: Family<Held, Gauge>,
}

impl Default for Meter {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let meter = Self {
            registry: Mutex::default(),
            requests: Family::default(),
            decisions: Family::default(),
            latency: Family::new_with_constructor(histogram),
            queue: Family::new_with_constructor(histogram),
            loads: Family::default(),
            within: Counter::default(),
            answers: Family::default(),
            refused: Family::default(),
            waiting: Gauge::default(),
            running: Gauge::default(),
            cached: Gauge::default(),
            cache_bytes: Gauge::default(),
            workers: Family::default(),
        };
        {
            let mut registry = meter.registry.lock().expect("nobody else has it yet");
            let to = &mut *registry;
            to.register("modm_requests", "Pictures asked for, by how they ended", meter.requests.clone());
            to.register("modm_decisions", "Decisions, by kind and steps skipped", meter.decisions.clone());
            to.register("modm_latency_seconds", "From arrival to end, of completed pictures", meter.latency.clone());
            to.register("modm_queue_seconds", "From arrival to begin, of completed pictures", meter.queue.clone());
            to.register("modm_model_loads", "Models brought onto workers", meter.loads.clone());
            to.register("modm_within_slo", "Pictures completed in time", meter.within.clone());
            to.register("modm_http_answers", "Answers, by route and status", meter.answers.clone());
            to.register("modm_refused", "Requests not taken in, by why", meter.refused.clone());
            to.register("modm_waiting", "Pictures that wait for a worker", meter.waiting.clone());
            to.register("modm_running", "Pictures being drawn", meter.running.clone());
            to.register("modm_cache_images", "Images in the cache", meter.cached.clone());
            to.register("modm_cache_bytes", "Bytes of the image store on disk", meter.cache_bytes.clone());
            to.register("modm_workers", "Workers, by the model they hold and what they do", meter.workers.clone());
        }
        meter
    }
}

impl Meter {
    pub(super) fn routed(&self, decision: &Decision) {
        let labels = Decided { decision: decision.kind.word().to_owned(), skipped_steps: decision.skipped_steps };
        self.decisions.get_or_create(&labels).inc();
    }

    pub(super) fn load(&self, model: &str) {
        self.loads.get_or_create(&Of { model: model.to_owned() }).inc();
    }

    pub(super) fn ended(
        &self,
        outcome: &Outcome,
        kind: DecisionKind,
        model: &str,
        latency: Duration,
        queued: Option<Duration>,
        within: bool,
    ) {
        self.requests.get_or_create(&One { outcome: outcome.word().to_owned() }).inc();
        if *outcome == Outcome::Completed {
            let made = Made { model: model.to_owned(), decision: kind.word().to_owned() };
            self.latency.get_or_create(&made).observe(latency.seconds());
            if let Some(queued) = queued {
                self.queue.get_or_create(&made).observe(queued.seconds());
            }
        }
        self.within.inc_by(u64::from(within));
    }

    /// An answer of a route.
    pub fn answered(&self, route: &str, status: u16) {
        self.answers.get_or_create(&Answered { route: route.to_owned(), status }).inc();
    }

    /// A request that was not taken in.
    pub fn refused(&self, reason: &str) {
        self.refused.get_or_create(&Why { reason: reason.to_owned() }).inc();
    }

    /// All of it as text, with how things stand: waiting, running and cached pictures, workers, bytes on disk.
    #[must_use]
    pub fn text(&self, [waiting, running, cached]: [u64; 3], workers: &[WorkerNow], cache_bytes: u64) -> String {
        self.waiting.set(waiting.cast_signed());
        self.running.set(running.cast_signed());
        self.cached.set(cached.cast_signed());
        self.cache_bytes.set(cache_bytes.cast_signed());
        self.workers.clear();
        for worker in workers {
            let model = worker.model.clone().unwrap_or_else(|| "none".to_owned());
            self.workers.get_or_create(&Held { model, state: worker.state.to_owned() }).inc();
        }
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A string takes what is written to it.
        let _ = encode(&mut text, &registry);
        text
    }
}
