//! Rows of a log that are used, in the columns of a trace. A row without a time or a prompt, or whose request did not
//! succeed, is left out and counted; what remains keeps the order of the file.

use super::cell::Cell;
use super::clock::Clock;
use super::columns::{Choice, Chosen};
use super::fields::LogField;
use super::sheet::Sheet;
use super::status::{End, StatusKind};
use super::tally::{Kind, Tally};
use super::wishes::{self, WishColumn};
use super::{File, Note, Options, Source};
use crate::input::InputError;
use crate::time::{Duration, MAX_INPUT_S, Time};
use crate::trace::import::{KeptRows, timestamp};
use crate::trace::{EXTRA_COLUMNS, TextColumn};

const LONGEST: u64 = MAX_INPUT_S as u64 * 1_000_000_000;

/// Columns of the trace as they are filled.
pub(super) struct Rows<'r> {
    file: &'r File<'r>,
    choice: &'r Choice,
    clock: Option<Clock>,
    deadline_clock: Option<Clock>,
    options: &'r Options,
    tally: Tally,
    /// Number of rows of the file so far.
    total: usize,
    /// Place in the file of each row that is used.
    kept: Vec<u32>,
    arrivals: Vec<u64>,
    without_offset: usize,
    prompts: TextColumn,
    tenants: TextColumn,
    request_ids: TextColumn,
    deadlines: Vec<Option<Duration>>,
    late_deadlines: usize,
    wishes: Vec<WishColumn>,
}

impl<'r> Rows<'r> {
    pub(super) fn new(
        file: &'r File<'r>,
        choice: &'r Choice,
        (clock, deadline_clock): (Option<Clock>, Option<Clock>),
        options: &'r Options,
        word: &'static str,
    ) -> Self {
        let mut names = Vec::new();
        for chosen in &choice.chosen {
            match chosen.field {
                LogField::Size => names.extend(["width", "height"]),
                field if is_wish(field) => names.push(field.name()),
                _ => {}
            }
        }
        // A size and a width of its own are one column of the trace; the size is read first and wins.
        names.sort_unstable_by_key(|name| EXTRA_COLUMNS.iter().position(|column| column == name));
        names.dedup();
        Self {
            file,
            choice,
            clock,
            deadline_clock,
            options,
            tally: Tally::new(word),
            total: 0,
            kept: Vec::new(),
            arrivals: Vec::new(),
            without_offset: 0,
            prompts: TextColumn::default(),
            tenants: TextColumn::default(),
            request_ids: TextColumn::default(),
            deadlines: Vec::new(),
            late_deadlines: 0,
            wishes: names.into_iter().map(WishColumn::new).collect(),
        }
    }

    /// Reads the rows.
    pub(super) fn read(mut self, sheet: &Sheet) -> Result<Source, InputError> {
        let columns: Vec<usize> = self.choice.chosen.iter().map(|chosen| chosen.column).collect();
        sheet.read(self.file, &columns, usize::MAX, &mut |row, cells| {
            self.total += 1;
            match cells {
                Ok(cells) => self.push(row, cells),
                Err(reason) => {
                    self.tally.count(Kind::Damage, reason, row);
                    Ok(())
                }
            }
        })?;
        if self.kept.is_empty() {
            return Err(self.nothing_left());
        }
        self.into_source()
    }

    fn place(&self, field: LogField) -> Option<(usize, &'r Chosen)> {
        self.choice.chosen.iter().enumerate().find(|(_, chosen)| chosen.field == field)
    }

    /// Appends a row, or counts why it is left out. The cells are those of the chosen columns.
    fn push(&mut self, row: usize, cells: &[Cell<'_>]) -> Result<(), InputError> {
        let choice = self.choice;
        let cell = |field| choice.chosen.iter().position(|chosen| chosen.field == field).map(|place| &cells[place]);
        if let Some((kind, reason)) = self.refusal(cells) {
            self.tally.count(kind, &reason, row);
            return Ok(());
        }
        let arrival = match (self.clock, cell(LogField::Arrival)) {
            (Some(clock), Some(cell)) => clock.read(cell),
            _ => None,
        };
        if self.kept.len() >= u32::MAX as usize || self.total > u32::MAX as usize {
            return Err(InputError::new(self.file.path, format!("expected at most {} rows", u32::MAX)));
        }
        if let Some(arrival) = arrival {
            self.arrivals.push(arrival.nanoseconds);
            self.without_offset += usize::from(arrival.assumed_utc);
        }
        self.kept.push(self.total as u32 - 1);
        if let Some(cell) = cell(LogField::Prompt) {
            self.prompts.push(cell.prompt().unwrap_or_default());
        }
        for (place, chosen) in self.choice.chosen.iter().enumerate() {
            self.push_value(row, chosen, &cells[place], arrival.map(|arrival| arrival.nanoseconds))?;
        }
        self.fill();
        Ok(())
    }

    /// Returns why a row is left out.
    fn refusal(&self, cells: &[Cell<'_>]) -> Option<(Kind, String)> {
        let cell = |field| self.place(field).map(|(place, chosen)| (&cells[place], chosen));
        if let (Some(clock), Some((cell, _))) = (self.clock, cell(LogField::Arrival)) {
            if cell.is_null() {
                return Some((Kind::Time, "without a time".to_owned()));
            }
            let read = clock.read(cell).filter(|read| clock.is_absolute() || read.nanoseconds <= LONGEST);
            if read.is_none() {
                return Some((Kind::Time, format!("with a time that cannot be read as {}", clock.words())));
            }
        }
        if let Some((cell, _)) = cell(LogField::Prompt) {
            match cell.prompt() {
                Some(text) if text.trim().is_empty() => return Some((Kind::Prompt, "without a prompt".to_owned())),
                None if cell.is_null() => return Some((Kind::Prompt, "without a prompt".to_owned())),
                None => return Some((Kind::Prompt, format!("with {} for a prompt", cell.type_name()))),
                Some(_) => {}
            }
        }
        let (cell, chosen) = cell(LogField::Status)?;
        let end = chosen.status.end(cell);
        if end == End::Succeeded || self.options.keep_unfinished {
            return None;
        }
        let value = if cell.is_null() { "nothing".to_owned() } else { cell.shown() };
        let unknown = if end == End::Unknown { ", which is unknown" } else { "" };
        let reason = match chosen.status {
            // Messages of errors are as many as there are errors.
            StatusKind::Error => format!("with an error in `{}`", chosen.name),
            _ => format!("with {} {value}{unknown}", chosen.name),
        };
        Some((Kind::Status, reason))
    }

    /// Appends the value of a column other than time, prompt and status.
    fn push_value(
        &mut self,
        row: usize,
        chosen: &Chosen,
        cell: &Cell<'_>,
        arrival: Option<u64>,
    ) -> Result<(), InputError> {
        let field = chosen.field;
        let by_line = self.tally.word == "line";
        let wrong = |found: &str| {
            let ours = field.name();
            let place = if by_line { String::new() } else { format!("row {row} (from 1): ") };
            let message = format!(
                "{place}expected text or a number, found {found}: `--column {ours}=NAME` takes another column, \
                 `--column {ours}=` none"
            );
            let error = InputError::new(self.file.path, message).key(&chosen.name);
            if by_line { error.line(row) } else { error }
        };
        match field {
            LogField::Tenant => self.tenants.push(&cell.name().ok_or_else(|| wrong(cell.type_name()))?),
            LogField::RequestId => self.request_ids.push(&cell.name().ok_or_else(|| wrong(cell.type_name()))?),
            LogField::Deadline => {
                let deadline = self.deadline(cell, arrival);
                self.late_deadlines += usize::from(deadline.is_none() && !cell.is_null());
                self.deadlines.push(deadline);
            }
            LogField::Size => {
                let sides = wishes::size(cell).map(|(width, height)| [width.to_string(), height.to_string()]);
                for (name, side) in ["width", "height"].into_iter().zip(0..) {
                    let column = self.wishes.iter_mut().find(|column| column.name == name);
                    let Some(column) = column else { continue };
                    column.left_out += usize::from(sides.is_none() && !cell.is_null());
                    column.texts.push(sides.as_ref().map_or("", |sides| &sides[side]));
                }
            }
            field if is_wish(field) => {
                if let Some(column) = self.wishes.iter_mut().find(|column| column.name == field.name())
                    && column.texts.len() < self.kept.len()
                {
                    let scaled = chosen.unit.zip(cell.number()).map(|(unit, number)| Cell::Float(unit.seconds(number)));
                    column.push(field, scaled.as_ref().unwrap_or(cell)).map_err(wrong)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Appends nothing to the columns that the row has no value for.
    fn fill(&mut self) {
        let rows = self.kept.len();
        for column in self.wishes.iter_mut().filter(|column| column.texts.len() < rows) {
            column.texts.push("");
        }
    }

    fn deadline(&self, cell: &Cell<'_>, arrival: Option<u64>) -> Option<Duration> {
        let clock = self.deadline_clock?;
        let read = clock.read(cell)?.nanoseconds;
        let after = match (clock.is_absolute(), self.clock?.is_absolute()) {
            (false, _) => read,
            (true, true) => read.checked_sub(arrival?)?,
            (true, false) => return None,
        };
        (after <= LONGEST).then(|| Duration::from_nanoseconds(after))
    }

    /// Makes the error of a log of which no row is used.
    fn nothing_left(&self) -> InputError {
        let way_out = match self.tally.main_kind() {
            Some(Kind::Time) => {
                "`--column arrival_s=NAME` takes the times from another column, `--time-unit` says their unit"
            }
            Some(Kind::Prompt) => {
                "`--column prompt=NAME` takes the prompts from another column; `--column prompt=` with `--prompts FILE` takes \
                 them from another file"
            }
            Some(Kind::Status) => "`--column status=` reads no status, `--keep unfinished` keeps these rows",
            Some(Kind::Damage) | None => "is this the whole file?",
        };
        let message = format!("no row can be used of {}: {}; {way_out}", self.total, self.tally.phrase());
        InputError::new(self.file.path, message)
    }

    fn into_source(self) -> Result<Source, InputError> {
        let mut notes: Vec<Note> = self.tally.notes().collect();
        if self.without_offset > 0 {
            notes.push(Note::counted(self.without_offset, "times without an offset from UTC: UTC is assumed"));
        }
        if self.late_deadlines > 0 {
            notes.push(Note::counted(self.late_deadlines, "deadlines left out that are no time after the arrival"));
        }
        let mut extra = Vec::new();
        for column in self.wishes {
            if column.left_out > 0 {
                let text = format!("values of {} left out that cannot be asked for", column.name);
                notes.push(Note::counted(column.left_out, text));
            }
            extra.push((column.name.to_owned(), column.texts));
        }
        let extra = with_both_sides(extra, &mut notes);
        let has = |field| self.choice.find(field).is_some();
        let arrivals = match self.clock {
            Some(clock) if clock.is_absolute() => {
                notes.push(Note::new("time zero is the first request"));
                Some(timestamp::since_earliest(self.arrivals, self.file.path)?)
            }
            Some(_) => {
                notes.extend(late_start(&self.arrivals));
                Some(self.arrivals.into_iter().map(Time::from_nanoseconds).collect())
            }
            None => None,
        };
        let ids_are_labels =
            self.request_ids.iter().all(|id| !id.is_empty()) && self.request_ids.first_repeat().is_none();
        if has(LogField::RequestId) && !ids_are_labels {
            notes.push(Note::new("request ids left out, since some repeat or are missing: rows are numbered instead"));
        }
        Ok(Source {
            arrivals,
            request_ids: Some(self.request_ids).filter(|_| has(LogField::RequestId) && ids_are_labels),
            prompts: Some(self.prompts).filter(|_| has(LogField::Prompt)),
            tenants: Some(self.tenants).filter(|_| has(LogField::Tenant)),
            deadlines: Some(self.deadlines).filter(|_| has(LogField::Deadline)),
            extra,
            notes,
            kept: Some(KeptRows { rows: self.kept, of: self.total }),
            ..Source::default()
        })
    }
}

const fn is_wish(field: LogField) -> bool {
    matches!(
        field,
        LogField::Width
            | LogField::Height
            | LogField::Steps
            | LogField::Images
            | LogField::Guidance
            | LogField::NegativePrompt
            | LogField::Checkpoint
            | LogField::Loras
            | LogField::Executed
            | LogField::ImageBytes
    )
}

/// Empties a width without a height and a height without a width, since neither can be asked for alone.
fn with_both_sides(mut extra: Vec<(String, TextColumn)>, notes: &mut Vec<Note>) -> Vec<(String, TextColumn)> {
    let at = |extra: &[(String, TextColumn)], name: &str| extra.iter().position(|(column, _)| column == name);
    let (width, height) = match (at(&extra, "width"), at(&extra, "height")) {
        (Some(width), Some(height)) => (width, height),
        (None, None) => return extra,
        (Some(alone), None) | (None, Some(alone)) => {
            let (name, _) = extra.remove(alone);
            notes.push(Note::new(format!("{name} left out, since there is no other side")));
            return extra;
        }
    };
    let is_alone = |row: usize| extra[width].1.get(row).is_empty() != extra[height].1.get(row).is_empty();
    let alone: Vec<bool> = (0..extra[width].1.len()).map(is_alone).collect();
    let count = alone.iter().filter(|&&alone| alone).count();
    if count > 0 {
        notes.push(Note::counted(count, "sizes left out with one side only"));
        for side in [width, height] {
            let texts = extra[side].1.iter().zip(&alone).map(|(text, &alone)| if alone { "" } else { text });
            extra[side].1 = texts.collect();
        }
    }
    extra
}

/// Returns a note for a log whose own zero is long before its first request.
fn late_start(arrivals: &[u64]) -> Option<Note> {
    let (first, last) = (*arrivals.iter().min()?, *arrivals.iter().max()?);
    let seconds = |nanoseconds: u64| Time::from_nanoseconds(nanoseconds).seconds();
    (last > first && first > (last - first) / 10).then(|| {
        let first = seconds(first);
        Note::new(format!("the first request is {first} s after the log's zero: `--from {first}` makes it time zero"))
    })
}
