//! `GET /v1/cache`: cached pictures of this key's tenant and of public tenants, everybody's for an operator; newest first, a
//! page at a time. It reads no more records than it lists, however many there are of others.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Access, ApiError, Server, Shared, whole};

const USUAL: usize = 50;
const MOST: usize = 200;

pub(super) async fn list(
    State(server): Shared,
    access: Access,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (limit, before) = asked(&server, &query.unwrap_or_default())?;
    let listed = tokio::task::spawn_blocking(move || found(&server, &access, limit, before)).await;
    let listed = listed.map_err(|error| ApiError::failed(error.to_string()))?;
    Ok(super::json(StatusCode::OK, &listed))
}

/// How many, and before which.
fn asked(server: &Server, query: &str) -> Result<(usize, Option<u64>), ApiError> {
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
                let number = server.ids.number(value);
                let message = "before: expected the id of a cached image";
                before = Some(number.ok_or_else(|| ApiError::wrong("before", message))?);
            }
            other => return Err(ApiError::wrong(other, format!("{other}: is not known here"))),
        }
    }
    Ok((limit, before))
}

fn found(server: &Server, access: &Access, limit: usize, before: Option<u64>) -> Value {
    let tenants = server.listed(access);
    let mut numbers = server.sources.newest(tenants.as_deref(), before, limit + 1);
    let more = numbers.len() > limit;
    numbers.truncate(limit);
    let mut data: Vec<Value> = Vec::with_capacity(numbers.len());
    for &number in &numbers {
        // One may go between the two looks.
        let Ok(record) = server.sources.record(number) else { continue };
        let mut entry = json!({
            "id": server.ids.name(number),
            "prompt": record.prompt,
            "model": record.model,
            "skipped_steps": record.steps.1,
            "created": server.sources.written(number).map(super::since_1970),
        });
        if access.operator && server.keys.is_some() {
            entry["tenant"] = json!(record.tenant);
        }
        data.push(entry);
    }
    let next = numbers.last().filter(|_| more).map(|last| server.ids.name(*last));
    json!({ "object": "list", "data": data, "has_more": more, "next": next })
}
