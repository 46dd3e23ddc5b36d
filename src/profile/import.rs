//! Profiles from tables of measured runtimes with a row for each model, accelerator and batch size, such as `DiffServe`
//! publishes. The tables measure whole jobs, so the profiles have no times of single steps.

use std::collections::BTreeMap;
use std::path::Path;

use super::{MOST_BATCH, ProfileFile, Service};
use crate::input::InputError;

/// Runtime, in milliseconds, from which on a batch counts as not run: the tables give such runtimes to batches that
/// were not run.
const NOT_RUN_MS: f64 = 100_000.0;

/// Columns of the table that are read.
const COLUMNS: [&str; 4] = ["Model", "Accel", "batchsize", "avg_runtime"];

/// Profile from a table, and notes on the rows that were left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Profile that the table gives.
    pub profile: ProfileFile,
    /// Notes on the rows that were left out, in words.
    pub notes: Vec<String>,
}

/// Runtimes in milliseconds by batch size, for each accelerator and model.
type Runtimes = BTreeMap<(String, String), BTreeMap<u32, f64>>;

/// Reads a table. `renamed` has pairs of a model's name in the table and its name in the profile. Every load takes
/// `load_s` seconds, since such a table has no times of loads.
///
/// # Errors
/// A column that is missing, a row that cannot be read, or a model without a runtime for a batch of 1.
pub fn runtimes(text: &str, file: &Path, renamed: &[(String, String)], load_s: f64) -> Result<Imported, InputError> {
    let mut rows = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let broken = |error: &csv::Error| InputError::new(file, error.to_string());
    let header = rows.headers().map_err(|error| broken(&error))?.clone();
    let mut places = [0; 4];
    for (place, name) in places.iter_mut().zip(COLUMNS) {
        *place = header.iter().position(|column| column == name).ok_or_else(|| {
            let known = header.iter().collect::<Vec<_>>().join(", ");
            InputError::new(file, format!("has no column {name:?}; it has {known}"))
        })?;
    }
    let (mut runtimes, mut notes) = (Runtimes::new(), Vec::new());
    for row in rows.records() {
        let row = row.map_err(|error| broken(&error))?;
        let line = row.position().map(|position| position.line() as usize);
        let [model, gpu, size, runtime] = places.map(|place| row.get(place).unwrap_or_default());
        let wrong = |key: &str, found: &str, accepted: &str| InputError {
            line,
            ..InputError::new(file, accepted).value(key, format_args!("{found:?}"))
        };
        let size: u32 = size
            .parse()
            .ok()
            .filter(|size| (1..=MOST_BATCH).contains(size))
            .ok_or_else(|| wrong(COLUMNS[2], size, "expected a number of requests from 1 to 1024"))?;
        let runtime: f64 = runtime
            .parse()
            .ok()
            .filter(|runtime| *runtime > 0.0 && *runtime <= 1e9)
            .ok_or_else(|| wrong(COLUMNS[3], runtime, "expected milliseconds above 0"))?;
        let name = renamed.iter().find(|(there, _)| there == model).map_or(model, |(_, here)| here);
        if runtime >= NOT_RUN_MS {
            notes.push(format!(
                "{gpu}, {name}: a batch of {size} takes {runtime} ms there, taken for one that was not run"
            ));
            continue;
        }
        runtimes.entry((gpu.to_owned(), name.to_owned())).or_default().insert(size, runtime);
    }
    let mut service = Vec::new();
    for ((gpu, model), by_size) in &runtimes {
        let alone = by_size
            .get(&1)
            .ok_or_else(|| InputError::new(file, format!("has no runtime of a batch of 1 for {model:?} on {gpu:?}")))?;
        let mut batches: Vec<(u32, f64)> = Vec::new();
        for (&size, runtime) in by_size.range(2..) {
            // `super::parse` accepts only factors that do not fall and are at most the size.
            let factor = runtime / alone;
            if (batches.last().map_or(1.0, |(_, before)| *before)..=f64::from(size)).contains(&factor) {
                batches.push((size, factor));
            } else {
                notes.push(format!(
                    "{gpu}, {model}: a batch of {size} is left out: smaller ones, one after the other, take less"
                ));
            }
        }
        service.push(Service { overhead_s: alone / 1000.0, load_s, batches, ..Service::new(gpu, model) });
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let source = format!("mean runtimes of whole jobs from {name}; loads of {load_s} s are assumed");
    let profile = ProfileFile {
        source,
        service,
        gpu: Vec::new(),
        encoding: None,
        measurement: Vec::new(),
        quality: Vec::new(),
        own_quality: Vec::new(),
    };
    Ok(Imported { profile, notes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = ",Model,Accel,batchsize,avg_runtime,50th_pct\n0,a,gpu,1,100,100\n1,a,gpu,2,150,150\n\
                         2,a,gpu,4,220,220\n3,b,gpu,1,1780,1780\n4,b,gpu,32,100000,100000\n";

    fn read(text: &str) -> Result<Imported, String> {
        let renamed = [("b".to_owned(), "heavy".to_owned())];
        runtimes(text, Path::new("table.csv"), &renamed, 2.0).map_err(|error| error.to_string())
    }

    #[test]
    fn a_table_becomes_a_profile_that_reads_back() {
        let Imported { profile, notes } = read(TABLE).expect("a good table");
        let rows: Vec<_> = profile.service.iter().map(|row| (row.model.as_str(), row.overhead_s, row.most())).collect();
        assert_eq!(rows, [("a", 0.1, 4), ("heavy", 1.78, 1)]);
        assert!((profile.service[0].batch_factor(4) - 2.2).abs() < 1e-12);
        assert!(notes.len() == 1 && notes[0].contains("batch of 32"), "{notes:?}");
        let text = toml::to_string_pretty(&profile).expect("a profile is TOML");
        assert_eq!(super::super::parse(&text, Path::new("profile.toml")).expect("it reads back"), profile);
    }

    #[test]
    fn errors_name_the_place() {
        let error = |text: &str| read(text).expect_err("a bad table");
        assert!(error(&TABLE.replace("batchsize", "size")).contains("no column \"batchsize\""));
        assert!(error(&TABLE.replace(",2,150", ",two,150")).starts_with("table.csv:3: batchsize = \"two\""));
        assert!(error(&TABLE.replace("1,100,100", "1,-1,100")).starts_with("table.csv:2: avg_runtime = \"-1\""));
        assert!(error(&TABLE.replace("b,gpu,1,", "b,gpu,2,")).contains("no runtime of a batch of 1 for \"heavy\""));
    }
}
