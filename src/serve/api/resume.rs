//! Jobs that had not ended when the program did: found and withdrawn like any other from the first moment, begun again as there
//! is room, and ended with a reason where they can never be.

use std::sync::Arc;
use std::time::Duration as HostDuration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::ask::{Format, Wanted};
use super::jobs::{self, Followed};
use super::{Caller, Server};
use crate::serve::desk::Refused;
use crate::serve::ledger::{Entry, Job, LedgerError, Status};

/// Starts of the program at which a job is begun again before it is given up. A job that was merely under way when the
/// program was killed is no poison: with 3, one of a test of 100 kills was given up.
const MOST_ATTEMPTS: u32 = 10;
/// Time between two looks for room, or two attempts to write to a disk that fails.
const AGAIN: HostDuration = HostDuration::from_millis(200);

/// Begins what had not ended when the program did. Returns the number of jobs.
///
/// # Errors
/// The ledger cannot be read.
pub fn resume(server: &Arc<Server>) -> Result<usize, LedgerError> {
    let jobs = server.ledger.open_jobs()?;
    let count = jobs.len();
    // As many at a time as there are workers: a job that brings the program down is then one of few, and each of them is counted.
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
    // In the order in which they were taken in.
    tokio::spawn(async move {
        for turn in turns {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            // A job that has ended meanwhile gives its turn to the next.
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
        Err(why) => {
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
    // On disk before it begins: whatever it does to the program, this start is counted.
    count(server, &mut job, 1).await;
    let wanted = Wanted {
        prompt: job.prompt.clone(),
        pictures: job.pictures,
        seed: job.seed,
        deadline_s: job.deadline_s,
        reuse: job.reuse,
        format: Format::Url,
    };
    loop {
        // They were acknowledged: they wait for room, and count against no limit again.
        let (asks, views) = jobs::followed(wanted.asks(&caller));
        match server.desk.submit(asks) {
            Ok(tickets) => {
                followed.follow(server, job, tickets, views).await;
                drop(slot);
                return;
            }
            Err(Refused::Draining) if server.desk.is_draining() => {
                count(server, &mut job, -1).await;
                return followed.leave(server, &job.id);
            }
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

/// Changes the number of starts at which a job was begun, on disk.
async fn count(server: &Server, job: &mut Job, by: i32) {
    job.attempts = job.attempts.saturating_add_signed(by);
    while let Err(error) = server.ledger.write(vec![Entry::Job(Box::new(job.clone()))]).await {
        tracing::warn!(job = job.id, "cannot be begun yet: {error}");
        tokio::time::sleep(AGAIN).await;
    }
}

/// Returns who a job is for, or why it can never begin.
fn may_begin(server: &Server, job: &Job) -> Result<Caller, String> {
    let name = job.tenant.clone();
    let id = server.usage.number(name.as_deref()).ok_or_else(|| match &name {
        Some(_) => "its tenant is not known here any more".to_owned(),
        None => "it was asked for without a key, and keys are asked for now: it belongs to nobody".to_owned(),
    })?;
    let most = server.desk.facts().max_queue;
    if job.pictures as usize > most {
        return Err(format!("its {} pictures are more than may wait here now ({most})", job.pictures));
    }
    if let Some(most) = server.usage.daily(id).filter(|most| u64::from(job.pictures) > *most) {
        return Err(format!(
            "its {} pictures are more than its tenant may ask for on a day now ({most})",
            job.pictures
        ));
    }
    if job.attempts >= MOST_ATTEMPTS {
        return Err(format!("the program ended {MOST_ATTEMPTS} times while it was under way"));
    }
    Ok(Caller { id, name })
}
