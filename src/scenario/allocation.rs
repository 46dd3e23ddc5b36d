//! `[allocation]`: who decides which model each worker holds. What the policies do is `scheduler::allocation`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::scheduler::allocation::{Mode, Pid, QueueDelay};

/// Who decides which model each worker holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllocationKind {
    /// Nobody: it stays as it starts.
    Static,
    /// The paper's monitor.
    #[default]
    Modm,
    /// `DiffServe`'s, for cascades: solves its integer program.
    Cascade,
    /// Ours: tries splits on what waits and what came lately.
    WhatIf,
}

/// `[allocation]`; only `modm` and `cascade` have small models to allocate, the other systems leave it unused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AllocationSection {
    /// Who decides.
    pub policy: AllocationKind,
    /// What the monitor aims at.
    pub mode: Mode,
    /// Large workers at time zero; all of them if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_large: Option<u32>,
    /// Between two decisions, seconds.
    pub period_s: f64,
    /// Share of the capacity that quality mode plans with.
    pub headroom: f64,
    /// The controller, or `"off"`.
    pub pid: PidSetting,
    /// Estimate of the time that requests wait, for `cascade`.
    pub queue_delay: QueueDelay,
    /// Of `what_if`: the recent past that is expected to come again, seconds; two full generations if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_s: Option<f64>,
    /// Of `what_if`: so long after a change the split is left as it is, unless fewer requests are late with another,
    /// seconds; four full generations if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calm_s: Option<f64>,
    /// Of `what_if`: the least time between two decisions, seconds; half a full generation if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_s: Option<f64>,
    /// Of `what_if`: what is expected to be done less than this before it is due counts as late, seconds; a tenth of a
    /// full generation if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cushion_s: Option<f64>,
    /// Of `what_if`: images by the best instead of the worst model that pay for one load.
    pub load_price: f64,
}

/// A controller's gains, or none.
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
