//! Parts of a sweep: what earlier commands and shards have left in its folder for each combination, and refusals that
//! name the folders at fault. Nothing is run or written here.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::{Shard, SweepRun};
use crate::input::InputError;
use crate::run_folder::{EarlierRun, Missing, earlier_run};

/// Largest number of folders that a refusal names. The rest are counted.
const MOST_NAMED: usize = 50;

/// Earlier runs of the combinations of a sweep, or of a shard, in its folder.
#[derive(Debug)]
pub struct Parts<'a> {
    out: &'a Path,
    /// Earlier runs, in the order of the sweep's runs.
    parts: Vec<(&'a SweepRun, EarlierRun)>,
}

impl<'a> Parts<'a> {
    /// Reads which of `runs` have come to their end in the folder `out`, and what else is in their folders.
    ///
    /// # Errors
    /// Returns an error if a run is finished but its measures cannot be read.
    pub fn read(out: &'a Path, runs: &'a [SweepRun]) -> Result<Self, InputError> {
        let read = |run: &'a SweepRun| Ok((run, earlier_run(&run.folder(out), &run.scenario, &run.files)?));
        Ok(Self { out, parts: runs.iter().map(read).collect::<Result<_, _>>()? })
    }

    /// Returns the indices of the runs that are not finished. Those of another build, other inputs or other settings
    /// are among them.
    #[must_use]
    pub fn waiting(&self) -> Vec<usize> {
        let is_waiting = |at: &usize| !matches!(self.parts[*at].1, EarlierRun::Finished(_));
        (0..self.parts.len()).filter(is_waiting).collect()
    }

    /// Refuses parts of another build, other inputs or other settings. Parts that are missing or unfinished may be run.
    ///
    /// # Errors
    /// Returns an error that names the folders.
    pub fn check_alike(&self) -> Result<(), InputError> {
        let others = self.at_fault(|earlier| match earlier {
            EarlierRun::Other(difference) => Some(difference.to_string()),
            _ => None,
        });
        if others.is_empty() {
            return Ok(());
        }
        let (count, total) = (others.len(), self.parts.len());
        let message = format!(
            "{count} of {total} combinations have run, but not with this build, these inputs and these settings:{}\n\
             Go on with what made them, choose another folder, or run them again: the same command with --force",
            listed(&others, None)
        );
        Err(InputError::new(self.out, message).key("--out"))
    }

    /// Refuses parts that are not one whole sweep.
    ///
    /// # Errors
    /// Returns an error that names the folders that are missing, unfinished, or of another build, other inputs or other
    /// settings.
    pub fn check_whole(&self) -> Result<(), InputError> {
        let fault = |earlier: &EarlierRun| match earlier {
            EarlierRun::Missing(Missing::Folder) => Some("is missing".to_owned()),
            EarlierRun::Missing(Missing::End) => Some("is unfinished: it has no run.json that can be read".to_owned()),
            EarlierRun::Other(difference) => Some(difference.to_string()),
            EarlierRun::Finished(_) => None,
        };
        let at_fault = self.at_fault(fault);
        if at_fault.is_empty() {
            return Ok(());
        }
        let shards = number_of_shards(self.out);
        let (count, total) = (at_fault.len(), self.parts.len());
        let mut message = format!("{count} of {total} combinations cannot be merged:{}", listed(&at_fault, shards));
        let missing = self.runs(|earlier| matches!(earlier, EarlierRun::Missing(_)));
        if !missing.is_empty() {
            let command = command(&missing, shards, "");
            let _ = write!(message, "\nRun what is missing or unfinished, then merge: {command}");
        }
        let others = self.runs(|earlier| matches!(earlier, EarlierRun::Other(_)));
        if !others.is_empty() {
            let command = command(&others, shards, " and --force");
            let way_out = "or merge with the build, the inputs and the settings that made all parts";
            let _ = write!(message, "\nRun what differs again, then merge: {command}; {way_out}");
        }
        Err(InputError::new(self.out, message).key("--merge"))
    }

    fn runs(&self, is_wanted: impl Fn(&EarlierRun) -> bool) -> Vec<&'a SweepRun> {
        self.parts.iter().filter(|(_, earlier)| is_wanted(earlier)).map(|(run, _)| *run).collect()
    }

    /// Returns the runs at which `fault` finds a fault, in the order of the combinations, each with the words for it.
    fn at_fault(&self, fault: impl Fn(&EarlierRun) -> Option<String>) -> Vec<(&'a SweepRun, String)> {
        let mut found: Vec<_> = self.parts.iter().filter_map(|(run, earlier)| Some((*run, fault(earlier)?))).collect();
        found.sort_by_key(|(run, _)| run.combination.index);
        found
    }
}

/// Returns a line for each folder, up to a limit. `shards` is the number of shards, if it is known.
fn listed(at_fault: &[(&SweepRun, String)], shards: Option<usize>) -> String {
    let mut lines = String::new();
    for (run, fault) in at_fault.iter().take(MOST_NAMED) {
        let shard = shards.map(|of| Shard::containing(&run.combination, of));
        let shard = shard.map(|shard| format!(" (shard {} of {})", shard.number, shard.of)).unwrap_or_default();
        let _ = write!(lines, "\n  {}{shard}: {fault}", run.combination.folder()); // a write to memory cannot fail
    }
    if at_fault.len() > MOST_NAMED {
        let _ = write!(lines, "\n  and {} others", at_fault.len() - MOST_NAMED);
    }
    lines
}

/// Returns words for the command that runs these combinations, with more flags in `also`. Numbers of shards are written
/// as `sbatch --array` takes them.
fn command(runs: &[&SweepRun], shards: Option<usize>, also: &str) -> String {
    let place = "in place of --merge";
    let Some(of) = shards else {
        return format!("the same command with --shard I/N{also} {place}, or without --shard");
    };
    let numbers: BTreeSet<usize> = runs.iter().map(|run| Shard::containing(&run.combination, of).number).collect();
    let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
    match numbers.as_slice() {
        [number] => format!("the same command with --shard {number}/{of}{also} {place}"),
        _ => format!("the same command with --shard I/{of}{also} {place}, for I = {}", numbers.join(",")),
    }
}

/// Returns the number of shards according to the tables `sweep-I-of-N.csv` in a folder; `None` if there are none, or if
/// they are of different numbers of shards.
fn number_of_shards(out: &Path) -> Option<usize> {
    let number = |name: &str| {
        let (number, of) = name.strip_prefix("sweep-")?.strip_suffix(".csv")?.split_once("-of-")?;
        Some(format!("{number}/{of}").parse::<Shard>().ok()?.of)
    };
    let entries = std::fs::read_dir(out).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let found: BTreeSet<usize> = names.filter_map(|name| number(&name)).collect();
    found.first().copied().filter(|_| found.len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_tell_the_number_of_shards_if_they_agree() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(number_of_shards(&place.path().join("none")), None);
        let table = |name: &str| std::fs::write(place.path().join(name), "").unwrap();
        table("sweep.csv");
        table("sweep-9-of-3.csv");
        assert_eq!(number_of_shards(place.path()), None);
        table("sweep-2-of-8.csv");
        table("sweep-5-of-8.csv");
        assert_eq!(number_of_shards(place.path()), Some(8));
        table("sweep-2-of-4.csv");
        assert_eq!(number_of_shards(place.path()), None);
    }
}
