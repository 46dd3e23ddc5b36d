//! What the benchmarks of the core run: 16 workers at nine tenths of their capacity.

use std::sync::Arc;

use modm::draw::{Purpose, exponential, stream};
use modm::metrics::quality::QualitySettings;
use modm::metrics::summary::Summary;
use modm::metrics::{Metrics, Settings};
use modm::model::{GpuId, ModelId};
use modm::profile::{self, Profile};
use modm::replay::{Known, replay};
use modm::request::{Request, RequestId, TenantId};
use modm::scheduler::allocation::{Allocation, StaticSplit};
use modm::scheduler::routing::System;
use modm::scheduler::{Config, Event, Hardware, Scheduler, Serving};
use modm::sim::{self, Faults, ImageSizes, ProfileLatency, Simulated};
use modm::time::{Duration, Time};

const WORKERS: usize = 16;
const STEPS: u32 = 50;
const PROFILE: &str = r#"
source = "benchmark"
[[service]]
gpu = "gpu"
model = "large"
step_s = 0.02
load_s = 10.0
"#;

/// Poisson arrivals at 0.9 of what the workers can do.
pub(crate) fn arrivals(requests: u32) -> Vec<Time> {
    let mut draws = stream(42, Purpose::Arrivals, 0);
    let mut seconds = 0.0;
    let mean_gap = 1.0 / (0.9 * WORKERS as f64);
    let next = |_| {
        seconds += exponential(&mut draws) * mean_gap;
        Time::from_seconds(seconds).expect("well below 584 years")
    };
    (0..requests).map(next).collect()
}

/// One run over these arrivals.
pub(crate) fn run(arrivals: &[Time]) -> Summary {
    let file = profile::parse(PROFILE, std::path::Path::new("benchmark")).expect("a good profile");
    let profile = Arc::new(Profile::select(&file, &["gpu".into()], &["large".into()]).expect("its row is there"));
    let allocation = Allocation::split(WORKERS, WORKERS, ModelId::LARGE);
    let mut metrics = Metrics::new(Settings {
        models: vec!["large".into()],
        serving: Serving::large_and_small(1),
        total_steps: STEPS,
        gpus: vec![GpuId(0); WORKERS],
        usd_per_hour: vec![None; WORKERS],
        initial: allocation.targets.clone(),
        profile: profile.clone(),
        quality: QualitySettings::default(),
        most_together: 1,
        assumed_quality: Vec::new(),
        slo_multiples: vec![2.0, 4.0],
        warmup: Time::ZERO,
        window: Duration::from_nanoseconds(60_000_000_000),
        cache: None,
        keep_requests: false,
        real_time: false,
    });
    let hardware = Hardware { gpus: vec![GpuId(0); WORKERS], profile: profile.clone() };
    let config = Config::paper(1, hardware, STEPS);
    let routing = System::Vanilla.build(&[], STEPS);
    let mut core = Scheduler::new(config, routing, None, Box::new(StaticSplit::new(allocation)));
    let mut executor = Simulated::new(sim::Settings {
        latency: ProfileLatency { profile, seed: 42, retrieval: Duration::ZERO, image_encoding: Duration::ZERO },
        gpus: vec![GpuId(0); WORKERS],
        prompts: None,
        images: None,
        sizes: ImageSizes::default(),
        confidences: None,
        faults: Faults::default(),
    });
    let events = arrivals.iter().enumerate().map(|(row, &arrival)| {
        let id = RequestId(row as u32);
        (arrival, Event::Arrived(Request::new(id, arrival, TenantId(0))))
    });
    replay(&mut core, &mut executor, &mut Known::new(events), &mut metrics).expect("the run ends");
    metrics.finish_run().summary
}
