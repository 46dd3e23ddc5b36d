//! Importer for what services log: a row a request, as CSV in any notation, JSON Lines or Parquet. `sheet` reads rows,
//! `columns` finds which column is which of the `fields`, `clock` reads times, `rows` decides which rows are used. This
//! file puts them together and says what was found.

use super::{File, Missing, Note, Options, Source};
use crate::input::InputError;

mod cell;
mod clock;
mod columns;
mod delimited;
mod fields;
mod json;
#[cfg(feature = "parquet")]
mod parquet;
mod rows;
mod sheet;
mod status;
mod tally;
mod wishes;

use cell::Cell;
use clock::Clock;
use columns::{Choice, Chosen, Sample};
use rows::Rows;
use sheet::{SAMPLE, Sheet};

pub use clock::TimeUnit;
pub use columns::{BadChoice, ColumnChoice};
pub(super) use delimited::Delimited;
pub use fields::LogField;
pub(super) use fields::is_usual_of;
pub(super) use sheet::is_json;

/// Reads a log.
///
/// # Errors
/// Returns an error if the file cannot be read, if a column that the user names is not there or of another type, if no
/// column has times or prompts, or if no row is left.
pub(super) fn read(file: &File<'_>, options: &Options) -> Result<Source, InputError> {
    if file.bytes.trim_ascii().is_empty() {
        return Err(InputError::new(file.path, "is empty: expected a row for each request"));
    }
    let named: Vec<&str> = options.log.columns.iter().filter_map(|choice| choice.theirs.as_deref()).collect();
    let sheet = Sheet::open(file, &named)?;
    let (values, rows_seen) = sample(file, &sheet)?;
    let sample = Sample { file: file.path, columns: sheet.columns(), values: &values };
    let choice = sample.choose(&options.log.columns)?;
    if choice.find(LogField::Arrival).is_none() && choice.find(LogField::Prompt).is_none() {
        return Err(unknown(file, &sheet, &sample));
    }
    if rows_seen == 0 {
        return Err(InputError::new(file.path, "expected at least one row below the header"));
    }
    let clock = clock(&choice, &sample, options)?;
    let mut notes = vec![Note::new(sheet.words())];
    notes.push(Note::new(found(&choice, clock, options)));
    notes.extend(unused(&choice, &sheet));
    notes.extend(choice.ambiguities().map(Note::new));
    notes.extend(choice.unfit.iter().map(Note::new));
    if let Some(Clock::Start(_)) = clock
        && options.log.time_unit.is_none()
        && schedule_unit(&choice, &sample).is_some()
    {
        notes.push(Note::new(
            "milliseconds as in Mooncake's traces and AIPerf's schedules; `--time-unit s` for seconds",
        ));
    }
    let clocks = (clock, deadline_clock(&choice, &sample));
    let mut source = Rows::new(file, &choice, clocks, options, sheet.word()).read(&sheet)?;
    notes.append(&mut source.notes);
    source.notes = notes;
    source.missing = missing(&choice, &sample);
    Ok(source)
}

/// Reads the first rows. Returns the values of each column, without those that are none, and the number of rows.
fn sample(file: &File<'_>, sheet: &Sheet) -> Result<(Vec<Vec<Cell<'static>>>, usize), InputError> {
    let all: Vec<usize> = (0..sheet.columns().len()).collect();
    let mut values = vec![Vec::new(); all.len()];
    let mut rows = 0;
    // The head of a file is no progress worth showing.
    let quiet = File { progress: &|_| (), ..*file };
    sheet.read(&quiet, &all, SAMPLE, &mut |_, cells| {
        rows += 1;
        for (values, cell) in values.iter_mut().zip(cells.unwrap_or_default()) {
            if !cell.is_null() {
                values.push(cell.clone().into_owned());
            }
        }
        Ok(())
    })?;
    Ok((values, rows))
}

/// Makes the error of a log without a column that is known.
fn unknown(file: &File<'_>, sheet: &Sheet, sample: &Sample<'_>) -> InputError {
    let columns = sheet.columns();
    let is_value = |name: &String| cell::billionths(name).is_some() || super::timestamp::parse(name).is_some();
    if matches!(sheet, Sheet::Delimited(_)) && columns.iter().any(is_value) {
        let rates = columns.iter().any(|name| ["Gamma", "Weibull"].contains(&name.as_str()));
        let message = if rates {
            "has no header, and looks like rates of a client as ServeGen keeps them: generate requests with ServeGen \
             and import the CSV that it saves"
        } else {
            "has no header: put a line with the names of the columns above the values, e.g. timestamp,prompt,user_id"
        };
        return InputError::new(file.path, message).line(1).value("first line", columns.join(","));
    }
    let message = format!(
        "no column looks like the time of arrival or the prompt: say which with --column arrival_s=NAME and --column \
         prompt=NAME; there are {}",
        sample.listed()
    );
    InputError::new(file.path, message)
}

/// Returns how the column of times is read.
fn clock(choice: &Choice, sample: &Sample<'_>, options: &Options) -> Result<Option<Clock>, InputError> {
    let Some(chosen) = choice.find(LogField::Arrival) else { return Ok(None) };
    let values = &sample.values[chosen.column];
    let unit = options.log.time_unit.or(chosen.unit);
    let found = Clock::find(values, unit);
    let found = match (found, schedule_unit(choice, sample)) {
        (Some(Clock::Start(_)), Some(unit)) if options.log.time_unit.is_none() => Some(Clock::Start(unit)),
        (found, _) => found,
    };
    found.map(Some).ok_or_else(|| {
        let message =
            format!("expected dates or numbers in column {}, which has no value in the first rows", chosen.name);
        InputError::new(sample.file, message).key("arrival_s")
    })
}

/// Returns the unit of schedules of requests whose keys say what they are, which no number does: Mooncake's traces and
/// `AIPerf`'s fixed schedules, both in whole milliseconds from the start.
fn schedule_unit(choice: &Choice, sample: &Sample<'_>) -> Option<TimeUnit> {
    const OF_SCHEDULES: [&str; 5] = ["hash_ids", "input_length", "text_input", "input_text", "texts"];
    const BESIDE_TEXT: [&str; 11] = [
        "timestamp",
        "text",
        "type",
        "role",
        "session_id",
        "delay",
        "output_length",
        "extra",
        "image",
        "audio",
        "video",
    ];
    let chosen = choice.find(LogField::Arrival).filter(|chosen| chosen.name == "timestamp")?;
    let has = |name: &str| sample.columns.iter().any(|column| column == name);
    let telling = OF_SCHEDULES.into_iter().any(has)
        || (has("text") && sample.columns.iter().all(|column| BESIDE_TEXT.contains(&column.as_str())));
    let whole = sample.values[chosen.column].iter().all(|cell| matches!(cell, Cell::Integer(_)));
    (telling && whole).then_some(TimeUnit::Milliseconds)
}

/// Returns how deadlines are read: as times of their own, or as numbers after the arrival.
fn deadline_clock(choice: &Choice, sample: &Sample<'_>) -> Option<Clock> {
    let chosen = choice.find(LogField::Deadline)?;
    Clock::find(&sample.values[chosen.column], chosen.unit.or(Some(TimeUnit::Seconds)))
}

/// Returns what each column is read as, in words.
fn found(choice: &Choice, clock: Option<Clock>, options: &Options) -> String {
    let each = choice.chosen.iter().map(|chosen| {
        let Chosen { field, name, .. } = chosen;
        let kind = match (field, clock) {
            (LogField::Arrival, Some(clock)) => {
                let why = match clock {
                    Clock::Epoch(_) if options.log.time_unit.is_none() && chosen.unit.is_none() => {
                        ", by their magnitude"
                    }
                    _ => "",
                };
                format!(" ({}{why})", clock.words())
            }
            _ => String::new(),
        };
        format!("{} from `{name}`{kind}", field.name())
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Returns a note with the columns that are not read.
fn unused(choice: &Choice, sheet: &Sheet) -> Option<Note> {
    let is_used = |column: usize| choice.chosen.iter().any(|chosen| chosen.column == column);
    let names: Vec<&str> = sheet
        .columns()
        .iter()
        .enumerate()
        .filter(|(column, name)| !is_used(*column) && !name.is_empty())
        .map(|(_, name)| name.as_str())
        .collect();
    (!names.is_empty()).then(|| Note::new(format!("columns not used: {}", names.join(", "))))
}

/// Returns what to say where times or prompts are needed and the log has none.
fn missing(choice: &Choice, sample: &Sample<'_>) -> Missing {
    let say = |field: LogField, what: &str, other: &str| {
        choice.find(field).is_none().then(|| {
            format!(
                "no column looks like {what}: say which with --column {}=NAME, or name a file that has them with {other}; \
                 there are {}",
                field.name(),
                sample.listed()
            )
        })
    };
    Missing {
        times: say(LogField::Arrival, "the time of arrival", "--arrivals"),
        prompts: say(LogField::Prompt, "the prompt", "--prompts"),
    }
}

#[cfg(test)]
mod tests;
