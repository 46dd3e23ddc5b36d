//! All machines for one: on one machine, with deadlines in the order of arrivals, fewest late is solved exactly (Kise, Ibaraki
//! and Mine, Operations Research 26, 1978): in order of arrival, whenever one would be late, that one is left out without which
//! the others are done first. With a tree of the jobs in order of arrival that takes n log n for n jobs.

use alloc::vec::Vec;

use super::Job;
use crate::time::Time;

/// A job with its work in nanoseconds of one worker; 0 once it is left out.
#[derive(Clone, Copy, Debug)]
struct Kept {
    arrival: Time,
    work: u64,
}

/// Work in units of 1/speed nanoseconds, the speed being in thousandths.
const fn units(work: u64) -> u128 {
    work as u128 * 1000
}

/// Time in units of 1/speed nanoseconds.
fn scaled(time: Time, thousandths: u64) -> u128 {
    u128::from(time.nanoseconds()) * u128::from(thousandths)
}

/// Kept jobs that follow each other.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    work: u128,
    /// The latest, over its jobs, of the arrival plus the work from it on; 0 of none.
    done: u128,
    /// Largest work of a job in nanoseconds of one worker, and its place; of equals the last.
    largest: (u64, u32),
}

impl Stretch {
    /// Makes the stretch of one job on a machine as fast as so many thousandths of a worker; the empty one if it is left out.
    fn of_job(job: Kept, place: usize, thousandths: u64) -> Self {
        if job.work == 0 {
            return Self::default();
        }
        let work = units(job.work);
        Self { work, done: scaled(job.arrival, thousandths) + work, largest: (job.work, place as u32) }
    }

    /// Returns this one with what follows it.
    fn then(self, next: Self) -> Self {
        Self {
            work: self.work + next.work,
            done: next.done.max(self.delayed_by(next.work)),
            largest: self.largest.max(next.largest),
        }
    }

    /// Returns when it is done if so much follows it at once; 0 of none.
    const fn delayed_by(self, work: u128) -> u128 {
        if self.done == 0 { 0 } else { self.done + work }
    }
}

/// Jobs of a leaf of the tree: with fewer, nodes would take more memory than jobs.
const LEAF: usize = 8;

/// The jobs that are kept since the machine was last idle, in order of arrival, and a tree of their stretches, so that adding one
/// and leaving one out take the logarithm of their number.
#[derive(Debug)]
struct Busy {
    /// Speed of the machine in thousandths of a worker.
    thousandths: u64,
    jobs: Vec<Kept>,
    /// The children of node n are 2n and 2n + 1; the second half has the leaves.
    tree: Vec<Stretch>,
    /// Time at which all before these jobs are done.
    before: u128,
    /// Time at which all are done.
    done: u128,
}

impl Busy {
    /// Returns the number of leaves.
    const fn leaves(&self) -> usize {
        self.tree.len() / 2
    }

    /// Adds a job behind the others.
    fn add(&mut self, job: Kept) {
        let arrival = scaled(job.arrival, self.thousandths);
        if arrival >= self.done {
            self.before = self.done;
            self.done = arrival;
            self.jobs.clear();
            self.rebuild();
        } else if self.jobs.len() == self.leaves() * LEAF {
            self.jobs.retain(|job| job.work > 0);
            self.rebuild();
        }
        self.jobs.push(job);
        self.update(self.jobs.len() - 1);
        self.done += units(job.work);
    }

    /// Builds a tree that has room for as many jobs more.
    fn rebuild(&mut self) {
        let leaves = (2 * self.jobs.len()).div_ceil(LEAF).next_power_of_two().max(2);
        self.tree.clear();
        self.tree.resize(2 * leaves, Stretch::default());
        for leaf in 0..self.jobs.len().div_ceil(LEAF) {
            self.tree[leaves + leaf] = self.one_by_one(leaf * LEAF, (leaf + 1) * LEAF);
        }
        for node in (1..leaves).rev() {
            self.tree[node] = self.tree[2 * node].then(self.tree[2 * node + 1]);
        }
    }

    /// Updates the nodes above a job.
    fn update(&mut self, place: usize) {
        let leaf = place / LEAF;
        let mut node = self.leaves() + leaf;
        self.tree[node] = self.one_by_one(leaf * LEAF, (leaf + 1) * LEAF);
        while node > 1 {
            node /= 2;
            self.tree[node] = self.tree[2 * node].then(self.tree[2 * node + 1]);
        }
    }

    /// Joins the jobs in places `from..to`, where there are any.
    fn one_by_one(&self, from: usize, to: usize) -> Stretch {
        let places = from..to.min(self.jobs.len());
        places
            .fold(Stretch::default(), |all, place| all.then(Stretch::of_job(self.jobs[place], place, self.thousandths)))
    }

    /// Joins the jobs in places `from..to` through whole leaves.
    fn between(&self, from: usize, to: usize) -> Stretch {
        let (whole, end) = (from.div_ceil(LEAF), to / LEAF);
        if whole >= end {
            return self.one_by_one(from, to);
        }
        let mut first = self.one_by_one(from, whole * LEAF);
        let mut last = self.one_by_one(end * LEAF, to);
        let (mut from, mut to) = (whole + self.leaves(), end + self.leaves());
        while from < to {
            if from % 2 == 1 {
                first = first.then(self.tree[from]);
                from += 1;
            }
            if to % 2 == 1 {
                to -= 1;
                last = self.tree[to].then(last);
            }
            (from, to) = (from / 2, to / 2);
        }
        first.then(last)
    }

    /// Leaves out the job without which the others are done first.
    fn leave_one_out(&mut self) {
        let mut best = (u128::MAX, 0);
        let mut from = 0;
        // Without a job that takes as long or longer and comes later, the others are done no later: what counts is the
        // largest job, the largest behind it, and so on. They are few, as long as the works are few or in no order.
        while from < self.jobs.len() {
            let (work, place) = self.between(from, self.jobs.len()).largest;
            if work == 0 {
                break;
            }
            let place = place as usize;
            let (ahead, behind) = (self.between(0, place), self.between(place + 1, self.jobs.len()));
            let without = ahead.then(behind);
            best = best.min((without.done.max(self.before + without.work), place));
            from = place + 1;
        }
        let (done, place) = best;
        self.jobs[place].work = 0;
        self.update(place);
        self.done = done;
    }
}

/// Least number of late jobs among those that were added so far.
#[derive(Debug)]
pub struct Lateness {
    busy: Busy,
    late: u64,
}

impl Lateness {
    /// Makes an idle machine as fast as so many thousandths of a worker.
    #[must_use]
    pub const fn new(thousandths: u64) -> Self {
        Self { busy: Busy { thousandths, jobs: Vec::new(), tree: Vec::new(), before: 0, done: 0 }, late: 0 }
    }

    /// Adds a job. Jobs are in order of arrival and of deadlines.
    pub fn add(&mut self, job: Job) {
        if job.work == 0 {
            // Done at its arrival: it is never late, and changes nothing.
            return;
        }
        self.busy.add(Kept { arrival: job.arrival, work: job.work });
        if self.busy.done > scaled(job.due, self.busy.thousandths) {
            self.busy.leave_one_out();
            self.late += 1;
        }
    }

    /// Jobs that are late at least.
    #[must_use]
    pub const fn late(&self) -> u64 {
        self.late
    }
}

/// The least number of late jobs on a machine as fast as so many thousandths of a worker. Jobs are in order of arrival
/// and of when they are due.
#[must_use]
pub fn fewest_late(jobs: &[Job], thousandths: u64) -> u64 {
    let mut lateness = Lateness::new(thousandths);
    for job in jobs {
        lateness.add(*job);
    }
    lateness.late()
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::draw::{Purpose, stream};

    /// Whether one machine of this speed can do all of them in time, by earliest deadline.
    fn feasible<'a>(jobs: impl Iterator<Item = &'a Job>, speed: u128) -> bool {
        let mut done = 0;
        jobs.into_iter().all(|job| {
            done = (u128::from(job.arrival.nanoseconds()) * speed).max(done) + u128::from(job.work);
            done <= u128::from(job.due.nanoseconds()) * speed
        })
    }

    #[test]
    fn is_the_best_of_all_choices() {
        for seed in 0..400 {
            let mut draws = stream(seed, Purpose::Test, 40);
            let (mut arrival, mut due) = (0_u64, 0_u64);
            let jobs: Vec<Job> = (0..9)
                .map(|_| {
                    arrival += draws.random_range(0..8);
                    due = due.max(arrival + draws.random_range(2..20));
                    let at = Time::from_nanoseconds;
                    Job { arrival: at(arrival), due: at(due), work: draws.random_range(1..25) }
                })
                .collect();
            for speed in 1..=3 {
                let chosen = |choice: u32| (0..9).filter(move |job| choice >> job & 1 == 1);
                let possible = (0..1_u32 << 9).filter(|choice| feasible(chosen(*choice).map(|job| &jobs[job]), speed));
                let most = possible.map(u32::count_ones).max().unwrap();
                assert_eq!(fewest_late(&jobs, 1000 * speed as u64), u64::from(9 - most), "seed {seed}, speed {speed}");
            }
        }
    }

    /// The same as [`fewest_late`] in square time, job by job.
    fn plainly(jobs: &[Job], speed: u128) -> u64 {
        let mut late = 0;
        let (mut kept, mut before, mut done) = (Vec::<(u128, u64)>::new(), 0, 0);
        for job in jobs.iter().filter(|job| job.work > 0) {
            let arrival = u128::from(job.arrival.nanoseconds()) * speed;
            if arrival >= done {
                (before, done) = (done, arrival);
                kept.clear();
            }
            kept.push((arrival, job.work));
            done += units(job.work);
            if done > u128::from(job.due.nanoseconds()) * speed {
                let without = |place: &usize| {
                    let others = kept.iter().enumerate().filter(|(other, _)| other != place);
                    others.fold(before, |done: u128, (_, (arrival, work))| done.max(*arrival) + units(*work))
                };
                // Of equally good ones the last, as the tree has it.
                let place = (0..kept.len()).min_by_key(|place| (without(place), core::cmp::Reverse(*place))).unwrap();
                done = without(&place);
                kept.remove(place);
                late += 1;
            }
        }
        late
    }

    #[test]
    fn long_busy_periods_are_as_if_gone_through_job_by_job() {
        for seed in 0..300 {
            let mut draws = stream(seed, Purpose::Test, 41);
            // From few different works to many, and from idle to twice what the machine can do.
            let works = [2, 5, 1000][seed as usize % 3];
            let gap = draws.random_range(1..2 * works);
            let (mut arrival, mut due) = (0_u64, 0_u64);
            let jobs: Vec<Job> = (0..200)
                .map(|_| {
                    arrival += draws.random_range(0..=gap);
                    due = due.max(arrival + draws.random_range(0..10 * works));
                    let at = Time::from_nanoseconds;
                    Job { arrival: at(arrival), due: at(due), work: draws.random_range(0..works) }
                })
                .collect();
            for speed in [700, 1000, 3000] {
                assert_eq!(fewest_late(&jobs, speed), plainly(&jobs, u128::from(speed)), "seed {seed}, speed {speed}");
            }
        }
    }

    #[test]
    fn an_idle_machine_forgets() {
        let at = Time::from_nanoseconds;
        let job = |arrival, due, work| Job { arrival: at(arrival), due: at(due), work };
        assert_eq!(fewest_late(&[job(0, 10, 10), job(100, 110, 11), job(200, 210, 10)], 1000), 1);
        assert_eq!(fewest_late(&[job(0, 10, 40); 3], 4000), 2);
    }
}
