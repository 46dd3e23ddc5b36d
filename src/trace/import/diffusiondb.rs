//! Importer for `metadata.parquet` of `DiffusionDB`: prompt, user and minute of each image. Many images share a minute.
//! They are spread evenly over the minute in the order of the file, and a note says so.

use std::sync::Arc;

use parquet::basic::{LogicalType, TimeUnit};
use parquet::file::reader::FileReader;
use parquet::record::Field;
use parquet::schema::types::Type;

use crate::input::InputError;
use crate::trace::TextColumn;

use super::{File, Note, Source, parquet_file, timestamp};

const MINUTE: u64 = 60 * NANOSECONDS_PER_SECOND;
const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// Names of columns that only `DiffusionDB`'s metadata has together.
pub(super) const COLUMNS: [&str; 4] = ["image_name", "prompt", "user_name", "timestamp"];

pub(super) fn read(file: &File<'_>) -> Result<Source, InputError> {
    parquet_file::quietly(file.path, || read_columns(file))
}

fn read_columns(file: &File<'_>) -> Result<Source, InputError> {
    let reader = parquet_file::open(file.path)?;
    let metadata = reader.metadata().file_metadata();
    // The number of rows is as the file claims it. It only scales the progress, so 1 stands for what cannot be.
    let rows = u64::try_from(metadata.num_rows()).unwrap_or(0).max(1);
    let (projection, unit) = projection(metadata.schema(), file)?;
    let mut minutes = Vec::new();
    let (mut prompts, mut users) = (TextColumn::default(), TextColumn::default());
    let mut untimed = 0;
    let iterator = reader.get_row_iter(Some(projection));
    let iterator = iterator.map_err(|error| parquet_file::unreadable(file.path, &error))?;
    for (number, row) in iterator.enumerate() {
        let row = row.map_err(|error| parquet_file::unreadable(file.path, &error))?;
        if number.is_multiple_of(1 << 14) {
            (file.progress)(number as u64 * file.bytes.len() as u64 / rows);
        }
        let (mut prompt, mut user, mut time) = ("", "", None);
        for (name, field) in row.get_column_iter() {
            match (name.as_str(), field) {
                ("prompt", Field::Str(text)) => prompt = text,
                ("user_name", Field::Str(text)) => user = text,
                ("timestamp", field) => time = nanoseconds(field, unit),
                _ => {}
            }
        }
        let Some(time) = time else {
            untimed += 1;
            continue;
        };
        minutes.push(time / MINUTE);
        prompts.push(prompt);
        users.push(user);
    }
    if minutes.len() > u32::MAX as usize {
        return Err(InputError::new(file.path, format!("expected at most {} rows", u32::MAX)));
    }
    let arrivals = Some(timestamp::since_minute(&minutes, file.path)?);
    let mut notes = vec![
        Note::new(
            "times are to the minute: the images of a minute are spread evenly over it, in the order of the file",
        ),
        Note::new(
            "time zero is the first minute; a row is an image, so one request for several images is several rows",
        ),
    ];
    if untimed > 0 {
        notes.push(Note::counted(untimed, "rows without a time dropped"));
    }
    Ok(Source { arrivals, prompts: Some(prompts), tenants: Some(users), notes, ..Source::default() })
}

/// Returns the schema of the three columns that are used, so that the others are never decoded, and the unit of
/// whole-number times in nanoseconds.
fn projection(schema: &Type, file: &File<'_>) -> Result<(Type, u64), InputError> {
    let mut unit = 1;
    let mut fields = Vec::new();
    for name in ["prompt", "timestamp", "user_name"] {
        let field = schema.get_fields().iter().find(|field| field.name() == name).ok_or_else(|| {
            let found: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
            let message = format!("expected a column {name}: DiffusionDB's metadata has prompt, timestamp, user_name");
            InputError::new(file.path, message).value("columns", found.join(","))
        })?;
        if let Some(LogicalType::Timestamp(timestamp)) = field.get_basic_info().logical_type_ref() {
            unit = match timestamp.unit {
                TimeUnit::MILLIS => 1_000_000,
                TimeUnit::MICROS => 1_000,
                TimeUnit::NANOS => 1,
            };
        }
        fields.push(Arc::clone(field));
    }
    Ok((parquet_file::projection(file.path, schema, fields)?, unit))
}

/// Returns a time in nanoseconds since 1970, from any of the types in which writers store it.
fn nanoseconds(field: &Field, unit: u64) -> Option<u64> {
    let (count, unit) = match *field {
        Field::TimestampMillis(count) => (count, 1_000_000),
        Field::TimestampMicros(count) => (count, 1_000),
        Field::Long(count) => (count, unit),
        _ => return None,
    };
    u64::try_from(count).ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::super::tests::{import, notes};
    use super::super::{Format, Options, Source};

    /// Makes a file as the data set's own tools write it. `time` is the type of the column of times.
    fn sample(time: &str, times: &[i64]) -> Vec<u8> {
        let schema = format!(
            "message schema {{ required binary image_name (STRING); required binary prompt (STRING); \
             required binary user_name (STRING); optional int64 timestamp ({time}); }}"
        );
        let schema = Arc::new(parse_message_type(&schema).unwrap());
        let mut bytes = Vec::new();
        let properties = WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for name in ["image", "prompt", "user"] {
            let texts: Vec<ByteArray> = (0..times.len()).map(|row| format!("{name} {row}").as_str().into()).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
            column.close().unwrap();
        }
        let known: Vec<i64> = times.iter().copied().filter(|&time| time >= 0).collect();
        let levels: Vec<i16> = times.iter().map(|&time| i16::from(time >= 0)).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&known, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        bytes
    }

    fn arrivals_s(source: &Source) -> Vec<f64> {
        source.arrivals.as_ref().unwrap().iter().map(|time| time.seconds()).collect()
    }

    #[test]
    fn spreads_rows_over_their_minute() {
        const MINUTE: i64 = 60;
        let at =
            |minutes: &[i64], unit: i64| -> Vec<i64> { minutes.iter().map(|minute| minute * MINUTE * unit).collect() };
        let minutes = [27_000_002, 27_000_001, 27_000_001, -1, 27_000_002, 27_000_001];
        for (time, unit) in [
            ("TIMESTAMP(MILLIS,true)", 1_000),
            ("TIMESTAMP(MICROS,true)", 1_000_000),
            ("TIMESTAMP(NANOS,true)", 1_000_000_000),
        ] {
            let source =
                import("metadata.parquet", &sample(time, &at(&minutes, unit)), None, Options::default()).unwrap();
            assert_eq!(arrivals_s(&source), [75.0, 10.0, 30.0, 105.0, 50.0], "{time}");
            assert_eq!(
                source.prompts.as_ref().unwrap().iter().collect::<Vec<_>>(),
                ["prompt 0", "prompt 1", "prompt 2", "prompt 4", "prompt 5"]
            );
            assert_eq!(source.tenants.as_ref().unwrap().get(4), "user 5");
            assert_eq!(notes(&source).last().unwrap(), "1 rows without a time dropped");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let error =
            |bytes: &[u8]| import("m.parquet", bytes, Some(Format::DiffusionDb), Options::default()).err().unwrap();
        let good = sample("TIMESTAMP(MILLIS,true)", &[0, 1, 2]);
        assert!(error(&good[..good.len() - 9]).starts_with("m.parquet: cannot be read as parquet"));
        assert!(error(b"PAR1").starts_with("m.parquet: cannot be read as parquet"));
        let mut other = good.clone();
        for at in (0..good.len() - 9).filter(|&at| &good[at..at + 9] == b"user_name") {
            other[at] = b'U';
        }
        assert!(error(&other).contains("columns = image_name,prompt,User_name,timestamp: expected a column user_name"));
    }

    #[test]
    fn damaged_files_never_panic() {
        use rand::RngExt;
        let good = sample("TIMESTAMP(MILLIS,true)", &[0, 1, 2, 3, 60_000]);
        for seed in 0..500 {
            let mut generator = crate::draw::stream(seed, crate::draw::Purpose::Test, 3);
            let mut bytes = good.clone();
            for _ in 0..generator.random_range(1..4) {
                let at = generator.random_range(0..bytes.len());
                bytes[at] = generator.random();
            }
            let _ = import("m.parquet", &bytes, None, Options::default());
        }
    }

    #[test]
    fn reads_the_real_file() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/prompts/metadata.parquet");
        if !path.exists() {
            println!("skipped: DiffusionDB's metadata.parquet is not here");
            return;
        }
        assert_eq!(super::super::read(&path, None, &Options::default(), &|_| ()).unwrap().1.len(), 2_000_000);
    }
}
