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
        // The permit comes first: clients beyond the limit are not refused, but wait to be accepted. The end is heard
        // during both waits, because some connections close only after it.
        let next = async {
            let permit = room.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = &mut ends => break,
        };
        let (Ok(permit), Ok((stream, _))) = (permit, accepted) else {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => continue,
                () = &mut ends => break,
            }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::body::Body;
    use hyper::service::service_fn;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpStream;
    use tokio::sync::{Notify, oneshot};

    use super::*;

    #[tokio::test]
    async fn the_end_is_heard_while_as_many_connections_are_open_as_may_be() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (asked, released) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (own, until) = (asked.clone(), released.clone());
        // An answer that waits for as long as the server does not end, like the events of a job.
        let service = service_fn(move |_| {
            let (asked, until) = (own.clone(), until.clone());
            async move {
                asked.notify_one();
                until.notified().await;
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }
        });
        let (signal, signalled) = oneshot::channel();
        let heard = Arc::new(AtomicBool::new(false));
        let hears = heard.clone();
        let ends = async move {
            let _ = signalled.await;
            hears.store(true, Ordering::Relaxed);
            released.notify_one();
        };
        let limit = Duration::from_secs(30);
        let serves = tokio::spawn(async move { listen(listener, service, 1, limit, ends).await });
        let mut open = TcpStream::connect(address).await.expect("a connection");
        open.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").await.expect("asked");
        asked.notified().await;
        // One more waits to be accepted.
        let _waits = TcpStream::connect(address).await.expect("a connection");
        signal.send(()).expect("it listens");
        let ended = tokio::time::timeout(Duration::from_secs(5), serves).await;
        assert!(ended.is_ok() && heard.load(Ordering::Relaxed), "the end waits for a connection");
    }
}
