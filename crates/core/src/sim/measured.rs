//! Durations of a measured run, collected from its journal, and a latency model that gives them to a simulation. The
//! differences that remain between the two runs come from the model of the loop in the simulator.

use alloc::collections::{BTreeMap, VecDeque};

use super::LatencyModel;
use crate::journal::{Journal, Record};
use crate::model::{GpuId, ModelId, Work};
use crate::request::RequestId;
use crate::scheduler::{Action, Event, JobId, WorkerId};
use crate::time::{Duration, Time};

/// Durations of all work in a run. As a latency model, each request has its own durations, and a job has those of its
/// first request. Several jobs of a request, and the loads of a worker, take theirs in the order in which they were
/// measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    due: BTreeMap<RequestId, Time>,
    started: BTreeMap<JobId, (Time, RequestId)>,
    loading: BTreeMap<WorkerId, Time>,
    encoding_since: BTreeMap<RequestId, Time>,
    retrieval: BTreeMap<RequestId, Duration>,
    jobs: BTreeMap<RequestId, VecDeque<Duration>>,
    loads: BTreeMap<WorkerId, VecDeque<Duration>>,
    encoding: BTreeMap<RequestId, Duration>,
    /// Number of events that the durations do not describe, such as failures.
    mishaps: u64,
}

impl Measured {
    /// Returns the number of events other than arrivals, wake-ups and the successful end of work: failures, lost
    /// workers, cancelled requests and others. A simulation does not know of them and takes another course.
    pub const fn mishaps(&self) -> u64 {
        self.mishaps
    }

    /// Returns the mean seconds from arrival to routing, and from the completion of an image until searches could find
    /// it.
    #[must_use]
    pub fn delays_s(&self) -> [Option<f64>; 2] {
        [&self.retrieval, &self.encoding].map(|times| {
            let sum: f64 = times.values().map(|time| time.seconds()).sum();
            (!times.is_empty()).then(|| sum / times.len() as f64)
        })
    }

    fn event(&mut self, now: Time, event: &Event) {
        match event {
            Event::Arrived(request) => {
                // The simulation counts from the due time too, however late the loop was.
                self.due.insert(request.id, request.arrival);
            }
            Event::Encoded { request, .. } => {
                if let Some(due) = self.due.remove(request) {
                    self.retrieval.insert(*request, now.since(due));
                }
            }
            Event::JobCompleted { job, .. } => {
                if let Some((since, request)) = self.started.remove(job) {
                    self.jobs.entry(request).or_default().push_back(now.since(since));
                }
            }
            Event::ImageEncoded { request, .. } => {
                if let Some(since) = self.encoding_since.remove(request) {
                    self.encoding.insert(*request, now.since(since));
                }
            }
            Event::ModelLoaded { worker } => {
                if let Some(since) = self.loading.remove(worker) {
                    self.loads.entry(*worker).or_default().push_back(now.since(since));
                }
            }
            Event::WokeUp => {}
            _ => self.mishaps += 1,
        }
    }
}

impl Journal for Measured {
    fn record(&mut self, time: Time, record: Record<'_>) {
        match record {
            Record::Event(event) => self.event(time, event),
            Record::Action(Action::Start { job, parts, .. }) => {
                self.started.insert(*job, (time, parts[0].request));
            }
            Record::Action(Action::Load { worker, .. }) => {
                self.loading.insert(*worker, time);
            }
            Record::Action(Action::EncodeImage(request)) => {
                self.encoding_since.insert(*request, time);
            }
            Record::Action(_) => {}
        }
    }
}

/// Duration that is longer than any run: ten years.
const NEVER: Duration = Duration::from_nanoseconds(10 * 365 * 86_400 * 1_000_000_000);

/// Latency model in which work that was not measured takes no time.
impl LatencyModel for Measured {
    fn retrieval(&mut self, request: RequestId) -> Duration {
        self.retrieval.get(&request).copied().unwrap_or_default()
    }

    fn job(&mut self, _: GpuId, _: Work, first: RequestId, _: usize) -> Duration {
        self.jobs.get_mut(&first).and_then(VecDeque::pop_front).unwrap_or_default()
    }

    fn load(&mut self, worker: WorkerId, _: GpuId, _: Option<ModelId>, _: ModelId) -> Duration {
        let took = self.loads.get_mut(&worker).and_then(VecDeque::pop_front);
        // A load that had not ended when the run ended does not end in the simulation either.
        let unfinished = if self.loading.contains_key(&worker) { NEVER } else { Duration::ZERO };
        took.unwrap_or(unfinished)
    }

    fn image_encoding(&mut self, request: RequestId) -> Duration {
        self.encoding.get(&request).copied().unwrap_or_default()
    }
}
