//! Any text as a scenario, with any override in its last line: an error or a scenario, never a panic.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use modm::scenario::{Override, Source};

fuzz_target!(|text: &str| {
    let (text, set) = text.rsplit_once('\n').unwrap_or((text, ""));
    let overrides: Vec<Override> = Override::parse(set).into_iter().collect();
    let scenario =
        Source::new(Path::new("scenario.toml"), text.to_owned()).and_then(|source| source.scenario(&overrides));
    if let Err(error) = scenario {
        assert!(!error.to_string().is_empty());
    }
});
