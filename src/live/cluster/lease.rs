//! Lease of a cluster: the value in its bucket that names the one scheduler whose orders workers take. A scheduler that
//! dies leaves its lease behind. Whoever comes next watches whether it is renewed, by its own clock, and takes it if
//! not.

use std::time::Duration;

use async_nats::jetstream::kv::{Operation, Store};

use super::connection::{ClusterError, Connection};
use super::protocol::{Lease, PROTOCOL, SCHEDULER, read, written};

/// Least time that a lease is watched before it counts as left behind.
const WATCH: Duration = Duration::from_millis(1500);

/// Value at the place of the lease.
enum Kept {
    Nothing,
    /// Lease, and its revision.
    Lease(Lease, u64),
    /// Lease of another version of the messages, or something that is none; its revision, and what is wrong with it.
    Unreadable(u64, String),
}

/// Asks for the lease of a cluster; `None` if there is none that can be read. Needs no right but that of this question.
pub(super) async fn read_lease(connection: &Connection) -> Option<Lease> {
    let message = connection.client.request(connection.names.ask_lease(), "".into()).await.ok()?;
    // An answer without a value has a status, and one that marks a removal has no payload.
    if message.status.is_some() || message.payload.is_empty() {
        return None;
    }
    read("the scheduler", &message.payload).ok()
}

async fn kept(store: &Store) -> Result<Kept, String> {
    let entry = store.entry(SCHEDULER).await.map_err(|error| error.to_string())?;
    let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) else { return Ok(Kept::Nothing) };
    Ok(match read("the scheduler", &entry.value) {
        Ok(lease) => Kept::Lease(lease, entry.revision),
        Err(why) => Kept::Unreadable(entry.revision, why),
    })
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
        let before = match kept(&store).await.map_err(|error| bucket(&error))? {
            Kept::Nothing => {
                let taken = store.create(SCHEDULER, written(&lease).into()).await;
                let revision = taken.map_err(|error| bucket(&error))?;
                return Ok(Self { lease, revision });
            }
            Kept::Lease(_, revision) | Kept::Unreadable(revision, _) => revision,
        };
        tokio::time::sleep(WATCH.max(notice / 2)).await;
        if let Ok(revision) = store.update(SCHEDULER, written(&lease).into(), before).await {
            return Ok(Self { lease, revision });
        }
        let who = match kept(&store).await {
            Ok(Kept::Lease(other, _)) => format!("session {}", other.session),
            Ok(Kept::Unreadable(_, why)) => why,
            _ => "unknown".to_owned(),
        };
        Err(ClusterError::AnotherScheduler(connection.names.0.clone(), who))
    }

    /// Renews the lease. Returns a sentence if that is not possible.
    pub(super) async fn renew(&mut self, connection: &Connection) -> Result<(), String> {
        let lost = |error: &dyn std::fmt::Display| format!("the lease of the cluster cannot be renewed: {error}");
        let store = connection.bucket().await.map_err(|error| lost(&error))?;
        let value = written(&self.lease);
        if let Ok(revision) = store.update(SCHEDULER, value.clone().into(), self.revision).await {
            self.revision = revision;
            return Ok(());
        }
        // The server may have forgotten the bucket, or this scheduler was away for so long that its lease is gone.
        self.revision = match kept(&store).await.map_err(|error| lost(&error))? {
            Kept::Lease(other, _) if other.session != self.lease.session => {
                return Err(format!(
                    "another scheduler has taken the cluster (session {}): workers take no orders from this one",
                    other.session
                ));
            }
            Kept::Lease(_, revision) => revision,
            // A value that is no lease was put there by somebody who may not: the next renewal replaces it.
            Kept::Unreadable(revision, why) => {
                let replaced = store.update(SCHEDULER, value.into(), revision).await;
                self.revision = replaced.map_err(|error| lost(&error))?;
                return Err(format!("the lease of the cluster was overwritten, and is there again: {why}"));
            }
            Kept::Nothing => store.create(SCHEDULER, value.into()).await.map_err(|error| lost(&error))?,
        };
        Ok(())
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
