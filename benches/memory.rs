//! Peak memory of the core a request, beyond the arrivals it is given (8 bytes a request): the growth of
//! the process's peak resident set from 10^6 to 10^7 requests. Linux only, where the kernel tells.

#[path = "core/workload.rs"]
mod workload;

/// Peak resident set of this process, bytes.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

fn main() {
    for requests in [1_000_000_u32, 10_000_000] {
        let arrivals = workload::arrivals(requests);
        let Some(before) = peak() else {
            println!("this system does not tell a process's peak memory");
            return;
        };
        let summary = workload::run(&arrivals);
        assert_eq!(summary.completed, u64::from(requests));
        let grown = peak().unwrap_or(before).saturating_sub(before);
        let each = grown as f64 / f64::from(requests);
        println!("{requests} requests: peak memory grew by {grown} bytes, {each:.1} bytes a request");
    }
}
