//! Cost of the drawing loop over the bare model: times a step of a drawing and a run of its denoiser alone, in turns,
//! on one thread. Prints medians over jobs of each job's mean, and the median of their ratios job by job.
//! `cargo run --release --features live --example bench_pipeline -- FOLDER...`

use std::path::PathBuf;

use modm::live::library::Library;
use modm::live::measure::{Plan, median, model};
use modm::live::pipeline::picture_size;
use modm::live::settings::Device;

fn main() -> anyhow::Result<()> {
    let library = Library::open(None)?;
    println!("{:44} {:>9} {:>9} {:>8}", "model", "bare ms", "step ms", "ratio");
    for folder in std::env::args().skip(1).map(PathBuf::from) {
        let prompts = vec!["a large red star at the center on a blue background".to_owned()];
        let plan = Plan { steps: 50, jobs: 60, loads: 0, prompts };
        let size = picture_size(&folder)?;
        let measured = model(&library, Device::default(), (&folder, None), size, false, &[1], &plan)?;
        for point in measured.points {
            let [bare, step] = [&point.bare, &point.steps].map(|seconds| median(seconds) * 1e3);
            println!("{:44} {bare:9.4} {step:9.4} {:8.4}", folder.display(), point.step_ratio());
        }
    }
    Ok(())
}
