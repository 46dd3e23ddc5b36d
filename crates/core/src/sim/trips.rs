//! Trips of jobs over the network: the order goes to the node of the worker, the node fetches sources that it does not
//! keep, and the pictures travel back once they are drawn. Without a network, nothing here runs.
//!
//! Links are occupied in the order in which transfers come to them: a picture reaches the scheduler's link by an answer
//! of its own, since another node's may come before it.

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::contention::RunningJob;
use super::due::Answer;
use super::links::{Link, Store};
use super::{LatencyModel, Simulated};
use crate::image::ImageId;
use crate::model::{ModelId, Work};
use crate::network::Network;
use crate::scheduler::{Event, Output, Part, WorkerId};
use crate::time::{Duration, Rank, Time};

/// Stage of a job that is over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The order is on its way to the node.
    Ordered,
    /// The node waits for sources.
    Fetching,
    /// The worker draws.
    Drawing,
    /// The pictures wait for the link of the node. They have left it at this time.
    Leaving(Time),
    /// The pictures are on their way.
    Returning,
    /// The news that the job was stopped is on its way.
    Stopping,
}

/// Latest job of a worker.
#[derive(Clone, Debug)]
struct Trip {
    stage: Stage,
    work: Work,
    /// Source of each request, and whether it was fetched.
    sources: SmallVec<[(Option<ImageId>, bool); 2]>,
}

impl Trip {
    fn none() -> Self {
        Self { stage: Stage::Ordered, work: Work::new(ModelId::LARGE, 0, 0), sources: SmallVec::new() }
    }
}

#[derive(Clone, Debug)]
struct Node {
    incoming: Link,
    outgoing: Link,
    store: Store,
}

/// State of the network.
#[derive(Clone, Debug)]
pub(super) struct Trips {
    network: Network,
    /// Link of the scheduler: pictures come in, and sources go out.
    incoming: Link,
    outgoing: Link,
    nodes: Vec<Node>,
    /// Latest job, by worker.
    jobs: Vec<Trip>,
}

impl Trips {
    pub(super) fn new(network: Network) -> Self {
        let node = || Node {
            incoming: Link::new(network.node_bandwidth),
            outgoing: Link::new(network.node_bandwidth),
            store: Store::new(network.sources),
        };
        let nodes = network.nodes.iter().map(|node| usize::from(*node) + 1).max().unwrap_or(0);
        Self {
            incoming: Link::new(network.bandwidth),
            outgoing: Link::new(network.bandwidth),
            nodes: (0..nodes).map(|_| node()).collect(),
            jobs: vec![Trip::none(); network.nodes.len()],
            network,
        }
    }

    /// Returns the time by which a load is longer.
    pub(super) fn load(&self) -> Duration {
        self.network.round_trip()
    }

    /// Returns the time that a cancellation takes to the node, and its answer back.
    pub(super) const fn one_way(&self) -> Duration {
        self.network.latency
    }

    fn trip(&mut self, worker: WorkerId) -> &mut Trip {
        &mut self.jobs[worker.index()]
    }

    /// Gets the sources of a job to the node of its worker, and returns the time at which all are there.
    fn fetch(&mut self, now: Time, worker: WorkerId) -> Time {
        let Self { network, outgoing, nodes, jobs, .. } = self;
        let (node, trip) = (&mut nodes[usize::from(network.nodes[worker.index()])], &mut jobs[worker.index()]);
        let bytes = network.bytes(trip.work.size);
        let mut all_there = now;
        for (source, is_fetched) in &mut trip.sources {
            let Some(image) = *source else { continue };
            let there = node.store.find(image).unwrap_or_else(|| {
                *is_fetched = true;
                let sent = outgoing.occupy(now + network.latency, bytes);
                // Nobody else sends to this node, so that its link is reached in the order of this loop.
                let received = node.incoming.occupy(sent.start, bytes);
                let there = sent.end.max(received.end) + network.latency;
                node.store.keep(image, there);
                there
            });
            all_there = all_there.max(there);
        }
        all_there
    }

    /// Begins to send the pictures of a job back. Returns the time at which they come to the scheduler's link.
    fn leave(&mut self, now: Time, worker: WorkerId, pictures: impl Iterator<Item = ImageId>) -> Time {
        let Self { network, nodes, jobs, .. } = self;
        let (node, trip) = (&mut nodes[usize::from(network.nodes[worker.index()])], &mut jobs[worker.index()]);
        for image in pictures {
            node.store.keep(image, now);
        }
        let bytes = network.bytes(trip.work.size).saturating_mul(trip.sources.len() as u64);
        let sent = node.outgoing.occupy(now, bytes);
        trip.stage = Stage::Leaving(sent.end);
        sent.start
    }

    /// Returns the time at which pictures have arrived that come to the scheduler's link now.
    fn arrive(&mut self, now: Time, worker: WorkerId, left: Time) -> Time {
        let Self { network, incoming, jobs, .. } = self;
        let trip = &mut jobs[worker.index()];
        let bytes = network.bytes(trip.work.size).saturating_mul(trip.sources.len() as u64);
        trip.stage = Stage::Returning;
        left.max(incoming.occupy(now, bytes).end) + network.latency
    }

    /// Notes in the results of a job which sources were fetched.
    pub(super) fn note(&self, worker: WorkerId, outputs: &mut [Output]) {
        for (output, (source, is_fetched)) in outputs.iter_mut().zip(&self.jobs[worker.index()].sources) {
            output.source_fetched = source.map(|_| *is_fetched);
        }
    }
}

impl<L: LatencyModel> Simulated<L> {
    /// Sends the order of a job to the node of its worker.
    pub(super) fn order(&mut self, now: Time, running: RunningJob, work: Work, parts: &[Part]) {
        let Some(trips) = &mut self.trips else { return };
        let sources = parts.iter().map(|part| (part.source, false)).collect();
        *trips.trip(running.worker) = Trip { stage: Stage::Ordered, work, sources };
        let reached = now + trips.network.latency;
        self.go_on(now, reached, running);
    }

    /// Ends a stage at a time: at once, or by an answer of the executor. What takes no time must not go behind answers
    /// of the same instant, or a network without latency would change the order of events.
    fn go_on(&mut self, now: Time, time: Time, running: RunningJob) -> Option<Event> {
        if time <= now {
            return self.stage_ended(now, running);
        }
        self.push(time, Rank::Job, Answer::StageEnded(running));
        None
    }

    /// Takes a job to its next stage, if it is still the one of its worker.
    pub(super) fn stage_ended(&mut self, now: Time, running: RunningJob) -> Option<Event> {
        let RunningJob { worker, number } = running;
        let state = &self.workers[worker.index()];
        if state.number != number || state.job.is_none() {
            return None;
        }
        let trips = self.trips.as_mut()?;
        let trip = trips.trip(worker);
        match trip.stage {
            Stage::Ordered => {
                trip.stage = Stage::Fetching;
                let there = trips.fetch(now, worker);
                self.go_on(now, there, running)
            }
            Stage::Fetching => {
                trip.stage = Stage::Drawing;
                let work = trip.work;
                let (_, requests) = state.job.as_ref()?;
                let (first, requests) = (requests[0], requests.len());
                self.draw(now, running, work, first, requests);
                None
            }
            Stage::Drawing => None,
            Stage::Leaving(left) => {
                let arrived = trips.arrive(now, worker, left);
                self.go_on(now, arrived, running)
            }
            Stage::Returning => self.completed(now, worker),
            Stage::Stopping => self.failed(now, worker),
        }
    }

    /// Sends the pictures of a job back, which are drawn.
    pub(super) fn send_back(&mut self, now: Time, running: RunningJob) -> Option<Event> {
        self.stop_drawing(now, running.worker);
        let trips = self.trips.as_mut()?;
        let (_, requests) = self.workers[running.worker.index()].job.as_ref()?;
        let begins = trips.leave(now, running.worker, requests.iter().map(|request| ImageId::of_request(*request)));
        self.go_on(now, begins, running)
    }

    /// Stops a job that does not draw, once its cancellation has reached the node. A job whose pictures are on their
    /// way goes on.
    pub(super) fn stop_waiting(&mut self, now: Time, worker: WorkerId) {
        let Some(trips) = &mut self.trips else { return };
        let trip = trips.trip(worker);
        if matches!(trip.stage, Stage::Ordered | Stage::Fetching) {
            trip.stage = Stage::Stopping;
            let answered = now + trips.network.latency;
            let state = &mut self.workers[worker.index()];
            // The answer that ends the wait for the sources is out of date.
            state.number = state.number.wrapping_add(1);
            let running = RunningJob { worker, number: state.number };
            self.push(answered, Rank::Job, Answer::StageEnded(running));
        }
    }

    /// Tells the scheduler of a job that was stopped while it was drawn.
    pub(super) fn tell_stopped(&mut self, now: Time, worker: WorkerId) -> Option<Event> {
        self.stop_drawing(now, worker);
        let trips = self.trips.as_mut()?;
        trips.trip(worker).stage = Stage::Stopping;
        let told = now + trips.network.latency;
        let running = RunningJob { worker, number: self.workers[worker.index()].number };
        self.go_on(now, told, running)
    }
}
