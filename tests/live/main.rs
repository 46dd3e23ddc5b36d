//! Tests of live mode on real sessions, in one program.

#![cfg(feature = "live")]
#![expect(clippy::unwrap_used, reason = "tests, and what only they call")]

#[path = "../common/journals.rs"]
mod journals;
#[path = "../common/onnxruntime.rs"]
mod onnxruntime;
#[path = "../common/program.rs"]
mod program;

mod asks;
mod calibrate;
mod families;
mod live_failures;
mod parity;
mod runs;
mod validate;
mod worker_faults;
