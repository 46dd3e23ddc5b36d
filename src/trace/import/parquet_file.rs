//! Parquet files: opening, errors in place of the crate's panics, names of the codecs that are not built in, and
//! columns of embeddings. The crate asserts facts that a damaged file may break.

use std::panic;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::{Type, TypePtr};

use crate::input::InputError;

/// Reader of an open file.
pub(super) type Reader = SerializedFileReader<std::fs::File>;

/// Lock for changes of the panic hook, which is a setting of the whole process.
static QUIET: Mutex<()> = Mutex::new(());

/// Calls `read`, whose panics are input errors too and print no message.
pub(super) fn quietly<T>(path: &Path, read: impl FnOnce() -> Result<T, InputError>) -> Result<T, InputError> {
    // A second reader would otherwise take this reader's silent hook as the one to put back.
    let quiet = QUIET.lock().unwrap_or_else(PoisonError::into_inner);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let read = panic::catch_unwind(panic::AssertUnwindSafe(read));
    panic::set_hook(hook);
    drop(quiet);
    read.unwrap_or_else(|_| Err(InputError::new(path, "cannot be read as parquet: the file is damaged")))
}

/// Makes the error of a file that the crate refuses.
pub(super) fn unreadable(path: &Path, error: &ParquetError) -> InputError {
    InputError::new(path, format!("cannot be read as parquet: {error}"))
}

/// Opens a file, and checks that its columns are where they can be and packed as this build can unpack them.
pub(super) fn open(path: &Path) -> Result<Reader, InputError> {
    let opened = std::fs::File::open(path).map_err(|error| InputError::unreadable(path, &error))?;
    let reader = SerializedFileReader::new(opened).map_err(|error| unreadable(path, &error))?;
    for chunk in reader.metadata().row_groups().iter().flat_map(RowGroupMetaData::columns) {
        if chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset()).min(chunk.compressed_size()) < 0 {
            return Err(InputError::new(path, "cannot be read as parquet: a column lies at a negative offset"));
        }
        let is_built = matches!(
            chunk.compression(),
            Compression::UNCOMPRESSED
                | Compression::SNAPPY
                | Compression::GZIP(_)
                | Compression::ZSTD(_)
                | Compression::LZ4_RAW
                | Compression::LZ4
        );
        if !is_built {
            let codec = chunk.compression().to_string();
            let codec = codec.split('(').next().unwrap_or_default();
            let message = "expected zstd, snappy, gzip, lz4 or no compression: write the file anew, e.g. with pandas' \
                           to_parquet(.., compression=\"snappy\") or DuckDB's COPY .. (FORMAT parquet)";
            return Err(InputError::new(path, message).value("compression", codec));
        }
    }
    Ok(reader)
}

/// Returns whether a file has these columns. A file that cannot be read has none.
pub(super) fn has_columns(path: &Path, names: &[&str]) -> bool {
    let found = quietly(path, || {
        let reader = open(path)?;
        let fields = reader.metadata().file_metadata().schema().get_fields();
        Ok(names.iter().all(|name| fields.iter().any(|field| field.name() == *name)))
    });
    found.unwrap_or(false)
}

/// Returns the schema of a file with these of its outermost columns, so that the others are never decoded.
pub(super) fn projection(path: &Path, schema: &Type, fields: Vec<TypePtr>) -> Result<Type, InputError> {
    let projection = Type::group_type_builder(schema.name()).with_fields(fields).build();
    projection.map_err(|error| InputError::new(path, error.to_string()))
}

/// Reads a column whose values are lists of numbers, all of one length. Returns the length of a row and the components.
///
/// # Errors
/// Returns an error unless the column is there and has a list of numbers in each row.
pub(super) fn embeddings(path: &Path, column: &str) -> Result<(usize, Vec<f32>), InputError> {
    quietly(path, || {
        let reader = open(path)?;
        let schema = reader.metadata().file_metadata().schema();
        let found = schema.get_fields().iter().find(|field| field.name() == column);
        let field = found.ok_or_else(|| {
            let names: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
            InputError::new(path, format!("expected one of the file's columns: {}", names.join(", ")))
                .value("column", column)
        })?;
        let projection = projection(path, schema, vec![Arc::clone(field)])?;
        let rows = reader.get_row_iter(Some(projection)).map_err(|error| unreadable(path, &error))?;
        let (mut dimension, mut components) = (0, Vec::new());
        for (number, row) in rows.enumerate() {
            let row = row.map_err(|error| unreadable(path, &error))?;
            let wrong = |what: &str| {
                let message = format!("row {} (from 1): expected a list of numbers, found {what}", number + 1);
                InputError::new(path, message).key(column)
            };
            let list = match row.get_column_iter().next() {
                Some((_, Field::ListInternal(list))) => list,
                Some((_, Field::Null)) => return Err(wrong("no value")),
                _ => return Err(wrong("a value of another type")),
            };
            for element in list.elements() {
                components.push(match element {
                    Field::Float(number) => *number,
                    Field::Double(number) => *number as f32,
                    Field::Float16(number) => number.to_f32(),
                    _ => return Err(wrong("another type in the list")),
                });
            }
            if number == 0 {
                dimension = list.len();
            } else if list.len() != dimension {
                return Err(wrong(&format!("{} numbers, and {dimension} in the first row", list.len())));
            }
        }
        Ok((dimension, components))
    })
}
