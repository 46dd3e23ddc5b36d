//! Section `[faults]`: faults of a simulated run, and their times. Live runs refuse the section: their faults are real.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Scenario, initial_allocation};
use crate::input::InputError;
use crate::scheduler::{Event, WorkerId};
use crate::sim::Faults;
use crate::time::{MAX_INPUT_S, Time};

/// Section `[faults]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultsSection {
    /// Faults, in any order.
    pub events: Vec<FaultEvent>,
}

/// Fault of some workers during some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultEvent {
    /// Time at which the fault begins, seconds from the trace's zero.
    pub at_s: f64,
    /// Duration of the fault, seconds; without an end if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<f64>,
    /// Kind of the fault.
    pub what: Fault,
    /// Numbers of the workers that have the fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<u16>,
    /// Name of a node whose workers all have the fault, in place of `workers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Factor on the time of jobs that begin during a fault of kind `slow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
}

/// Kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Loss of workers, with the jobs that they run and the models that they hold. Workers come back empty.
    Down,
    /// Jobs that take longer.
    Slow,
    /// Loads that fail and leave workers with the models that they held.
    LoadFails,
}

impl FaultEvent {
    fn begins(&self) -> Time {
        Time::from_seconds(self.at_s).unwrap_or_default()
    }

    fn ends(&self) -> Time {
        self.for_s.and_then(|lasts| Time::from_seconds(self.at_s + lasts)).unwrap_or(Time::MAX)
    }
}

impl Scenario {
    /// Checks that all values are in range.
    pub(super) fn check_faults(&self, file: &Path) -> Result<(), InputError> {
        for (index, event) in self.faults.events.iter().enumerate() {
            let key = |name: &str| format!("faults.events.{index}.{name}");
            let seconds = "expected seconds from 0 to ten years";
            for (name, value) in [("at_s", Some(event.at_s)), ("for_s", event.for_s)] {
                if let Some(value) = value.filter(|value| !(0.0..=MAX_INPUT_S).contains(value)) {
                    return Err(InputError::new(file, seconds).value(key(name), value));
                }
            }
            if let Some(worker) = event.workers.iter().find(|worker| usize::from(**worker) >= self.workers()) {
                let message = format!("expected a worker from 0 to {}", self.workers() - 1);
                return Err(InputError::new(file, message).value(key("workers"), worker));
            }
            if let Some(node) = event.node.as_ref().filter(|node| self.of_node(node).is_empty()) {
                let message = "is no node of cluster.gpus: give a group `node = \"...\"`";
                return Err(InputError::new(file, message).value(key("node"), format_args!("{node:?}")));
            }
            if event.workers.is_empty() == event.node.is_none() {
                let way_out = "expected either `workers = [...]` or `node = \"...\"`";
                return Err(InputError::new(file, way_out).key(format!("faults.events.{index}")));
            }
            match event.factor {
                Some(factor) if event.what == Fault::Slow && (0.01..=1e6).contains(&factor) => {}
                Some(factor) => {
                    let accepted = "expected a factor from 0.01 to 1000000, with what = \"slow\"";
                    return Err(InputError::new(file, accepted).value(key("factor"), factor));
                }
                None if event.what == Fault::Slow => {
                    let way_out = "is needed with what = \"slow\": how many times as long jobs take";
                    return Err(InputError::new(file, way_out).key(key("factor")));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Returns the workers of a node.
    fn of_node(&self, name: &str) -> Vec<u16> {
        let nodes = self
            .cluster
            .gpus
            .iter()
            .flat_map(|group| std::iter::repeat_n(group.node.as_deref() == Some(name), group.count as usize));
        (0..).zip(nodes).filter(|(_, is_in)| *is_in).map(|(worker, _)| worker).collect()
    }

    fn befalls(&self, event: &FaultEvent) -> Vec<WorkerId> {
        let of_node = event.node.iter().flat_map(|node| self.of_node(node));
        of_node.chain(event.workers.iter().copied()).map(WorkerId).collect()
    }

    /// Returns the workers that are lost or come back, in order of time. At one instant, those that come back are
    /// first.
    #[must_use]
    pub fn losses(&self) -> Vec<(Time, Event)> {
        let mut events = Vec::new();
        for event in self.faults.events.iter().filter(|event| event.what == Fault::Down) {
            for worker in self.befalls(event) {
                events.push((event.begins(), Event::WorkerDown(worker)));
                if event.ends() < Time::MAX {
                    events.push((event.ends(), Event::WorkerUp(worker)));
                }
            }
        }
        // `false` sorts first, which brings workers back before others are lost. The sort is stable, so events that are
        // equal in both keep the order of the scenario.
        events.sort_by_key(|(time, event)| (*time, matches!(event, Event::WorkerDown(_))));
        events
    }

    /// Returns the faults that the simulated executor applies: slow workers and failing loads. The times of losses are
    /// included, because a failing load leaves nothing to a worker that was lost since its load before.
    #[must_use]
    pub fn spells(&self) -> Faults {
        let mut faults = Faults { initial: initial_allocation(self).targets, ..Faults::default() };
        for event in &self.faults.events {
            let spell = event.begins()..event.ends();
            for worker in self.befalls(event) {
                match event.what {
                    Fault::Down => faults.lost.push((worker, event.begins())),
                    Fault::Slow => faults.slow.push((worker, spell.clone(), event.factor.unwrap_or(1.0))),
                    Fault::LoadFails => faults.failing_loads.push((worker, spell.clone())),
                }
            }
        }
        faults
    }
}
