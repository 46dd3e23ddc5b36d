//! Section `[allocation]`: policy that decides which model each worker holds. `scheduler::allocation` has the policies.

use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Scenario;
use super::check::{positive_seconds, seconds};
use crate::input::InputError;
use crate::scheduler::allocation::{Mode, Pid, QueueDelay};
use crate::scheduler::routing::System;

/// Policy that decides which model each worker holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllocationKind {
    /// Fixed allocation, which stays as it starts.
    Static,
    /// Monitor of the paper.
    #[default]
    Modm,
    /// Policy of `DiffServe` for cascades, which solves an integer program.
    Cascade,
    /// Policy of this project, which simulates other allocations on waiting and recent requests and picks the best.
    WhatIf,
}

/// Section `[allocation]`. Only `modm` and `cascade` have small models to allocate; the other systems leave the section
/// unused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AllocationSection {
    /// Policy that decides on the models of the workers.
    pub policy: AllocationKind,
    /// Aim of the monitor.
    pub mode: Mode,
    /// Number of workers that hold the large model at time zero. If absent, all workers, or half of them for a cascade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_large: Option<u32>,
    /// Time between two decisions, seconds.
    pub period_s: f64,
    /// Share of the capacity that the monitor's quality mode and the policy for cascades plan with.
    pub headroom: f64,
    /// Gains of the monitor's controller, or `"off"`.
    pub pid: PidSetting,
    /// Estimate of the time that requests wait, for policy `cascade`.
    pub queue_delay: QueueDelay,
    /// Length of the recent past that `what_if` expects to come again, seconds; two full generations if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_s: Option<f64>,
    /// Time after a change for which `what_if` leaves the allocation as it is, unless fewer requests are late with
    /// another one, seconds; four full generations if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calm_s: Option<f64>,
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
}

/// Gains of the monitor's controller, or `None` for no controller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PidSetting(pub Option<Pid>);

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
            period_s: 180.0,
            headroom: 0.9,
            pid: PidSetting(Some(Pid::default())),
            queue_delay: QueueDelay::default(),
            window_s: None,
            calm_s: None,
            gap_s: None,
            cushion_s: None,
            load_price: 1.0,
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
            ("calm_s", allocation.calm_s),
            ("gap_s", allocation.gap_s),
            ("cushion_s", allocation.cushion_s),
        ];
        for (key, value) in ours.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            let key = format!("allocation.{key}");
            if key.ends_with("cushion_s") { seconds(file, &key, value)? } else { positive_seconds(file, &key, value)? }
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
        if let Some(pid) = allocation.pid.0 {
            for (key, value) in [("kp", pid.kp), ("ki", pid.ki), ("kd", pid.kd)] {
                if !(value.is_finite() && value.abs() <= 1e6) {
                    return Err(InputError::new(file, "expected a gain from -1000000 to 1000000")
                        .value(format!("allocation.pid.{key}"), value));
                }
            }
            if !(pid.dt > 0.0 && pid.dt <= 1e9) {
                return Err(
                    InputError::new(file, "expected a time above 0, at most 1e9").value("allocation.pid.dt", pid.dt)
                );
            }
        }
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
