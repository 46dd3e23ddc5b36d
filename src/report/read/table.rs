//! CSV files of a run, read row by row: columns are found by their names, numbers are checked.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use crate::input::InputError;

/// CSV file that is read row by row.
pub(super) struct Table {
    file: PathBuf,
    header: csv::StringRecord,
    rows: csv::Reader<BufReader<File>>,
}

impl Table {
    pub(super) fn open(file: &Path) -> Result<Self, InputError> {
        let opened = File::open(file).map_err(|error| InputError::unreadable(file, &error))?;
        let mut rows = csv::Reader::from_reader(BufReader::new(opened));
        let header = rows.headers().map_err(|error| InputError::new(file, error.to_string()))?.clone();
        Ok(Self { file: file.to_owned(), header, rows })
    }

    pub(super) fn place(&self, column: &str) -> Result<usize, InputError> {
        let place = self.header.iter().position(|name| name == column);
        place.ok_or_else(|| InputError::new(&self.file, format!("has no column {column:?}: a run writes one")))
    }

    /// Returns the columns whose names begin with a prefix: position, and rest of the name.
    pub(super) fn like(&self, prefix: &str) -> Vec<(usize, String)> {
        let like = self.header.iter().enumerate();
        like.filter_map(|(place, name)| Some((place, name.strip_prefix(prefix)?.to_owned()))).collect()
    }

    /// Reads the next row into `record`. Returns false at the end of the file.
    pub(super) fn read(&mut self, record: &mut csv::StringRecord) -> Result<bool, InputError> {
        self.rows.read_record(record).map_err(|error| InputError::new(&self.file, error.to_string()))
    }

    /// Returns the number in a column of a row; `None` if the field is empty.
    pub(super) fn number(&self, record: &csv::StringRecord, place: usize) -> Result<Option<f64>, InputError> {
        let text = record.get(place).unwrap_or_default();
        if text.is_empty() {
            return Ok(None);
        }
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        let line = record.position().map(|position| position.line() as usize);
        let wrong =
            || InputError::new(&self.file, "expected a number").value(&self.header[place], format_args!("{text:?}"));
        number.map(Some).ok_or_else(|| InputError { line, ..wrong() })
    }
}
