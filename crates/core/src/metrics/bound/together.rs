//! Bound for all machines joined into one. On one machine, with deadlines in the order of arrivals, the fewest late
//! jobs are found exactly (Kise, Ibaraki and Mine, Operations Research 26, 1978). Jobs are added in the order of
//! arrivals. Whenever a job would be late, the job is left out without which the others are done first. With a tree of
//! the jobs in the order of arrivals that takes n log n time for n jobs.

use alloc::vec::Vec;

use super::Job;
use crate::time::Time;

/// Job with its work in nanoseconds of one worker; the work is 0 once the job is left out.
#[derive(Clone, Copy, Debug)]
struct KeptJob {
    arrival: Time,
    work: u64,
}

/// Converts work to units of 1/speed nanoseconds, with the speed in thousandths of a worker.
const fn units(work: u64) -> u128 {
    work as u128 * 1000
}

/// Converts a time to units of 1/speed nanoseconds.
fn scaled(time: Time, thousandths: u64) -> u128 {
    u128::from(time.nanoseconds()) * u128::from(thousandths)
}

/// Kept jobs that follow each other.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    work: u128,
    /// Largest sum, over the jobs of the stretch, of the arrival of a job and the work of that job and of all that
    /// follow it; 0 without jobs.
    done: u128,
    /// Largest work of a job in nanoseconds of one worker, and the place of the job; the last place if several jobs are
    /// equal.
    largest: (u64, u32),
}

impl Stretch {
    /// Makes the stretch of one job on a machine with a speed of `thousandths`; an empty stretch if the job is left
    /// out.
    fn of_job(job: KeptJob, place: usize, thousandths: u64) -> Self {
        if job.work == 0 {
            return Self::default();
        }
        let work = units(job.work);
        Self { work, done: scaled(job.arrival, thousandths) + work, largest: (job.work, place as u32) }
    }

    /// Joins a stretch and the stretch that follows it.
    fn then(self, next: Self) -> Self {
        Self {
            work: self.work + next.work,
            done: next.done.max(self.delayed_by(next.work)),
            largest: self.largest.max(next.largest),
        }
    }

    /// Returns the time at which the stretch is done if `work` follows it at once; 0 without jobs.
    const fn delayed_by(self, work: u128) -> u128 {
        // Zero stands for no jobs: a job has work, so that it is done after time zero.
        if self.done == 0 { 0 } else { self.done + work }
    }
}

/// Number of jobs in a leaf of the tree. With fewer jobs, the nodes would take more memory than the jobs.
const LEAF: usize = 8;

/// Jobs that are kept since the machine was last idle, in the order of arrivals, and a tree of their stretches. With
/// the tree, adding a job and leaving a job out take time that is logarithmic in the number of jobs.
#[derive(Debug)]
struct Busy {
    /// Speed of the machine in thousandths of a worker.
    thousandths: u64,
    jobs: Vec<KeptJob>,
    /// Nodes of the tree: the children of node n are 2n and 2n + 1, and the second half has the leaves.
    tree: Vec<Stretch>,
    /// Time at which all jobs before these are done.
    before: u128,
    /// Time at which all of these jobs are done.
    done: u128,
}

impl Busy {
    /// Returns the number of leaves.
    const fn leaves(&self) -> usize {
        self.tree.len() / 2
    }

    /// Adds a job behind the others.
    fn add(&mut self, job: KeptJob) {
        let arrival = scaled(job.arrival, self.thousandths);
        // The machine is idle at the arrival: nothing that was done before delays what comes.
        if arrival >= self.done {
            self.before = self.done;
            self.done = arrival;
            self.jobs.clear();
            self.rebuild();
        } else if self.jobs.len() == self.leaves() * LEAF {
            // The tree is full. Jobs that were left out go, and the room doubles, so that a job costs little on
            // average.
            self.jobs.retain(|job| job.work > 0);
            self.rebuild();
        }
        self.jobs.push(job);
        self.update(self.jobs.len() - 1);
        self.done += units(job.work);
    }

    /// Rebuilds the tree with room for as many jobs again.
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

    /// Joins the jobs in places `from..to`, as far as there are such jobs, one by one.
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
        // Stretches are joined in the order of arrivals: those of the left border go behind `first`, those of the right
        // border go before `last`.
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
        // If a later job takes at least as long as an earlier one, the others are done no later without the later job.
        // The candidates are therefore the largest job, the largest job behind that one, and so on. There are few of
        // them if there are few different works, or if the works are in no order.
        while from < self.jobs.len() {
            let (work, place) = self.between(from, self.jobs.len()).largest;
            if work == 0 {
                break;
            }
            let place = place as usize;
            let (ahead, behind) = (self.between(0, place), self.between(place + 1, self.jobs.len()));
            let without = ahead.then(behind);
            // The machine is busy with earlier jobs until `before`: it cannot be done sooner than with all the work
            // after that.
            best = best.min((without.done.max(self.before + without.work), place));
            from = place + 1;
        }
        let (done, place) = best;
        self.jobs[place].work = 0;
        self.update(place);
        self.done = done;
    }
}

/// Least number of late jobs among the jobs that were added so far.
#[derive(Debug)]
pub struct Lateness {
    busy: Busy,
    late: u64,
}

impl Lateness {
    /// Makes an idle machine with a speed in thousandths of a worker.
    #[must_use]
    pub const fn new(thousandths: u64) -> Self {
        Self { busy: Busy { thousandths, jobs: Vec::new(), tree: Vec::new(), before: 0, done: 0 }, late: 0 }
    }

    /// Adds a job. Jobs are added in the order of arrivals and of deadlines.
    pub fn add(&mut self, job: Job) {
        if job.work == 0 {
            // A job without work is done at its arrival: it is never late and delays no other job.
            return;
        }
        self.busy.add(KeptJob { arrival: job.arrival, work: job.work });
        if self.busy.done > scaled(job.due, self.busy.thousandths) {
            self.busy.leave_one_out();
            self.late += 1;
        }
    }

    /// Returns the least number of late jobs.
    #[must_use]
    pub const fn late(&self) -> u64 {
        self.late
    }
}

/// Returns the least number of late jobs on a machine with a speed in thousandths of a worker. Jobs are in the order of
/// arrivals and of deadlines.
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

    /// Returns whether one machine with this speed can do all jobs in time, by earliest deadline.
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

    /// Returns the same as [`fewest_late`] in quadratic time, job by job.
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
                // The last of equally good jobs, as the tree has it.
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
            // Few different works in some instances and many in others; loads from nearly none to twice what the
            // machine can do.
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
