//! `requests.csv`: a row for each request, in the order of the trace. The rows are written while a run goes on, or from
//! rows that were kept.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write};

use super::files::Names;
use crate::metrics::RequestRow;
use crate::model::Work;

/// Columns that not every run has. A measure that does not apply has no column.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column that a file has or lacks")]
pub(super) struct Columns {
    /// True if the encoder compared images with prompts, as in a live run.
    pub(super) similarity_to_prompt: bool,
    /// True if qualities can be known.
    pub(super) quality: bool,
    /// True if the noise levels of the models are known.
    pub(super) sigma: bool,
    /// True if any request has several images.
    pub(super) image: bool,
}

/// File that is being written. It has one buffer for all cells, because a string for each cell took most of the time of
/// long traces.
#[derive(Debug)]
pub(super) struct RequestsFile<'a, W: Write> {
    csv: csv::Writer<W>,
    columns: Columns,
    names: &'a Names<'a>,
    text: String,
    /// Bits and text of the quality that was written last. Rows of one model share a quality, and exact decimals take
    /// long.
    quality: (u64, String),
    failed: io::Result<()>,
}

impl<'a, W: Write> RequestsFile<'a, W> {
    /// Writes the header.
    ///
    /// # Errors
    /// Returns an error if writing fails.
    pub(super) fn new(to: W, columns: Columns, names: &'a Names<'a>) -> io::Result<Self> {
        let mut csv = csv::Writer::from_writer(to);
        let mut header = vec![
            "request_id",
            "arrival_s",
            "decision",
            "skipped_steps",
            "similarity",
            "source",
            "model",
            "worker",
            "start_s",
            "finish_s",
            "latency_s",
            "steps_run",
            "outcome",
            "reason",
            "attempts",
            "tenant",
        ];
        header.extend(columns.similarity_to_prompt.then_some("similarity_to_prompt"));
        header.extend(["quality_estimate", "quality_kind"].into_iter().filter(|_| columns.quality));
        header.extend(["allowed_sigma", "start_sigma"].into_iter().filter(|_| columns.sigma));
        header.extend(columns.image.then_some("image"));
        csv.write_record(header)?;
        Ok(Self { csv, columns, names, text: String::new(), quality: (0, String::new()), failed: Ok(()) })
    }

    /// Writes a row. [`Self::finish`] returns the error of a row; nothing is written after an error.
    pub(super) fn row(&mut self, row: &RequestRow) {
        if self.failed.is_ok() {
            self.failed = self.write(row);
        }
    }

    /// Writes the rows that are still in buffers.
    ///
    /// # Errors
    /// Returns an error if writing fails, now or at an earlier row.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.failed?;
        self.csv.flush()
    }

    fn write(&mut self, row: &RequestRow) -> io::Result<()> {
        let names = self.names;
        let decision = row.decision.as_ref();
        // A return has no job: it starts and ends when it is routed.
        let start = if row.returned() { Some(row.finish) } else { row.run.map(|run| run.start) };
        let work = row.work();
        let similarity = decision.and_then(|decision| decision.similarity);
        self.put(names.trace.label(row.id.row()))?;
        self.put(row.arrival)?;
        self.maybe(decision.map(|decision| decision.kind.word()))?;
        self.maybe(work.map(|work| work.skipped_steps))?;
        self.maybe(similarity.map(|similarity| Decimals(similarity, 6)))?;
        self.maybe(decision.and_then(|decision| decision.source))?;
        self.maybe(row.run.map(|run| &names.models[run.model.index()]))?;
        self.maybe(row.run.map(|run| run.worker.index()))?;
        self.maybe(start)?;
        self.put(row.finish)?;
        self.put(row.finish.since(row.arrival))?;
        self.maybe(work.filter(|_| row.completed()).map(Work::steps_run))?;
        self.put(row.outcome.word())?;
        self.maybe(row.outcome.reason())?;
        self.put(row.attempts)?;
        self.maybe(names.trace.tenant_name(row.tenant))?;
        if self.columns.similarity_to_prompt {
            self.maybe(row.similarity_to_prompt.map(|similarity| Decimals(similarity, 6)))?;
        }
        if self.columns.quality {
            self.put_quality(row.quality.map(|(value, _)| value))?;
            self.maybe(row.quality.map(|(_, kind)| kind.word()))?;
        }
        if self.columns.sigma {
            self.maybe(row.allowed_sigma(&names.denoising).map(|sigma| Decimals(sigma, 6)))?;
            self.maybe(row.start_sigma(&names.denoising).map(|sigma| Decimals(sigma, 6)))?;
        }
        if self.columns.image {
            self.put(row.place.at)?;
        }
        Ok(self.csv.write_record(None::<&[u8]>)?)
    }

    fn put(&mut self, value: impl Display) -> io::Result<()> {
        self.text.clear();
        write!(self.text, "{value}").map_err(io::Error::other)?;
        Ok(self.csv.write_field(&self.text)?)
    }

    /// Writes a cell, which is empty for `None`.
    fn maybe(&mut self, value: Option<impl Display>) -> io::Result<()> {
        match value {
            Some(value) => self.put(value),
            None => Ok(self.csv.write_field("")?),
        }
    }

    /// Writes a quality with four decimals.
    fn put_quality(&mut self, value: Option<f64>) -> io::Result<()> {
        let Some(value) = value else { return Ok(self.csv.write_field("")?) };
        if self.quality.1.is_empty() || self.quality.0 != value.to_bits() {
            self.quality = (value.to_bits(), Decimals(value, 4).to_string());
        }
        Ok(self.csv.write_field(&self.quality.1)?)
    }
}

/// Writes the whole file from rows that were kept.
///
/// # Errors
/// Returns an error if writing fails.
pub(super) fn requests(to: impl Write, rows: &[RequestRow], columns: Columns, names: &Names<'_>) -> io::Result<()> {
    let mut file = RequestsFile::new(to, columns, names)?;
    for row in rows {
        file.row(row);
    }
    file.finish()
}

/// Number to write with this many decimals.
struct Decimals(f64, usize);

impl Display for Decimals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, decimals) = *self;
        write!(f, "{value:.decimals$}")
    }
}
