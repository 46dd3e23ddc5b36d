//! Bound for whole jobs on separate workers. For jobs of one length with deadlines in the order of arrivals, an optimal
//! schedule starts jobs in the order of arrivals on the machine that is free first, and leaves out each job that would
//! be late. (Jobs that are started in this order end as early as in any schedule of as many jobs. Leaving out an
//! earlier job instead frees no machine earlier.)
//!
//! Jobs of several lengths are split into ranges of length. If the jobs of a range take the shortest length of the
//! range and have all machines to themselves, no more of them are late than in any real schedule. The ranges have no
//! jobs in common, so that the numbers of late jobs add up. The split with the largest sum is used.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::Job;
use crate::time::Time;

/// Largest number of machines for which this bound is computed. With more of them `together` is as strict.
const MOST_MACHINES: usize = 64;

/// Number of jobs that all splits together may visit.
const STEPS: usize = 2_000_000;

/// Largest number of lengths at which jobs are split.
const MOST_LENGTHS: usize = 8;

/// Returns a lower bound on the number of late jobs on `machines` machines, each as fast as `thousandths` / 1000
/// workers. Jobs are in the order of arrivals and of deadlines.
pub(super) fn fewest_late(jobs: &[Job], machines: usize, thousandths: u64) -> u64 {
    if machines == 0 || machines > MOST_MACHINES {
        return 0;
    }
    let lengths = lengths(jobs);
    // Largest number of late jobs that the splits find among the jobs at least as long as each length.
    let mut most = vec![0; lengths.len() + 1];
    for from in (0..lengths.len()).rev() {
        for to in from + 1..=lengths.len() {
            let until = lengths.get(to).copied().unwrap_or(u64::MAX);
            // Every job of the part counts as long as the shortest of them, which makes no more of them late.
            let part = jobs.iter().filter(|job| (lengths[from]..until).contains(&job.work));
            most[from] = u64::max(most[from], late_of_length(part, lengths[from], machines, thousandths) + most[to]);
        }
    }
    most[0]
}

/// Returns the lengths at which jobs are split, in rising order: the shortest length, and others with equally many jobs
/// between them.
fn lengths(jobs: &[Job]) -> Vec<u64> {
    // Returns take no worker and are never late.
    let mut works: Vec<u64> = jobs.iter().map(|job| job.work).filter(|work| *work > 0).collect();
    works.sort_unstable();
    let most =
        // With `count` lengths there are count (count + 1) / 2 ranges, and each may look at every job.
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

/// Returns the number of late jobs if every job takes `work`.
fn late_of_length<'a>(jobs: impl Iterator<Item = &'a Job>, work: u64, machines: usize, thousandths: u64) -> u64 {
    // Time is counted in units of 1/`thousandths` nanosecond: a speed that is no whole number then needs no division.
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

    /// Returns whether the machines can meet all deadlines. It tries every order, with each job on the machine that is
    /// free first.
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
