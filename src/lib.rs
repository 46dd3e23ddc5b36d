//! Simulates and compares systems that serve text-to-image diffusion requests from a cache of final images. One
//! scheduler core runs against a simulated clock or against real sessions.
//!
//! [`replay`] holds the only event loop and is a good place to start reading; `ARCHITECTURE.md` has a map of the code.
//! The crate `modm-core` holds all code that uses no files, clocks or threads. Its modules are exported here under the
//! same names.

// Printing has one place (cli/printer.rs), because these macros panic where the reader has left or the disk is full.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub use modm_core::{
    cache, confidence, denoising, draw, embedding, image, metrics, model, network, replay, request, scheduler, sim,
    time, window,
};

pub mod calibration;
pub mod cli;
pub mod encoder;
pub mod experiments;
pub mod input;
pub mod journal;
pub mod live;
#[cfg(feature = "live")]
mod locked;
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
