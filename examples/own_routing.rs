//! Routes requests with a custom policy. It uses images from the cache only while requests wait, so an idle cluster
//! draws every request with the large model.
//!
//! `cargo run --release --example own_routing`

use std::error::Error;

use modm::cache::Candidate;
use modm::request::Request;
use modm::scheduler::Decision;
use modm::scheduler::routing::{Load, Route, RoutingPolicy, Storage};
use modm::simulation::Simulation;

/// Policy that refines cached images only under load.
#[derive(Debug)]
struct HitsUnderLoad {
    /// Lowest cosine of prompt and image at which an image is similar enough.
    bound: f64,
    /// Number of denoising steps that a hit skips.
    skipped_steps: u32,
}

impl RoutingPolicy for HitsUnderLoad {
    fn storage(&self) -> Storage {
        Storage::ByImage
    }

    fn route(&mut self, _: &Request, nearest: Option<Candidate<'_>>, load: &Load) -> Route {
        let waits = load.waiting_hits + load.waiting_misses > 0;
        match nearest.filter(|found| waits && found.similarity >= self.bound) {
            Some(found) => Route::Queue(Decision::hit(found, self.skipped_steps)),
            None => Route::Queue(Decision::miss(nearest)),
        }
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    println!("{:>12}{:>12}{:>12}", "rate/min", "hit rate", "p99 s");
    for rate_per_min in [4.0, 10.0, 16.0] {
        let simulation = Simulation::builder()
            .scenario_file("scenarios/quickstart.toml")
            .set("trace.synthetic.arrivals.rate_per_min", rate_per_min)
            .build()?;
        let summary = simulation.run_routed(Box::new(HitsUnderLoad { bound: 0.25, skipped_steps: 15 }))?.summary;
        let p99 = summary.latency_s.map_or(f64::NAN, |latency| latency.p99);
        println!("{rate_per_min:>12}{:>11.1}%{p99:>12.1}", 100.0 * summary.hit_rate.unwrap_or(0.0));
    }
    Ok(())
}
