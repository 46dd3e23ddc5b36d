//! `modm` simulates and compares systems that serve text-to-image diffusion from a cache of final
//! images. One scheduler core runs against a simulated clock or against real sessions.
//!
//! Start at [`replay`], the only loop; `ARCHITECTURE.md` has the map. What knows no file, clock or thread is the crate
//! `modm-core`, and is here under the same names.

pub use modm_core::{
    cache, confidence, draw, embedding, image, metrics, model, replay, request, scheduler, sim, time, window,
};

pub mod calibration;
pub mod cli;
pub mod encoder;
pub mod experiments;
pub mod input;
pub mod journal;
pub mod live;
pub mod output;
pub mod profile;
pub mod published;
pub mod report;
pub mod retrieval;
pub mod run_folder;
pub mod scenario;
pub mod serve;
pub mod simulation;
pub mod trace;
