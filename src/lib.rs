//! `modm` simulates and compares systems that serve text-to-image diffusion from a cache of final
//! images. One scheduler core runs against a simulated clock or against real sessions.
//!
//! Start at [`replay`], the only loop; `ARCHITECTURE.md` has the map.

pub mod cache;
pub mod calibration;
pub mod cli;
pub mod confidence;
pub mod draw;
pub mod embedding;
pub mod encoder;
pub mod experiments;
pub mod image;
pub mod input;
pub mod journal;
pub mod live;
pub mod metrics;
pub mod model;
pub mod output;
pub mod profile;
pub mod published;
pub mod replay;
pub mod report;
pub mod request;
pub mod scenario;
pub mod scheduler;
pub mod serve;
pub mod sim;
pub mod time;
pub mod trace;
pub mod window;
