//! Diagnosis of a cluster: whether the NATS server answers, who is there, and whether pictures would go through.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::time::timeout;

use super::connection::Connection;
use super::lease::read_lease;
use super::protocol::{Presence, read};
use super::settings::Identity;
use crate::live::diagnosis::{Condition, Finding};

/// Time that is listened for heartbeats. A worker that beats more seldom is not seen.
const LISTEN: Duration = Duration::from_millis(2500);
/// Time that the address for pictures may take to answer.
const REACH: Duration = Duration::from_secs(3);

const NEXT_SERVER: &str = "nats-server -js on a machine that all others reach, and its address in --cluster";
const NEXT_SCHEDULER: &str = "modm serve SCENARIO --cluster URL, or modm live";
const NEXT_WORKER: &str = "modm worker --cluster URL --devices ... --models DIR";
const NEXT_PICTURES: &str =
    "live.cluster.pictures and live.cluster.pictures_from_outside: an address that workers reach";

/// Examines a cluster. Calls `report` with each finding as it comes, and returns whether everything works that is
/// needed: the NATS server, and the address for pictures of a scheduler that is there.
pub fn examine((url, name): (&str, &str), identity: &Identity, report: &mut dyn FnMut(Finding)) -> bool {
    let mut works = true;
    let mut tell = |condition, part, found: String, next: Option<&'static str>| {
        works &= condition != Condition::Missing;
        report(Finding { condition, part, found, next });
    };
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return false };
    runtime.block_on(async {
        let refusals = Arc::<Mutex<Vec<String>>>::default();
        let heard = refusals.clone();
        let say = Arc::new(move |said: &str| {
            if said.contains("ermissions") {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(said.to_owned());
            }
        });
        let opened = Connection::open((url, name), identity, "modm doctor", LISTEN, say).await;
        let connection = match opened {
            Ok(connection) => connection,
            Err(error) => return tell(Condition::Missing, "nats", error.to_string(), Some(NEXT_SERVER)),
        };
        let info = connection.client.server_info();
        tell(Condition::Works, "nats", format!("{url}, nats-server {}", info.version), None);
        scheduler(&connection, name, &mut tell).await;
        let workers = workers(&connection).await;
        let refused = refusals.lock().unwrap_or_else(PoisonError::into_inner).first().cloned();
        if let Some(refused) = refused {
            // Whoever has a worker's rights sees no other worker.
            tell(Condition::Absent, "worker", refused, Some("the rights of the scheduler, to see who is there"));
        } else if workers.is_empty() {
            let found = format!("no worker of the cluster {name} was heard of in {} s", LISTEN.as_secs_f64());
            tell(Condition::Absent, "worker", found, Some(NEXT_WORKER));
        }
        for (worker, presence) in workers {
            match presence {
                Ok(Presence { device, gpu, version, models, leaving, node, .. }) => {
                    let leaving = if leaving { ", leaving" } else { "" };
                    let found = format!(
                        "{worker}: {device} of type {gpu} on {node}, {} models, modm {version}{leaving}",
                        models.len()
                    );
                    tell(Condition::Works, "worker", found, None);
                }
                Err(why) => tell(Condition::Absent, "worker", why, Some("the same modm on all machines")),
            }
        }
    });
    works
}

async fn scheduler(
    connection: &Connection,
    name: &str,
    tell: &mut impl FnMut(Condition, &'static str, String, Option<&'static str>),
) {
    let Some(lease) = read_lease(connection).await else {
        let found = format!("nobody has the lease of the cluster {name}");
        return tell(Condition::Absent, "scheduler", found, Some(NEXT_SCHEDULER));
    };
    let session = &lease.session[..lease.session.len().min(8)];
    tell(Condition::Works, "scheduler", format!("modm {}, session {session}", lease.version), None);
    match timeout(REACH, TcpStream::connect(&lease.pictures)).await {
        Ok(Ok(_)) => tell(Condition::Works, "pictures", format!("{} answers", lease.pictures), None),
        Ok(Err(error)) => {
            tell(Condition::Missing, "pictures", format!("{}: {error}", lease.pictures), Some(NEXT_PICTURES));
        }
        Err(_) => {
            let found = format!("{} does not answer within {} s", lease.pictures, REACH.as_secs());
            tell(Condition::Missing, "pictures", found, Some(NEXT_PICTURES));
        }
    }
}

/// Returns the workers that are heard of, by name, each with what it says of itself or why that cannot be read.
async fn workers(connection: &Connection) -> BTreeMap<String, Result<Presence, String>> {
    let mut found = BTreeMap::new();
    let Ok(mut heartbeats) = connection.client.subscribe(connection.names.heartbeat("*")).await else { return found };
    let _ = timeout(LISTEN, async {
        while let Some(message) = heartbeats.next().await {
            let name = message.subject.rsplit('.').next().unwrap_or_default().to_owned();
            if !message.payload.is_empty() {
                found.insert(name.clone(), read(&format!("worker {name}"), &message.payload));
            }
        }
    })
    .await;
    found
}
