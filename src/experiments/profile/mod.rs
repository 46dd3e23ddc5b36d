//! Profiling: times of a scenario's models on its devices, by themselves and while all the work of a live run goes on.

use crate::live::library::Library;

mod measurements;
mod under_load;

pub use measurements::{Measurements, NEIGHBOURS};

/// Returns the source of measurements in words: this program, the library of ONNX Runtime, and the machine.
#[must_use]
pub fn source_of(library: &Library) -> String {
    format!(
        "modm {} profile, commit {}, {}, {}",
        env!("CARGO_PKG_VERSION"),
        env!("MODM_COMMIT"),
        library.build(),
        host()
    )
}

/// Prompts that any of the models can draw.
pub const PROMPTS: [&str; 3] = [
    "a large red star at the center on a blue background",
    "a green square above a yellow circle on a white background",
    "a small blue heart at the top left on a gray background",
];

/// Returns the processor and the number of threads, as far as the system states them.
fn host() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} with {threads} threads", name.unwrap_or_else(|| std::env::consts::ARCH.to_owned()))
}
