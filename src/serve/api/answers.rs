//! Routes of the API, and what every answer gets, whatever becomes of its request: a name, a line in the log, a count,
//! and headers for browsers.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::HeaderValue;
use axum::http::{HeaderName, Request};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use tower::ServiceExt as _;

use super::{ApiError, Server, cache, cors, edits, fresh_name, generations, info, jobs, listing, pictures};

/// Returns the addresses with their handlers. If two of them lead to the same path, the first one counts.
fn routes() -> [(&'static str, MethodRouter<Arc<Server>>); 18] {
    [
        ("/v1/images/generations", post(generations::generate)),
        ("/v1/images/edits", post(edits::edit)),
        ("/v1/images/variations", post(edits::variation)),
        ("/v1/images/{id}", get(pictures::picture).delete(pictures::delete)),
        ("/v1/jobs", post(jobs::submit).get(listing::list)),
        ("/v1/jobs/{id}", get(jobs::job).delete(jobs::cancel)),
        ("/v1/jobs/{id}/events", get(jobs::events)),
        ("/v1/models", get(info::models)),
        ("/v1/models/{id}", get(info::model)),
        ("/v1/cache", get(cache::list)),
        ("/v1/status", get(info::status)),
        ("/metrics", get(info::metrics)),
        ("/", get(info::page)),
        ("/page.js", get(info::script)),
        ("/page.css", get(info::style)),
        ("/openapi.json", get(info::openapi)),
        ("/healthz", get(info::healthy)),
        ("/readyz", get(info::ready)),
    ]
}

/// Makes the service that answers the requests of connections.
///
/// # Errors
/// None: an error is an answer, too.
pub fn answers(
    server: Arc<Server>,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Clone + Send {
    let all: Arc<[&'static str]> = routes().into_iter().map(|(route, _)| route).collect();
    let routed = routes().into_iter().fold(Router::new(), |router, (route, methods)| router.route(route, methods));
    let router = routed
        .fallback(|| async { ApiError::not_found("there is no such address") })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .with_state(server.clone());
    // The wrapper is no middleware of the router, because a middleware would box the future of each request once more.
    service_fn(move |request| told(server.clone(), all.clone(), router.clone(), request))
}

/// Answers a request. Adds a line to the log, a count, and headers that restrict what a browser may do with the answer.
async fn told(
    server: Arc<Server>,
    all: Arc<[&'static str]>,
    router: Router,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    // The id is random, because a counter would reveal how much others request.
    let id = fresh_name("req");
    #[expect(clippy::disallowed_methods, reason = "logs have the host's time")]
    let begun = std::time::Instant::now();
    let origin = cors::allowed(&server, request.headers());
    let preflight = cors::preflight(&method, request.headers(), origin.as_ref());
    // A panic is answered with an error. Without an answer, the client would find its connection closed.
    let mut response = if let Some(preflight) = preflight {
        preflight
    } else {
        match AssertUnwindSafe(router.oneshot(request.map(Body::new))).catch_unwind().await {
            Ok(answered) => answered?,
            Err(_) => ApiError::failed("the server failed at this request").into_response(),
        }
    };
    let status = response.status();
    // All other paths count under one name: otherwise any client could make new time series without end.
    let route = all.iter().find(|route| leads(route, uri.path())).unwrap_or(&"none");
    server.desk.meter().answered(route, status.as_u16());
    let milliseconds = begun.elapsed().as_secs_f64() * 1000.0;
    tracing::info!(request = id, %method, path = uri.path(), status = status.as_u16(), milliseconds, "answered");
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    cors::open(headers, origin);
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    headers.insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// Returns whether a route matches a path.
fn leads(route: &str, path: &str) -> bool {
    let (mut own, mut given) = (route.split('/'), path.split('/'));
    loop {
        match (own.next(), given.next()) {
            (None, None) => return true,
            (Some("{id}"), Some(id)) if !id.is_empty() => {}
            (Some(own), Some(given)) if own == given => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_counted_as_its_own_route() {
        let all = routes().map(|(route, _)| route);
        for route in all {
            let path = route.replace("{id}", "some.thing-1");
            assert_eq!(all.iter().find(|all| leads(all, &path)), Some(&route));
        }
        for path in ["/v1", "/v1/jobs/", "/v1/jobs/a/b", "/v1/jobs//events", "", "/v1/models/a/"] {
            assert!(!all.iter().any(|route| leads(route, path)), "{path}");
        }
    }
}
