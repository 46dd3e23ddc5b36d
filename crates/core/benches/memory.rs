//! Peak memory of the core for each request, beyond the arrivals that it is given (8 bytes a request). It is the growth
//! of the process's peak resident set, with workers that keep up and with workers that leave half of the requests
//! waiting at the end. Linux only, where the kernel reports the peak.

use std::error::Error;
use std::process::Command;

#[path = "core/workload.rs"]
mod workload;

use workload::{Kind, Workload};

/// Returns the peak resident set of this process, in bytes.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Loads and numbers of requests. Each case has a process of its own, since a peak never falls.
const CASES: [(&str, &str); 4] = [("0.9", "1000000"), ("0.9", "10000000"), ("2.0", "1000000"), ("2.0", "10000000")];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [load, requests] = arguments.as_slice() {
        return measure(load.parse()?, requests.parse()?);
    }
    for (load, requests) in CASES {
        Command::new(std::env::current_exe()?).args([load, requests]).status()?;
    }
    Ok(())
}

fn measure(load: f64, requests: u32) -> Result<(), Box<dyn Error>> {
    let workload = Workload::new(Kind::named("vanilla").ok_or("no such workload")?, 16, Some(load), requests);
    let before = peak().ok_or("this system does not tell a process's peak memory")?;
    let summary = workload.run();
    assert_eq!(summary.completed, u64::from(requests));
    let grown = peak().unwrap_or(before).saturating_sub(before);
    let each = grown as f64 / f64::from(requests);
    println!("load {load:.1}, {requests} requests: peak memory grew by {grown} bytes, {each:.1} a request");
    Ok(())
}
