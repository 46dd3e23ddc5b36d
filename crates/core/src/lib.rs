//! Core of modm: requests, image cache, scheduler, simulated executor and metrics. The core has no clock, file, thread
//! or randomness of its own. The core receives what it needs as arguments, and the compiler proves it, since there is
//! no `std`.
//!
//! Start at [`replay`], the only loop. `ARCHITECTURE.md` has the map. The feature `std` chooses instructions by the
//! processor that the program runs on, and changes nothing else.

#![no_std]

#[macro_use]
extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod cache;
pub mod confidence;
pub mod denoising;
pub mod draw;
pub mod embedding;
pub mod image;
pub mod journal;
pub mod metrics;
pub mod model;
pub mod network;
pub mod profile;
pub mod replay;
pub mod request;
pub mod scheduler;
pub mod sim;
mod table;
pub mod time;
pub mod window;
