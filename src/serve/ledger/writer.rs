//! Thread that writes the ledger. All orders that wait become one transaction, so that they share one sync of the disk.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use tokio::sync::oneshot;

use super::error::LedgerError;
use super::shelf::Shelf;
use super::{Entry, Forgotten};
use crate::live::faults::may_panic;

/// Largest number of orders that join the first one in a transaction.
const TOGETHER: usize = 256;

pub(super) type Answer = oneshot::Sender<Result<Forgotten, LedgerError>>;
pub(super) type Orders = Sender<(Vec<Entry>, Answer)>;

pub(super) fn write(orders: &Receiver<(Vec<Entry>, Answer)>, shelf: &Arc<Shelf>) {
    // Withdrawals of jobs that were refused because their write failed: the jobs may be on disk all the same.
    let mut owed: Vec<Entry> = Vec::new();
    while let Ok(first) = orders.recv() {
        let mut together = vec![first];
        together.extend(orders.try_iter().take(TOGETHER));
        may_panic("ledger");
        // Withdrawals that are owed come first: a job of this transaction may have the same name, and must stay.
        let entries: Vec<&Entry> = owed.iter().chain(together.iter().flat_map(|(entries, _)| entries)).collect();
        let written = shelf.commit(&entries).map(|committed| committed.forgotten);
        if written.is_ok() {
            owed.clear();
        }
        for (entries, answer) in together {
            // A caller that no longer waits was told that its entries are not on disk.
            let is_unheard = answer.send(written.clone()).is_err();
            if written.is_err() || is_unheard {
                let refused = entries.iter().filter_map(Entry::begun);
                owed.extend(refused.map(|id| Entry::Withdraw(id.to_owned())));
            }
        }
        // The jobs are withdrawn at once, because no other order may follow before the program ends.
        if written.is_ok() && !owed.is_empty() && shelf.commit(&owed.iter().collect::<Vec<_>>()).is_ok() {
            owed.clear();
        }
    }
}

impl Entry {
    /// Returns the name of the job that the entry adds for the first time, if any.
    fn begun(&self) -> Option<&str> {
        // The job itself does not tell: one that was acknowledged long ago may be queued and without a counted start.
        match self {
            Self::NewJob(job) => Some(&job.id),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{entry, job, listed};
    use super::super::{Job, Ledger, Status};
    use super::*;
    use crate::live::faults::Faults;
    use crate::serve::clock::HostClock;

    #[tokio::test]
    async fn a_job_that_is_written_again_is_not_withdrawn_if_that_write_hangs() {
        let folder = tempfile::tempdir().expect("a folder");
        let hangs = folder.path().join("hangs");
        let faults = Faults::hang_while(hangs.clone());
        let limit = Duration::from_millis(500);
        let ledger = Ledger::open(folder.path(), &HostClock::new(), Some(faults)).expect("a ledger").with_limit(limit);
        ledger.write(vec![entry("a", "job-1", 1, Status::Queued)]).await.expect("acknowledged");
        std::fs::write(&hangs, "").expect("a file");
        // A start that meets the end of the server is not counted: the job is queued again, without an attempt.
        let uncounted = Job { tenant: Some("a".to_owned()), ..job("job-1", 1, Status::Queued) };
        ledger.write(vec![Entry::Job(Box::new(uncounted))]).await.expect_err("it hangs");
        std::fs::remove_file(&hangs).expect("removed");
        ledger.write(Vec::new()).await.expect("written");
        ledger.write(Vec::new()).await.expect("written");
        assert_eq!(listed(&ledger, None, 9), ["job-1"], "what was acknowledged is begun again");
    }
}
