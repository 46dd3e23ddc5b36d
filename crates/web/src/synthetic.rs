//! Synthetic trace of the page: the prompts and the arrivals of the program's `[trace.synthetic]`, from its own files.

use std::path::Path;

use crate::input::InputError;
use crate::time::Time;

#[path = "../../../src/trace/synthetic/arrivals.rs"]
#[expect(dead_code, reason = "traces of several streams, which the page does not have")]
mod arrivals;
#[path = "../../../src/trace/synthetic/complaint.rs"]
mod complaint;
#[path = "../../../src/trace/synthetic/prompts.rs"]
mod prompts;
#[path = "../../../src/trace/synthetic/vocabulary/mod.rs"]
mod vocabulary;

pub use arrivals::Arrivals;
use complaint::{Complaint, above_zero, within};
pub use prompts::Prompts;

/// Returns the prompts of so many requests.
///
/// # Errors
/// Returns an error if a setting cannot be used.
pub fn prompts(settings: &Prompts, requests: u32, seed: u64) -> Result<Vec<String>, InputError> {
    check(settings.complaint())?;
    let (prompts, _) = settings.generate(requests, seed);
    Ok(prompts)
}

/// Returns the arrival times of so many requests.
///
/// # Errors
/// Returns an error if a setting cannot be used, or if the requests take more than ten years.
pub fn arrivals(settings: &Arrivals, requests: u32, seed: u64) -> Result<Vec<Time>, InputError> {
    check(settings.complaint())?;
    let long = || InputError::new("", "the trace would last longer than ten years").value("requests", requests);
    settings.times(requests, seed).ok_or_else(long)
}

fn check(complaint: Option<Complaint>) -> Result<(), InputError> {
    complaint.map_or(Ok(()), |complaint| Err(complaint.under("trace.synthetic").into_error(Path::new(""))))
}
