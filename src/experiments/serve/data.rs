//! Data folder of a server: the ledger, the results, recorded traffic and audits, opened as an earlier run left them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::calibration::audit;
use crate::experiments::ExperimentError;
use crate::experiments::live::recorded_keys;
use crate::input::InputError;
use crate::live::faults::Faults;
use crate::scenario::Scenario;
use crate::scheduler::WarmImage;
use crate::scheduler::routing::System;
use crate::serve::audit::{Audits, Keep};
use crate::serve::clock::HostClock;
use crate::serve::ledger::{Ledger, LedgerError};
use crate::serve::recordings;
use crate::serve::settings::ServeSettings;
use crate::serve::traffic::Traffic;

/// Opens the ledger. A ledger that is damaged, in use or written by a newer program is an input that cannot be used. A
/// disk that fails is not an input error.
pub(super) fn open_ledger(
    data: &Path,
    clock: &HostClock,
    faults: Option<Arc<Faults>>,
) -> Result<Ledger, ExperimentError> {
    let ledger = Ledger::open(data, clock, faults).map_err(|error| match error {
        error @ LedgerError::Disk { .. } => ExperimentError::Ledger(error),
        error => InputError::new(data, error.to_string()).into(),
    })?;
    for warning in ledger.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(ledger)
}

/// Removes pictures of results that the ledger does not know. The program was killed after it wrote their files and
/// before it committed their transaction.
pub(super) fn remove_strangers(results: &Path, ledger: &Ledger) -> Result<(), ExperimentError> {
    let known: BTreeSet<String> = ledger.pictures()?.into_iter().collect();
    for entry in std::fs::read_dir(results).map_err(ExperimentError::System)?.flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".png").or_else(|| name.strip_suffix(".png.partial")));
        if id.is_some_and(|id| !known.contains(id) && id.starts_with("img-"))
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!("{}: cannot be removed: {error}", entry.path().display());
        }
    }
    Ok(())
}

/// Warns of ended jobs, results and quotas in the ledger whose tenant has no key, because no key leads to them.
pub(super) fn warn_of_strangers(ledger: &Ledger, tenants: &[String]) -> Result<(), LedgerError> {
    let [jobs, pictures, quotas] = ledger.strangers(tenants)?;
    if jobs + pictures + quotas > 0 {
        let what = format!("{jobs} ended jobs, {pictures} results and {quotas} quotas");
        tracing::warn!("{what} are of nobody who has a key: set aside, no key leads to them");
    }
    Ok(())
}

/// Makes the recordings of earlier runs whole and begins a new one, if traffic is recorded. The server runs without a
/// recording if it cannot begin.
pub(super) fn traffic(
    data: &Path,
    settings: &ServeSettings,
    names: (&[String], &[String]),
    warm: &[WarmImage],
    faults: Option<Arc<Faults>>,
) -> Option<Traffic> {
    if !settings.record {
        return None;
    }
    let folder = recordings::folder(data);
    for warning in recordings::prepare(&folder) {
        tracing::warn!("{warning}");
    }
    #[expect(clippy::disallowed_methods, reason = "the name of a folder")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
    let keys = recorded_keys(warm);
    let (place, most) = (folder.join(now.to_string()), settings.keep_traffic_bytes);
    let begun = Traffic::begin(&place, names, settings.record_prompts, &keys, most, faults);
    begun.inspect_err(|error| tracing::warn!("{}: nothing is recorded: {error}", place.display())).ok()
}

/// Opens the audits of hits, if hits are audited.
pub(super) fn audits(
    data: &Path,
    settings: &ServeSettings,
    scenario: &Scenario,
    file: &Path,
) -> Result<Option<Audits>, InputError> {
    if settings.audit_share == 0.0 {
        return Ok(None);
    }
    if scenario.system.policy != System::Modm {
        let message = "audits hits that a model refined: expected system.policy = \"modm\", or 0";
        return Err(InputError::new(file, message).value("serve.audit_share", settings.audit_share));
    }
    // The server runs without audits if their file cannot be opened.
    let keep = Keep { bytes: settings.keep_audits_bytes, seconds: settings.keep_audits_s };
    let opened = Audits::open(&data.join(audit::FILE), settings.audit_share, scenario.seed, keep);
    Ok(opened.inspect_err(|error| tracing::warn!("no hit is audited: {error}")).ok())
}
