//! Journals of live runs, read back and fed to a fresh core.

use std::fs;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use modm::journal::{self, Line, What};
use modm::scenario::{Inputs, Override, Source, TraceInputs};
use serde_json::Value;

/// All lines of a run's journal.
pub(crate) fn journal_lines(out: &Path) -> Vec<Line> {
    let packed = fs::File::open(out.join("journal.jsonl.gz")).unwrap();
    journal::read::<Value>(BufReader::new(flate2::read::GzDecoder::new(packed))).unwrap().1
}

/// The journal of a run fed into a fresh core: the same actions.
pub(crate) fn replays(out: &Path, file: &Path, overrides: &[&str]) {
    let source = Source::read(file).unwrap();
    let sets: Vec<Override> = overrides.iter().map(|set| Override::parse(set).unwrap()).collect();
    let scenario = source.scenario(&sets).unwrap();
    let inputs = Inputs::new(&scenario, file, Arc::new(TraceInputs::load(&scenario, file, false).unwrap())).unwrap();
    let lines = journal_lines(out);
    let mut core = scenario.live_core(&inputs, Vec::new(), &mut Vec::new());
    let mut expected = Vec::new();
    for line in &lines {
        match &line.what {
            What::Event(event) => {
                assert_eq!(expected, []);
                core.handle(line.time, event, &mut expected);
            }
            What::Action(action) => assert_eq!(expected.remove(0), *action),
        }
    }
    assert!(expected.is_empty() && core.outstanding() == 0 && lines.len() > 200);
}
