//! Lease of a cluster: the value in its bucket that names the one scheduler whose orders workers take. A scheduler that
//! dies leaves its lease behind. Whoever comes next watches whether it is renewed, by its own clock, and takes it if not.

use std::time::Duration;

use async_nats::jetstream::kv::{Entry, Operation, Store};

use super::connection::{ClusterError, Connection};
use super::protocol::{Lease, PROTOCOL, SCHEDULER, read, written};

/// Least time that a lease is watched before it counts as left behind.
const WATCH: Duration = Duration::from_millis(1500);

/// Returns the lease in a bucket, if there is one that can be read.
pub(super) async fn current(store: &Store) -> Option<(Lease, u64)> {
    let entry = store.entry(SCHEDULER).await.ok()??;
    lease_of(&entry).map(|lease| (lease, entry.revision))
}

fn lease_of(entry: &Entry) -> Option<Lease> {
    (entry.operation == Operation::Put).then(|| read("the scheduler", &entry.value).ok())?
}

/// Lease that is held.
#[derive(Debug)]
pub(super) struct Held {
    lease: Lease,
    revision: u64,
}

impl Held {
    /// Takes the lease of a cluster, once no other scheduler renews it. A lease is renewed four times in `notice`.
    pub(super) async fn take(connection: &Connection, lease: Lease, notice: Duration) -> Result<Self, ClusterError> {
        let store = connection.bucket().await?;
        let bucket = |error: &dyn std::fmt::Display| ClusterError::NoBucket {
            bucket: connection.names.bucket(),
            why: error.to_string(),
        };
        let before = store.entry(SCHEDULER).await.map_err(|error| bucket(&error))?;
        let Some(before) = before.filter(|entry| entry.operation == Operation::Put) else {
            let revision = store.create(SCHEDULER, written(&lease).into()).await.map_err(|error| bucket(&error))?;
            return Ok(Self { lease, revision });
        };
        tokio::time::sleep(WATCH.max(notice / 2)).await;
        let taken = store.update(SCHEDULER, written(&lease).into(), before.revision).await;
        match taken {
            Ok(revision) => Ok(Self { lease, revision }),
            Err(_) => {
                let session = current(&store).await.map_or_else(|| "unknown".to_owned(), |(other, _)| other.session);
                Err(ClusterError::AnotherScheduler(connection.names.0.clone(), session))
            }
        }
    }

    /// Renews the lease. Returns a sentence if another scheduler has it now.
    pub(super) async fn renew(&mut self, connection: &Connection) -> Result<(), String> {
        let lost = |error: &dyn std::fmt::Display| format!("the lease of the cluster cannot be renewed: {error}");
        let store = connection.bucket().await.map_err(|error| lost(&error))?;
        let value = written(&self.lease);
        if let Ok(revision) = store.update(SCHEDULER, value.clone().into(), self.revision).await {
            self.revision = revision;
            return Ok(());
        }
        // The server may have forgotten the bucket, or this scheduler was away for so long that its lease is gone.
        match current(&store).await {
            Some((other, _)) if other.session != self.lease.session => Err(format!(
                "another scheduler has taken the cluster (session {}): workers take no orders from this one",
                other.session
            )),
            Some((_, revision)) => {
                self.revision = revision;
                Ok(())
            }
            None => {
                self.revision = store.create(SCHEDULER, value.into()).await.map_err(|error| lost(&error))?;
                Ok(())
            }
        }
    }

    /// Gives the lease back.
    pub(super) async fn give_back(self, connection: &Connection) {
        if let Ok(store) = connection.bucket().await {
            // If another has taken it, it is the other's.
            let _ = store.delete_expect_revision(SCHEDULER, Some(self.revision)).await;
        }
    }
}

/// Makes the lease of a scheduler that takes pictures in at this address.
pub(super) fn lease(session: String, pictures: String, pin: String) -> Lease {
    Lease { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned(), session, pictures, pin }
}
