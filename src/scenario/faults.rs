//! Section `[faults]`: faults of a simulated run, and their times. Live runs refuse the section: their faults are real.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Scenario, initial_allocation};
use crate::input::InputError;
use crate::scheduler::{Event, WorkerId};
use crate::sim::{Faults, Spell};
use crate::time::{MAX_INPUT_S, Time};

/// Section `[faults]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FaultsSection {
    /// Faults, in any order.
    pub events: Vec<FaultEvent>,
}

/// Fault of some workers during some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Loss of workers, with the jobs that they run and the models that they hold. Workers come back empty.
    Down,
    /// Jobs that take longer.
    Slow,
    /// Loads that fail and leave workers with the models that they held.
    LoadFails,
}

/// Time during which a worker is lost: one fault, or several that overlap or follow each other at once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outage {
    worker: WorkerId,
    spell: Spell,
    /// Places among all losses of the faults that begin and end the outage, in the order of the scenario.
    places: (usize, usize),
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
            if let Some(lasts) = event.for_s.filter(|_| event.what == Fault::Down && event.ends() <= event.begins()) {
                let message = "expected an outage of at least a nanosecond: one of no length loses nothing";
                return Err(InputError::new(file, message).value(key("for_s"), lasts));
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

    /// Returns the outages of all workers. Outages of one worker have time between them: a worker is lost while any
    /// fault has it down.
    fn outages(&self) -> Vec<Outage> {
        let down = self.faults.events.iter().filter(|event| event.what == Fault::Down);
        let lost = down.flat_map(|event| self.befalls(event).into_iter().map(move |worker| (worker, event)));
        let mut single: Vec<Outage> = (0..)
            .zip(lost)
            .map(|(at, (worker, event))| Outage { worker, spell: event.begins()..event.ends(), places: (at, at) })
            .collect();
        single.sort_by_key(|outage| (outage.worker, outage.spell.start));
        let mut outages: Vec<Outage> = Vec::new();
        for next in single {
            match outages.last_mut().filter(|last| last.worker == next.worker && next.spell.start <= last.spell.end) {
                Some(last) if next.spell.end > last.spell.end => {
                    (last.spell.end, last.places.1) = (next.spell.end, next.places.1);
                }
                Some(_) => {}
                None => outages.push(next),
            }
        }
        outages
    }

    /// Returns the workers that are lost or come back, in order of time. At one instant, those that come back are
    /// first.
    #[must_use]
    pub fn losses(&self) -> Vec<(Time, Event)> {
        let mut events = Vec::new();
        for Outage { worker, spell, places } in self.outages() {
            events.push((spell.start, places.0, Event::WorkerDown(worker)));
            if spell.end < Time::MAX {
                events.push((spell.end, places.1, Event::WorkerUp(worker)));
            }
        }
        // `false` sorts first, which brings workers back before others are lost. Events that are equal in both have the
        // order of the scenario.
        events.sort_by_key(|(time, place, event)| (*time, matches!(event, Event::WorkerDown(_)), *place));
        events.into_iter().map(|(time, _, event)| (time, event)).collect()
    }

    /// Returns the faults that the simulated executor applies: slow workers and failing loads. The times of losses are
    /// included, because a failing load leaves nothing to a worker that was lost since its load before.
    #[must_use]
    pub fn spells(&self) -> Faults {
        let lost = self.outages().into_iter().map(|outage| (outage.worker, outage.spell.start)).collect();
        let mut faults = Faults { initial: initial_allocation(self).targets, lost, ..Faults::default() };
        for event in &self.faults.events {
            let spell = event.begins()..event.ends();
            for worker in self.befalls(event) {
                match event.what {
                    Fault::Down => {} // These are the outages.
                    Fault::Slow => faults.slow.push((worker, spell.clone(), event.factor.unwrap_or(1.0))),
                    Fault::LoadFails => faults.failing_loads.push((worker, spell.clone())),
                }
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Source;

    fn scenario(events: &str) -> Result<Scenario, String> {
        let text = format!(
            "name = \"a\"\ntrace = {{ requests = \"r.csv\" }}\ncluster.gpus = [{{ type = \"mi210\", count = 2 }}, \
             {{ type = \"mi210\", count = 2, node = \"n\" }}]\nfaults.events = [{events}]\n"
        );
        let source = Source::new(Path::new("a.toml"), text).unwrap();
        source.scenario(&[]).map_err(|error| error.to_string())
    }

    /// Returns the losses in words: "5 down 0".
    fn losses(events: &str) -> Vec<String> {
        let word = |(time, event): (Time, Event)| match event {
            Event::WorkerDown(worker) => format!("{} down {}", time.seconds(), worker.0),
            Event::WorkerUp(worker) => format!("{} up {}", time.seconds(), worker.0),
            other => format!("{other:?}"),
        };
        scenario(events).unwrap().losses().into_iter().map(word).collect()
    }

    /// Writes a fault of kind `down`.
    fn down(at_s: f64, for_s: f64, who: &str) -> String {
        format!("{{ at_s = {at_s:?}, for_s = {for_s:?}, what = \"down\", {who} }}")
    }

    #[test]
    fn a_worker_is_lost_while_any_fault_has_it_down() {
        let of_all = |faults: &[(f64, f64, &str)]| {
            let faults: Vec<String> = faults.iter().map(|(at_s, for_s, who)| down(*at_s, *for_s, who)).collect();
            losses(&faults.join(", "))
        };
        let (one, node) = ("workers = [2]", "node = \"n\"");
        assert_eq!(of_all(&[(5.0, 10.0, one), (6.0, 2.0, one)]), ["5 down 2", "15 up 2"], "one within another");
        assert_eq!(of_all(&[(6.0, 2.0, one), (5.0, 10.0, one)]), ["5 down 2", "15 up 2"], "in any order");
        assert_eq!(of_all(&[(5.0, 10.0, one), (10.0, 9.0, one)]), ["5 down 2", "19 up 2"], "a chain");
        assert_eq!(of_all(&[(5.0, 5.0, one), (10.0, 5.0, one)]), ["5 down 2", "15 up 2"], "with no time between");
        assert_eq!(of_all(&[(5.0, 1.0, "workers = [2, 2]")]), ["5 down 2", "6 up 2"], "named twice");
        let apart = ["5 down 2", "6 up 2", "7 down 2", "8 up 2"];
        assert_eq!(of_all(&[(7.0, 1.0, one), (5.0, 1.0, one)]), apart);
        let with_node = ["5 down 2", "5 down 3", "15 up 2", "20 up 3"];
        assert_eq!(of_all(&[(5.0, 10.0, node), (6.0, 14.0, "workers = [3]")]), with_node);
        let for_ever = format!("{}, {{ at_s = 6, what = \"down\", {one} }}", down(5.0, 10.0, one));
        assert_eq!(losses(&for_ever), ["5 down 2"]);
    }

    #[test]
    fn losses_at_one_instant_have_the_order_of_the_scenario() {
        let faults = [down(5.0, 5.0, "workers = [3, 0]"), down(10.0, 5.0, "workers = [2, 1]")].join(", ");
        let all = ["5 down 3", "5 down 0", "10 up 3", "10 up 0", "10 down 2", "10 down 1", "15 up 2", "15 up 1"];
        assert_eq!(losses(&faults), all);
    }

    #[test]
    fn an_outage_of_no_length_is_refused() {
        for for_s in [0.0, 1e-10] {
            let error = scenario(&down(5.0, for_s, "workers = [0]")).unwrap_err();
            let expected = "expected an outage of at least a nanosecond: one of no length loses nothing";
            assert!(error.contains("faults.events.0.for_s") && error.ends_with(expected), "{error}");
        }
        assert_eq!(losses(&down(5.0, 1e-9, "workers = [0]")).len(), 2);
        let slow = "{ at_s = 5, for_s = 0, what = \"slow\", factor = 2.0, workers = [0] }";
        assert!(scenario(slow).is_ok(), "a slow spell of no length slows nothing, and is none");
    }
}
