//! Rows of a CSV or TSV file as a stream, with errors that name file, line, column and value. The csv crate parses the
//! rows. The checks here refuse what the crate accepts but a trace must not have.

use std::path::Path;

use crate::input::InputError;

/// Notation of the rows of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) delimiter: u8,
    pub(super) quoting: bool,
    pub(super) header: bool,
}

impl Dialect {
    pub(super) const CSV: Self = Self { delimiter: b',', quoting: true, header: true };
    pub(super) const CSV_WITHOUT_HEADER: Self = Self { header: false, ..Self::CSV };
    /// TSV with a header, in which quotes are ordinary characters.
    pub(super) const TSV: Self = Self { delimiter: b'\t', quoting: false, header: true };
}

/// File of rows, each with as many fields as the first.
pub(super) struct Table<'a> {
    file: &'a Path,
    bytes: &'a [u8],
    reader: csv::Reader<&'a [u8]>,
    progress: &'a dyn Fn(u64),
    dialect: Dialect,
    record: csv::ByteRecord,
    width: usize,
    rows: usize,
    /// Offset in bytes at which the last record begins.
    last: usize,
}

/// Row of a table, valid until the next row is read.
pub(super) struct TableRow<'t> {
    file: &'t Path,
    record: &'t csv::ByteRecord,
    /// Line on which the row begins, counted from 1.
    pub(super) line: usize,
}

impl<'a> Table<'a> {
    /// Opens a file whose content is `bytes`. `progress` receives the number of bytes that were read, once every 16,384
    /// rows.
    pub(super) fn open(
        file: &'a Path,
        bytes: &'a [u8],
        dialect: Dialect,
        progress: &'a dyn Fn(u64),
    ) -> Result<Self, InputError> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(dialect.delimiter)
            .quoting(dialect.quoting)
            .has_headers(dialect.header)
            // `next` refuses rows of another length. Its error says more than that of the csv crate.
            .flexible(true)
            .from_reader(bytes);
        let first = reader.byte_headers().map_err(|error| unreadable(file, &error))?;
        let width = first.len();
        Ok(Self { file, bytes, reader, progress, dialect, record: csv::ByteRecord::new(), width, rows: 0, last: 0 })
    }

    /// Returns the names of the columns, trimmed. No name may occur twice.
    pub(super) fn header(&mut self) -> Result<Vec<String>, InputError> {
        let record = self.reader.byte_headers().map_err(|error| unreadable(self.file, &error))?;
        let row = TableRow { file: self.file, record, line: 1 };
        let mut names: Vec<String> = Vec::with_capacity(self.width);
        for place in 0..self.width {
            let name = row.text(place, "column name")?.trim();
            if names.iter().any(|earlier| earlier == name) {
                return Err(InputError::new(self.file, "expected each column once").line(1).value("column", name));
            }
            names.push(name.to_owned());
        }
        Ok(names)
    }

    /// Returns the places of the columns with these names. `what` is the format that needs the columns, for errors.
    pub(super) fn places<const N: usize>(&mut self, columns: [&str; N], what: &str) -> Result<[usize; N], InputError> {
        let header = self.header()?;
        let mut places = [0; N];
        for (place, column) in places.iter_mut().zip(columns) {
            *place = header.iter().position(|name| name == column).ok_or_else(|| {
                let message = format!("expected a column {column}: {what} has {}", columns.join(", "));
                InputError::new(self.file, message).line(1).value("header", header.join(","))
            })?;
        }
        Ok(places)
    }

    /// Returns the next row, or `None` at the end. The row has as many fields as the first line.
    pub(super) fn next(&mut self) -> Result<Option<TableRow<'_>>, InputError> {
        let (file, width) = (self.file, self.width);
        match self.next_of_any_width()? {
            Some(row) if row.len() != width => {
                let message = format!("expected {width}, as in the first line; is the row cut off?");
                Err(InputError::new(file, message).line(row.line).value("fields", row.len()))
            }
            row => Ok(row),
        }
    }

    /// Returns the next row, or `None` at the end. The caller checks the number of its fields.
    pub(super) fn next_of_any_width(&mut self) -> Result<Option<TableRow<'_>>, InputError> {
        if !self.reader.read_byte_record(&mut self.record).map_err(|error| unreadable(self.file, &error))? {
            self.check_end()?;
            return Ok(None);
        }
        self.rows += 1;
        self.last = self.start();
        if self.rows.is_multiple_of(1 << 14) {
            (self.progress)(self.start() as u64);
        }
        let line = self.line();
        if self.rows > u32::MAX as usize {
            return Err(InputError::new(self.file, format!("expected at most {} rows", u32::MAX)).line(line));
        }
        Ok(Some(TableRow { file: self.file, record: &self.record, line }))
    }

    fn start(&self) -> usize {
        self.record.position().map_or(0, |at| at.byte() as usize).min(self.bytes.len())
    }

    /// Returns the line on which the record begins, counted from 1. The reader's own count is that of the end of the
    /// record before, so blank lines after it are added.
    fn line(&self) -> usize {
        let blank = self.bytes[self.start()..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
        let counted = self.record.position().map_or(1, |at| at.line() as usize);
        counted + blank.filter(|&&byte| byte == b'\n').count()
    }

    /// Checks that the last quoted field is closed. A field that is never closed takes in all text that follows, and
    /// the reader reports no error.
    fn check_end(&self) -> Result<(), InputError> {
        let last = &self.bytes[self.last..];
        let opens = |pair: &[u8]| pair[0] == self.dialect.delimiter && pair[1] == b'"';
        let opened = last.trim_ascii_start().starts_with(b"\"") || last.windows(2).any(opens);
        // A quote inside a quoted field is doubled, so a row whose fields are all closed has an even number of quotes.
        let closed = last.iter().fold(true, |even, &byte| even ^ (byte == b'"'));
        if !self.dialect.quoting || !opened || closed {
            return Ok(());
        }
        let message = format!("row {}, the last, opens a quote that never closes; is the file cut off?", self.rows);
        Err(InputError::new(self.file, message))
    }
}

impl<'t> TableRow<'t> {
    /// Returns the number of fields.
    pub(super) fn len(&self) -> usize {
        self.record.len()
    }

    /// Returns the bytes of a field.
    pub(super) fn field(&self, place: usize) -> &'t [u8] {
        &self.record[place]
    }

    /// Returns a field as text.
    pub(super) fn text(&self, place: usize, column: &str) -> Result<&'t str, InputError> {
        str::from_utf8(self.field(place)).map_err(|_| self.error(place, column, "expected UTF-8 text"))
    }

    /// Returns a field as a number within a range.
    pub(super) fn number(
        &self,
        place: usize,
        column: &str,
        range: std::ops::RangeInclusive<f64>,
        accepted: &str,
    ) -> Result<f64, InputError> {
        let number = str::from_utf8(self.field(place)).ok().and_then(|text| text.trim_ascii().parse().ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| self.error(place, column, accepted))
    }

    /// Makes the error of a field.
    pub(super) fn error(&self, place: usize, column: &str, accepted: impl Into<String>) -> InputError {
        let found = String::from_utf8_lossy(self.field(place));
        InputError::new(self.file, accepted).line(self.line).value(column, format_args!("\"{found}\""))
    }
}

fn unreadable(file: &Path, error: &csv::Error) -> InputError {
    InputError::new(file, format!("cannot be read as CSV: {error}"))
}
