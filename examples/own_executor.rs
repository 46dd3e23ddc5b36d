//! Runs the scheduler on a custom executor: an image service that answers every job after three seconds. A real
//! executor would send requests to its service in `submit`, and wait for answers in `wait`.
//!
//! `cargo run --release --example own_executor`

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;

use modm::replay::{Executor, Step};
use modm::scheduler::{Action, Event, Output};
use modm::simulation::Simulation;
use modm::time::{Duration, Moment, Time};

/// Image service with a clock of its own, which jumps to the time of the next answer.
#[derive(Debug, Default)]
struct ImageService {
    now: Time,
    /// Answers by the time at which they are due, then in the order in which they were asked for.
    due: BTreeMap<(Time, u64), Event>,
    asked: u64,
}

impl ImageService {
    fn answer(&mut self, time: Time, event: Event) {
        self.asked += 1;
        self.due.insert((time, self.asked), event);
    }
}

impl Executor for ImageService {
    type Error = Infallible;

    fn submit(&mut self, now: Time, action: &Action) -> Result<(), Self::Error> {
        match action {
            // The system vanilla looks nothing up, so prompts need no embedding.
            Action::Encode(request) => self.answer(now, Event::Encoded { request: *request, embedding: None }),
            Action::Start { job, worker, parts, .. } => {
                let outputs = parts.iter().map(|part| Output::new(part.request)).collect();
                let three_seconds = Duration::from_nanoseconds(3_000_000_000);
                self.answer(now + three_seconds, Event::JobCompleted { worker: *worker, job: *job, outputs });
            }
            Action::Load { worker, .. } => self.answer(now, Event::ModelLoaded { worker: *worker }),
            // All other actions are for journals, or do not occur here.
            _ => {}
        }
        Ok(())
    }

    fn wait(&mut self, deadline: Option<Moment>) -> Result<Step, Self::Error> {
        let first = self.due.first_key_value().map(|((time, _), _)| *time);
        match (first, deadline) {
            (Some(first), deadline) if deadline.is_none_or(|deadline| first <= deadline.time) => {
                let ((time, _), event) = self.due.pop_first().expect("there is a first");
                self.now = time;
                Ok(Step::Completed(time, event))
            }
            (_, Some(deadline)) => {
                self.now = deadline.time;
                Ok(Step::DeadlineReached(deadline.time))
            }
            (_, None) => Ok(Step::Idle),
        }
    }

    fn in_flight(&self) -> usize {
        self.due.len()
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let simulation = Simulation::builder()
        .scenario_file("scenarios/quickstart.toml")
        .set("system.policy", "vanilla")
        .set("trace.synthetic.arrivals.rate_per_min", 200)
        .build()?;
    let summary = simulation.run_executed(&mut ImageService::default())?.summary;
    let latency = summary.latency_s.ok_or("nothing completed")?;
    println!("{} images, mean latency {:.2} s, p99 {:.2} s", summary.completed, latency.mean, latency.p99);
    Ok(())
}
