//! Pictures as PNG in answers, as files of results, and from the image cache. A picture is sent only to those who may
//! see it.

use std::io;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use super::{Access, ApiError, Id, Server, Shared};
use crate::live::picture::Picture;
use crate::live::settings::ImageFormat;
use crate::live::store::Disk;
use crate::request::Outcome;
use crate::serve::desk::View;
use crate::serve::ids::PictureIds;
use crate::serve::ledger::{self, Entry, LedgerError, picture_file};
use crate::time::Time;

/// Prefix of the names of results.
pub(super) const RESULT: &str = "img";

/// Largest number of bytes of a picture that is encoded on the calling thread, because that takes less time than to
/// begin on another thread.
const SMALL: usize = 64 * 64 * 3;

/// Description of how a picture was made, as clients get it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct MadePicture<'a> {
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
    reproducible: bool,
}

impl<'a> MadePicture<'a> {
    /// Describes the picture of a request with this seed, if the client gave one.
    pub(super) fn from_view(server: &'a Server, id: &'a str, view: &View, seed: Option<u64>) -> Self {
        let facts = server.desk.facts();
        let decision = view.decision;
        let seconds = |from: Option<Time>, to: Option<Time>| from.zip(to).map(|(from, to)| to.since(from).seconds());
        // A returned picture had no job: all steps were skipped.
        let usual = (facts.total_steps, decision.map_or(0, |decision| decision.skipped_steps));
        let (total_steps, skipped_steps) = view.steps.unwrap_or(usual);
        let is_hit = decision.is_some_and(|decision| decision.kind.is_hit());
        let (started, ended) = (view.started.map(|(time, _)| time), view.ended.as_ref().map(|(time, _)| *time));
        Self {
            id,
            decision: decision.map(|decision| decision.kind.word()),
            skipped_steps,
            total_steps,
            model: view.started.map(|(_, model)| &*facts.models[model.index()]),
            similarity: decision.and_then(|decision| decision.similarity),
            source: view.source.map(|number| server.ids.name(number)),
            queue_s: seconds(Some(view.arrived), started.or(ended)),
            denoise_s: seconds(started, ended).unwrap_or(0.0),
            latency_s: seconds(Some(view.arrived), ended),
            // A hit depends on what was cached, and without a seed the server chooses the noise.
            reproducible: seed.is_some() && !is_hit,
        }
    }
}

/// Returns the picture of a request, or the reason why there is none.
pub(super) fn picture_of(view: &View) -> Result<Arc<Picture>, ApiError> {
    match (&view.ended, &view.picture) {
        (Some((_, Outcome::Completed)), Some(picture)) => Ok(picture.clone()),
        (Some((_, Outcome::Completed)), None) => Err(ApiError::failed("the image cannot be read any more")),
        (Some((_, outcome @ (Outcome::Rejected(_) | Outcome::Failed(_)))), _) => {
            Err(ApiError::failed(outcome.reason().unwrap_or_default().into_owned()))
        }
        (Some((_, Outcome::Cancelled)), _) => Err(ApiError::failed("it was cancelled")),
        // The server ended before the request did.
        (None, _) => Err(ApiError::draining()),
    }
}

/// Encodes a picture as PNG, a large one on a thread for blocking work.
pub(super) async fn png(picture: Arc<Picture>) -> Result<Vec<u8>, ApiError> {
    if picture.bytes().len() <= SMALL {
        return picture.encode(ImageFormat::Png).map_err(|error| ApiError::failed(error.to_string()));
    }
    let encoded =
        tokio::task::spawn_blocking(move || picture.encode(ImageFormat::Png).map_err(|error| error.to_string()));
    encoded.await.map_err(|error| error.to_string()).and_then(|bytes| bytes).map_err(ApiError::failed)
}

/// Reason why pictures could not be kept as results.
#[derive(Debug, thiserror::Error)]
pub(super) enum Keeping {
    /// Files that cannot be written.
    #[error("a picture cannot be written: {0}")]
    Files(io::Error),
    /// Ledger that cannot be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl From<Keeping> for ApiError {
    fn from(error: Keeping) -> Self {
        match error {
            Keeping::Ledger(error) => error.into(),
            Keeping::Files(error) => {
                tracing::error!("a picture cannot be written: {error}");
                match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::insufficient_storage(),
                    _ => Self::storage_unavailable(),
                }
            }
        }
    }
}

/// Keeps pictures as results: their files are on disk, and their names in the ledger, before any client gets a name.
/// The entry `beside` is written in the same transaction.
pub(super) async fn keep(
    server: &Server,
    owner: Option<String>,
    pictures: &[(String, Vec<u8>)],
    beside: Option<Entry>,
) -> Result<(), Keeping> {
    let created = server.upkeep.clock.date();
    let entry = |(id, bytes): &(String, Vec<u8>)| {
        let (length, crc) = (bytes.len() as u64, Some(checksum(bytes)));
        Entry::Picture(id.clone(), ledger::Picture { tenant: owner.clone(), created, bytes: length, crc })
    };
    let entries: Vec<Entry> = pictures.iter().map(entry).chain(beside).collect();
    if !pictures.is_empty() {
        let files: Vec<_> =
            pictures.iter().map(|(id, bytes)| (picture_file(&server.results, id), bytes.clone())).collect();
        let disk = server.upkeep.disk();
        // A crash between the files and the transaction leaves files that the ledger does not know. The next start
        // removes them.
        let written = server.on_disk(move || files.iter().try_for_each(|(file, bytes)| disk.write(file, bytes)));
        let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer");
        written.await.map_err(silent).and_then(|written| written).map_err(|error| {
            server.upkeep.failed(&error);
            Keeping::Files(error)
        })?;
    }
    server.ledger.write(entries).await?;
    Ok(())
}

/// Returns the CRC-32 of a file's bytes.
pub(in crate::serve) fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Returns the address of a picture.
pub(super) fn url(server: &Server, id: &str) -> String {
    format!("{}/v1/images/{id}", server.origin)
}

/// Handles `GET /v1/images/{id}`: sends a result or a cached picture.
pub(super) async fn picture(State(server): Shared, access: Access, Id(id): Id) -> Result<Response, ApiError> {
    let missing = || ApiError::not_found("there is no such image for this key");
    let bytes = if PictureIds::is_cached(&id) {
        let number = server.ids.number(&id).ok_or_else(missing)?;
        let owner = server.sources.owner(number).map_err(|_| missing())?;
        // Whoever may not see the picture is not told that it exists.
        if !server.may_see_cached(&access, owner.as_deref()) {
            return Err(missing());
        }
        let sources = server.sources.clone();
        let found = server.on_disk(move || sources.entry(number)).await?;
        let bytes = found.map_err(|_| missing())?.1;
        // The file may have been cut or overwritten, so that it is decoded before it is sent.
        Picture::decode(&bytes).map_err(|_| ApiError::failed("the image is damaged on the server's disk"))?;
        bytes
    } else {
        // Only files of names in the ledger are read, so that no other path can be requested.
        let known = known(&server, &id).await?.filter(|known| server.may_see(&access, known.tenant.as_deref()));
        let known = known.ok_or_else(missing)?;
        let file = picture_file(&server.results, &id);
        let bytes = match server.on_disk(move || std::fs::read(file)).await? {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(Keeping::Files(error).into()),
        };
        if known.crc.is_some_and(|crc| crc != checksum(&bytes)) {
            tracing::error!(picture = id, "its file is damaged");
            return Err(ApiError::failed("the image is damaged on the server's disk"));
        }
        bytes
    };
    let kind = if bytes.starts_with(b"\x89PNG") { "image/png" } else { "image/jpeg" };
    // A shared proxy must not keep one tenant's picture for another.
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "private, max-age=31536000, immutable")];
    Ok((headers, bytes).into_response())
}

/// Reads the row of a result from the ledger.
async fn known(server: &Arc<Server>, id: &str) -> Result<Option<ledger::Picture>, ApiError> {
    let (own, id) = (server.clone(), id.to_owned());
    Ok(server.on_disk(move || own.ledger.picture(&id)).await??)
}

/// Handles `DELETE /v1/images/{id}`: deletes a result, its row in the ledger and its file, or the entry of a cached
/// picture.
pub(super) async fn delete(
    State(server): Shared,
    access: Access,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = query.unwrap_or_default();
    if PictureIds::is_cached(&id) {
        return delete_cached(&server, &access, &id, removes_refined(&query)?).await;
    }
    let own = known(&server, &id).await?.filter(|known| server.owns(&access, known.tenant.as_deref()));
    own.ok_or_else(|| ApiError::not_found("there is no such image of this key's tenant"))?;
    // The row goes before the file. A file without a row is removed at the next start, but a row without a file would
    // promise a picture.
    let gone = server.ledger.write(vec![Entry::Remove(id.clone())]).await?;
    server.remove_files(&gone.pictures).await;
    Ok(super::json(StatusCode::OK, &json!({ "id": id, "object": "image.deleted", "deleted": true })))
}

/// Deletes a cached picture: no request finds it from now on, and its files are removed. The answer names the pictures
/// that were refined from it. With `remove` these are deleted, too.
async fn delete_cached(server: &Arc<Server>, access: &Access, id: &str, remove: bool) -> Result<Response, ApiError> {
    let missing = || ApiError::not_found("there is no such cached image for this key");
    let number = server.ids.number(id).ok_or_else(missing)?;
    let owner = server.sources.owner(number).map_err(|_| missing())?;
    if !server.may_see_cached(access, owner.as_deref()) {
        return Err(missing());
    }
    if !server.may_delete(access, owner.as_deref()) {
        return Err(ApiError::forbidden("the image was made for another tenant: only that one may delete it"));
    }
    let deleted = server.desk.delete(server.sources.clone(), number, remove).await;
    let deleted = deleted.map_err(|_| ApiError::draining())?;
    if deleted.numbers.is_empty() {
        return Err(missing());
    }
    let (sources, numbers) = (server.sources.clone(), deleted.numbers);
    // Without its record, no later start of the program finds the picture, however this run ends.
    let removed = server.on_disk(move || sources.remove_records(&numbers)).await;
    let silent = |_| "the disk does not answer".to_owned();
    removed.map_err(silent).and_then(|removed| removed.map_err(|error| error.to_string())).map_err(|error| {
        tracing::error!(picture = id, error, "the record of a deleted picture is still there");
        ApiError::failed("the image is no longer found, but comes back with a restart of the server")
    })?;
    let (seen, others): (Vec<_>, Vec<_>) =
        deleted.refined.iter().partition(|(_, tenant)| server.may_see_cached(access, tenant.as_deref()));
    let refined: Vec<String> = seen.iter().map(|(number, _)| server.ids.name(*number)).collect();
    let answer = json!({
        "id": id,
        "object": "image.deleted",
        "deleted": true,
        "refined": refined,
        "refined_deleted": remove,
        // With keys, a tenant must not learn how many refined pictures others have.
        "others": access.operator.then_some(others.len()),
    });
    Ok(super::json(StatusCode::OK, &answer))
}

/// Returns whether a query asks to delete the refined pictures, too.
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
