//! Section `[allocation]`: policy that decides which model each worker holds. `scheduler::allocation` has the policies.

use std::borrow::Cow;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Scenario;
use super::check::{positive_seconds, seconds};
use crate::input::InputError;
use crate::scheduler::allocation::{Mode, Pid, QueueDelay, Switching};
use crate::scheduler::routing::System;

/// Policy that decides which model each worker holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllocationKind {
    /// Fixed allocation, which stays as it starts. Not for loads that change.
    Static,
    /// Monitor of the paper, which decides once a period from the rates of the window. Not for bursts or deadlines: it
    /// looks at no waiting request.
    #[default]
    Modm,
    /// Policy of `DiffServe` for cascades, which solves an integer program. Not for caches.
    Cascade,
    /// Policy of this project, which simulates other allocations on waiting and recent requests and picks the best. Not
    /// for repeating the paper's results.
    WhatIf,
}

/// Section `[allocation]`. Only `modm` and `cascade` have small models to allocate; the other systems leave the section
/// unused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AllocationSection {
    /// Policy that decides on the models of the workers.
    pub policy: AllocationKind,
    /// Aim of the monitor.
    pub mode: Mode,
    /// Number of workers that hold the large model at time zero. If absent, all workers, or half of them for a cascade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_large: Option<u32>,
    /// Least number of workers that the monitor leaves to small models while requests hit. If absent, 0, as in the
    /// paper, or 1 where a small model has another number of steps than the large one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_small: Option<u32>,
    /// Time between two decisions, seconds.
    pub period_s: f64,
    /// Share of the capacity that the monitor's quality mode and the policy for cascades plan with.
    pub headroom: f64,
    /// Gains of the monitor's controller, or `"off"`.
    pub pid: PidSetting,
    /// Loads at which mode `load` changes the small model.
    pub switching: Switching,
    /// Estimate of the time that requests wait, for policy `cascade`.
    pub queue_delay: QueueDelay,
    /// Length of the recent past that `what_if` expects to come again, seconds; two full generations if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_s: Option<f64>,
    /// Time that `what_if` looks ahead, seconds; four full generations if absent. Formerly `calm_s`, which still works.
    #[serde(skip_serializing_if = "Option::is_none", alias = "calm_s")]
    pub horizon_s: Option<f64>,
    /// Least time between two decisions of `what_if`, seconds; half a full generation if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_s: Option<f64>,
    /// Margin of `what_if`, seconds: a request that is expected to be done less than this before its deadline counts as
    /// late. A tenth of a full generation if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cushion_s: Option<f64>,
    /// Price of one load for `what_if`, as the number of images by the best instead of the worst model that pay for the
    /// load.
    pub load_price: f64,
    /// Price of a late request for `what_if`, as the number of images by the worst instead of the best model that one
    /// late request less pays for.
    pub late_price: f64,
    /// Measure of the profile that says how good the images of each model are for `what_if`: their scores are spread
    /// from 0 for the worst model to 1 for the best (`"clip"`, `"fid"`). If absent, the order of the models says it:
    /// `models.large`, then `models.small`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure: Option<String>,
}

/// Measures of which lower values are better.
const LOWER_IS_BETTER: [&str; 2] = ["fid", "lpips"];

impl AllocationSection {
    /// Returns the worth of an image by each model, from 0 for the worst model to 1 for the best. `scores` has the
    /// scores of each model's own images: (measure, value).
    pub(super) fn worth(
        &self,
        models: &[String],
        scores: &[Vec<(String, f64)>],
        file: &Path,
    ) -> Result<Vec<f64>, InputError> {
        let Some(measure) = &self.measure else {
            let worst = models.len().saturating_sub(1).max(1) as f64;
            return Ok((0..models.len()).map(|rank| 1.0 - rank as f64 / worst).collect());
        };
        let score = |(model, scores): (&String, &Vec<(String, f64)>)| {
            let found = scores.iter().find(|(name, _)| name == measure).map(|(_, value)| *value);
            found.ok_or_else(|| {
                let message = format!("the profile has no such score of {model:?}: add it as [[own_quality]]");
                InputError::new(file, message).value("allocation.measure", format!("{measure:?}"))
            })
        };
        let scores: Vec<f64> = models.iter().zip(scores).map(score).collect::<Result<_, _>>()?;
        let (low, high) = scores
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), score| (low.min(*score), high.max(*score)));
        let lower_is_better = LOWER_IS_BETTER.contains(&measure.as_str());
        let place = |score: &f64| if lower_is_better { high - score } else { score - low };
        // Models with equal scores are equally good, so that none is worth a load.
        Ok(scores.iter().map(|score| if high > low { place(score) / (high - low) } else { 1.0 }).collect())
    }
}

/// Gains of the monitor's controller, or `None` for no controller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PidSetting(pub Option<Pid>);

impl JsonSchema for PidSetting {
    fn schema_name() -> Cow<'static, str> {
        "PidSetting".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<Pid>(), { "const": "off", "description": "No controller." }] })
    }
}

impl Serialize for PidSetting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(pid) => pid.serialize(serializer),
            None => serializer.serialize_str("off"),
        }
    }
}

impl<'de> Deserialize<'de> for PidSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = PidSetting;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"off\" or a table { kp, ki, kd, dt }")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PidSetting, E> {
                if text == "off" {
                    Ok(PidSetting(None))
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
                }
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<PidSetting, A::Error> {
                let gains = Pid::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(PidSetting(Some(gains)))
            }
        }
        // An untagged enum would do the same in fewer lines, but its errors name neither the key nor what is accepted.
        deserializer.deserialize_any(Visitor)
    }
}

impl Default for AllocationSection {
    fn default() -> Self {
        Self {
            policy: AllocationKind::default(),
            mode: Mode::default(),
            initial_large: None,
            least_small: None,
            period_s: 180.0,
            headroom: 0.9,
            pid: PidSetting(Some(Pid::default())),
            switching: Switching::default(),
            queue_delay: QueueDelay::default(),
            window_s: None,
            horizon_s: None,
            gap_s: None,
            cushion_s: None,
            load_price: 2.0,
            late_price: 10.0,
            measure: None,
        }
    }
}

impl Scenario {
    pub(super) fn check_allocation(&self, file: &Path) -> Result<(), InputError> {
        let allocation = &self.allocation;
        positive_seconds(file, "allocation.period_s", allocation.period_s)?;
        if !(0.0..=10.0).contains(&allocation.headroom) {
            return Err(InputError::new(file, "expected a share from 0 to 10")
                .value("allocation.headroom", allocation.headroom));
        }
        let ours = [
            ("window_s", allocation.window_s),
            ("horizon_s", allocation.horizon_s),
            ("gap_s", allocation.gap_s),
            ("cushion_s", allocation.cushion_s),
        ];
        for (key, value) in ours.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            let key = format!("allocation.{key}");
            if key.ends_with("cushion_s") { seconds(file, &key, value)? } else { positive_seconds(file, &key, value)? }
        }
        if !(0.0..=1e6).contains(&allocation.late_price) {
            return Err(InputError::new(file, "expected a number of images from 0 to 1000000")
                .value("allocation.late_price", allocation.late_price));
        }
        if !(0.0..=1e6).contains(&allocation.load_price) {
            return Err(InputError::new(file, "expected a number from 0 to 1000000")
                .value("allocation.load_price", allocation.load_price));
        }
        if let Some(large) = allocation.initial_large
            && !(1..=self.workers()).contains(&(large as usize))
        {
            let message = format!("expected from 1 to {}, the number of workers", self.workers());
            return Err(InputError::new(file, message).value("allocation.initial_large", large));
        }
        if let Some(least) = allocation.least_small
            && least as usize >= self.workers()
        {
            let message = format!("expected fewer than {}, the number of workers", self.workers());
            return Err(InputError::new(file, message).value("allocation.least_small", least));
        }
        if let Some(pid) = allocation.pid.0 {
            check_pid(pid, file)?;
        }
        check_switching(allocation.switching, file)?;
        let cascade = self.allocation.policy == AllocationKind::Cascade;
        if self.drafts() && !(cascade || self.allocation.policy == AllocationKind::Static) {
            let message = "expected \"cascade\" or \"static\" for system.policy = \"cascade\"";
            return Err(InputError::new(file, message).key("allocation.policy"));
        }
        if cascade && self.system.policy == System::Modm {
            let message = "is for system.policy = \"cascade\": it decides on drafts";
            return Err(InputError::new(file, message).value("allocation.policy", "\"cascade\""));
        }
        if self.drafts() && (self.models.small.is_empty() || self.workers() < 2) {
            let message = "a cascade needs a light model (models.small) and a GPU for each of the two";
            return Err(InputError::new(file, message).value("cluster.gpus", format_args!("{} in all", self.workers())));
        }
        let monitored = self.allocation.policy != AllocationKind::Static;
        if self.system.policy.has_small_models() && self.models.small.is_empty() && monitored {
            let way_out = "the monitor needs a small model: name one, or set allocation.policy = \"static\"";
            return Err(InputError::new(file, way_out).value("models.small", "[]"));
        }
        let names = self.model_names();
        if let Some(twice) = names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
            return Err(
                InputError::new(file, "is in the list of models twice").value("models.small", format!("{:?}", twice.1))
            );
        }
        Ok(())
    }
}

/// Checks that the gains of the monitor's controller are in range.
fn check_pid(pid: Pid, file: &Path) -> Result<(), InputError> {
    for (key, value) in [("kp", pid.kp), ("ki", pid.ki), ("kd", pid.kd)] {
        if !(value.is_finite() && value.abs() <= 1e6) {
            return Err(InputError::new(file, "expected a gain from -1000000 to 1000000")
                .value(format!("allocation.pid.{key}"), value));
        }
    }
    if !(pid.dt > 0.0 && pid.dt <= 1e9) {
        return Err(InputError::new(file, "expected a time above 0, at most 1e9").value("allocation.pid.dt", pid.dt));
    }
    Ok(())
}

/// Checks that the loads at which the small model changes leave a range between them in which it stays.
fn check_switching(switching: Switching, file: &Path) -> Result<(), InputError> {
    let Switching { up, down } = switching;
    for (key, value) in [("up", up), ("down", down)] {
        if !(value > 0.0 && value <= 10.0) {
            return Err(InputError::new(file, "expected a share above 0, at most 10")
                .value(format!("allocation.switching.{key}"), value));
        }
    }
    if down >= up {
        let message = format!("expected less than allocation.switching.up = {up}: between the two a model stays");
        return Err(InputError::new(file, message).value("allocation.switching.down", down));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worth(measure: Option<&str>, scores: &[&[(&str, f64)]]) -> Result<Vec<f64>, String> {
        let section = AllocationSection { measure: measure.map(str::to_owned), ..AllocationSection::default() };
        let models: Vec<String> = (0..scores.len()).map(|model| format!("model-{model}")).collect();
        let named = |scores: &&[(&str, f64)]| scores.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let scores: Vec<Vec<(String, f64)>> = scores.iter().map(named).collect();
        section.worth(&models, &scores, Path::new("a.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn models_are_worth_their_place_or_their_score() {
        assert_eq!(worth(None, &[&[], &[], &[]]), Ok(vec![1.0, 0.5, 0.0]));
        assert_eq!(worth(None, &[&[]]), Ok(vec![1.0]), "a model alone is the best");
        let scores: [&[_]; 3] =
            [&[("clip", 28.0), ("fid", 6.0)], &[("clip", 29.0), ("fid", 16.0)], &[("fid", 11.0), ("clip", 27.0)]];
        assert_eq!(worth(Some("clip"), &scores), Ok(vec![0.5, 1.0, 0.0]));
        assert_eq!(worth(Some("fid"), &scores), Ok(vec![1.0, 0.0, 0.5]), "of FID lower is better");
        assert_eq!(worth(Some("clip"), &[&[("clip", 28.0)], &[("clip", 28.0)]]), Ok(vec![1.0, 1.0]));
    }

    #[test]
    fn a_score_that_is_missing_is_named() {
        let error = worth(Some("pick"), &[&[("pick", 20.0)], &[("clip", 29.0)]]).expect_err("no score");
        assert_eq!(
            error,
            "a.toml: allocation.measure = \"pick\": the profile has no such score of \"model-1\": add it as \
             [[own_quality]]"
        );
    }
}
