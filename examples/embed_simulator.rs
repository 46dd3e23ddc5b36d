//! Runs the simulator from another program: replays one trace without and with an image cache. The scenario is a text
//! in this file.
//!
//! `cargo run --release --example embed_simulator`

use std::error::Error;

use modm::simulation::Simulation;

const SCENARIO: &str = r#"
name = "two systems"
seed = 7

[trace]
warm_requests = 300

[trace.synthetic]
requests = 1000

[trace.synthetic.arrivals]
process = "poisson"
rate_per_min = 4.5

[cluster]
gpus = [{ type = "mi210", count = 8 }]

[models]
large = "sd3.5-large"
small = ["sdxl"]

[cache]
capacity = 500
"#;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    println!("{:<10}{:>14}{:>12}{:>12}", "system", "images/min", "hit rate", "p99 s");
    for system in ["vanilla", "modm"] {
        let simulation = Simulation::builder().scenario_toml(SCENARIO).set("system.policy", system).build()?;
        let summary = simulation.run()?.summary;
        let rate = summary.throughput_steady_per_min.unwrap_or(f64::NAN);
        let p99 = summary.latency_s.map_or(f64::NAN, |latency| latency.p99);
        println!("{system:<10}{rate:>14.2}{:>11.1}%{p99:>12.1}", 100.0 * summary.hit_rate.unwrap_or(0.0));
    }
    Ok(())
}
