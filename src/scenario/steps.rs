//! Keys `models.steps`, `models.schedule` and `models.size`: denoising steps, noise levels and usual image size.
//! `core/denoising.rs` has their meaning.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Models, Scenario};
use crate::denoising::{Denoising, ModelSteps, Schedule, TRAINED_STEPS};
use crate::input::InputError;
use crate::model::Size;
use crate::trace::asks::MOST_STEPS;

/// Denoising steps of a full generation: one number for all models, or one by model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Steps {
    /// Number of all models.
    All(u32),
    /// Numbers by name of the model.
    ByModel(BTreeMap<String, u32>),
}

impl<'de> Deserialize<'de> for Steps {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reads;

        impl<'de> Visitor<'de> for Reads {
            type Value = Steps;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // `input::toml` has words for this.
                f.write_str("u32")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Steps, E> {
                let steps = u32::try_from(number);
                steps.map(Steps::All).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Steps, E> {
                let steps = u32::try_from(number);
                steps.map(Steps::All).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Steps, A::Error> {
                let mut by_model = BTreeMap::new();
                while let Some((name, steps)) = map.next_entry()? {
                    by_model.insert(name, steps);
                }
                Ok(Steps::ByModel(by_model))
            }
        }

        from.deserialize_any(Reads)
    }
}

impl Models {
    /// Returns the denoising steps of a full generation by the large model (T).
    #[must_use]
    pub fn large_steps(&self) -> u32 {
        self.steps_of(&self.large)
    }

    /// Returns the denoising steps of a full generation by a model; 1 for a model without a number, which `check`
    /// refuses.
    #[must_use]
    pub fn steps_of(&self, model: &str) -> u32 {
        match &self.steps {
            Steps::All(steps) => *steps,
            Steps::ByModel(steps) => steps.get(model).copied().unwrap_or(1),
        }
    }

    /// Returns the usual size of images.
    #[must_use]
    pub const fn usual_size(&self) -> Size {
        let [width, height] = self.size;
        Size { width, height }
    }

    /// Returns a model that runs what a request asks for and was trained on a number of steps, and that number.
    pub(super) fn limited_steps(&self, names: &[String]) -> Option<(String, u32)> {
        let follows = |name: &&String| self.steps_of(name) == self.large_steps();
        let is_limited =
            |name: &&String| self.schedule.as_ref().and_then(|all| all.get(*name)) == Some(&Schedule::ScaledLinear);
        names.iter().filter(follows).find(is_limited).map(|name| (name.clone(), TRAINED_STEPS))
    }

    /// Checks the numbers of steps, the usual size and the schedules.
    pub(super) fn check(&self, names: &[String], file: &Path) -> Result<(), InputError> {
        let accepted = "expected a number of denoising steps from 1 to 100000";
        match &self.steps {
            Steps::All(steps) if !(1..=MOST_STEPS).contains(steps) => {
                return Err(InputError::new(file, accepted).value("models.steps", steps));
            }
            Steps::All(_) => {}
            Steps::ByModel(by_model) => {
                if let Some((name, steps)) = by_model.iter().find(|(_, steps)| !(1..=MOST_STEPS).contains(*steps)) {
                    return Err(InputError::new(file, accepted).value(format!("models.steps.{name}"), steps));
                }
                if let Some(name) = names.iter().find(|name| !by_model.contains_key(*name)) {
                    let message = format!("has no number for {name}: give one for each model, or one for all");
                    return Err(InputError::new(file, message).key("models.steps"));
                }
            }
        }
        if let Some(side) = self.size.iter().find(|side| **side == 0) {
            return Err(InputError::new(file, "expected pixels from 1 to 65535").value("models.size", side));
        }
        self.check_schedules(names, file)
    }

    fn check_schedules(&self, names: &[String], file: &Path) -> Result<(), InputError> {
        let Some(schedules) = &self.schedule else {
            let steps: Vec<u32> = names.iter().map(|name| self.steps_of(name)).collect();
            if let Some(other) = steps.iter().position(|number| *number != steps[0]) {
                let message = format!(
                    "{} has {} steps and {} has {}: what a hit may skip goes by noise then, so give models.schedule \
                     (shift = 3.0 for SD3.5, 1.0 for FLUX.1-schnell, scaled-linear for SDXL)",
                    names[0], steps[0], names[other], steps[other]
                );
                return Err(InputError::new(file, message).key("models.steps"));
            }
            return Ok(());
        };
        if let Some(name) = names.iter().find(|name| !schedules.contains_key(*name)) {
            let message = format!("has none for {name}: give one for each model, or none");
            return Err(InputError::new(file, message).key("models.schedule"));
        }
        for (name, schedule) in schedules {
            let key = format!("models.schedule.{name}");
            match schedule {
                Schedule::Shift(shift) if !(0.01..=100.0).contains(shift) => {
                    let message = "expected a shift from 0.01 to 100; 1 for none";
                    return Err(InputError::new(file, message).value(format!("{key}.shift"), shift));
                }
                Schedule::ScaledLinear if self.steps_of(name) > TRAINED_STEPS => {
                    let message = format!("expected at most {TRAINED_STEPS} steps: {name} was trained on so many");
                    return Err(InputError::new(file, message).value("models.steps", self.steps_of(name)));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Scenario {
    /// Returns the scenario with another usual size of images: that of a live run's models.
    #[must_use]
    pub fn of_size(&self, size: [u32; 2]) -> Self {
        let mut scenario = self.clone();
        scenario.models.size = size.map(|side| u16::try_from(side).unwrap_or(u16::MAX));
        scenario
    }

    /// Returns the steps and noise levels of the models that the system uses.
    #[must_use]
    pub fn denoising(&self) -> Denoising {
        let sigmas: Vec<f64> = self.system.sigma_bounds.iter().flatten().map(|(_, sigma)| *sigma).collect();
        let schedules = self.models.schedule.as_ref();
        let model = |name: &String| ModelSteps {
            steps: self.models.steps_of(name),
            schedule: schedules.and_then(|all| all.get(name)).copied().unwrap_or(Schedule::Shift(1.0)),
        };
        Denoising::new(self.model_names().iter().map(model).collect(), schedules.is_some(), &sigmas)
    }

    /// Returns the similarity bounds in force, each with the steps of the large model that it allows to skip.
    #[must_use]
    pub fn bounds(&self) -> Cow<'_, [(f64, u32)]> {
        if let Some(rows) = &self.system.sigma_bounds {
            let denoising = self.denoising();
            return rows.iter().map(|(bound, sigma)| (*bound, denoising.step_at(*sigma))).collect();
        }
        let own = self.system.policy.default_bounds().unwrap_or_default();
        Cow::Borrowed(self.system.bounds.as_deref().unwrap_or(own))
    }
}
