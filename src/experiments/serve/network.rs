//! Network side of a server: answers requests until a signal comes or the loop ends, and then lets the accepted ones
//! finish.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration as HostDuration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{LOOP_END, ending};
use crate::experiments::ExperimentError;
use crate::live::executor::Intake;
use crate::serve::api::{Server, answers, resume};
use crate::serve::desk::Desk;
use crate::serve::listen::listen;

/// Serves the network, until a signal comes or the loop ends.
pub(super) async fn network(
    listener: TcpListener,
    (desk, abort): (Desk, Arc<OnceLock<Intake>>),
    mut server: Server,
    mut ended: oneshot::Receiver<()>,
    listening: &dyn Fn(SocketAddr),
) -> Result<(), ExperimentError> {
    let address = listener.local_addr().map_err(ExperimentError::System)?;
    if server.origin.is_empty() {
        server.origin = format!("http://{address}");
    }
    let server = Arc::new(server);
    let again = resume(&server)?;
    if again > 0 {
        tracing::info!(jobs = again, "begun again: they had not ended");
    }
    let mut looking = tokio::spawn(server.clone().look_after());
    let failure = Arc::new(OnceLock::new());
    let drain = HostDuration::from_secs_f64(server.settings.drain_s);
    let signal = ending::listen(drain).map_err(ExperimentError::System)?;
    listening(address);
    let (told, late) = (server.clone(), Arc::new(AtomicBool::new(false)));
    let (too_late, why) = (late.clone(), failure.clone());
    let ends = async move {
        let fails = |looked: Result<String, tokio::task::JoinError>| {
            let _ =
                why.set(looked.unwrap_or_else(|error| format!("the task that looks after the server died: {error}")));
        };
        let signalled = tokio::select! {
            _ = signal => true,
            _ = &mut ended => false,
            looked = &mut looking => return fails(looked),
        };
        desk.drain();
        if signalled {
            tracing::info!("takes nothing more in");
            let drained = tokio::select! {
                drained = tokio::time::timeout(drain, &mut ended) => drained.is_ok(),
                looked = &mut looking => return fails(looked),
            };
            if !drained {
                too_late.store(true, Ordering::Relaxed);
                abort.get().into_iter().for_each(Intake::abort);
                let _ = tokio::time::timeout(LOOP_END, &mut ended).await;
            }
        }
        // Clients that still wait are told that nothing will come.
        desk.abandon();
        let settled = async {
            told.settled().await;
            told.keep_usage().await;
        };
        tokio::select! {
            settled = tokio::time::timeout(LOOP_END, settled) => {
                if settled.is_err() {
                    let _ = why.set("the ends of some jobs are not on disk: they are begun again by the next start".into());
                }
            }
            looked = &mut looking => fails(looked),
        }
    };
    let (connections, header) = (server.settings.max_connections, server.settings.read_timeout_s);
    listen(listener, answers(server), connections, HostDuration::from_secs_f64(header), ends).await;
    if let Some(why) = failure.get() {
        return Err(ExperimentError::Failed(why.clone()));
    }
    if late.load(Ordering::Relaxed) {
        return Err(ExperimentError::Failed(format!(
            "not everything that was in had ended within serve.drain_s = {} s: jobs are begun again by the next start",
            drain.as_secs_f64()
        )));
    }
    Ok(())
}
