//! Simulations by calls of the library, without the program.

use modm::metrics::{Keep, Results};
use modm::scenario::{Override, Source};
use modm::simulation::Simulation;

/// Parses settings of the command line, such as `cache.capacity=100`.
pub(crate) fn overrides(sets: &[impl AsRef<str>]) -> Vec<Override> {
    sets.iter().map(|set| Override::parse(set.as_ref()).unwrap()).collect()
}

/// Simulates a scenario with settings of the command line.
pub(crate) fn simulate(source: &Source, sets: &[impl AsRef<str>], keep: Keep) -> Results {
    Simulation::load(source, &overrides(sets)).unwrap().run_keeping(keep, ()).unwrap()
}
