//! The durations of a run that was measured, for a simulation that is fed with them: what is left between the two
//! is the model of the loop. A fold over the journal, and a latency model.

use alloc::collections::{BTreeMap, VecDeque};

use super::LatencyModel;
use crate::journal::{Journal, Record};
use crate::model::{GpuId, ModelId, Work};
use crate::request::RequestId;
use crate::scheduler::{Action, Event, JobId, WorkerId};
use crate::time::{Duration, Time};

/// How long each piece of work took. Fed back, each request has its own (a job that of its first), in their order where
/// it has several; the loads of a worker come in their order.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    due: BTreeMap<RequestId, Time>,
    started: BTreeMap<JobId, (Time, RequestId)>,
    loading: BTreeMap<WorkerId, Time>,
    ended: BTreeMap<RequestId, Time>,
    retrieval: BTreeMap<RequestId, Duration>,
    jobs: BTreeMap<RequestId, VecDeque<Duration>>,
    loads: BTreeMap<WorkerId, VecDeque<Duration>>,
    encoding: BTreeMap<RequestId, Duration>,
    /// What a run without mishap has none of: such work has no duration of its own.
    mishaps: u64,
}

impl Measured {
    /// Failures, lost workers and withdrawn requests: a simulation that knows nothing of them goes another way.
    pub const fn mishaps(&self) -> u64 {
        self.mishaps
    }

    /// Mean seconds from arrival to routing, and from an image's completion to when it could be found.
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
                if let Some(since) = self.ended.remove(request) {
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
                self.ended.insert(*request, time);
            }
            Record::Action(_) => {}
        }
    }
}

/// Longer than any run: ten years.
const NEVER: Duration = Duration::from_nanoseconds(10 * 365 * 86_400 * 1_000_000_000);

/// What was not measured takes no time.
impl LatencyModel for Measured {
    fn retrieval(&mut self, request: RequestId) -> Duration {
        self.retrieval.get(&request).copied().unwrap_or_default()
    }

    fn job(&mut self, _: GpuId, _: Work, first: RequestId, _: usize) -> Duration {
        self.jobs.get_mut(&first).and_then(VecDeque::pop_front).unwrap_or_default()
    }

    fn load(&mut self, worker: WorkerId, _: GpuId, _: ModelId) -> Duration {
        let took = self.loads.get_mut(&worker).and_then(VecDeque::pop_front);
        // One that the run did not see the end of does not end in the simulation either.
        let unfinished = if self.loading.contains_key(&worker) { NEVER } else { Duration::ZERO };
        took.unwrap_or(unfinished)
    }

    fn image_encoding(&mut self, request: RequestId) -> Duration {
        self.encoding.get(&request).copied().unwrap_or_default()
    }
}
