//! Any bytes as requests.csv: an error or a trace in order of arrival, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modm::trace::{TraceFiles, read};

fuzz_target!(|bytes: &[u8]| {
    let file = std::env::temp_dir().join(format!("modm-fuzz-{}-requests.csv", std::process::id()));
    std::fs::write(&file, bytes).expect("a temporary file");
    let files = TraceFiles { requests: file, ..TraceFiles::default() };
    if let Err(error) = read(&files) {
        assert!(!error.to_string().is_empty());
    }
});
