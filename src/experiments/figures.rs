//! Figures of a live run while it goes on: queue, hit rate, workers by model, attainment, rate and time left. All are
//! counted from the journal.

use std::collections::{BTreeMap, VecDeque};

use super::Progress;
use crate::journal::{Journal, Record};
use crate::model::ModelId;
use crate::request::Outcome;
use crate::scheduler::{Action, DecisionKind, Event, JobId, WorkerId};
use crate::time::{Duration, Time};

/// Time over which the rate is taken.
const RATE_OVER: Duration = Duration::from_nanoseconds(20_000_000_000);

/// Run that is watched.
#[derive(Debug)]
pub struct Watched {
    /// Names of the models, by number.
    pub models: Vec<String>,
    /// Model of each worker at the beginning.
    pub targets: Vec<ModelId>,
    /// Latency objective, and the multiple of a full generation that it is.
    pub slo: (Duration, f64),
    /// Number of requests that will arrive.
    pub requests: u64,
    /// Arrival of the last request.
    pub last: Time,
}

/// State of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    Model(ModelId),
    Loading(ModelId),
    Lost,
}

/// Counts of a run, which a journal keeps.
#[derive(Debug)]
struct Counts {
    now: Time,
    arrived: u64,
    ended: u64,
    routed: u64,
    hits: u64,
    in_time: u64,
    /// Worker and number of requests of each job that runs.
    running: BTreeMap<JobId, (WorkerId, u64)>,
    workers: Vec<Holding>,
    /// Ends of requests within [`RATE_OVER`].
    recent: VecDeque<Time>,
}

/// Figures of a run at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Figures<'a> {
    run: &'a Watched,
    counts: &'a Counts,
}

/// Journal that counts, and hands the figures to whoever shows them.
#[derive(Debug)]
pub struct Watching<'a, P: ?Sized> {
    run: Watched,
    counts: Counts,
    shown: &'a P,
}

impl<'a, P: Progress + ?Sized> Watching<'a, P> {
    /// Begins to watch a run for `shown`; `None` if nothing is to be shown.
    #[must_use]
    pub fn new(run: Watched, shown: &'a P) -> Option<Self> {
        let workers = run.targets.iter().map(|model| Holding::Model(*model)).collect();
        let counts = Counts {
            now: Time::ZERO,
            arrived: 0,
            ended: 0,
            routed: 0,
            hits: 0,
            in_time: 0,
            running: BTreeMap::new(),
            workers,
            recent: VecDeque::new(),
        };
        shown.watches().then_some(Self { run, counts, shown })
    }
}

impl<P: Progress + ?Sized> Journal for Watching<'_, P> {
    fn record(&mut self, time: Time, record: Record<'_>) {
        self.counts.add(time, record, self.run.slo.0);
        self.shown.figures(&Figures { run: &self.run, counts: &self.counts });
    }
}

impl Counts {
    fn holds(&mut self, worker: WorkerId, holding: Holding) {
        if let Some(place) = self.workers.get_mut(worker.index()) {
            *place = holding;
        }
    }

    fn add(&mut self, time: Time, record: Record<'_>, slo: Duration) {
        self.now = time;
        match record {
            Record::Event(Event::Arrived(_)) => self.arrived += 1,
            Record::Event(
                Event::JobCompleted { job, .. } | Event::JobFailed { job, .. } | Event::SourceMissing { job, .. },
            ) => {
                self.running.remove(job);
            }
            Record::Event(Event::ModelLoaded { worker }) => {
                if let Some(Holding::Loading(model)) = self.workers.get(worker.index()).copied() {
                    self.holds(*worker, Holding::Model(model));
                }
            }
            Record::Event(Event::LoadFailed { worker, loaded, .. }) => {
                self.holds(*worker, loaded.map_or(Holding::Lost, Holding::Model));
            }
            Record::Event(Event::WorkerDown(worker) | Event::WorkerLost { worker, .. }) => {
                self.running.retain(|_, (on, _)| on != worker);
                self.holds(*worker, Holding::Lost);
            }
            Record::Action(Action::Load { worker, model, .. }) => self.holds(*worker, Holding::Loading(*model)),
            Record::Action(Action::Start { job, worker, parts, .. }) => {
                self.running.insert(*job, (*worker, parts.len() as u64));
            }
            Record::Action(Action::Finish(ended)) => {
                self.ended += 1;
                self.recent.push_back(time);
                self.routed += u64::from(ended.decision.is_some());
                let is_hit = |kind| matches!(kind, DecisionKind::Hit | DecisionKind::Return);
                self.hits += u64::from(ended.decision.is_some_and(|decision| is_hit(decision.kind)));
                self.in_time += u64::from(ended.outcome == Outcome::Completed && time.since(ended.arrival) <= slo);
            }
            _ => {}
        }
        while self.recent.front().is_some_and(|first| time.since(*first) > RATE_OVER) {
            self.recent.pop_front();
        }
    }
}

impl Figures<'_> {
    /// Returns the number of requests that have arrived and wait for a worker or for their embedding.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let running: u64 = self.counts.running.values().map(|(_, requests)| requests).sum();
        (self.counts.arrived - self.counts.ended).saturating_sub(running)
    }

    /// Returns the requests that ended in a minute, over the last 20 seconds.
    #[must_use]
    pub fn rate_per_min(&self) -> f64 {
        let over = self.counts.now.seconds().min(RATE_OVER.seconds()).max(1.0);
        60.0 * self.counts.recent.len() as f64 / over
    }

    /// Returns the seconds that are left: until the last arrival, or for the requests that are left at the present
    /// rate, whichever is longer.
    #[must_use]
    pub fn left_s(&self) -> f64 {
        let arrivals = self.run.last.seconds() - self.counts.now.seconds();
        let rest = self.run.requests.saturating_sub(self.counts.ended) as f64;
        let all_arrived = self.counts.arrived >= self.run.requests;
        let drawing = if all_arrived { 60.0 * rest / self.rate_per_min().max(1e-3) } else { 0.0 };
        arrivals.max(drawing).max(0.0)
    }

    /// Returns the workers by model in words: "2 shapes-large, 1 loading shapes-small, 1 lost".
    fn workers(&self) -> String {
        let count = |wanted: Holding| self.counts.workers.iter().filter(|holding| **holding == wanted).count();
        let mut parts = Vec::new();
        for (number, name) in (0..).zip(&self.run.models) {
            let (holds, loads) = (count(Holding::Model(ModelId(number))), count(Holding::Loading(ModelId(number))));
            parts.push(format!("{holds} {name}"));
            if loads > 0 {
                parts.push(format!("{loads} loading {name}"));
            }
        }
        let lost = count(Holding::Lost);
        if lost > 0 {
            parts.push(format!("{lost} lost"));
        }
        parts.join(", ")
    }

    /// Returns the figures in words: the count with rate and time left, the queue with hits and attainment, and the
    /// workers.
    #[must_use]
    pub fn sentences(&self) -> [String; 3] {
        let Counts { now, ended, routed, hits, in_time, .. } = self.counts;
        let share = |part: u64, of: u64| match of {
            0 => "–".to_owned(),
            of => format!("{:.1} %", 100.0 * part as f64 / of as f64),
        };
        let minutes = |seconds: f64| format!("{}:{:02}", seconds as u64 / 60, seconds as u64 % 60);
        let (rate, left) = (self.rate_per_min(), minutes(self.left_s().ceil()));
        [
            format!(
                "{} {ended} of {} requests, {rate:.0}/min, time left {left}",
                minutes(now.seconds()),
                self.run.requests
            ),
            format!(
                "queue {}, hit rate {}, within {}x {}",
                self.waiting(),
                share(*hits, *routed),
                self.run.slo.1,
                share(*in_time, *ended)
            ),
            format!("workers: {}", self.workers()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use smallvec::SmallVec;

    use super::*;
    use crate::model::Work;
    use crate::request::{Request, RequestId, TenantId};
    use crate::scheduler::{Decision, Ended, Part};

    #[derive(Default)]
    struct Shown(Mutex<Vec<String>>);

    impl Progress for Shown {
        fn watches(&self) -> bool {
            true
        }

        fn figures(&self, figures: &Figures<'_>) {
            *self.0.lock().unwrap() = figures.sentences().into();
        }
    }

    fn run() -> Watched {
        let at = |seconds: u64| Time::from_nanoseconds(seconds * 1_000_000_000);
        Watched {
            models: ["large", "small"].map(str::to_owned).into(),
            targets: vec![ModelId(0), ModelId(0)],
            slo: (Duration::from_nanoseconds(2_000_000_000), 2.0),
            requests: 4,
            last: at(60),
        }
    }

    fn start(job: u64, request: u32, worker: u16) -> Action {
        let parts = SmallVec::from_buf([Part { request: RequestId(request), source: None }]);
        Action::Start { job: JobId(job), worker: WorkerId(worker), work: Work::new(ModelId(0), 50, 0), parts }
    }

    fn finish(request: u32, arrival: u64, kind: DecisionKind) -> Action {
        let request = Request::new(RequestId(request), Time::from_nanoseconds(arrival * 1_000_000_000), TenantId(0));
        let decision = Some(Decision { kind, ..Decision::miss(None) });
        Action::Finish(Box::new(Ended { decision, ..Ended::unrouted(&request, Outcome::Completed) }))
    }

    #[test]
    fn figures_follow_the_journal() {
        let shown = Shown::default();
        let mut watching = Watching::new(run(), &shown).unwrap();
        let arrived = |request: u32| Event::Arrived(Request::new(RequestId(request), Time::ZERO, TenantId(0)));
        let done = |job, worker| Event::JobCompleted { job: JobId(job), worker, outputs: SmallVec::new() };
        let mut at = 0;
        let mut tell = |seconds: u64, record: Record<'_>| {
            at += seconds;
            watching.record(Time::from_nanoseconds(at * 1_000_000_000), record);
            shown.0.lock().unwrap().clone()
        };
        for request in 0..3 {
            tell(0, Record::Event(&arrived(request)));
        }
        let said = tell(0, Record::Action(&start(0, 0, 0)));
        assert_eq!(said[0], "0:00 0 of 4 requests, 0/min, time left 1:00");
        assert_eq!(said[1], "queue 2, hit rate –, within 2x –");
        tell(1, Record::Event(&done(0, WorkerId(0))));
        tell(0, Record::Action(&finish(0, 0, DecisionKind::Miss)));
        let said = tell(9, Record::Action(&finish(1, 0, DecisionKind::Hit)));
        assert_eq!(
            said[..2],
            ["0:10 2 of 4 requests, 12/min, time left 0:50", "queue 1, hit rate 50.0 %, within 2x 50.0 %"]
        );
        tell(0, Record::Action(&start(1, 2, 1)));
        let load = Action::Load { worker: WorkerId(0), from: None, model: ModelId(1) };
        assert_eq!(tell(0, Record::Action(&load))[2], "workers: 1 large, 0 small, 1 loading small");
        let said = tell(0, Record::Event(&Event::WorkerDown(WorkerId(1))));
        assert_eq!(
            said[1..],
            ["queue 1, hit rate 50.0 %, within 2x 50.0 %", "workers: 0 large, 0 small, 1 loading small, 1 lost"]
        );
        let loaded = Event::ModelLoaded { worker: WorkerId(0) };
        assert_eq!(tell(0, Record::Event(&loaded))[2], "workers: 0 large, 1 small, 1 lost");
        // The last has arrived: what is left goes by the rate, which is that of the last 20 seconds.
        tell(5, Record::Event(&arrived(3)));
        assert!(tell(0, Record::Action(&load))[0].ends_with("8/min, time left 0:45"), "until the last arrival");
        assert!(Watching::new(run(), &()).is_none(), "nothing is counted for nobody");
    }
}
