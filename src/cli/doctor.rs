//! `modm doctor`: checks which parts of live mode work here, and says what to do about the others.

use std::path::{Path, PathBuf};

use clap::Args;

use super::arguments::{LibraryArguments, read};
#[cfg(feature = "cluster")]
use crate::live::cluster::{diagnosis::examine, settings::usual_name};
use crate::live::diagnosis::{Condition, Finding, Subject, diagnose};
use crate::scenario::Scenario;

/// Check which parts of live mode work here (library, providers, devices, memory, models), and say what to do about the
/// others
///
/// Exit code 0 if what is asked for works (the CPU, or everything that the scenario names), else 1.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Also open the models, the encoder and the devices that this scenario names
    scenario: Option<PathBuf>,
    /// Override a scenario key (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    library: LibraryArguments,
    /// Also examine the cluster at this NATS server: who is there, and whether pictures would go through
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "URL", env = "MODM_CLUSTER")]
    cluster: Option<String>,
    /// Name of the cluster (`live.cluster.name`)
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "NAME", default_value_t = usual_name(), env = "MODM_CLUSTER_NAME")]
    cluster_name: String,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    identity: super::worker::IdentityArguments,
}

/// Error that something needed is missing: exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("live mode does not work here yet; what to do is said above")]
struct Broken;

pub(super) fn run(command: &Doctor) -> anyhow::Result<()> {
    let scenario = command.scenario.as_ref().map(|file| {
        let (source, sets) = read(file, &command.sets)?;
        source.scenario(&sets)
    });
    let scenario: Option<Scenario> = scenario.transpose()?;
    let folder = command.scenario.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let subject =
        scenario.as_ref().map(|scenario| Subject { settings: &scenario.live, models: scenario.model_names(), folder });
    let works = diagnose(&command.library.options(), subject.as_ref(), &mut print);
    #[cfg(feature = "cluster")]
    let works = {
        let named = scenario.as_ref().and_then(|scenario| scenario.live.cluster.clone());
        let named = named
            .zip(command.scenario.as_ref())
            .map(|(cluster, file)| cluster.resolved(|path| Scenario::resolve(file, path)));
        let found = match (&command.cluster, named) {
            (Some(url), _) => examine((url, &command.cluster_name), &command.identity.identity(), &mut print),
            (None, Some(named)) => examine((&named.url, &named.name), &named.identity, &mut print),
            (None, None) => true,
        };
        works && found
    };
    if works { Ok(()) } else { Err(Broken.into()) }
}

/// Prints a finding at once, since opening the next part may take long.
fn print(Finding { condition, part, found, next }: Finding) {
    let word = match condition {
        Condition::Searched => "searched",
        Condition::Works => "ok",
        Condition::Absent => "absent",
        Condition::Missing => "missing",
    };
    out!("{word:<8} {part:<12} {found}");
    if let Some(next) = next {
        out!("         {:<12} next: {next}", "");
    }
}
