//! Tests of workers on other machines: a NATS server of the distribution's package, workers of fixed times and of the
//! shapes, and a network that delays, loses and parts. `scripts/packages` installs what is missing.

#![cfg(feature = "cluster")]
#![expect(clippy::unwrap_used, reason = "tests, and what only they call")]

#[path = "../common/journals.rs"]
mod journals;
#[path = "../common/onnxruntime.rs"]
mod onnxruntime;
#[path = "../common/program.rs"]
mod program;
#[path = "../common/rig.rs"]
mod rig;
#[cfg(feature = "serve")]
#[path = "../common/served.rs"]
mod served;

mod failures;
#[cfg(feature = "serve")]
mod kills;
mod nats;
mod network;
mod programs;
mod protocol;
mod weather;
