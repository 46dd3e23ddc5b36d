//! Section `[approximation]`: levels at which hits are found more often or skip more steps under load, and the quality
//! that must be left. `scheduler::routing::levels` enters and leaves the levels and keeps account of their cost.

use std::borrow::Cow;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scenario;
use super::system::check_bounds;
use crate::input::InputError;
use crate::scheduler::routing::{Bounds, Level, Levels, System};

/// Section `[approximation]`. Only `modm` has levels; the other systems leave the section unused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApproximationSection {
    /// Share of the large model's quality that hits by `system.bounds` are assumed to keep. The default is the paper's
    /// alpha. The share steers the levels. It is not the quality of docs/semantics.md, section 7, that results report.
    /// Formerly `quality`, which still works.
    #[serde(alias = "quality")]
    pub assumed_quality: f64,
    /// Least mean quality of all images, where an image by the large model counts 1.
    pub floor: f64,
    /// Limit of the saved quality that levels may spend under load: the quality that this number of images by the large
    /// model saves above `floor`.
    pub memory: u32,
    /// Levels beyond the usual one, in rising order of load.
    pub level: Vec<LevelSection>,
}

/// Entry of `[[approximation.level]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LevelSection {
    /// Least number of waiting requests for each worker at which the level is entered. The level is left at less than
    /// half of that number.
    pub from: f64,
    /// Share of the large model's quality that hits of the level are assumed to keep.
    #[serde(alias = "quality")]
    pub assumed_quality: f64,
    /// Rows of `[similarity bound, skipped steps]`, as in `system.bounds`.
    pub bounds: Vec<(f64, u32)>,
}

impl Default for ApproximationSection {
    fn default() -> Self {
        Self { assumed_quality: 0.95, floor: 0.95, memory: 1000, level: Vec::new() }
    }
}

impl Scenario {
    /// Returns the levels in force beyond the usual one.
    fn further(&self) -> &[LevelSection] {
        if self.system.policy == System::Modm { &self.approximation.level } else { &[] }
    }

    /// Returns the same scenario with `by` added to every bound of every level.
    #[must_use]
    pub fn with_shifted_bounds(&self, by: f64) -> Self {
        let shifted = |rows: &[(f64, u32)]| rows.iter().map(|(bound, skipped)| (bound + by, *skipped)).collect();
        let mut scenario = self.clone();
        // Bounds that the policy brings are written out here, since only bounds of a scenario can be shifted.
        match &mut scenario.system.sigma_bounds {
            Some(rows) => rows.iter_mut().for_each(|(bound, _)| *bound += by),
            None => scenario.system.bounds = Some(shifted(&self.bounds())),
        }
        for level in &mut scenario.approximation.level {
            level.bounds = shifted(&level.bounds);
        }
        scenario
    }

    /// Returns the levels of approximation, the usual one first.
    pub(super) fn levels(&self) -> Levels {
        let section = &self.approximation;
        let usual = Bounds::at_or_above(&self.bounds());
        if self.further().is_empty() {
            return Levels::always(usual);
        }
        let first = Level { from: 0.0, quality: section.assumed_quality, bounds: usual };
        let level = |own: &LevelSection| Level {
            from: own.from,
            quality: own.assumed_quality,
            bounds: Bounds::at_or_above(&own.bounds),
        };
        let levels = std::iter::once(first).chain(self.further().iter().map(level));
        Levels::new(levels.collect(), section.floor, section.memory)
    }

    /// Returns the share of the large model's quality that hits are assumed to keep, by level; empty without levels.
    pub fn assumed_quality(&self) -> Vec<f64> {
        let usual = (!self.further().is_empty()).then_some(self.approximation.assumed_quality);
        usual.into_iter().chain(self.further().iter().map(|level| level.assumed_quality)).collect()
    }

    /// Returns the bounds in force, then those of the levels beyond the usual one.
    pub(super) fn all_bounds(&self) -> impl Iterator<Item = Cow<'_, [(f64, u32)]>> {
        std::iter::once(self.bounds()).chain(self.further().iter().map(|level| Cow::from(level.bounds.as_slice())))
    }

    /// Returns the numbers of steps that hits may skip, rising.
    pub fn skipped_steps(&self) -> Vec<u32> {
        let rows: Vec<(f64, u32)> = self.all_bounds().flat_map(Cow::into_owned).collect();
        self.system.policy.skipped_steps(&rows, self.models.large_steps())
    }

    /// Returns the lowest similarity at which an image is of use at any level.
    pub(super) fn lowest_bound(&self) -> Option<f64> {
        self.all_bounds().filter_map(|rows| rows.first().copied()).map(|(bound, _)| bound).reduce(f64::min)
    }

    pub(super) fn check_approximation(&self, file: &Path) -> Result<(), InputError> {
        let section = &self.approximation;
        let share = "expected a share from 0 to 1";
        for (key, value) in [("assumed_quality", section.assumed_quality), ("floor", section.floor)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(InputError::new(file, share).value(format!("approximation.{key}"), value));
            }
        }
        if section.level.is_empty() {
            return Ok(());
        }
        if section.floor > section.assumed_quality {
            let message = format!(
                "expected at most approximation.assumed_quality = {}, or no hit could be served",
                section.assumed_quality
            );
            return Err(InputError::new(file, message).value("approximation.floor", section.floor));
        }
        let mut before = 0.0;
        for (index, level) in section.level.iter().enumerate() {
            let key = |name: &str| format!("approximation.level.{index}.{name}");
            if !(level.from > before && level.from <= 1e6) {
                let accepted = "expected rising numbers of requests for each worker, above 0";
                return Err(InputError::new(file, accepted).value(key("from"), level.from));
            }
            before = level.from;
            if !(0.0..=1.0).contains(&level.assumed_quality) {
                return Err(InputError::new(file, share).value(key("assumed_quality"), level.assumed_quality));
            }
            check_bounds(file, &key("bounds"), &level.bounds, self.models.large_steps(), "")?;
        }
        Ok(())
    }
}
