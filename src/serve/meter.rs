//! Metrics for Prometheus: numbers, outcomes and durations of requests, by model and decision. Gauges are set when the
//! metrics are read.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::desk::WorkerNow;
use crate::calibration::audit::Kept;
use crate::live::executor::Standing;
use crate::request::Outcome;
use crate::scheduler::{Decision, Event};
use crate::time::Duration;

/// Upper bounds of the histograms' buckets, in seconds: from small models on a CPU to queues of an hour.
const BUCKETS: [f64; 16] =
    [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct One {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DecidedLabels {
    decision: &'static str,
    skipped_steps: u32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MadeLabels {
    model: Arc<str>,
    decision: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModelLabel {
    model: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HeldLabels {
    model: Arc<str>,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MachineLabels {
    node: String,
    device: String,
    gpu: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StandingLabels {
    node: String,
    state: &'static str,
}

/// Gauges of workers on other machines. They are set when the metrics are read.
struct Machines {
    workers: Family<StandingLabels, Gauge>,
    silent: Family<MachineLabels, Share>,
    busy: Family<MachineLabels, Share>,
    pictures: Family<MachineLabels, Gauge>,
    fetched: Family<MachineLabels, Gauge>,
    kept: Family<MachineLabels, Gauge>,
    bytes: Family<MachineLabels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Audited {
    skipped_steps: u32,
    tenant: String,
}

/// Gauge with a fractional value.
type Share = Gauge<f64, AtomicU64>;

type Histograms = Family<MadeLabels, Histogram, fn() -> Histogram>;

/// Metrics of the server.
pub struct Meter {
    registry: Mutex<Registry>,
    requests: Family<One, Counter>,
    decisions: Family<DecidedLabels, Counter>,
    latency: Histograms,
    queue: Histograms,
    loads: Family<ModelLabel, Counter>,
    losses: Family<Why, Counter>,
    failed_jobs: Counter,
    within: Counter,
    answers: Family<Answered, Counter>,
    refused: Family<Why, Counter>,
    waiting: Gauge,
    running: Gauge,
    cached: Gauge,
    cache_bytes: Gauge,
    workers: Family<HeldLabels, Gauge>,
    recording: Gauge,
    disk_free: Gauge,
    store_left_out: Gauge,
    audits: Family<Audited, Gauge>,
    audit_kept: Family<Audited, Share>,
    audit_kept_low: Family<Audited, Share>,
    audit_kept_high: Family<Audited, Share>,
    audits_skipped: Family<Why, Gauge>,
    machines: Machines,
}

impl Default for Meter {
    fn default() -> Self {
        let mut registry = Registry::default();
        let to = &mut registry;
        let histograms = || Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        Self {
            requests: counted(to, "requests", "Pictures asked for, by how they ended"),
            decisions: counted(to, "decisions", "Decisions, by kind and steps skipped"),
            latency: registered(to, "latency_seconds", "From arrival to end, of completed pictures", histograms()),
            queue: registered(to, "queue_seconds", "From arrival to begin, of completed pictures", histograms()),
            loads: counted(to, "model_loads", "Models brought onto workers"),
            losses: counted(to, "worker_losses", "Workers lost, by why"),
            failed_jobs: counted(to, "failed_jobs", "Jobs that failed by the fault of their request"),
            within: counted(to, "within_slo", "Pictures completed in time"),
            answers: counted(to, "http_answers", "Answers, by route and status"),
            refused: counted(to, "refused", "Requests not taken in, by why"),
            waiting: counted(to, "waiting", "Pictures that wait for a worker"),
            running: counted(to, "running", "Pictures being drawn"),
            cached: counted(to, "cache_images", "Images in the cache"),
            cache_bytes: counted(to, "cache_bytes", "Bytes of the image store on disk"),
            workers: counted(to, "workers", "Workers, by the model they hold and what they do"),
            recording: counted(to, "recording", "Whether traffic is being recorded"),
            disk_free: counted(to, "disk_free_bytes", "Bytes free on the disk of the data folder"),
            store_left_out: counted(
                to,
                "store_left_out",
                "Pictures not written to the image store: no room, or an error",
            ),
            audits: counted(to, "audits", "Hits that the large model drew as well"),
            audit_kept: counted(
                to,
                "audit_kept",
                "Share of the large model's quality that hits keep, of the latest audits",
            ),
            audit_kept_low: counted(to, "audit_kept_low", "Lower end of its 95 % interval"),
            audit_kept_high: counted(to, "audit_kept_high", "Upper end of its 95 % interval"),
            audits_skipped: counted(to, "audits_skipped", "Hits that were to be audited and are not, by why"),
            machines: Machines::new(to),
            registry: Mutex::new(registry),
        }
    }
}

impl Machines {
    fn new(to: &mut Registry) -> Self {
        Self {
            workers: counted(to, "machine_workers", "Workers on other machines, by machine and state"),
            silent: counted(to, "machine_silent_seconds", "Seconds since the latest heartbeat of a worker"),
            busy: counted(to, "machine_busy_seconds", "Seconds that a worker has worked since its start"),
            pictures: counted(to, "machine_pictures", "Pictures that a worker has drawn since its start"),
            fetched: counted(to, "machine_sources_fetched", "Sources that a worker has fetched since its start"),
            kept: counted(to, "machine_sources_kept", "Sources that a worker had already, since its start"),
            bytes: counted(to, "machine_bytes", "Bytes of pictures that a worker has sent and fetched"),
        }
    }

    fn show(&self, machines: &[Standing]) {
        let Self { workers, silent, busy, pictures, fetched, kept, bytes } = self;
        workers.clear();
        silent.clear();
        busy.clear();
        for family in [pictures, fetched, kept, bytes] {
            family.clear();
        }
        for machine in machines {
            let (node, state) = (machine.node.clone(), machine.state);
            workers.get_or_create(&StandingLabels { node: node.clone(), state }).inc();
            let labels = MachineLabels { node, device: machine.device.clone(), gpu: machine.gpu.clone() };
            silent.get_or_create(&labels).set(machine.silent_s);
            busy.get_or_create(&labels).set(machine.busy_s);
            let counts = [machine.pictures, machine.sources_fetched, machine.sources_kept, machine.bytes];
            for (family, count) in [pictures, fetched, kept, bytes].into_iter().zip(counts) {
                family.get_or_create(&labels).set(count.min(i64::MAX as u64).cast_signed());
            }
        }
    }
}

/// Makes a metric with its initial value and registers it under a name.
fn counted<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    registered(registry, name, help, M::default())
}

fn registered<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(format!("modm_{name}"), help, metric.clone());
    metric
}

/// Returns the name of a model, or `none` without a model.
fn named(model: Option<&Arc<str>>) -> Arc<str> {
    model.cloned().unwrap_or_else(|| "none".into())
}

impl Meter {
    pub(super) fn routed(&self, decision: &Decision) {
        let labels = DecidedLabels { decision: decision.kind.word(), skipped_steps: decision.skipped_steps };
        self.decisions.get_or_create(&labels).inc();
    }

    pub(super) fn load(&self, model: &Arc<str>) {
        self.loads.get_or_create(&ModelLabel { model: model.clone() }).inc();
    }

    /// Counts lost workers and failed jobs.
    pub(super) fn event(&self, event: &Event) {
        let lost = |reason| self.losses.get_or_create(&Why { reason }).inc();
        match event {
            Event::WorkerLost { cause, .. } => drop(lost(cause.word())),
            Event::LoadFailed { loaded: None, .. } => drop(lost("failed_load")),
            // A job that was called off ends with this event, too.
            Event::JobFailed { reason, .. } if reason != "cancelled" => drop(self.failed_jobs.inc()),
            _ => {}
        }
    }

    pub(super) fn ended(
        &self,
        outcome: &Outcome,
        decision: &'static str,
        model: Option<&Arc<str>>,
        latency: Duration,
        queued: Option<Duration>,
        within: bool,
    ) {
        self.requests.get_or_create(&One { outcome: outcome.word() }).inc();
        if *outcome == Outcome::Completed {
            let made = MadeLabels { model: named(model), decision };
            self.latency.get_or_create(&made).observe(latency.seconds());
            if let Some(queued) = queued {
                self.queue.get_or_create(&made).observe(queued.seconds());
            }
        }
        self.within.inc_by(u64::from(within));
    }

    fn show_audits(&self, audited: &[Kept], skipped: &[(&'static str, u64)]) {
        self.audits.clear();
        for family in [&self.audit_kept, &self.audit_kept_low, &self.audit_kept_high] {
            family.clear();
        }
        for kept in audited {
            let tenant = kept.tenant.clone().unwrap_or_default();
            let labels = Audited { skipped_steps: kept.skipped_steps.unwrap_or(0), tenant };
            self.audits.get_or_create(&labels).set(kept.audited.cast_signed());
            let interval = kept.interval();
            let shares =
                [kept.worth.map(|worth| worth.ratio), interval.map(|ends| ends.0), interval.map(|ends| ends.1)];
            for (family, share) in
                [&self.audit_kept, &self.audit_kept_low, &self.audit_kept_high].into_iter().zip(shares)
            {
                if let Some(share) = share {
                    family.get_or_create(&labels).set(share);
                }
            }
        }
        for (reason, count) in skipped {
            self.audits_skipped.get_or_create(&Why { reason }).set(count.cast_signed());
        }
    }

    /// Counts an answer of a route.
    pub fn answered(&self, route: &'static str, status: u16) {
        self.answers.get_or_create(&Answered { route, status }).inc();
    }

    /// Counts a request that was not accepted, by reason.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Why { reason }).inc();
    }

    /// Sets the gauges of the disk: whether traffic is recorded, the number of free bytes, and the number of pictures
    /// that were not written to the image store.
    pub fn disk(&self, is_recording: bool, free: u64, left_out: u64) {
        self.recording.set(i64::from(is_recording));
        self.disk_free.set(free.min(i64::MAX as u64).cast_signed());
        self.store_left_out.set(left_out.cast_signed());
    }

    /// Returns all metrics as text. The arguments set the gauges first: numbers of waiting, running and cached
    /// pictures, workers here and on other machines, bytes of the image store, and the audits that the caller may see.
    #[must_use]
    pub fn text(
        &self,
        [waiting, running, cached]: [u64; 3],
        (workers, machines): (&[WorkerNow], &[Standing]),
        cache_bytes: u64,
        audited: &[Kept],
        skipped: &[(&'static str, u64)],
    ) -> String {
        // The lock is held from here on: the audits that one caller may see must not appear in the text of another.
        let registry = super::lock(&self.registry);
        self.waiting.set(waiting.cast_signed());
        self.running.set(running.cast_signed());
        self.cached.set(cached.cast_signed());
        self.cache_bytes.set(cache_bytes.cast_signed());
        // A model and a state that no worker has any more must not stay in the text.
        self.workers.clear();
        for worker in workers {
            let model = named(worker.model.as_ref());
            self.workers.get_or_create(&HeldLabels { model, state: worker.state }).inc();
        }
        self.show_audits(audited, skipped);
        self.machines.show(machines);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}
