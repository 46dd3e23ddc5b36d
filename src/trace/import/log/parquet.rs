//! Logs as Parquet. Columns within groups have dotted names. Types are those of the file: a timestamp needs no guess.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::data_type::Decimal;
use parquet::file::reader::FileReader;
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};

use super::super::{File, parquet_file};
use super::cell::Cell;
use super::sheet::Visit;
use crate::input::InputError;

/// Log in a Parquet file, not yet read.
#[derive(Clone, Debug)]
pub(super) struct Parquet {
    /// Dotted names of the columns.
    pub(super) columns: Vec<String>,
    /// Nanoseconds that one of a column's whole numbers stands for, if its type says that they are times.
    units: Vec<Option<i64>>,
}

impl Parquet {
    pub(super) fn open(path: &Path) -> Result<Self, InputError> {
        parquet_file::quietly(path, || {
            let reader = parquet_file::open(path)?;
            let mut found = Self { columns: Vec::new(), units: Vec::new() };
            for field in reader.metadata().file_metadata().schema().get_fields() {
                found.add(field, "");
            }
            Ok(found)
        })
    }

    fn add(&mut self, field: &TypePtr, before: &str) {
        let name = format!("{before}{}", field.name());
        if field.is_group() && !is_list(field) {
            for inner in field.get_fields() {
                self.add(inner, &format!("{name}."));
            }
            return;
        }
        let unit = match field.get_basic_info().logical_type_ref() {
            Some(LogicalType::Timestamp(timestamp)) => Some(match timestamp.unit {
                TimeUnit::MILLIS => 1_000_000,
                TimeUnit::MICROS => 1_000,
                TimeUnit::NANOS => 1,
            }),
            _ => None,
        };
        self.columns.push(name);
        self.units.push(unit);
    }

    /// Reads the values of these columns, row by row.
    pub(super) fn read(
        &self,
        file: &File<'_>,
        columns: &[usize],
        limit: usize,
        visit: Visit<'_>,
    ) -> Result<(), InputError> {
        parquet_file::quietly(file.path, || {
            let reader = parquet_file::open(file.path)?;
            let metadata = reader.metadata().file_metadata();
            // The number of rows is as the file claims it. It only scales the progress, so 1 stands for what cannot be.
            let claimed = u64::try_from(metadata.num_rows()).unwrap_or(0).max(1);
            let fields = self.outermost(metadata.schema(), columns);
            let projection = parquet_file::projection(file.path, metadata.schema(), fields)?;
            let rows = reader.get_row_iter(Some(projection));
            let rows = rows.map_err(|error| parquet_file::unreadable(file.path, &error))?;
            for (number, row) in rows.take(limit).enumerate() {
                let row = row.map_err(|error| parquet_file::unreadable(file.path, &error))?;
                if number.is_multiple_of(1 << 14) {
                    (file.progress)(number as u64 * file.bytes.len() as u64 / claimed);
                }
                let cells: Vec<Cell<'_>> = columns
                    .iter()
                    .map(|&column| {
                        find(&row, &self.columns[column]).map_or(Cell::Null, |field| cell(field, self.units[column]))
                    })
                    .collect();
                visit(number + 1, Ok(&cells))?;
            }
            Ok(())
        })
    }

    /// Returns the outermost fields that hold these columns.
    fn outermost(&self, schema: &Type, columns: &[usize]) -> Vec<TypePtr> {
        let holds = |field: &TypePtr| {
            columns.iter().any(|&column| {
                let rest = self.columns[column].strip_prefix(field.name());
                rest.is_some_and(|rest| rest.is_empty() || (field.is_group() && rest.starts_with('.')))
            })
        };
        schema.get_fields().iter().filter(|field| holds(field)).map(Arc::clone).collect()
    }
}

fn is_list(field: &TypePtr) -> bool {
    let info = field.get_basic_info();
    let logical = matches!(info.logical_type_ref(), Some(LogicalType::List | LogicalType::Map));
    logical || matches!(info.converted_type(), ConvertedType::LIST | ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE)
}

fn find<'r>(row: &'r Row, name: &str) -> Option<&'r Field> {
    let named = |wanted: &str| row.get_column_iter().find(|(name, _)| *name == wanted).map(|(_, field)| field);
    if let Some(field) = named(name) {
        return Some(field);
    }
    name.match_indices('.').find_map(|(at, _)| match named(&name[..at])? {
        Field::Group(inner) => find(inner, &name[at + 1..]),
        _ => None,
    })
}

/// Returns a value as a cell; `unit` is that of whole numbers which are times.
fn cell(field: &Field, unit: Option<i64>) -> Cell<'_> {
    let instant =
        |count: i64, unit: i64| count.checked_mul(unit).map_or(Cell::Other("a time too far away"), Cell::Instant);
    match field {
        Field::Null => Cell::Null,
        Field::Bool(value) => Cell::Boolean(*value),
        Field::Byte(number) => Cell::Integer((*number).into()),
        Field::Short(number) => Cell::Integer((*number).into()),
        Field::Int(number) => Cell::Integer((*number).into()),
        Field::Long(count) => unit.map_or(Cell::Integer(*count), |unit| instant(*count, unit)),
        Field::UByte(number) => Cell::Integer((*number).into()),
        Field::UShort(number) => Cell::Integer((*number).into()),
        Field::UInt(number) => Cell::Integer((*number).into()),
        Field::ULong(number) => i64::try_from(*number).map_or(Cell::Float(*number as f64), Cell::Integer),
        Field::Float16(number) => Cell::Float(number.to_f64()),
        Field::Float(number) => Cell::Float((*number).into()),
        Field::Double(number) => Cell::Float(*number),
        Field::Decimal(decimal) => decimal_cell(decimal),
        Field::Str(text) => Cell::Text(Cow::Borrowed(text)),
        Field::Bytes(bytes) => {
            str::from_utf8(bytes.data()).map_or(Cell::Other("bytes"), |text| Cell::Text(Cow::Borrowed(text)))
        }
        Field::Date(_) => Cell::Other("a date without a time"),
        Field::TimeMillis(_) | Field::TimeMicros(_) => Cell::Other("a time of day without a date"),
        Field::TimestampMillis(count) => instant(*count, 1_000_000),
        Field::TimestampMicros(count) => instant(*count, 1_000),
        Field::Group(_) | Field::MapInternal(_) => Cell::Other("an object"),
        Field::ListInternal(list) => Cell::List(list.elements().iter().map(|element| cell(element, None)).collect()),
    }
}

fn decimal_cell(decimal: &Decimal) -> Cell<'static> {
    let value = match decimal {
        Decimal::Int32 { value, .. } => i64::from(i32::from_be_bytes(*value)),
        Decimal::Int64 { value, .. } => i64::from_be_bytes(*value),
        Decimal::Bytes { .. } => return Cell::Other("a decimal of more than 64 bits"),
    };
    Cell::Float(value as f64 / 10_f64.powi(decimal.scale()))
}
