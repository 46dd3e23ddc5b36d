//! Section `[cascade]`: confidences in the drafts of a light model, and the threshold below which a draft is made
//! again. `scheduler::routing::cascade` routes the drafts. `scheduler::allocation::cascade` decides on the threshold.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scenario;
use super::inputs::{Fingerprint, fingerprint};
use crate::confidence::Confidences;
use crate::input::InputError;
use crate::scheduler::routing::System;

/// Section `[cascade]`. Only the system `cascade` makes drafts; the other systems leave the section unused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CascadeSection {
    /// Confidence below which a draft is made again, until the allocation decides on another threshold.
    pub threshold: f64,
    /// File of confidences, CSV. Requests take the rows of one column in order. After the last row, the first one
    /// follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidences: Option<PathBuf>,
    /// Name of the column with the confidences; the second column if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Parameters a and b of Kumaraswamy's distribution, used without a file: P(confidence < t) = 1 - (1 - t^a)^b.
    pub shape: (f64, f64),
}

impl Default for CascadeSection {
    fn default() -> Self {
        Self { threshold: 0.8, confidences: None, column: None, shape: (1.0, 1.0) }
    }
}

impl Scenario {
    /// Returns whether the system makes drafts.
    pub fn drafts(&self) -> bool {
        self.system.policy == System::Cascade
    }

    /// Returns the assumption of the scenario that its results rest on, in words for every output, or `None`:
    /// confidences may be drawn and not measured.
    pub fn assumption(&self) -> Option<String> {
        let (a, b) = self.cascade.shape;
        let assumed = self.drafts() && self.cascade.confidences.is_none();
        assumed.then(|| format!("confidences: drawn from a distribution (cascade.shape = [{a}, {b}]), not measured"))
    }

    /// Returns the confidences in the drafts, if the system makes any, and the fingerprint of their file.
    pub(super) fn confidences(&self, file: &Path) -> Result<Option<(Confidences, Vec<Fingerprint>)>, InputError> {
        if !self.drafts() {
            return Ok(None);
        }
        let Some(path) = &self.cascade.confidences else {
            let (a, b) = self.cascade.shape;
            return Ok(Some((Confidences::Kumaraswamy { a, b, seed: self.seed }, Vec::new())));
        };
        let place = Self::resolve(file, path);
        let scores = read(&place, self.cascade.column.as_deref())?;
        Ok(Some((Confidences::scores(scores), vec![fingerprint(&place, path)?])))
    }

    pub(super) fn check_cascade(&self, file: &Path) -> Result<(), InputError> {
        let (threshold, (a, b)) = (self.cascade.threshold, self.cascade.shape);
        if !(0.0..=1.0).contains(&threshold) {
            return Err(
                InputError::new(file, "expected a confidence from 0 to 1").value("cascade.threshold", threshold)
            );
        }
        if [a, b].iter().any(|shape| !(0.001..=1000.0).contains(shape)) {
            let accepted = "expected two numbers from 0.001 to 1000";
            return Err(InputError::new(file, accepted).value("cascade.shape", format_args!("[{a}, {b}]")));
        }
        if self.cascade.column.is_some() && self.cascade.confidences.is_none() {
            return Err(InputError::new(file, "goes with `confidences`, a file").key("cascade.column"));
        }
        Ok(())
    }
}

/// Reads a column of confidences.
fn read(file: &Path, column: Option<&str>) -> Result<Vec<f64>, InputError> {
    let text = crate::input::text(file)?;
    let mut rows = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let broken = |error: &csv::Error| InputError::new(file, error.to_string());
    let header = rows.headers().map_err(|error| broken(&error))?.clone();
    let place =
        column.map_or(Some(1).filter(|place| *place < header.len()), |name| header.iter().position(|h| h == name));
    let Some(place) = place else {
        let known = header.iter().collect::<Vec<_>>().join(", ");
        let message = format!("has no column {:?}; it has {known}", column.unwrap_or("beside the first"));
        return Err(InputError::new(file, message).key("cascade.column"));
    };
    let mut scores = Vec::new();
    for row in rows.records() {
        let row = row.map_err(|error| broken(&error))?;
        let text = row.get(place).unwrap_or_default();
        let score = text.parse().ok().filter(|score| (0.0..=1.0).contains(score));
        let line = row.position().map(csv::Position::line);
        scores.push(score.ok_or_else(|| {
            let error = InputError::new(file, "expected a confidence from 0 to 1");
            InputError { line: line.map(|line| line as usize), ..error.value(&header[place], format_args!("{text:?}")) }
        })?);
    }
    if scores.is_empty() {
        return Err(InputError::new(file, "expected at least one row below the header"));
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_column_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scores.csv");
        std::fs::write(&file, "\u{feff}content_id,light,other\n1,7.30E-01,0.5\n2,1.00E+00,0\n").unwrap();
        assert_eq!(read(&file, None).unwrap(), [0.73, 1.0]);
        assert_eq!(read(&file, Some("other")).unwrap(), [0.5, 0.0]);
        let error = |column: Option<&str>| read(&file, column).unwrap_err().to_string();
        assert!(error(Some("dark")).contains("content_id, light, other"), "{}", error(Some("dark")));
        std::fs::write(&file, "id,light\n1,0.5\n2,1.5\n").unwrap();
        assert!(error(None).contains("scores.csv:3: light = \"1.5\": expected a confidence"), "{}", error(None));
        std::fs::write(&file, "id,light\n").unwrap();
        assert!(error(None).contains("at least one row"));
    }
}
