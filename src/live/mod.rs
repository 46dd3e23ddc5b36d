//! Runs on real ONNX Runtime sessions: the executor that draws pictures, and its parts. The core, the loop and the
//! journal are those of simulated runs. All parts except the settings and limits need the feature `live`.

pub mod cluster;
pub mod limits;
pub mod settings;

#[cfg(feature = "live")]
pub mod batch;
#[cfg(feature = "live")]
mod bfloat16;
#[cfg(feature = "live")]
pub mod details;
#[cfg(feature = "live")]
pub mod diagnosis;
#[cfg(feature = "live")]
pub mod embedder;
#[cfg(feature = "live")]
pub mod encoder;
#[cfg(feature = "live")]
pub mod error;
#[cfg(feature = "live")]
pub mod executor;
#[cfg(feature = "live")]
pub mod faults;
#[cfg(feature = "live")]
mod frames;
#[cfg(feature = "live")]
pub mod interrupts;
#[cfg(feature = "live")]
pub mod isolated;
#[cfg(feature = "live")]
pub mod library;
#[cfg(feature = "live")]
pub mod measure;
#[cfg(feature = "live")]
mod onnx;
#[cfg(feature = "live")]
pub mod painter;
#[cfg(feature = "live")]
pub mod picture;
#[cfg(feature = "live")]
pub mod pipeline;
#[cfg(feature = "live")]
mod resize;
#[cfg(feature = "live")]
pub mod store;
#[cfg(feature = "live")]
mod words;
#[cfg(feature = "live")]
pub mod worker;
