//! Seconds of jobs by the model that the other workers drew with meanwhile: workers that share a processor slow each
//! other down.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::rows::RequestRow;
use crate::scheduler::Run;
use crate::time::Time;

/// Share of a job's time from which on the other workers count as in one state; the rest of the time says little about
/// any state.
const PURE: f64 = 0.9;

/// State of the other workers during a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Company {
    /// Idle company: no other worker drew.
    Idle,
    /// Company that drew: all other workers drew with the model of this index.
    Drawing(usize),
}

/// Kind of a job: the index of its model, its skipped steps and its company.
pub(super) type Kind = (usize, u32, Company);

#[derive(Clone, Copy)]
struct Job {
    model: usize,
    skipped: u32,
    start: Time,
    finish: Time,
}

/// Returns the seconds of completed jobs by kind, for a run with `workers` workers. Jobs in mixed company are left out.
pub(super) fn services(rows: &[RequestRow], workers: usize) -> BTreeMap<Kind, Vec<f64>> {
    let mut by_worker: Vec<Vec<Job>> = vec![Vec::new(); workers];
    for row in rows.iter().filter(|row| row.completed()) {
        if let (Some(Run { worker, model, start, .. }), Some(decision)) = (row.run, row.decision) {
            let job = Job { model: model.index(), skipped: decision.skipped_steps, start, finish: row.finish };
            by_worker[worker.index()].push(job);
        }
    }
    for jobs in &mut by_worker {
        jobs.sort_by_key(|job| job.start);
        // Requests of one batch are one job.
        jobs.dedup_by_key(|job| job.start);
    }
    let mut found: BTreeMap<Kind, Vec<f64>> = BTreeMap::new();
    for (own, jobs) in by_worker.iter().enumerate() {
        for job in jobs {
            if let Some(company) = company(job, own, &by_worker) {
                let seconds = job.finish.since(job.start).seconds();
                found.entry((job.model, job.skipped, company)).or_default().push(seconds);
            }
        }
    }
    found
}

/// Returns the company of a job; `None` for mixed company.
fn company(job: &Job, own: usize, by_worker: &[Vec<Job>]) -> Option<Company> {
    let mut beside_s: BTreeMap<usize, f64> = BTreeMap::new();
    for (_, jobs) in by_worker.iter().enumerate().filter(|(other, _)| *other != own) {
        // A worker runs one job at a time, so that its jobs are in the order of their ends too.
        let first = jobs.partition_point(|other| other.finish <= job.start);
        for other in jobs[first..].iter().take_while(|other| other.start < job.finish) {
            let overlap = other.finish.min(job.finish).since(other.start.max(job.start));
            *beside_s.entry(other.model).or_insert(0.0) += overlap.seconds();
        }
    }
    // All others together have this much time beside the job.
    let whole_s = job.finish.since(job.start).seconds() * (by_worker.len() - 1) as f64;
    let pure = beside_s.iter().find(|(_, seconds)| **seconds >= PURE * whole_s && whole_s > 0.0);
    let alone = beside_s.values().sum::<f64>() <= (1.0 - PURE) * whole_s;
    pure.map(|(model, _)| Company::Drawing(*model)).or(alone.then_some(Company::Idle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_told_apart_by_their_company() {
        let at = |tenths: u64| Time::from_nanoseconds(tenths * 100_000_000);
        let job = |model, from, until| Job { model, skipped: 0, start: at(from), finish: at(until) };
        let long = job(0, 0, 100);
        let beside = |jobs: Vec<Job>| company(&long, 0, &[vec![long], jobs]);
        assert_eq!(beside(vec![]), Some(Company::Idle));
        assert_eq!(beside(vec![job(1, 0, 50), job(1, 52, 120)]), Some(Company::Drawing(1)));
        assert_eq!(beside(vec![job(1, 0, 50), job(0, 50, 120)]), None, "half beside each");
        assert_eq!(beside(vec![job(1, 95, 120)]), Some(Company::Idle), "nearly alone");
        assert_eq!(company(&long, 0, &[vec![long], vec![job(1, 0, 100)], vec![]]), None, "one of two");
        assert_eq!(company(&long, 0, &[vec![long]]), Some(Company::Idle), "a single worker is alone");
    }
}
