//! Tests of the simulator, its command line and its reports, in one program: linking a program for each took longer
//! than most run.

#![expect(clippy::unwrap_used, reason = "tests, and what only they call")]

#[cfg(feature = "live")]
#[path = "../common/onnxruntime.rs"]
mod onnxruntime;
#[path = "../common/program.rs"]
mod program;
#[path = "../common/shadow.rs"]
mod shadow;
#[path = "../common/threads.rs"]
mod threads;
#[path = "../common/world.rs"]
mod world;

mod bad_inputs;
mod cache_csv;
mod capacity;
mod determinism;
mod disciplines;
mod documentation;
mod examples;
mod faults;
mod fidelity;
mod golden;
mod invariants;
mod layering;
mod library;
mod logs;
mod network;
mod page;
mod paper;
mod plan;
mod policies;
mod printing;
mod profiles;
mod queueing_theory;
mod report;
mod requests_that_differ;
mod retrieval;
mod search;
mod serving;
mod stand_ins;
mod sweep;
mod trace;
mod variants;
mod wall_clock;
mod warnings;
mod way_in;
