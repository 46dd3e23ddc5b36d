//! Runs a workload of the core once, for `scripts/count_instructions`: `count WORKLOAD WORKERS REQUESTS`.

use std::process::ExitCode;

#[path = "../../../benches/core/workload.rs"]
mod workload;

use workload::{Kind, Workload};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parsed = match arguments.as_slice() {
        [kind, workers, requests] => Kind::named(kind).zip(workers.parse().ok()).zip(requests.parse().ok()),
        _ => None,
    };
    let Some(((kind, workers), requests)) = parsed else {
        eprintln!("usage: count vanilla|classes|what_if|withdrawn|fair-10|fair-100 WORKERS REQUESTS");
        return ExitCode::from(2);
    };
    let summary = Workload::new(kind, workers, None, requests).run();
    println!("{} completed, hit rate {:.3}", summary.completed, summary.hit_rate.unwrap_or(0.0));
    ExitCode::SUCCESS
}
