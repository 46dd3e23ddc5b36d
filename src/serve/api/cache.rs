//! Handler of `GET /v1/cache`. It lists the cached pictures of the key's tenant and of public tenants, and for an
//! operator those of all tenants, newest first and one page at a time. A page reads no more records than it lists,
//! however many pictures others have.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::paging::paged;
use super::{Access, ApiError, Server, Shared};

pub(super) async fn list(
    State(server): Shared,
    access: Access,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (limit, before) =
        paged(&query.unwrap_or_default(), "before", "the id of a cached image", |id| server.ids.number(id))?;
    let own = server.clone();
    let listed = server.on_disk(move || found(&own, &access, limit, before)).await?;
    Ok(super::json(StatusCode::OK, &listed))
}

fn found(server: &Server, access: &Access, limit: usize, before: Option<u64>) -> Value {
    let tenants = server.listed(access);
    // One more than the page has: it tells whether another page follows.
    let mut numbers = server.sources.newest(tenants.as_deref(), before, limit + 1);
    let more = numbers.len() > limit;
    numbers.truncate(limit);
    let mut data: Vec<Value> = Vec::with_capacity(numbers.len());
    for &number in &numbers {
        // A picture may be removed between the two reads.
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
