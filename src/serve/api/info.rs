//! What the server is and how it does: models, charts, counters, health, its description and its page.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{ApiError, Caller, Id, Shared, audits};
use crate::serve::desk::Window;

/// The name of the whole: whichever model serves.
pub(super) const OWN: &str = "modm";

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn described(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 0, "owned_by": OWN })
}

pub(super) async fn models(State(server): Shared, _: Caller) -> Response {
    let own = server.desk.facts().models.iter().map(AsRef::as_ref);
    let data: Vec<Value> = std::iter::once(OWN).chain(own).map(described).collect();
    super::json(StatusCode::OK, &json!({ "object": "list", "data": data }))
}

pub(super) async fn model(State(server): Shared, _: Caller, Id(id): Id) -> Result<Response, ApiError> {
    let known = id == OWN || server.desk.facts().models.iter().any(|model| **model == id);
    let missing = || ApiError::not_found("there is no such model here");
    known.then(|| super::json(StatusCode::OK, &described(&id))).ok_or_else(missing)
}

pub(super) async fn status(State(server): Shared, caller: Caller) -> Response {
    let audited = audits::seen(&server, &caller).await;
    let (windows, workers, [queued, running, cached]) = server.desk.lately();
    let facts = server.desk.facts();
    let sum = |of: fn(&Window) -> u64| windows.iter().map(of).sum::<u64>();
    let (hits, routed) = (sum(|window| window.hits), sum(|window| window.routed));
    let [width, height] = server.size;
    let status = json!({
        "uptime_s": server.desk.uptime_s(),
        "size": format!("{width}x{height}"),
        "steps": facts.total_steps,
        "models": facts.models,
        "workers": workers,
        "queued": queued,
        "running": running,
        "hit_rate": (routed > 0).then(|| hits as f64 / routed as f64),
        "cache_images": cached,
        "history": windows,
        "slo_s": facts.slo.seconds(),
        "audit": audited.map(|kept| audits::described(&server, &kept)),
    });
    super::json(StatusCode::OK, &status)
}

pub(super) async fn metrics(State(server): Shared, caller: Caller) -> Response {
    let audited = audits::seen(&server, &caller).await.unwrap_or_default();
    let skipped = server.desk.audits().map(crate::serve::audit::Audits::skipped).unwrap_or_default();
    let (_, workers, counts) = server.desk.lately();
    let sources = server.sources.clone();
    let bytes = tokio::task::spawn_blocking(move || sources.bytes()).await.unwrap_or(0);
    let text = server.desk.meter().text(counts, &workers, bytes, &audited, &skipped);
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

pub(super) async fn healthy() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(server): Shared) -> Response {
    if server.desk.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    "ready\n".into_response()
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind), (CONTENT_SECURITY_POLICY, POLICY)], text).into_response()
}

pub(super) async fn openapi() -> Response {
    file("application/json", include_str!("../../../docs/openapi.json"))
}

pub(super) async fn page() -> Response {
    file("text/html; charset=utf-8", include_str!("../page/index.html"))
}

pub(super) async fn script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("../page/page.js"))
}

pub(super) async fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("../page/page.css"))
}
