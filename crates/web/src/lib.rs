//! Simulation in a browser: the core on a synthetic trace, with settings that a page moves by sliders.
//!
//! The crate has no simulator and no trace generator of its own. It compiles the program's files for prompts,
//! arrivals, stand-ins and the search of capacities a second time: the program's library needs files and threads, which
//! a browser lacks. So the page has the numbers that the program gives for the scenario that the page shows
//! (`tests/simulated/page.rs`). The interface is numbers in and JSON out, through memory that both sides see: nothing
//! generates bindings, no dependency is new, and the page is one file.

// The tests of the shared files are the program's: they need its files and its parser.
#![cfg(not(test))]

pub use modm_core::{draw, embedding, metrics, time};

#[path = "../../../src/encoder/mod.rs"]
pub mod encoder;
#[path = "../../../src/experiments/capacity/search.rs"]
pub mod search;

pub mod input;
#[cfg(target_arch = "wasm32")]
mod interface;
mod json;
pub mod presets;
pub mod run;
pub mod scenario;
pub mod searched;
pub mod session;
pub mod settings;
pub mod synthetic;

pub use run::{Setup, System};
pub use session::Session;
pub use settings::Settings;
