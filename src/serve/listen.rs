//! Connections: so many at a time, none that sends its header for ever, and all of them brought to an end when the server is.

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

/// How long connections may go on once nothing more is taken in.
const GRACE: Duration = Duration::from_secs(10);
/// After an error that is no connection's, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until `ends` does, then brings what is under way to its end.
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
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout).max_headers(64).half_close(false);
    tokio::pin!(ends);
    loop {
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
            // A client that goes away is not our error.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}
