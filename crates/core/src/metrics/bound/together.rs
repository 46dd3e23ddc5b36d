//! All machines for one: on one machine, with deadlines in the order of arrivals, fewest late is solved exactly (Kise, Ibaraki
//! and Mine, Operations Research 26, 1978): in order of arrival, whenever one would be late, that one is left out without which
//! the others are done first. With a tree of the jobs in order of arrival that takes n log n for n jobs.

use alloc::vec::Vec;

use super::Job;
use crate::time::Time;

/// A job that is not left out: its arrival in units of 1/speed nanoseconds, its work in nanoseconds of one worker.
#[derive(Clone, Copy, Debug)]
struct Kept {
    arrival: u128,
    work: u64,
}

/// Work in units of 1/speed nanoseconds, the speed being in thousandths.
const fn units(work: u64) -> u128 {
    work as u128 * 1000
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
    fn of_job(job: Kept, place: usize) -> Self {
        let work = units(job.work);
        Self { work, done: job.arrival + work, largest: (job.work, place as u32) }
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

/// The jobs that are kept since the machine was last idle: a tree of stretches, so that adding one and leaving one out
/// take the logarithm of their number.
#[derive(Debug, Default)]
struct Busy {
    /// The children of node n are 2n and 2n + 1; the second half has a place a job, empty where it was left out.
    tree: Vec<Stretch>,
    /// Places that were given out.
    places: usize,
    /// When all before them are done.
    before: u128,
    /// When all are done.
    done: u128,
}

/// Places of the smallest tree.
const FEWEST_PLACES: usize = 16;

impl Busy {
    const fn capacity(&self) -> usize {
        self.tree.len() / 2
    }

    /// Adds a job behind the others.
    fn add(&mut self, job: Kept) {
        if job.arrival >= self.done {
            self.before = self.done;
            self.done = job.arrival;
            self.rebuild(&[]);
        } else if self.places == self.capacity() {
            let kept: Vec<Stretch> = self.tree[self.places..].iter().copied().filter(|job| job.work > 0).collect();
            self.rebuild(&kept);
        }
        let place = self.places;
        self.places += 1;
        self.set(place, Stretch::of_job(job, place));
        self.done += units(job.work);
    }

    /// Gives these jobs the first places of a tree that has room for as many more.
    fn rebuild(&mut self, kept: &[Stretch]) {
        let capacity = (2 * kept.len()).next_power_of_two().max(FEWEST_PLACES);
        self.tree.clear();
        self.tree.resize(2 * capacity, Stretch::default());
        for (place, job) in kept.iter().enumerate() {
            self.tree[capacity + place] = Stretch { largest: (job.largest.0, place as u32), ..*job };
        }
        for node in (1..capacity).rev() {
            self.tree[node] = self.tree[2 * node].then(self.tree[2 * node + 1]);
        }
        self.places = kept.len();
    }

    fn set(&mut self, place: usize, job: Stretch) {
        let mut node = self.capacity() + place;
        self.tree[node] = job;
        while node > 1 {
            node /= 2;
            self.tree[node] = self.tree[2 * node].then(self.tree[2 * node + 1]);
        }
    }

    /// The jobs in places `from..to` together.
    fn between(&self, from: usize, to: usize) -> Stretch {
        let (mut first, mut last) = (Stretch::default(), Stretch::default());
        let (mut from, mut to) = (from + self.capacity(), to + self.capacity());
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
        while from < self.places {
            let (work, place) = self.between(from, self.places).largest;
            if work == 0 {
                break;
            }
            let place = place as usize;
            let (ahead, behind) = (self.between(0, place), self.between(place + 1, self.places));
            let without = ahead.then(behind);
            best = best.min((without.done.max(self.before + without.work), place));
            from = place + 1;
        }
        let (done, place) = best;
        self.set(place, Stretch::default());
        self.done = done;
    }
}

/// Least number of late jobs among those that were added so far.
#[derive(Debug, Default)]
pub struct Lateness {
    busy: Busy,
    late: u64,
}

impl Lateness {
    /// Adds a job on a machine as fast as so many thousandths of a worker. Jobs are in order of arrival and of when they
    /// are due.
    pub fn add(&mut self, job: Job, thousandths: u64) {
        let scaled = |time: Time| u128::from(time.nanoseconds()) * u128::from(thousandths);
        if job.work == 0 {
            // Done at its arrival: it is never late, and changes nothing.
            return;
        }
        self.busy.add(Kept { arrival: scaled(job.arrival), work: job.work });
        if self.busy.done > scaled(job.due) {
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
    let mut lateness = Lateness::default();
    for job in jobs {
        lateness.add(*job, thousandths);
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
        let (mut kept, mut before, mut done) = (Vec::<Kept>::new(), 0, 0);
        for job in jobs.iter().filter(|job| job.work > 0) {
            let arrival = u128::from(job.arrival.nanoseconds()) * speed;
            if arrival >= done {
                (before, done) = (done, arrival);
                kept.clear();
            }
            kept.push(Kept { arrival, work: job.work });
            done += units(job.work);
            if done > u128::from(job.due.nanoseconds()) * speed {
                let without = |place: &usize| {
                    let others = kept.iter().enumerate().filter(|(other, _)| other != place);
                    others.fold(before, |done: u128, (_, job)| done.max(job.arrival) + units(job.work))
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
