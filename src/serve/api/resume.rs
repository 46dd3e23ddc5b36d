//! Jobs that had not ended when the program did. From the start on such a job can be found and withdrawn like any
//! other. It is begun again when there is room, and ends with a reason if it can never begin.

use std::sync::Arc;
use std::time::Duration as HostDuration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::ask::{Format, WantedPictures};
use super::jobs::{self, Followed};
use super::{Caller, Server};
use crate::serve::desk::Refused;
use crate::serve::ledger::{Entry, Job, LedgerError, Status};

/// Number of starts of the program at which a job is begun again before it is given up. A job that was running when the
/// program was killed need not be the cause: with a limit of 3, one job of a test with 100 kills was given up.
const MOST_ATTEMPTS: u32 = 10;
/// Time between two attempts to find room, or to write to a disk that fails.
const AGAIN: HostDuration = HostDuration::from_millis(200);

/// Begins the jobs again that had not ended when the program did. Returns their number.
///
/// # Errors
/// The ledger cannot be read.
pub fn resume(server: &Arc<Server>) -> Result<usize, LedgerError> {
    let jobs = server.ledger.open_jobs()?;
    let count = jobs.len();
    // As many jobs run at a time as there are workers. A job that makes the program crash is then one of few that ran,
    // and each of these few has its start counted.
    let slots = Arc::new(Semaphore::new(server.desk.facts().gpus.len().max(1)));
    let mut turns = Vec::with_capacity(count);
    for job in jobs {
        let (turn, comes) = oneshot::channel();
        turns.push(turn);
        let followed = Followed::begin(server, &job);
        let (own, copy) = (server.clone(), job.clone());
        let ends = async move { bring_to_an_end(&own, job, followed, comes).await };
        tokio::spawn(jobs::watched(server.clone(), copy, ends));
    }
    // The jobs get their turns in the order in which they were accepted.
    tokio::spawn(async move {
        for turn in turns {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            // A job that has ended meanwhile gives its turn to the next job.
            let _ = turn.send(slot);
        }
    });
    Ok(count)
}

/// Waits for a job's turn and for room, and follows the job to its end.
async fn bring_to_an_end(
    server: &Arc<Server>,
    mut job: Job,
    mut followed: Followed,
    turn: oneshot::Receiver<OwnedSemaphorePermit>,
) {
    let caller = match may_begin(server, &job) {
        Ok(caller) => caller,
        Err(error) => {
            let why = error.to_string();
            tracing::warn!(job = job.id, why, "not begun again");
            (job.status, job.error) = (Status::Failed, Some(why));
            return followed.end(server, job, Vec::new()).await;
        }
    };
    let slot = tokio::select! {
        slot = turn => slot.ok(),
        () = followed.withdrawn() => {
            job.status = Status::Cancelled;
            return followed.end(server, job, Vec::new()).await;
        }
    };
    if server.desk.is_draining() {
        return followed.leave(server, &job.id);
    }
    // The start is counted on disk before the job begins, so that it counts even if the job makes the program crash.
    count(server, &mut job, 1).await;
    let wanted = WantedPictures {
        pictures: job.pictures,
        seed: job.seed,
        deadline_s: job.deadline_s,
        reuse: job.reuse,
        wanted: job.wanted.clone(),
        format: Format::Url,
        ..WantedPictures::of_prompt(job.prompt.clone())
    };
    loop {
        // The pictures were acknowledged before: they wait for room, and count against no limit again.
        let (asks, views) = jobs::followed(wanted.asks(&caller, &server.offers));
        match server.desk.submit(asks) {
            Ok(tickets) => {
                followed.follow(server, job, tickets, views).await;
                drop(slot);
                return;
            }
            Err(Refused::Draining) if server.desk.is_draining() => {
                // The job did not begin, so that this start does not count.
                count(server, &mut job, -1).await;
                return followed.leave(server, &job.id);
            }
            // The queue is full, or the loop does not run yet.
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = followed.withdrawn() => {
                job.status = Status::Cancelled;
                return followed.end(server, job, Vec::new()).await;
            }
        }
    }
}

/// Adds `by` to the number of starts at which a job was begun, and writes the job to disk.
async fn count(server: &Server, job: &mut Job, by: i32) {
    job.attempts = job.attempts.saturating_add_signed(by);
    while let Err(error) = server.ledger.write(vec![Entry::Job(Box::new(job.clone()))]).await {
        tracing::warn!(job = job.id, "cannot be begun yet: {error}");
        tokio::time::sleep(AGAIN).await;
    }
}

/// Reason that a job can never begin again.
#[derive(Debug, thiserror::Error)]
enum NeverBegins {
    #[error("its tenant is not known here any more")]
    UnknownTenant,
    #[error("it was asked for without a key, and keys are asked for now: it belongs to nobody")]
    NoTenant,
    #[error("what it asks for is not offered here any more: {key}: {why}")]
    NotOffered { key: &'static str, why: String },
    #[error("its {pictures} pictures are more than may wait here now ({most})")]
    NoRoom { pictures: u32, most: usize },
    #[error("its {pictures} pictures are more than its tenant may ask for on a day now ({most})")]
    OverDailyLimit { pictures: u32, most: u64 },
    #[error("the program ended {MOST_ATTEMPTS} times while it was under way")]
    TooManyAttempts,
}

/// Returns the caller for whom a job runs.
fn may_begin(server: &Server, job: &Job) -> Result<Caller, NeverBegins> {
    let (name, pictures) = (job.tenant.clone(), job.pictures);
    let unknown = if name.is_some() { NeverBegins::UnknownTenant } else { NeverBegins::NoTenant };
    let id = server.usage.number(name.as_deref()).ok_or(unknown)?;
    let most = server.desk.facts().max_queue;
    if pictures as usize > most {
        return Err(NeverBegins::NoRoom { pictures, most });
    }
    if let Some(most) = server.usage.daily(id).filter(|most| u64::from(pictures) > *most) {
        return Err(NeverBegins::OverDailyLimit { pictures, most });
    }
    if let Some((key, why)) = server.offers.refusal(&job.wanted) {
        return Err(NeverBegins::NotOffered { key, why });
    }
    if job.attempts >= MOST_ATTEMPTS {
        return Err(NeverBegins::TooManyAttempts);
    }
    Ok(Caller { id, name })
}
