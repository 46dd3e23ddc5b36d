//! `requests.csv`: an error that names the file, or a trace in order of arrival whose every row can be
//! read, and that reads back the same as it is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modm::trace::{Trace, TraceFiles, read, write_requests};
use modm_fuzz::file_of;

fn parse(bytes: &[u8], name: &str) -> Option<Trace> {
    let requests = file_of(bytes, name);
    let read = read(&TraceFiles { requests: requests.clone(), ..TraceFiles::default() });
    read.map_err(|error| assert_eq!(error.file, requests, "{error}")).ok()
}

fuzz_target!(|bytes: &[u8]| {
    let Some(trace) = parse(bytes, "requests.csv") else { return };
    assert!(!trace.is_empty() && trace.arrivals().is_sorted());
    let mut written = Vec::new();
    write_requests(&mut written, &trace).expect("memory takes all");
    let again = parse(&written, "again.csv").expect("our own CSV is good");
    assert_eq!(again.arrivals(), trace.arrivals());
    for row in 0..trace.len() {
        let (one, other) = (trace.request(row), again.request(row));
        assert_eq!((trace.label(row), trace.prompt(row)), (again.label(row), again.prompt(row)));
        assert_eq!((one.tenant, one.deadline), (other.tenant, other.deadline));
    }
});
