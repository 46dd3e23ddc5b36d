//! Provenance of a command's runs, for its report.

use crate::report::provenance::{Provenance, policies};
use crate::scenario::{Fingerprint, Override, Scenario, Source, built_in_profile};

/// Provenance of named runs of a scenario: their policies, the command line's settings, the scenario's file and all else
/// that was read, and whose service times these are.
pub(super) fn of_runs<'a>(
    (source, sets): (&Source, &[Override]),
    runs: impl IntoIterator<Item = (String, &'a Scenario)>,
    files: impl IntoIterator<Item = &'a Fingerprint>,
    service_times: impl IntoIterator<Item = &'a str>,
) -> Provenance {
    let (mut named, mut built_in) = (Vec::new(), false);
    for (name, scenario) in runs {
        let settings = toml::Table::try_from(scenario.resolved()).unwrap_or_default();
        named.push((name, policies(&settings)));
        built_in |= scenario.models.profile.is_none();
    }
    let input = |print: &Fingerprint| (print.file.display().to_string(), print.sha256.clone());
    let mut read: Vec<(String, String)> = files.into_iter().map(input).collect();
    read.sort();
    read.dedup();
    let built_in =
        built_in.then(built_in_profile).map(|print| (format!("{} (built in)", print.file.display()), print.sha256));
    let mut sources: Vec<String> = service_times.into_iter().map(str::to_owned).collect();
    sources.sort();
    sources.dedup();
    let mut provenance = Provenance {
        policies: Vec::new(),
        sets: Some(sets.iter().map(|set| (set.key.clone(), set.value.to_string())).collect()),
        inputs: std::iter::once(input(&source.fingerprint())).chain(built_in).chain(read).collect(),
        service_times: sources,
    };
    provenance.add_policies(named);
    provenance
}
