//! Thread that writes the ledger. All orders that wait become one transaction, so that they share one sync of the disk.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use tokio::sync::oneshot;

use super::error::LedgerError;
use super::shelf::Shelf;
use super::{Entry, Forgotten, Status};
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
        match self {
            Self::Job(job) if job.status == Status::Queued && job.attempts == 0 => Some(&job.id),
            _ => None,
        }
    }
}
