//! Reads a journal, which `modm simulate --journal` and `modm live` write. The action that ends a request has its
//! arrival, its decision and its job.
//!
//! `cargo run --release --example read_journal -- results/run/journal.jsonl.gz`. Without a file, the example makes a
//! short run and reads its journal.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};

use flate2::read::GzDecoder;
use modm::journal::{self, What, Writer};
use modm::metrics::Keep;
use modm::scheduler::Action;
use modm::simulation::Simulation;

/// Writes the journal of a short run into memory, and reads it.
pub(crate) fn of_a_short_run() -> Result<(), Box<dyn Error>> {
    let simulation = Simulation::builder()
        .scenario_file("scenarios/quickstart.toml")
        .set("trace.synthetic.requests", 2_500)
        .set("trace.synthetic.arrivals.rate_per_min", 8)
        .build()?;
    let mut journal = Writer::new(Vec::new(), &simulation.header())?;
    simulation.run_keeping(Keep::Nothing, &mut journal)?;
    print(journal.finish()?.as_slice())
}

/// Prints the number of requests and their mean latency for each kind of decision.
fn print(journal: impl BufRead) -> Result<(), Box<dyn Error>> {
    let (header, lines) = journal::read::<serde_json::Value>(journal)?;
    println!("scenario {}, written by modm {}", header["scenario"]["name"], header["modm"]);
    let mut kinds: BTreeMap<&str, (u64, f64)> = BTreeMap::new();
    for line in &lines {
        let What::Action(Action::Finish(ended)) = &line.what else { continue };
        let kind = ended.decision.map_or("never routed", |decision| decision.kind.word());
        let (count, seconds) = kinds.entry(kind).or_default();
        *count += 1;
        *seconds += line.time.since(ended.arrival).seconds();
    }
    for (kind, (count, seconds)) in kinds {
        println!("{kind:<14}{count:>8} requests, mean latency {:>8.1} s", seconds / count as f64);
    }
    Ok(())
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(file) => print(BufReader::new(GzDecoder::new(File::open(file)?))),
        None => of_a_short_run(),
    }
}
