//! Tests of the server, in one program.

#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "tests, and what only they call")]

#[path = "../common/onnxruntime.rs"]
mod onnxruntime;
#[path = "../common/program.rs"]
mod program;
#[path = "../common/served.rs"]
mod served;

mod api;
mod hostile;
mod serve_asks;
mod serve_clients;
mod serve_disk;
mod serve_faults;
mod serve_jobs;
mod serve_reuse;
mod serve_tenants;
