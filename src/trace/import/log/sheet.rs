//! Rows of a log, whatever its notation: text with a header, JSON, Parquet.

use super::super::File;
use super::cell::Cell;
use super::delimited::Delimited;
use super::json::Json;
#[cfg(feature = "parquet")]
use super::parquet::Parquet;
use crate::input::InputError;

/// Receiver of rows: the line or row in the file, counted from 1, and the values of the columns that are read, or what
/// is wrong with the row.
pub(super) type Visit<'v> = &'v mut dyn FnMut(usize, Result<&[Cell<'_>], &'static str>) -> Result<(), InputError>;

/// Number of rows from which columns and types are found.
pub(super) const SAMPLE: usize = 1000;

/// Log whose columns are known and whose rows are not read yet.
pub(super) enum Sheet {
    Delimited(Delimited),
    Json(Json),
    #[cfg(feature = "parquet")]
    Parquet(Parquet),
}

impl Sheet {
    /// Finds the notation and the columns of a log. `named` are names of columns that it should have.
    pub(super) fn open(file: &File<'_>, named: &[&str]) -> Result<Self, InputError> {
        if is_parquet(file) {
            return open_parquet(file);
        }
        if is_json(file.bytes) {
            return Json::open(file, SAMPLE, named).map(Self::Json);
        }
        let found = Delimited::find(file.bytes).or_else(|| Delimited::single(file.bytes));
        found.map(Self::Delimited).ok_or_else(|| InputError::new(file.path, "is empty"))
    }

    /// Returns the names of the columns.
    pub(super) fn columns(&self) -> &[String] {
        match self {
            Self::Delimited(delimited) => &delimited.columns,
            Self::Json(json) => &json.columns,
            #[cfg(feature = "parquet")]
            Self::Parquet(parquet) => &parquet.columns,
        }
    }

    /// Returns a phrase for the notation.
    pub(super) const fn words(&self) -> &'static str {
        match self {
            Self::Delimited(delimited) => delimited.words(),
            Self::Json(json) => json.words(),
            #[cfg(feature = "parquet")]
            Self::Parquet(_) => "Parquet",
        }
    }

    /// Returns the word for a place in the file.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Delimited(_) | Self::Json(_) => "line",
            #[cfg(feature = "parquet")]
            Self::Parquet(_) => "row",
        }
    }

    /// Reads the values of these columns, row by row, up to `limit` rows.
    pub(super) fn read(
        &self,
        file: &File<'_>,
        columns: &[usize],
        limit: usize,
        visit: Visit<'_>,
    ) -> Result<(), InputError> {
        match self {
            Self::Delimited(delimited) => delimited.read(file, columns, limit, visit),
            Self::Json(json) => json.read(file, columns, limit, visit),
            #[cfg(feature = "parquet")]
            Self::Parquet(parquet) => parquet.read(file, columns, limit, visit),
        }
    }
}

/// Returns whether a text is JSON objects, or a list of them.
pub(in super::super) fn is_json(bytes: &[u8]) -> bool {
    let mut letters = bytes.iter().filter(|byte| !byte.is_ascii_whitespace());
    match letters.next() {
        // A prompt may begin with a brace, as wildcards do: `{red|blue} cat`.
        Some(b'{') => matches!(letters.next(), Some(b'"' | b'}')),
        Some(b'[') => matches!(letters.next(), Some(b'{' | b']')),
        _ => false,
    }
}

fn is_parquet(file: &File<'_>) -> bool {
    let named = file.path.extension().is_some_and(|extension| extension == "parquet");
    named || file.bytes.starts_with(b"PAR1")
}

#[cfg(feature = "parquet")]
fn open_parquet(file: &File<'_>) -> Result<Sheet, InputError> {
    Parquet::open(file.path).map(Sheet::Parquet)
}

#[cfg(not(feature = "parquet"))]
fn open_parquet(file: &File<'_>) -> Result<Sheet, InputError> {
    Err(super::super::without_parquet(file.path))
}
