//! Pictures: as PNG in answers, as files of results, and from the cache; only to who may see them.

use std::path::Path;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use super::{ApiError, Caller, Id, Server, Shared, seconds_since_1970, whole};
use crate::live::picture::Picture;
use crate::live::settings::ImageFormat;
use crate::output::write_durable;
use crate::request::Outcome;
use crate::serve::desk::View;
use crate::serve::ledger::{self, Entry};
use crate::time::Time;

/// What cached pictures are called outside, before their number in the store.
pub(super) const CACHED: &str = "cache-";
/// What results are called.
pub(super) const RESULT: &str = "img";

/// Bytes of a picture that is encoded sooner than another thread would begin to.
const SMALL: usize = 64 * 64 * 3;

/// How a picture came about, as it is answered.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Made<'a> {
    id: &'a str,
    decision: Option<&'static str>,
    skipped_steps: u32,
    total_steps: u32,
    model: Option<&'a str>,
    similarity: Option<f64>,
    source: Option<String>,
    queue_s: Option<f64>,
    denoise_s: f64,
    latency_s: Option<f64>,
}

impl<'a> Made<'a> {
    pub(super) fn of(server: &'a Server, id: &'a str, view: &View) -> Self {
        let facts = server.desk.facts();
        let decision = view.decision;
        let seconds = |from: Option<Time>, to: Option<Time>| from.zip(to).map(|(from, to)| to.since(from).seconds());
        let (started, ended) = (view.started.map(|(time, _)| time), view.ended.as_ref().map(|(time, _)| *time));
        Self {
            id,
            decision: decision.map(|decision| decision.kind.word()),
            skipped_steps: decision.map_or(0, |decision| decision.skipped_steps),
            total_steps: facts.total_steps,
            model: view.started.map(|(_, model)| &*facts.models[model.index()]),
            similarity: decision.and_then(|decision| decision.similarity),
            source: view.source.map(|number| format!("{CACHED}{number}")),
            queue_s: seconds(Some(view.arrived), started.or(ended)),
            denoise_s: seconds(started, ended).unwrap_or(0.0),
            latency_s: seconds(Some(view.arrived), ended),
        }
    }
}

/// A request's picture, or why there is none.
pub(super) fn of(view: &View) -> Result<Arc<Picture>, ApiError> {
    match (&view.ended, &view.picture) {
        (Some((_, Outcome::Completed)), Some(picture)) => Ok(picture.clone()),
        (Some((_, Outcome::Completed)), None) => Err(ApiError::failed("the image cannot be read any more")),
        (Some((_, Outcome::Rejected(why) | Outcome::Failed(why))), _) => Err(ApiError::failed(why.clone())),
        (Some((_, Outcome::Cancelled)), _) => Err(ApiError::failed("it was cancelled")),
        (None, _) => Err(ApiError::failed("it has not ended")),
    }
}

/// A picture as PNG, on a thread that may take its time.
pub(super) async fn png(picture: Arc<Picture>) -> Result<Vec<u8>, ApiError> {
    if picture.bytes().len() <= SMALL {
        return picture.encode(ImageFormat::Png).map_err(|error| ApiError::failed(error.to_string()));
    }
    let encoded =
        tokio::task::spawn_blocking(move || picture.encode(ImageFormat::Png).map_err(|error| error.to_string()));
    encoded.await.map_err(|error| error.to_string()).and_then(|bytes| bytes).map_err(ApiError::failed)
}

/// Puts a picture among the results: on disk, under its name, before anybody hears of it. What is to be written beside it
/// goes into the same transaction.
pub(super) async fn keep(
    server: &Server,
    caller: Option<String>,
    pictures: Vec<(String, Vec<u8>)>,
    beside: Option<Entry>,
) -> Result<(), ApiError> {
    let created = seconds_since_1970();
    let entry = |id: &String| Entry::Picture(id.clone(), ledger::Picture { tenant: caller.clone(), created });
    let entries: Vec<Entry> = pictures.iter().map(|(id, _)| entry(id)).chain(beside).collect();
    let folder = server.results.clone();
    let written = tokio::task::spawn_blocking(move || {
        pictures
            .iter()
            .try_for_each(|(id, bytes)| write_durable(&file(&folder, id), |to| std::io::Write::write_all(to, bytes)))
    });
    written
        .await
        .map_err(|error| ApiError::failed(error.to_string()))?
        .map_err(|error| ApiError::failed(error.to_string()))?;
    server.ledger.write(entries).await.map(drop).map_err(|error| ApiError::failed(error.to_string()))
}

/// The file of a result.
pub(super) fn file(folder: &Path, id: &str) -> std::path::PathBuf {
    folder.join(format!("{id}.png"))
}

/// The address of a picture.
pub(super) fn url(server: &Server, id: &str) -> String {
    format!("{}/v1/images/{id}", server.origin)
}

/// `GET /v1/images/{id}`.
pub(super) async fn picture(State(server): Shared, caller: Caller, Id(id): Id) -> Result<Response, ApiError> {
    let missing = || ApiError::not_found("there is no such image for this key");
    let kept = id.strip_prefix(CACHED).map(whole);
    let bytes = if let Some(number) = kept {
        let number = number.ok_or_else(missing)?;
        let owned = server.clone();
        let found = tokio::task::spawn_blocking(move || owned.sources.entry(number)).await;
        let (record, bytes) = found.ok().and_then(Result::ok).ok_or_else(missing)?;
        if !server.may_find(&caller, record.tenant.as_deref()) {
            return Err(missing());
        }
        bytes
    } else {
        // Only names that were given out are looked for: no other path can be asked for.
        let known = server.ledger.picture(&id).map_err(|error| ApiError::failed(error.to_string()))?;
        known.filter(|known| server.may_see(&caller, known.tenant.as_deref())).ok_or_else(missing)?;
        let file = file(&server.results, &id);
        tokio::task::spawn_blocking(move || std::fs::read(file)).await.ok().and_then(Result::ok).ok_or_else(missing)?
    };
    let kind = if bytes.starts_with(b"\x89PNG") { "image/png" } else { "image/jpeg" };
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "private, max-age=31536000, immutable")];
    Ok((headers, bytes).into_response())
}

/// `DELETE /v1/images/{id}` of a cached picture: nobody finds it from now on, and its files go. Says what was refined from it, and
/// with `?refined=remove` deletes that, too.
pub(super) async fn delete(
    State(server): Shared,
    caller: Caller,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let remove = removes_refined(&query.unwrap_or_default())?;
    let missing = || ApiError::not_found("there is no such cached image for this key");
    let number = id.strip_prefix(CACHED).and_then(whole).ok_or_else(missing)?;
    let owner = server.sources.tenant(number).ok_or_else(missing)?;
    if !server.may_find(&caller, owner.as_deref()) {
        return Err(missing());
    }
    if !server.may_delete(&caller, owner.as_deref()) {
        return Err(ApiError::forbidden("the image was made for another tenant: only that one may delete it"));
    }
    let deleted = server.desk.delete(server.sources.clone(), number, remove).await;
    let deleted = deleted.map_err(|_| ApiError::draining())?;
    if deleted.numbers.is_empty() {
        return Err(missing());
    }
    let (sources, numbers) = (server.sources.clone(), deleted.numbers);
    // Without its record no later start of the program finds a picture, however this one ends.
    let removed = tokio::task::spawn_blocking(move || sources.remove_records(&numbers)).await;
    removed.map_err(|error| error.to_string()).and_then(|removed| removed).map_err(|error| {
        ApiError::failed(format!("the image is no longer found, but comes back with a restart of the server: {error}"))
    })?;
    let (seen, others): (Vec<_>, Vec<_>) =
        deleted.refined.iter().partition(|(_, tenant)| server.may_find(&caller, tenant.as_deref()));
    let refined: Vec<String> = seen.iter().map(|(number, _)| format!("{CACHED}{number}")).collect();
    let answer = json!({
        "id": id,
        "object": "image.deleted",
        "deleted": true,
        "refined": refined,
        "refined_deleted": remove,
        // How many others have is nobody's business with keys.
        "others": server.keys.is_none().then_some(others.len()),
    });
    Ok(super::json(StatusCode::OK, &answer))
}

/// Whether a query asks to delete what was refined from a picture, too.
fn removes_refined(query: &str) -> Result<bool, ApiError> {
    let mut removes = false;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        removes = match pair.split_once('=').unwrap_or((pair, "")) {
            ("refined", "keep") => false,
            ("refined", "remove") => true,
            ("refined", _) => return Err(ApiError::wrong("refined", "refined: expected keep or remove")),
            (other, _) => return Err(ApiError::wrong(other, format!("{other}: is not known here"))),
        };
    }
    Ok(removes)
}
