//! Tests of the executor with the loop and the core, for what random runs do not look at: the pace of jobs beside lost
//! workers and of jobs that are stopped.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::*;
use crate::image::ImageId;
use crate::journal::{Line, What};
use crate::replay::{Known, replay};
use crate::request::{Request, TenantId};
use crate::scheduler::allocation::{Allocation, StaticSplit};
use crate::scheduler::routing::System;
use crate::scheduler::{Config, Hardware, LossCause, Scheduler};

const STEPS: u32 = 10;

/// Latency model in which a job takes 1000 s while every other worker runs a job, and half of that alone.
struct Shared;

impl LatencyModel for Shared {
    fn retrieval(&mut self, _: RequestId) -> Duration {
        Duration::ZERO
    }

    fn job(&mut self, _: GpuId, _: Work, _: RequestId, _: usize) -> Duration {
        seconds(1000)
    }

    fn alone(&self, _: GpuId, _: ModelId) -> f64 {
        0.5
    }

    fn load(&mut self, _: WorkerId, _: GpuId, _: Option<ModelId>, _: ModelId) -> Duration {
        seconds(50)
    }

    fn image_encoding(&mut self, _: RequestId) -> Duration {
        Duration::ZERO
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_nanoseconds(seconds * 1_000_000_000)
}

fn at(second: u64) -> Time {
    Time::ZERO + seconds(second)
}

fn executor(workers: usize) -> Simulated<Shared> {
    Simulated::new(Settings {
        latency: Shared,
        gpus: vec![GpuId(0); workers],
        prompts: None,
        images: None,
        sizes: ImageSizes::default(),
        confidences: None,
        faults: Faults::default(),
        network: None,
    })
}

fn arrival(second: u64, row: u32) -> (Time, Event) {
    (at(second), Event::Arrived(Request::new(RequestId(row), at(second), TenantId(0))))
}

/// Returns the events of a run of `vanilla`, with their times in seconds.
fn run(workers: usize, outside: Vec<(Time, Event)>) -> Vec<(f64, Event)> {
    let config = Config::paper(1, Hardware::unmeasured(workers, 1), STEPS);
    let allocation = StaticSplit::new(Allocation::new(vec![ModelId::LARGE; workers]));
    let mut core = Scheduler::new(config, System::Vanilla.build(&[], STEPS), None, Box::new(allocation));
    let mut journal = Vec::<Line>::new();
    replay(&mut core, &mut executor(workers), &mut Known::new(outside.into_iter()), &mut journal).expect("the end");
    let events = journal.into_iter().filter_map(|line| match line.what {
        What::Event(event) => Some((line.time.seconds(), event)),
        What::Action(_) => None,
    });
    events.collect()
}

/// Returns the ends of jobs with images among events: times in seconds, and the workers.
fn completed(events: &[(f64, Event)]) -> Vec<(f64, u16)> {
    let ends = events.iter().filter_map(|(time, event)| match event {
        Event::JobCompleted { worker, .. } => Some((*time, worker.0)),
        _ => None,
    });
    ends.collect()
}

#[test]
fn a_lost_worker_draws_no_more() {
    let worker = WorkerId(0);
    let lost = Event::WorkerLost { worker, cause: LossCause::Crashed, reason: "gone".into() };
    for loss in [Event::WorkerDown(worker), lost] {
        let events = run(3, vec![arrival(0, 0), (at(100), loss)]);
        // The job begins anew at 100 s, on a worker without busy neighbours, and is not answered for the lost one.
        assert_eq!(completed(&events), [(600.0, 1)]);
    }
}

#[test]
fn a_job_goes_on_faster_once_its_neighbour_is_lost() {
    let events = run(2, vec![arrival(0, 0), arrival(0, 1), (at(400), Event::WorkerDown(WorkerId(1)))]);
    // 600 s of work are left, which take half as long; the other request waits for this worker.
    assert_eq!(completed(&events), [(700.0, 0), (1200.0, 0)]);
}

#[test]
fn a_worker_that_comes_back_begins_anew() {
    let worker = WorkerId(0);
    let outside = vec![arrival(0, 0), (at(100), Event::WorkerDown(worker)), (at(110), Event::WorkerUp(worker))];
    // Its model is loaded in 50 s.
    assert_eq!(completed(&run(1, outside)), [(1160.0, 0)]);
}

#[test]
fn a_cancelled_job_stops_between_two_steps_that_it_makes() {
    // A step of 100 s takes 50 s alone: at 160 s three are done, and the fourth is under way.
    let cancelled = |second, row| (at(second), Event::Cancelled(RequestId(row)));
    let stops = |events: &[(f64, Event)]| -> Vec<(f64, u16)> {
        let stops = events.iter().filter_map(|(time, event)| match event {
            Event::JobFailed { worker, .. } => Some((*time, worker.0)),
            _ => None,
        });
        stops.collect()
    };
    let events = run(2, vec![arrival(0, 0), cancelled(160, 0), arrival(300, 1)]);
    assert_eq!(stops(&events), [(200.0, 0)]);
    assert_eq!(completed(&events), [(800.0, 0)]);
    // A neighbour from 180 s on, by when the fourth step is six tenths done, slows the rest of the step.
    let events = run(2, vec![arrival(0, 0), cancelled(160, 0), arrival(180, 1)]);
    assert_eq!(stops(&events), [(220.0, 0)]);
    // 40 s with the neighbour, and the rest alone.
    assert_eq!(completed(&events), [(700.0, 1)]);
}

/// Latency model in which a job takes 100 s and a load 50 s.
struct Steady;

impl LatencyModel for Steady {
    fn retrieval(&mut self, _: RequestId) -> Duration {
        Duration::ZERO
    }

    fn job(&mut self, _: GpuId, _: Work, _: RequestId, _: usize) -> Duration {
        seconds(100)
    }

    fn load(&mut self, _: WorkerId, _: GpuId, _: Option<ModelId>, _: ModelId) -> Duration {
        seconds(50)
    }

    fn image_encoding(&mut self, _: RequestId) -> Duration {
        Duration::ZERO
    }
}

/// Network with a latency of 1 s and pictures of 10 bytes, which occupy the scheduler's link for 10 s and that of a
/// node for 5 s.
fn network(nodes: &[u16]) -> Network {
    Network {
        nodes: nodes.to_vec(),
        latency: seconds(1),
        bandwidth: 8,
        node_bandwidth: 16,
        picture_bytes: 10,
        usual_pixels: 1,
        sources: 10,
    }
}

/// Action that a test submits to the executor alone.
#[derive(Clone, Copy)]
enum Do {
    /// Start of the job with the number of its request, on a worker, with a source if it is a hit.
    Start(u32, u16, Option<ImageId>),
    Cancel(u32),
    Lose(u16),
    Load(u16),
}

/// Submits actions at their times in seconds, and returns the events in short: "112 done 0".
fn drive<L: LatencyModel>(latency: L, network: Network, actions: &[(u64, Do)]) -> Vec<String> {
    let gpus = vec![GpuId(0); network.nodes.len()];
    let (prompts, images, confidences) = (None, None, None);
    let (sizes, faults, network) = (ImageSizes::default(), Faults::default(), Some(network));
    let mut executor = Simulated::new(Settings { latency, gpus, prompts, images, sizes, confidences, faults, network });
    let mut events = Vec::new();
    let mut wait = |executor: &mut Simulated<L>, deadline: Option<Moment>| {
        while let Ok(Step::Completed(time, event)) = executor.wait(deadline) {
            events.push(match event {
                Event::JobCompleted { job, outputs, .. } => match outputs[0].source_fetched {
                    Some(is_fetched) => format!("{} done {} {is_fetched}", time.seconds(), job.0),
                    None => format!("{} done {}", time.seconds(), job.0),
                },
                Event::JobFailed { job, .. } => format!("{} stopped {}", time.seconds(), job.0),
                Event::ModelLoaded { worker } => format!("{} loaded {}", time.seconds(), worker.0),
                other => format!("{other:?}"),
            });
        }
    };
    for (second, action) in actions {
        wait(&mut executor, Some(Moment { time: at(*second), rank: Rank::Outside }));
        let work = Work::new(ModelId::LARGE, STEPS, 0);
        let Ok(()) = match *action {
            Do::Start(row, worker, source) => {
                let parts = smallvec![Part { request: RequestId(row), source }];
                let (job, worker) = (JobId(u64::from(row)), WorkerId(worker));
                executor.submit(at(*second), &Action::Start { job, worker, work, parts })
            }
            Do::Cancel(row) => executor.submit(at(*second), &Action::CancelJob(JobId(u64::from(row)))),
            Do::Load(worker) => {
                let (worker, model) = (WorkerId(worker), ModelId::LARGE);
                executor.submit(at(*second), &Action::Load { worker, from: None, model })
            }
            Do::Lose(worker) => {
                executor.notice(at(*second), &Event::WorkerDown(WorkerId(worker)));
                Ok(())
            }
        };
    }
    wait(&mut executor, None);
    events
}

/// Two images that were cached before the first request.
const A: Option<ImageId> = Some(ImageId::warm(0));
const B: Option<ImageId> = Some(ImageId::warm(1));

#[test]
fn pictures_of_two_nodes_share_the_link_of_the_scheduler() {
    // Orders arrive at 1 s, and both pictures are drawn at 101 s.
    let events = drive(Steady, network(&[0, 1]), &[(0, Do::Start(0, 0, None)), (0, Do::Start(1, 1, None))]);
    assert_eq!(events, ["112 done 0", "122 done 1"]);
}

#[test]
fn sources_are_fetched_one_after_the_other_and_kept() {
    let drawn = Some(ImageId::of_request(RequestId(1)));
    let actions = [
        (0, Do::Start(0, 0, A)),   // requested at 2 s, sent until 12 s, there at 13 s
        (0, Do::Start(1, 1, B)),   // sent from 12 s to 22 s, there at 23 s
        (200, Do::Start(2, 0, A)), // kept: drawn from 201 s to 301 s
        (200, Do::Start(3, 1, A)), // node 1 fetches it: there at 213 s, drawn at 313 s
        (400, Do::Start(4, 1, drawn)),
        (400, Do::Start(5, 0, drawn)),
    ];
    let expected = [
        "124 done 0 true",
        "134 done 1 true",
        "312 done 2 false",
        "324 done 3 true",
        "512 done 4 false",
        "524 done 5 true",
    ];
    assert_eq!(drive(Steady, network(&[0, 1]), &actions), expected);
    // Without room, every source is fetched.
    let none = Network { sources: 0, ..network(&[0, 1]) };
    assert_eq!(drive(Steady, none, &[actions[0], actions[2]]), ["124 done 0 true", "324 done 2 true"]);
}

#[test]
fn a_source_on_its_way_is_waited_for() {
    let events = drive(Steady, network(&[0, 0]), &[(0, Do::Start(0, 0, A)), (0, Do::Start(1, 1, A))]);
    // Both are drawn at 113 s. The second picture comes to the scheduler's link at 118 s, which is free at 123 s.
    assert_eq!(events, ["124 done 0 true", "134 done 1 false"]);
}

#[test]
fn a_picture_that_waits_for_its_node_holds_nobody_else_up() {
    let slow = Network { node_bandwidth: 4, ..network(&[0, 0, 1]) };
    let starts = [0, 1, 2].map(|job| (0, Do::Start(job, job as u16, None)));
    // The second picture leaves node 0 from 121 s to 141 s. That of node 1 goes before it.
    assert_eq!(drive(Steady, slow, &starts), ["122 done 0", "122 done 2", "142 done 1"]);
}

#[test]
fn a_lost_job_goes_no_further_and_leaves_links_occupied() {
    let actions = [(0, Do::Start(0, 0, A)), (5, Do::Lose(0)), (6, Do::Start(1, 1, B)), (7, Do::Start(2, 0, A))];
    // B waits until A was sent, at 12 s. The next job of the lost worker finds A at its node from 13 s on.
    let expected = ["124 done 2 false", "134 done 1 true"];
    assert_eq!(drive(Steady, network(&[0, 1]), &actions), expected);
    let drawn = [(0, Do::Start(0, 0, None)), (105, Do::Lose(0)), (106, Do::Start(1, 0, None))];
    assert_eq!(drive(Steady, network(&[0]), &drawn), ["218 done 1"], "lost on its way back");
}

#[test]
fn a_cancellation_travels_and_stops_what_it_finds() {
    let cancelled = |start, at| drive(Steady, network(&[0]), &[(0, start), (at, Do::Cancel(0))]);
    let (miss, hit) = (Do::Start(0, 0, None), Do::Start(0, 0, A));
    assert_eq!(cancelled(miss, 0), ["2 stopped 0"], "behind its order");
    assert_eq!(cancelled(miss, 50), ["52 stopped 0"], "just between two steps");
    assert_eq!(cancelled(miss, 53), ["62 stopped 0"], "within a step");
    assert_eq!(cancelled(miss, 105), ["112 done 0"], "on the way back");
    assert_eq!(cancelled(hit, 3), ["5 stopped 0"], "while its source is on its way");
}

#[test]
fn a_load_waits_for_order_and_answer() {
    assert_eq!(drive(Steady, network(&[0]), &[(0, Do::Load(0))]), ["52 loaded 0"]);
}

#[test]
fn neighbours_see_a_job_only_while_it_draws() {
    let events = drive(Shared, network(&[0, 1]), &[(0, Do::Start(0, 0, None)), (0, Do::Start(1, 1, A))]);
    // The first job draws alone from 1 s to 13 s, which is 24 s of work, and ends at 989 s. The second has 24 s left.
    assert_eq!(events, ["1000 done 0", "1012 done 1 true"]);
}
