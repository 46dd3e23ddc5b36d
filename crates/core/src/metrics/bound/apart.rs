//! Whole jobs on workers of their own: jobs of one length on equal machines, with deadlines in the order of arrivals, are late
//! least often if they are begun in order of arrival, each on the machine that is free first, and one that would be late is left
//! out. (Jobs of one length that are begun in order are done at the earliest times that any schedule of as many has; to leave out
//! another one than the last, which arrived earlier, would leave the machines free no earlier.)
//!
//! Jobs of several lengths are parted by length. Those of one part could be no later if they took as long as its shortest and had
//! all machines to themselves, and what is late in one part is not of another: the parts' numbers add up to a bound. The
//! parting with the largest sum is taken.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::Job;
use crate::time::Time;

/// Most machines for which this is asked: one request's part of more of them is small, and `together` is as strict.
const MOST_MACHINES: usize = 64;

/// Jobs that are gone through, all partings together.
const STEPS: usize = 2_000_000;

/// Lengths at which jobs may be parted, at most.
const MOST_LENGTHS: usize = 8;

/// The least number of late jobs on so many machines, each as fast as so many thousandths of a worker. Jobs are in order of
/// arrival and of when they are due.
pub(super) fn fewest_late(jobs: &[Job], machines: usize, thousandths: u64) -> u64 {
    if machines == 0 || machines > MOST_MACHINES {
        return 0;
    }
    let lengths = lengths(jobs);
    // The most that are late among those at least as long as the length at each place, best parted.
    let mut most = vec![0; lengths.len() + 1];
    for from in (0..lengths.len()).rev() {
        for to in from + 1..=lengths.len() {
            let until = lengths.get(to).copied().unwrap_or(u64::MAX);
            let part = jobs.iter().filter(|job| (lengths[from]..until).contains(&job.work));
            most[from] = u64::max(most[from], late_of_length(part, lengths[from], machines, thousandths) + most[to]);
        }
    }
    most[0]
}

/// Lengths at which jobs are parted, rising: the least one, and others with as many jobs between them.
fn lengths(jobs: &[Job]) -> Vec<u64> {
    let mut works: Vec<u64> = jobs.iter().map(|job| job.work).filter(|work| *work > 0).collect();
    works.sort_unstable();
    let most =
        (1..=MOST_LENGTHS).take_while(|count| count * (count + 1) / 2 * works.len() <= STEPS).last().unwrap_or(1);
    let mut distinct = works.clone();
    distinct.dedup();
    if distinct.len() <= most {
        return distinct;
    }
    let mut lengths: Vec<u64> = (0..most).map(|part| works[part * works.len() / most]).collect();
    lengths.dedup();
    lengths
}

/// Late jobs of one length.
fn late_of_length<'a>(jobs: impl Iterator<Item = &'a Job>, work: u64, machines: usize, thousandths: u64) -> u64 {
    let scaled = |time: Time| u128::from(time.nanoseconds()) * u128::from(thousandths);
    let mut free: BinaryHeap<Reverse<u128>> = (0..machines).map(|_| Reverse(0)).collect();
    let mut late = 0;
    for job in jobs {
        let Some(mut first) = free.peek_mut() else { break };
        let done = first.0.max(scaled(job.arrival)) + u128::from(work) * 1000;
        if done <= scaled(job.due) {
            first.0 = done;
        } else {
            late += 1;
        }
    }
    late
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand::seq::SliceRandom;

    use super::*;
    use crate::draw::{Purpose, stream};
    use crate::metrics::bound::together;

    /// Whether so many machines can do all of these in time: jobs in every order, each on the machine that is free first.
    fn feasible(jobs: &[Job], free: &[u64]) -> bool {
        jobs.is_empty()
            || (0..jobs.len()).any(|next| {
                let mut free = free.to_vec();
                free.sort_unstable();
                free[0] = free[0].max(jobs[next].arrival.nanoseconds()) + jobs[next].work;
                let mut rest = jobs.to_vec();
                let job = rest.remove(next);
                free[0] <= job.due.nanoseconds() && feasible(&rest, &free)
            })
    }

    fn instance(seed: u64, works: &[u64]) -> Vec<Job> {
        let mut draws = stream(seed, Purpose::Test, 63);
        let (mut arrival, limit) = (0_u64, draws.random_range(4..30));
        let at = Time::from_nanoseconds;
        let mut next = |_| {
            arrival += draws.random_range(0..5);
            let mut works = works.to_vec();
            works.shuffle(&mut draws);
            Job { arrival: at(arrival), due: at(arrival + limit), work: works[0] }
        };
        (0..6).map(&mut next).collect()
    }

    #[test]
    fn is_never_above_the_best_of_all_schedules_and_equal_for_one_length() {
        let mut stricter = 0;
        for seed in 0..250 {
            let works: &[u64] = [&[7][..], &[3, 11], &[2, 5, 9, 14]][seed as usize % 3];
            let jobs = instance(seed, works);
            for machines in 1..=3 {
                let chosen = |choice: u32| -> Vec<Job> {
                    (0..6).filter(|job| choice >> job & 1 == 1).map(|job| jobs[job]).collect()
                };
                let possible = (0..1_u32 << 6).filter(|choice| feasible(&chosen(*choice), &vec![0; machines]));
                let fewest = 6 - u64::from(possible.map(u32::count_ones).max().unwrap_or(0));
                let bound = fewest_late(&jobs, machines, 1000);
                assert!(bound <= fewest, "seed {seed}, {machines} machines: {bound} > {fewest}");
                assert!(works.len() > 1 || bound == fewest, "seed {seed}, {machines} machines: {bound} < {fewest}");
                stricter += u64::from(bound > together::fewest_late(&jobs, 1000 * machines as u64));
            }
        }
        assert!(stricter > 50, "it is the stricter one now and then: {stricter}");
    }
}
