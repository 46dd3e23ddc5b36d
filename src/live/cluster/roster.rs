//! Roster of a cluster: workers take the places of the scenario's cluster in the order in which they are heard of, each
//! one of its GPU type. Workers beyond the places wait until one is free. Nothing here knows NATS or a clock: what is
//! heard, and when, is handed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::protocol::Presence;
use crate::scheduler::WorkerId;

/// Number of heartbeats after which a second worker of one name is said to be one.
const CONTENDS: u32 = 4;
/// Number of workers whose faults are said, and number of faults that are said of each.
const MOST_AT_FAULT: usize = 1000;
const MOST_FAULTS: usize = 8;

/// Worker that was heard of.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Latest heartbeat of the worker.
    pub presence: Presence,
    heard: Instant,
}

/// Place of a worker in the scenario's cluster.
#[derive(Debug)]
struct Place {
    gpu: String,
    taken: Option<Seen>,
    /// True while an order runs there.
    busy: bool,
}

/// Change of who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Worker that has taken a place.
    Joined(WorkerId, String),
    /// Worker that waits for a place.
    Waits(String),
    /// Worker that is no longer there.
    Gone {
        /// Place of the worker.
        worker: WorkerId,
        /// True if the worker said that it leaves, and had nothing left to do.
        left: bool,
        /// Reason, in words.
        why: String,
    },
    /// Worker that cannot be used, and why.
    Refused(String, String),
    /// Message that is not taken, and why.
    NotTaken(String),
}

/// Places of a cluster, and who has taken them.
#[derive(Debug)]
pub struct Roster {
    places: Vec<Place>,
    waiting: BTreeMap<String, Seen>,
    /// Workers that were refused, each with the reason, which is said once.
    refused: BTreeMap<String, (Seen, String)>,
    /// Starts of workers that are there beside another of their name, and the number of heartbeats of each.
    contenders: BTreeMap<String, (String, u32)>,
    /// Faults of messages that were said, by worker.
    faults: BTreeMap<String, BTreeSet<String>>,
    /// Hashes of the folders that every worker needs, with their names for people.
    folders: Vec<(String, String)>,
    notice: Duration,
}

impl Roster {
    /// Makes a roster of places for workers of these GPU types. Each worker needs all folders, given by hash and name,
    /// and counts as gone if it is silent for longer than `notice`.
    #[must_use]
    pub fn new(gpus: Vec<String>, folders: Vec<(String, String)>, notice: Duration) -> Self {
        let place = |gpu| Place { gpu, taken: None, busy: false };
        let places = gpus.into_iter().map(place).collect();
        Self {
            places,
            waiting: BTreeMap::new(),
            refused: BTreeMap::new(),
            contenders: BTreeMap::new(),
            faults: BTreeMap::new(),
            folders,
            notice,
        }
    }

    /// Takes a heartbeat that was heard at `now`.
    pub fn hear(&mut self, presence: Presence, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        let name = presence.worker.clone();
        let known = self.place_of(&name);
        let life = known.and_then(|at| self.places[at].taken.as_ref()).map(|seen| seen.presence.life.clone());
        if let Some(at) = known {
            if life.as_ref() == Some(&presence.life) {
                let leaves = presence.leaving && !self.places[at].busy;
                self.places[at].taken = Some(Seen { presence, heard: now });
                if leaves {
                    changes.extend(self.leave(at));
                    changes.extend(self.fill());
                }
                return changes;
            }
            // A heartbeat of the other start is expected at any time, unless that one has ended.
            let other = self.places[at].taken.as_ref();
            let alive = other.is_some_and(|seen| {
                let between = Duration::try_from_secs_f64(1.5 * seen.presence.heartbeat_s).unwrap_or(Duration::MAX);
                now.saturating_duration_since(seen.heard) < between
            });
            if alive {
                return self.contend(&name, presence.life);
            }
            self.contenders.remove(&name);
            changes.push(self.empty(at, false, "it was started again".to_owned()));
        }
        if presence.leaving {
            self.waiting.remove(&name);
        } else if let Some(why) = self.unfit(&presence) {
            self.waiting.remove(&name);
            let life = presence.life.clone();
            let before = self.refused.insert(name.clone(), (Seen { presence, heard: now }, why.clone()));
            if before.is_none_or(|(seen, said)| seen.presence.life != life || said != why) {
                changes.push(Change::Refused(name, why));
            }
        } else {
            self.refused.remove(&name);
            let news = self.waiting.insert(name.clone(), Seen { presence, heard: now }).is_none();
            changes.extend(self.fill());
            if news && self.waiting.contains_key(&name) {
                changes.push(Change::Waits(name));
            }
        }
        changes
    }

    /// Notes that a worker is there twice. One that was started again is heard beside the other for a moment; if both
    /// go on, the second is not used, and that is said once.
    fn contend(&mut self, name: &str, life: String) -> Vec<Change> {
        let (contender, times) = self.contenders.entry(name.to_owned()).or_default();
        if *contender != life {
            (*contender, *times) = (life, 0);
        }
        *times += 1;
        if *times != CONTENDS {
            return Vec::new();
        }
        let why = "another worker has its name: give each machine a name of its own (--node)";
        vec![Change::Refused(name.to_owned(), why.to_owned())]
    }

    /// Notes a message of a worker that is not taken. Each fault is said once, and of a worker that has many not all.
    pub fn fault(&mut self, name: &str, why: String) -> Vec<Change> {
        if self.faults.len() >= MOST_AT_FAULT && !self.faults.contains_key(name) {
            return Vec::new();
        }
        let said = self.faults.entry(name.to_owned()).or_default();
        let news = said.len() < MOST_FAULTS && said.insert(why.clone());
        if news { vec![Change::NotTaken(why)] } else { Vec::new() }
    }

    /// Returns the GPU types of the places, each once.
    #[must_use]
    pub fn gpus(&self) -> Vec<&str> {
        let mut types: Vec<&str> = self.places.iter().map(|place| place.gpu.as_str()).collect();
        types.sort_unstable();
        types.dedup();
        types
    }

    /// Gives up workers that have been silent for too long at `now`, and gives their places to those that wait.
    pub fn sweep(&mut self, now: Instant) -> Vec<Change> {
        let notice = self.notice;
        let silent = |seen: &Seen| now.saturating_duration_since(seen.heard) > notice;
        self.waiting.retain(|_, seen| !silent(seen));
        self.refused.retain(|_, (seen, _)| !silent(seen));
        let mut changes = Vec::new();
        for at in 0..self.places.len() {
            if self.places[at].taken.as_ref().is_some_and(silent) {
                let why = format!("nothing was heard of it for {} s", notice.as_secs_f64());
                changes.push(self.empty(at, false, why));
            }
        }
        changes.extend(self.fill());
        changes
    }

    /// Notes that an order begins or ends at a place. Returns what changes if the worker only waited for its end.
    pub fn set_busy(&mut self, worker: WorkerId, busy: bool) -> Vec<Change> {
        let at = worker.index();
        self.places[at].busy = busy;
        let leaves = self.places[at].taken.as_ref().is_some_and(|seen| seen.presence.leaving);
        if busy || !leaves {
            return Vec::new();
        }
        let mut changes: Vec<Change> = self.leave(at).into_iter().collect();
        changes.extend(self.fill());
        changes
    }

    /// Returns who has taken a place.
    #[must_use]
    pub fn at(&self, worker: WorkerId) -> Option<&Presence> {
        Some(&self.places.get(worker.index())?.taken.as_ref()?.presence)
    }

    /// Returns the place of a worker with this name.
    #[must_use]
    pub fn worker(&self, name: &str) -> Option<WorkerId> {
        self.place_of(name).map(|at| WorkerId(at as u16))
    }

    /// Returns the workers that have places, with their places and the time since they were heard of.
    pub fn taken(&self, now: Instant) -> impl Iterator<Item = (WorkerId, &Presence, Duration)> {
        self.places.iter().enumerate().filter_map(move |(at, place)| {
            let seen = place.taken.as_ref()?;
            Some((WorkerId(at as u16), &seen.presence, now.saturating_duration_since(seen.heard)))
        })
    }

    /// Returns the workers that wait for a place, with the time since they were heard of.
    pub fn waiting(&self, now: Instant) -> impl Iterator<Item = (&Presence, Duration)> {
        self.waiting.values().map(move |seen| (&seen.presence, now.saturating_duration_since(seen.heard)))
    }

    /// Returns the workers that cannot be used, why, and the time since they were heard of.
    pub fn refused(&self, now: Instant) -> impl Iterator<Item = (&Presence, &str, Duration)> {
        let refused = self.refused.values();
        refused.map(move |(seen, why)| (&seen.presence, why.as_str(), now.saturating_duration_since(seen.heard)))
    }

    /// Returns the number of places that are not taken.
    #[must_use]
    pub fn free(&self) -> usize {
        self.places.iter().filter(|place| place.taken.is_none()).count()
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.places.iter().position(|place| place.taken.as_ref().is_some_and(|seen| seen.presence.worker == name))
    }

    /// Returns the reason for which a worker cannot be used, if it cannot.
    fn unfit(&self, presence: &Presence) -> Option<String> {
        let lacks = |(hash, _): &&(String, String)| !presence.models.contains(hash);
        if let Some((hash, name)) = self.folders.iter().find(lacks) {
            let short = &hash[..hash.len().min(12)];
            return Some(format!(
                "its --models folder has no copy of {name} with the same content (SHA-256 {short}...): copy the folder there"
            ));
        }
        let between = Duration::try_from_secs_f64(presence.heartbeat_s).unwrap_or(Duration::MAX);
        if between.saturating_mul(2) > self.notice {
            return Some(format!(
                "its heartbeats come every {} s, and it would be lost after {} s of silence: start it with a shorter \
                 --heartbeat-s, or give live.cluster.notice_s more",
                presence.heartbeat_s,
                self.notice.as_secs_f64()
            ));
        }
        if !self.places.iter().any(|place| place.gpu == presence.gpu) {
            let message = "its GPU type is not in the scenario's cluster, which has";
            let types = self.gpus().join(", ");
            return Some(format!("{message} {types}: start it with --gpu, or change the scenario"));
        }
        None
    }

    /// Gives free places to those that wait, in the order of their names.
    fn fill(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let names: Vec<String> = self.waiting.keys().cloned().collect();
        for name in names {
            let gpu = &self.waiting[&name].presence.gpu;
            let free = self.places.iter().position(|place| place.taken.is_none() && place.gpu == *gpu);
            if let Some(at) = free {
                self.places[at].taken = self.waiting.remove(&name);
                changes.push(Change::Joined(WorkerId(at as u16), name));
            }
        }
        changes
    }

    fn leave(&mut self, at: usize) -> Option<Change> {
        self.places[at].taken.is_some().then(|| self.empty(at, true, "it was told to end".to_owned()))
    }

    fn empty(&mut self, at: usize, left: bool, why: String) -> Change {
        self.places[at].taken = None;
        Change::Gone { worker: WorkerId(at as u16), left, why }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::protocol::{PROTOCOL, Totals};
    use super::*;

    pub(in super::super) fn presence(worker: &str, life: &str) -> Presence {
        Presence {
            protocol: PROTOCOL,
            version: "1".to_owned(),
            worker: worker.to_owned(),
            node: "node".to_owned(),
            device: "cpu:0".to_owned(),
            gpu: "cpu".to_owned(),
            life: life.to_owned(),
            heartbeat_s: 1.0,
            models: vec!["aa".to_owned()],
            leaving: false,
            totals: Totals::default(),
        }
    }

    fn roster(places: usize) -> (Roster, Instant) {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let folders = vec![("aa".to_owned(), "large".to_owned())];
        (Roster::new(vec!["cpu".to_owned(); places], folders, Duration::from_secs(5)), now)
    }

    fn gone(worker: u16, left: bool, changes: &[Change]) -> bool {
        matches!(changes, [Change::Gone { worker: WorkerId(at), left: so, .. }, ..] if *at == worker && *so == left)
    }

    #[test]
    fn workers_take_places_and_the_rest_wait() {
        let (mut roster, now) = roster(2);
        let joined = |worker, name: &str| vec![Change::Joined(WorkerId(worker), name.to_owned())];
        assert_eq!(roster.hear(presence("a", "1"), now), joined(0, "a"));
        assert_eq!(roster.hear(presence("b", "1"), now), joined(1, "b"));
        assert_eq!(roster.hear(presence("c", "1"), now), [Change::Waits("c".to_owned())]);
        assert_eq!(roster.hear(presence("c", "1"), now), []);
        let later = now + Duration::from_secs(4);
        roster.hear(presence("b", "1"), later);
        roster.hear(presence("c", "1"), later);
        let changes = roster.sweep(now + Duration::from_secs(6));
        assert!(gone(0, false, &changes));
        assert_eq!(changes[1..], joined(0, "c"));
        assert_eq!(roster.at(WorkerId(0)).map(|seen| seen.worker.as_str()), Some("c"));
        assert_eq!(roster.sweep(now + Duration::from_secs(10)).len(), 2, "all are silent");
        assert_eq!(roster.free(), 2);
    }

    #[test]
    fn one_that_was_started_again_is_another() {
        let (mut roster, now) = roster(1);
        roster.hear(presence("a", "1"), now);
        assert_eq!(roster.hear(presence("a", "2"), now), [], "the first may be there still");
        let changes = roster.hear(presence("a", "2"), now + Duration::from_secs(2));
        assert!(gone(0, false, &changes));
        assert_eq!(changes[1..], [Change::Joined(WorkerId(0), "a".to_owned())]);
    }

    #[test]
    fn two_of_one_name_do_not_take_turns() {
        let (mut roster, now) = roster(1);
        let mut said = Vec::new();
        for second in 0..20 {
            let at = now + Duration::from_secs(second);
            said.extend(roster.hear(presence("a", "1"), at));
            said.extend(roster.hear(presence("a", "2"), at + Duration::from_millis(500)));
        }
        assert!(
            matches!(&said[..], [Change::Joined(..), Change::Refused(_, why)] if why.contains("--node")),
            "{said:?}"
        );
        assert_eq!(roster.at(WorkerId(0)).map(|seen| seen.life.as_str()), Some("1"));
    }

    #[test]
    fn one_that_leaves_finishes_first() {
        let (mut roster, now) = roster(1);
        roster.hear(presence("a", "1"), now);
        assert_eq!(roster.set_busy(WorkerId(0), true), []);
        let leaving = Presence { leaving: true, ..presence("a", "1") };
        assert_eq!(roster.hear(leaving.clone(), now), []);
        assert!(gone(0, true, &roster.set_busy(WorkerId(0), false)));
        assert_eq!(roster.hear(leaving, now), [], "it does not come back");
        roster.hear(presence("a", "2"), now);
        assert!(gone(0, true, &roster.hear(Presence { leaving: true, ..presence("a", "2") }, now)));
    }

    #[test]
    fn the_unfit_are_refused_once_with_a_reason() {
        let (mut roster, now) = roster(1);
        let without = Presence { models: Vec::new(), ..presence("a", "1") };
        let changes = roster.hear(without.clone(), now);
        assert!(
            matches!(&changes[..], [Change::Refused(name, why)] if name == "a" && why.contains("no copy of large"))
        );
        assert_eq!(roster.hear(without, now), []);
        let other = Presence { gpu: "h100".to_owned(), ..presence("b", "1") };
        assert!(matches!(&roster.hear(other, now)[..], [Change::Refused(_, why)] if why.contains("which has cpu")));
        assert_eq!(roster.hear(presence("a", "2"), now), [Change::Joined(WorkerId(0), "a".to_owned())]);
        assert_eq!(roster.refused(now).count(), 1);
        let slow = Presence { heartbeat_s: 3.0, ..presence("c", "1") };
        assert!(matches!(&roster.hear(slow, now)[..], [Change::Refused(_, why)] if why.contains("--heartbeat-s")));
    }
}
