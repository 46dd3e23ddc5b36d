//! Logs as text with a header: CSV, TSV, semicolons, bars. Delimiter and quoting are found from the content. Rows that
//! do not fit the header are reported as damaged, and reading goes on.

use std::borrow::Cow;

use super::super::File;
use super::cell::Cell;
use super::fields::is_usual;
use super::sheet::Visit;
use crate::input::InputError;
use crate::trace::table::{Dialect, Table};

/// Number of bytes from which delimiter and quoting are found.
const HEAD: usize = 1 << 16;

/// Log with a header, not yet read.
#[derive(Clone, Debug)]
pub(in super::super) struct Delimited {
    pub(in super::super) dialect: Dialect,
    /// Names in the header, trimmed; empty where a column has no name.
    pub(in super::super) columns: Vec<String>,
    /// Rows of the head that have as many fields as the header, and all its rows.
    fitting: (usize, usize),
}

impl Delimited {
    /// Finds the notation of a text; `None` if its first line has one column, whatever the delimiter.
    pub(in super::super) fn find(bytes: &[u8]) -> Option<Self> {
        let head = head(bytes);
        let found = [b',', b'\t', b';', b'|'].into_iter().filter_map(|delimiter| {
            // In a table between tabs, a quote inside a text is more often a character than CSV's notation.
            let quoting = delimiter != b'\t' || quotes_enclose_fields(head, delimiter);
            Self::with(head, Dialect { delimiter, quoting, header: true }).filter(|found| found.columns.len() > 1)
        });
        let worth = |found: &Self| {
            let known = found.columns.iter().filter(|name| is_usual(name)).count();
            let (fitting, rows) = found.fitting;
            (known, fitting * 100 / rows.max(1))
        };
        // Of equal ones the first is taken, which `max_by_key` would not.
        found.fold(None, |best: Option<Self>, found| match best {
            Some(best) if worth(&best) >= worth(&found) => Some(best),
            _ => Some(found),
        })
    }

    /// Reads a text as one column with a header.
    pub(super) fn single(bytes: &[u8]) -> Option<Self> {
        Self::with(head(bytes), Dialect::CSV)
    }

    fn with(head: &[u8], dialect: Dialect) -> Option<Self> {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(dialect.delimiter)
            .quoting(dialect.quoting)
            .flexible(true)
            .has_headers(false)
            .from_reader(head);
        let mut record = csv::ByteRecord::new();
        reader.read_byte_record(&mut record).ok().filter(|read| *read)?;
        let name = |field: &[u8]| String::from_utf8_lossy(field).trim().to_owned();
        let columns: Vec<String> = record.iter().map(name).collect();
        let (mut fitting, mut rows) = (0, 0);
        while rows < 50 && reader.read_byte_record(&mut record).unwrap_or(false) {
            rows += 1;
            fitting += usize::from(record.len() == columns.len());
        }
        Some(Self { dialect, columns, fitting: (fitting, rows) })
    }

    /// Returns whether the second line has as many fields as the first.
    pub(in super::super) const fn has_fitting_rows(&self) -> bool {
        self.fitting.0 > 0
    }

    /// Returns a phrase for the notation.
    pub(super) const fn words(&self) -> &'static str {
        match (self.dialect.delimiter, self.dialect.quoting) {
            (b',', _) => "CSV",
            (b';', _) => "CSV with semicolons",
            (b'|', _) => "a table with bars",
            (_, true) => "TSV",
            (_, false) => "TSV, in which quotes are characters",
        }
    }

    /// Reads the values of these columns, row by row.
    pub(super) fn read(
        &self,
        file: &File<'_>,
        columns: &[usize],
        limit: usize,
        visit: Visit<'_>,
    ) -> Result<(), InputError> {
        let mut table = Table::open(file.path, file.bytes, self.dialect, file.progress)?;
        let width = self.columns.len();
        // Programs that write semicolons write decimals with a comma.
        let decimal_comma = self.dialect.delimiter == b';';
        let mut rows = 0;
        while rows < limit
            && let Some(row) = table.next_of_any_width()?
        {
            rows += 1;
            if row.len() != width {
                visit(row.line, Err("with another number of fields than the header"))?;
                continue;
            }
            let cells: Option<Vec<Cell<'_>>> = columns
                .iter()
                .map(|&column| {
                    let text = str::from_utf8(row.field(column)).ok()?;
                    Some(cell(text, decimal_comma))
                })
                .collect();
            visit(row.line, cells.as_deref().ok_or("that are not UTF-8"))?;
        }
        Ok(())
    }
}

fn cell(text: &str, decimal_comma: bool) -> Cell<'_> {
    if text.trim().is_empty() {
        return Cell::Null;
    }
    let is_decimal = |text: &str| {
        let digits = text.trim().trim_start_matches('-');
        digits.split_once(',').is_some_and(|(whole, fraction)| {
            !whole.is_empty()
                && !fraction.is_empty()
                && (whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit())
        })
    };
    if decimal_comma && is_decimal(text) {
        return Cell::Text(Cow::Owned(text.replace(',', ".")));
    }
    Cell::Text(Cow::Borrowed(text))
}

/// Returns whole lines of the beginning of a text.
fn head(bytes: &[u8]) -> &[u8] {
    if bytes.len() <= HEAD {
        return bytes;
    }
    let end = bytes[..HEAD].iter().rposition(|&byte| byte == b'\n').map_or(HEAD, |at| at + 1);
    &bytes[..end]
}

/// Returns whether every quote at the start of a field has its partner at the end of the field.
fn quotes_enclose_fields(text: &[u8], delimiter: u8) -> bool {
    let mut at = 0;
    let mut begins = true;
    while at < text.len() {
        if begins && text[at] == b'"' {
            let mut end = at + 1;
            loop {
                match (text.get(end), text.get(end + 1)) {
                    (Some(b'"'), Some(b'"')) => end += 2,
                    (Some(b'"'), None | Some(b'\r' | b'\n')) => break,
                    (Some(b'"'), Some(&next)) if next == delimiter => break,
                    (None | Some(b'"'), _) => return false,
                    _ => end += 1,
                }
            }
            at = end;
        }
        begins = text[at] == delimiter || text[at] == b'\n';
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> (char, bool, Vec<String>) {
        let found = Delimited::find(text.as_bytes()).unwrap();
        (found.dialect.delimiter as char, found.dialect.quoting, found.columns)
    }

    #[test]
    fn delimiters_are_found() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(found("ts,prompt\n1,\"a; b\"\n"), (',', true, names(&["ts", "prompt"])));
        assert_eq!(found("\"ts\";\"prompt\"\n1;a, b, c\n"), (';', true, names(&["ts", "prompt"])));
        assert_eq!(found("ts|prompt\n1|a, b\n"), ('|', true, names(&["ts", "prompt"])));
        assert_eq!(found("ts\tprompt\n1\t\"a\tb\"\n"), ('\t', true, names(&["ts", "prompt"])));
        assert_eq!(found("ts\tprompt\n1\t\"Hi\" on a wall\n"), ('\t', false, names(&["ts", "prompt"])));
        assert_eq!(found("a,b;c\n1,5;2\n2,5;3\n").0, ',');
        assert_eq!(found(" ts , \"prompt\"\n").2.len(), 2);
        assert!(Delimited::find(b"a cat\n").is_none() && Delimited::find(b"").is_none());
    }

    #[test]
    fn decimals_with_a_comma() {
        assert_eq!(cell("0,052", true), Cell::Text(Cow::Borrowed("0.052")));
        assert_eq!(cell("0,052", false), Cell::Text(Cow::Borrowed("0,052")));
        assert_eq!(cell("a, b", true), Cell::Text(Cow::Borrowed("a, b")));
        assert_eq!(cell("  ", true), Cell::Null);
    }
}
