//! A run of the core without a standard library: arrivals, look-ups, a monitor, jobs and metrics, as one number.
//! WebAssembly has no panic handler and no allocator of its own: the two here could not be linked if anything brought
//! others.

#![no_std]

#[macro_use]
extern crate alloc;

#[cfg(target_arch = "wasm32")]
mod bare;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

use modm_core::cache::{CacheSettings, ImageCache};
use modm_core::draw::{Purpose, exponential, normal, stream};
use modm_core::embedding::EmbeddingMatrix;
use modm_core::journal::{Journal, Record};
use modm_core::metrics::{Metrics, Settings};
use modm_core::model::{GpuId, ModelId};
use modm_core::profile::{Profile, ProfileFile, Service};
use modm_core::replay::{Known, replay};
use modm_core::request::{Request, RequestId, TenantId};
use modm_core::scheduler::allocation::{Allocation, Mode, ModmAllocation, ModmSettings, Pid, Switching};
use modm_core::scheduler::routing::System;
use modm_core::scheduler::{Config, Event, Hardware, Scheduler};
use modm_core::sim::{self, Faults, ImageSizes, ProfileLatency, Simulated};
use modm_core::time::{Duration, Time};
use rand::RngExt;

const WORKERS: usize = 6;
const STEPS: u32 = 50;
const DIMENSION: usize = 40;
/// Topics of the prompts.
const TOPICS: u64 = 60;

/// A hash of everything that is written to it (FNV-1a, 64 bits).
struct Digest(u64);

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl Journal for Digest {
    fn record(&mut self, time: Time, record: Record<'_>) {
        // Writing to a hash cannot fail.
        let _ = write!(self, "{} {record:?}", time.nanoseconds());
    }
}

/// Simulates `MoDM` over so many requests; returns a hash of its journal and its summary.
///
/// # Panics
/// If the run does not end, which is a mistake of the core.
#[must_use]
pub fn digest(requests: u32, seed: u64) -> u64 {
    let names: [String; 2] = ["large".into(), "small".into()];
    let row = |model: &str, step_s| Service { step_s, load_s: 10.0, jitter_cv: 0.2, ..Service::new("gpu", model) };
    let file = ProfileFile {
        source: "made up".into(),
        service: vec![row(&names[0], 1.8), row(&names[1], 0.3)],
        gpu: Vec::new(),
        encoding: None,
        measurement: Vec::new(),
        quality: Vec::new(),
        own_quality: Vec::new(),
    };
    let profile = Arc::new(Profile::select(&file, &["gpu".into()], &names).expect("its rows are there"));
    let gpus = vec![GpuId(0); WORKERS];
    let hardware = Hardware { gpus: gpus.clone(), profile: profile.clone() };
    let config = Config::paper(2, hardware.clone(), STEPS);
    let rate = |model| profile.images_per_minute(GpuId(0), model, STEPS);
    let allocation = Allocation::split(WORKERS, WORKERS / 2, ModelId(1));
    let monitor = ModmAllocation::new(ModmSettings {
        mode: Mode::Throughput,
        period: Duration::from_nanoseconds(180_000_000_000),
        headroom: 0.9,
        pid: Some(Pid::default()),
        workers: WORKERS,
        initial_large: WORKERS / 2,
        least_small: 0,
        rates: vec![rate(ModelId::LARGE), rate(ModelId(1))],
        switching: Switching::default(),
    });
    let metrics = Metrics::new(Settings::paper(names.to_vec(), &hardware, STEPS, allocation.targets));
    let cache = ImageCache::new(CacheSettings { capacity: 100, ..CacheSettings::default() });
    let bounds = [(0.4, 5), (0.7, 15), (0.9, 25)];
    let mut scheduler = Scheduler::new(config, System::Modm.build(&bounds, STEPS), Some(cache), Box::new(monitor));
    let prompts = embeddings(requests, seed);
    let mut executor = Simulated::new(sim::Settings {
        latency: ProfileLatency { profile, seed, retrieval: Duration::ZERO, image_encoding: Duration::ZERO },
        gpus,
        prompts: Some(prompts.clone()),
        images: Some(prompts),
        sizes: ImageSizes::default(),
        confidences: None,
        faults: Faults::default(),
        network: None,
    });
    let mut journal = (Digest(0xcbf2_9ce4_8422_2325), metrics);
    let ended = replay(&mut scheduler, &mut executor, &mut Known::new(arrivals(requests, seed)), &mut journal);
    ended.expect("the run ends");
    let (mut digest, metrics) = journal;
    let _ = write!(digest, "{:?}", metrics.finish_run().summary);
    digest.0
}

/// Poisson arrivals, eight a minute.
fn arrivals(requests: u32, seed: u64) -> impl Iterator<Item = (Time, Event)> {
    let (mut draws, mut seconds) = (stream(seed, Purpose::Arrivals, 0), 0.0);
    (0..requests).map(move |row| {
        seconds += exponential(&mut draws) * 60.0 / 8.0;
        let arrival = Time::from_seconds(seconds).expect("well below 584 years");
        (arrival, Event::Arrived(Request::new(RequestId(row), arrival, TenantId(0))))
    })
}

/// Prompts of a few topics, which differ more or less from their topic.
fn embeddings(requests: u32, seed: u64) -> EmbeddingMatrix {
    let mut values = Vec::new();
    for row in 0..requests {
        let mut own = stream(seed, Purpose::Prompts, u64::from(row));
        let mut topic = stream(seed, Purpose::Test, own.random_range(0..TOPICS));
        let spread = own.random_range(0.0..1.5);
        values.extend((0..DIMENSION).map(|_| (normal(&mut topic) + spread * normal(&mut own)) as f32));
    }
    EmbeddingMatrix::new(DIMENSION, values).expect("rows with a direction")
}
