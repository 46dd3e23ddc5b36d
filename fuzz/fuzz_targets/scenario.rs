//! Scenarios, with `--set` after a line of `---` each and with their variants: an error or settings that
//! hold what was checked, and that read back as they are written.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use modm::scenario::{Override, Source, initial_allocation};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut parts = text.split("\n---\n");
    let file = Path::new("scenario.toml");
    let Ok(source) = Source::new(file, parts.next().unwrap_or_default().to_owned()) else { return };
    let sets: Vec<Override> = parts.filter_map(|set| Override::parse(set).ok()).collect();
    let Ok(scenario) = source.scenario(&sets) else { return };
    assert_eq!(initial_allocation(&scenario).targets.len(), scenario.workers());
    assert!(scenario.bounds().is_sorted_by(|a, b| a.0 < b.0));
    let resolved = scenario.resolved();
    let written = toml::to_string(&resolved).expect("settings are TOML");
    let again = Source::new(file, written).and_then(|source| source.scenario(&[])).expect("our own TOML is good");
    assert_eq!(again, resolved);
    for variant in &scenario.variant {
        let overrides: Vec<Override> = sets.iter().cloned().chain(Source::variant_overrides(variant)).collect();
        let _ = source.scenario(&overrides);
    }
});
