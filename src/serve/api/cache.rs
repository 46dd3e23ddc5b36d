//! `GET /v1/cache`: what this caller may find, newest first.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::pictures::CACHED;
use super::{ApiError, Caller, Server, Shared, whole};

const USUAL: usize = 50;
const MOST: usize = 200;

pub(super) async fn list(
    State(server): Shared,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (limit, before) = asked(&query.unwrap_or_default())?;
    let listed = tokio::task::spawn_blocking(move || found(&server, &caller, limit, before)).await;
    let listed = listed.map_err(|error| ApiError::failed(error.to_string()))?;
    Ok(super::json(StatusCode::OK, &listed))
}

/// How many, and before which.
fn asked(query: &str) -> Result<(usize, Option<u64>), ApiError> {
    let (mut limit, mut before) = (USUAL, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "limit" => {
                let number = whole(value).map(|limit| limit as usize).filter(|limit| (1..=MOST).contains(limit));
                let message = format!("limit: expected a whole number from 1 to {MOST}");
                limit = number.ok_or_else(|| ApiError::wrong("limit", message))?;
            }
            "before" => {
                let number = value.strip_prefix(CACHED).and_then(whole);
                let message = "before: expected the id of a cached image";
                before = Some(number.ok_or_else(|| ApiError::wrong("before", message))?);
            }
            other => return Err(ApiError::wrong(other, format!("{other}: is not known here"))),
        }
    }
    Ok((limit, before))
}

fn found(server: &Server, caller: &Caller, limit: usize, before: Option<u64>) -> Value {
    let mut data: Vec<Value> = Vec::new();
    let mut more = false;
    for number in server.sources.numbers(before) {
        // What is not on disk yet is listed next time.
        let Ok(record) = server.sources.record(number) else { continue };
        if !server.may_find(caller, record.tenant.as_deref()) {
            continue;
        }
        if data.len() == limit {
            more = true;
            break;
        }
        data.push(json!({
            "id": format!("{CACHED}{number}"),
            "prompt": record.prompt,
            "model": record.model,
            "skipped_steps": record.steps.1,
            "created": server.sources.written(number).map(super::since_1970),
        }));
    }
    json!({ "object": "list", "data": data, "has_more": more })
}
