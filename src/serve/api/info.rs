//! Handlers that describe the server: its models, charts, counters and health, its `OpenAPI` file and its page.

use std::time::Duration as HostDuration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Access, ApiError, Id, Operator, Server, Shared, audits};
use crate::serve::desk::Window;
use crate::serve::names::OWN;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Time that the loop may leave the queue of the desk untaken before the server counts as not ready. The loop takes the
/// queue within a millisecond, and writes no file itself.
const LOOP_SILENCE: HostDuration = HostDuration::from_secs(10);

/// Describes a model by a name, and says what the name stands for if it is an alias.
fn described((id, alias_of): (&str, Option<&str>)) -> Value {
    let mut model = json!({ "id": id, "object": "model", "created": 0, "owned_by": OWN });
    if let Some(name) = alias_of {
        model["alias_of"] = json!(name);
    }
    model
}

pub(super) async fn models(State(server): Shared, _: Access) -> Response {
    let data: Vec<Value> = server.names.all().map(described).collect();
    super::json(StatusCode::OK, &json!({ "object": "list", "data": data }))
}

pub(super) async fn model(State(server): Shared, _: Access, Id(id): Id) -> Result<Response, ApiError> {
    let found = server.names.all().find(|(name, _)| *name == id);
    let missing = || ApiError::not_found("there is no such model here");
    found.map(|model| super::json(StatusCode::OK, &described(model))).ok_or_else(missing)
}

/// Handles `GET /v1/status`: an operator gets the figures of the whole server, a tenant its own.
pub(super) async fn status(State(server): Shared, access: Access) -> Result<Response, ApiError> {
    let audited = audits::seen(&server, &access).await;
    let (windows, workers, counts) = if access.operator {
        let (windows, workers, counts) = server.desk.recent();
        (windows, Some(workers), counts)
    } else {
        // Workers serve all tenants: what they hold and do would reveal requests of other tenants.
        let (windows, counts) = server.desk.lately_of(access.caller()?.id);
        (windows, None, counts)
    };
    let mut status = described_status(&server, &windows, counts);
    if let Some(workers) = workers {
        status["workers"] = json!(workers);
        if let Some(elsewhere) = server.elsewhere.get() {
            status["machines"] = json!(elsewhere.standing());
        }
    }
    status["audit"] = audited.map_or(Value::Null, |kept| audits::described(&server, &kept));
    Ok(super::json(StatusCode::OK, &status))
}

fn described_status(server: &Server, windows: &[Window], [queued, running, cached]: [u64; 3]) -> Value {
    let facts = server.desk.facts();
    let sum = |of: fn(&Window) -> u64| windows.iter().map(of).sum::<u64>();
    let (hits, routed) = (sum(|window| window.hits), sum(|window| window.routed));
    let [width, height] = server.offers.size;
    json!({
        "uptime_s": server.desk.uptime_s(),
        "size": format!("{width}x{height}"),
        "steps": facts.total_steps,
        "models": facts.models,
        "queued": queued,
        "running": running,
        "hit_rate": (routed > 0).then(|| hits as f64 / routed as f64),
        "cache_images": cached,
        "history": windows,
        "slo_s": facts.slo.seconds(),
    })
}

pub(super) async fn metrics(State(server): Shared, access: Access, _: Operator) -> Response {
    let audited = audits::seen(&server, &access).await.unwrap_or_default();
    let skipped = server.desk.audits().map(crate::serve::audit::Audits::skipped).unwrap_or_default();
    let (_, workers, counts) = server.desk.recent();
    let machines = server.elsewhere.get().map(|elsewhere| elsewhere.standing()).unwrap_or_default();
    let sources = server.sources.clone();
    // A disk that does not answer must not hold back the other figures.
    let bytes = server.on_disk(move || sources.bytes()).await.unwrap_or(0);
    server.desk.meter().disk(server.desk.recording().is_some(), server.upkeep.free(), server.sources.left_out());
    let text = server.desk.meter().text(counts, (&workers, &machines), bytes, &audited, &skipped);
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

pub(super) async fn healthy() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(server): Shared) -> Response {
    // Load balancers ask without a key, so that the reasons name no tenant and no path.
    let reasons = unready(&server);
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response()
}

/// Returns the reasons that keep the server from serving, one line each. A line begins with the name of its reason.
fn unready(server: &Server) -> Vec<String> {
    let desk = &server.desk;
    let mut reasons = server.troubles();
    let since = desk.without_worker();
    if !since.is_zero() {
        reasons.push(format!("no worker: all have been lost or loading after a loss for {} s", since.as_secs()));
    }
    let unheard = desk.unheard();
    if unheard > LOOP_SILENCE {
        reasons.push(format!("loop: nothing has been taken in for {} s", unheard.as_secs()));
    }
    let silence = server.sources.silence();
    if silence > desk.facts().disk_limit {
        reasons.push(format!("store: the image store has been at one picture for {} s", silence.as_secs()));
    }
    reasons
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
