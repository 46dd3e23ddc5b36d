//! File `sweep.csv`: one row for each combination, in a form that data frames read directly. Columns: the varied keys,
//! the measures of [`super::measures`], whether the queue was still growing at the last arrival, and the folder with
//! all other results of the run. A cell without a value is empty.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::{measures, read, saturation};
use crate::experiments::sweep::SweepRun;
use crate::input::InputError;
use crate::metrics::summary::Summary;

/// Combination of values that has run.
#[derive(Clone, Debug, Default)]
pub struct SweepRow {
    /// Values of the varied keys, one for each key.
    pub values: Vec<String>,
    /// Measures of the run.
    pub summary: Summary,
    /// Name of the run's folder.
    pub folder: String,
    /// True if the queue was still growing at the last arrival: latencies then depend on the length of the trace.
    pub growing: bool,
}

impl SweepRow {
    /// Reads the row of a run that has its files in the sweep's folder `out`.
    ///
    /// # Errors
    /// Returns an error if a file of the run is missing or has wrong content.
    pub fn read(out: &Path, run: &SweepRun) -> Result<Self, InputError> {
        let folder = run.combination.folder();
        let read = read::run(&run.folder(out), &folder, run.scenario.seed, None)?;
        let growing = saturation::still_growing(&read);
        Ok(Self { values: run.combination.values.clone(), summary: read.summary, folder, growing })
    }
}

/// Returns the rows as JSON.
#[must_use]
pub fn sweep_json(keys: &[String], rows: &[SweepRow]) -> Value {
    let row = |row: &SweepRow| {
        let values = keys.iter().cloned().zip(row.values.iter().map(|value| json!(value)));
        let values: serde_json::Map<String, Value> = values.collect();
        json!({ "values": values, "folder": row.folder, "summary": row.summary })
    };
    rows.iter().map(row).collect()
}

/// Returns the content of `sweep.csv`.
///
/// # Panics
/// Never panics: the rows have one length, and writing to memory does not fail.
#[must_use]
pub fn sweep_csv(keys: &[String], rows: &[SweepRow]) -> String {
    let columns = measures::columns(rows.iter().map(|row| &row.summary));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |record: Vec<&str>| writer.write_record(record).expect("rows of one length, written to memory");
    write(keys.iter().chain(&columns).map(String::as_str).chain(["queue_growing", "folder"]).collect());
    for row in rows {
        let flat: BTreeMap<String, f64> = measures::flatten(&row.summary).into_iter().collect();
        let cells: Vec<String> =
            columns.iter().map(|column| flat.get(column).map(f64::to_string).unwrap_or_default()).collect();
        let growing = if row.growing { "true" } else { "false" };
        write(row.values.iter().chain(&cells).map(String::as_str).chain([growing, row.folder.as_str()]).collect());
    }
    String::from_utf8(writer.into_inner().expect("memory takes what is written to it"))
        .expect("CSV of strings is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn keys_come_first_and_what_a_run_lacks_is_empty() {
        let row = |value: &str, summary: Summary| SweepRow {
            values: vec![value.into()],
            summary,
            folder: value.into(),
            growing: false,
        };
        let rows = [row("1", sample::vanilla().summary), row("2", sample::modm().summary)];
        let text = sweep_csv(&["cache.capacity".into()], &rows);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        assert_eq!((header[0].as_str(), header[header.len() - 1].as_str()), ("cache.capacity", "folder"));
        let hit_rate = header.iter().position(|column| column == "hit_rate").unwrap();
        let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
        assert_eq!((&records[0][0], &records[0][hit_rate]), ("1", ""));
        assert_eq!((&records[1][0], &records[1][hit_rate]), ("2", "0.71"));
    }
}
