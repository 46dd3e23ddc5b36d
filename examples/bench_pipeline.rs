//! What our loop costs over the bare model: a step of a drawing against a run of its denoiser alone, in turns,
//! on one thread. Medians over jobs of each job's mean, their ratio job by job, and the least of each.
//! `cargo run --release --features live --example bench_pipeline -- FOLDER...`

use std::path::PathBuf;

use modm::live::library::Library;
use modm::live::measure::{Plan, pairs};
use modm::live::settings::Device;

fn main() -> anyhow::Result<()> {
    let library = Library::open(None)?;
    println!("{:44} {:>9} {:>9} {:>8} {:>9} {:>9}", "model", "bare ms", "step ms", "ratio", "least", "least");
    for folder in std::env::args().skip(1).map(PathBuf::from) {
        let prompts = vec!["a large red star at the center on a blue background".to_owned()];
        let plan = Plan { steps: 50, jobs: 60, loads: 0, prompts };
        let pairs = pairs(&library, Device::default(), &folder, &plan)?;
        let median = |of: &dyn Fn(&(f64, f64)) -> f64| {
            let mut values: Vec<f64> = pairs.iter().map(of).collect();
            values.sort_unstable_by(f64::total_cmp);
            (values[values.len() / 2], values[0])
        };
        let ((bare, least_bare), (step, least_step)) = (median(&|pair| pair.0), median(&|pair| pair.1));
        let (ratio, _) = median(&|pair| pair.1 / pair.0);
        let name = folder.display();
        let [bare, step, least_bare, least_step] = [bare, step, least_bare, least_step].map(|seconds| seconds * 1e3);
        println!("{name:44} {bare:9.4} {step:9.4} {ratio:8.4} {least_bare:9.4} {least_step:9.4}");
    }
    Ok(())
}
