//! Acceptance of connections. The number of open connections and the time for a request's header are limited, and all
//! connections are closed when the server ends.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Time that open connections have to finish once the server accepts no more.
const GRACE: Duration = Duration::from_secs(10);
/// Pause after an error that belongs to no connection, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts and answers connections until `ends` completes, then lets the answers under way finish.
pub async fn listen<S>(
    listener: TcpListener,
    service: S,
    connections: usize,
    header_timeout: Duration,
    ends: impl Future<Output = ()>,
) where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
    S::Future: 'static,
{
    let room = std::sync::Arc::new(Semaphore::new(connections));
    let graceful = GracefulShutdown::new();
    let mut builder = hyper::server::conn::http1::Builder::new();
    // Without half-closed connections, a client that closes its side counts as gone, and its request is withdrawn.
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout).max_headers(64).half_close(false);
    tokio::pin!(ends);
    loop {
        // The permit comes first: clients beyond the limit are not refused, but wait to be accepted.
        let Ok(permit) = room.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut ends => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service.clone()));
        tokio::spawn(async move {
            // A client that closes its connection early is not an error of the server.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}
