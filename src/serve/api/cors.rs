//! Pages of other origins. A browser lets such a page send requests and read answers only if the server names the
//! page's origin. This server names those of `serve.cors_origins`, and by default none.

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::Server;

const METHODS: &str = "GET, POST, DELETE";
const HEADERS: &str = "authorization, cache-control, content-type";
/// Headers of answers that a page may read, beside those that it may read anyway.
const EXPOSED: &str = "location, retry-after, x-request-id, x-modm-ignored, x-modm-model, x-modm-prompt-cut";
/// Seconds for which a browser remembers that requests are allowed.
const MAX_AGE: &str = "600";

/// Returns the origin of the page that sends a request, if requests of this page are allowed.
pub(super) fn allowed(server: &Server, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    server.settings.cors_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// Returns whether a request is sent by a page of another site that is not allowed. Programs send no origin.
pub(super) fn is_foreign(server: &Server, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let own = |origin: &str| {
        let host = origin.split_once("://").map(|(_, host)| host);
        origin == server.origin || headers.get(HOST).is_some_and(|own| Some(own.as_bytes()) == host.map(str::as_bytes))
    };
    allowed(server, headers).is_none() && !origin.to_str().is_ok_and(own)
}

/// Returns the answer to a browser that asks whether a page may send a request, if the page may.
pub(super) fn preflight(method: &Method, headers: &HeaderMap, origin: Option<&HeaderValue>) -> Option<Response> {
    let asks = method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) && origin.is_some();
    asks.then(|| {
        let allows = [
            (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
            (ACCESS_CONTROL_MAX_AGE, MAX_AGE),
        ];
        (StatusCode::NO_CONTENT, allows).into_response()
    })
}

/// Lets the page that has sent a request read the answer.
pub(super) fn open(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    let Some(origin) = origin else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    headers.append(VARY, HeaderValue::from_static("origin"));
}
