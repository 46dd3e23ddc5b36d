//! Checks of the quality rows of a profile.

use std::path::Path;

use super::{OwnQuality, ProfileFile, Quality};
use crate::input::InputError;

/// Checks the rows of `[[quality]]` and `[[own_quality]]`: scores are finite, and each is given once.
pub(super) fn check(profile: &ProfileFile, file: &Path) -> Result<(), InputError> {
    let finite = |key: String, value: f64| {
        if value.is_finite() {
            Ok(())
        } else {
            Err(InputError::new(file, "expected a finite number").value(key, value))
        }
    };
    let measures = profile.quality.iter().map(|row| ("quality", &row.measure)).enumerate();
    let own = profile.own_quality.iter().map(|row| ("own_quality", &row.measure)).enumerate();
    // A summary has its measures by name beside the key `kind`, so no measure may have this name.
    if let Some((index, (table, measure))) =
        measures.chain(own).find(|(_, (_, name))| ["", "kind"].contains(&name.as_str()))
    {
        let key = format!("{table}.{index}.measure");
        return Err(
            InputError::new(file, "expected the name of a measure, e.g. clip").value(key, format_args!("{measure:?}"))
        );
    }
    for (index, row) in profile.quality.iter().enumerate() {
        finite(format!("quality.{index}.value"), row.value)?;
        let what = |row: &Quality| (row.model.clone(), row.skipped_steps, row.measure.clone());
        if profile.quality[..index].iter().any(|other| what(other) == what(row)) {
            let message = format!(
                "model {:?} with {} steps skipped has a row of measure {:?} already",
                row.model, row.skipped_steps, row.measure
            );
            return Err(InputError::new(file, message).key(format!("quality.{index}")));
        }
    }
    for (index, row) in profile.own_quality.iter().enumerate() {
        finite(format!("own_quality.{index}.value"), row.value)?;
        let same = |other: &OwnQuality| other.model == row.model && other.measure == row.measure;
        if profile.own_quality[..index].iter().any(same) {
            let message = format!("model {:?} has a row of measure {:?} already", row.model, row.measure);
            return Err(InputError::new(file, message).key(format!("own_quality.{index}")));
        }
    }
    Ok(())
}
