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
use crate::live::pipeline::Cut;
use crate::live::settings::ImageFormat;
use crate::live::store::Disk;
use crate::request::Outcome;
use crate::scheduler::{Decision, DecisionKind};
use crate::serve::desk::{EDIT, View};
use crate::serve::ids::PictureIds;
use crate::serve::ledger::{self, Entry, LedgerError, picture_file};
use crate::serve::offers::Encoding;
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prompt_cut: Vec<PromptCut<'a>>,
}

/// Part of a prompt that a text encoder did not see.
#[derive(Clone, Debug, Serialize)]
struct PromptCut<'a> {
    encoder: &'a str,
    /// Number of tokens that the encoder takes, and number of those that it did not see.
    limit: usize,
    left_out: usize,
}

impl<'a> MadePicture<'a> {
    /// Describes the picture of a request with this seed, if the client gave one.
    pub(super) fn from_view(server: &'a Server, id: &'a str, view: &'a View, seed: Option<u64>) -> Self {
        let facts = server.desk.facts();
        let decision = view.decision;
        let cut = |Cut { encoder, limit, left_out }: &'a Cut| PromptCut { encoder, limit: *limit, left_out: *left_out };
        let seconds = |from: Option<Time>, to: Option<Time>| from.zip(to).map(|(from, to)| to.since(from).seconds());
        // A returned picture had no job: all steps were skipped.
        let usual = (facts.total_steps, decision.map_or(0, |decision| decision.skipped_steps));
        let (total_steps, skipped_steps) = view.steps.unwrap_or(usual);
        let is_hit = decision.is_some_and(|decision| decision.kind.is_hit());
        let (started, ended) = (view.started.map(|(time, _)| time), view.ended.as_ref().map(|(time, _)| *time));
        Self {
            id,
            decision: decision.map(word),
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
            prompt_cut: view.cuts.iter().map(cut).collect(),
        }
    }
}

/// Returns the word for a decision. A refinement that starts from no cached picture starts from the client's own.
fn word(decision: Decision) -> &'static str {
    let is_edit = decision.kind == DecisionKind::Hit && decision.source.is_none();
    if is_edit { EDIT } else { decision.kind.word() }
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

/// Encodes a picture, a large one on a thread for blocking work.
pub(super) async fn encoded(picture: Arc<Picture>, encoding: Encoding) -> Result<Vec<u8>, ApiError> {
    let is_small = picture.bytes().len() <= SMALL;
    let encode = move || match encoding {
        Encoding::Png => picture.encode(ImageFormat::Png),
        Encoding::Jpeg(quality) => picture.to_jpeg(quality),
        Encoding::Webp => picture.to_webp(),
    };
    if is_small {
        return encode().map_err(|error| ApiError::failed(error.to_string()));
    }
    let encoded = tokio::task::spawn_blocking(move || encode().map_err(|error| error.to_string()));
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

/// Returns the address of a result, in the form that was asked for. With `serve.signed_urls` it needs no key for a
/// while.
pub(super) fn url(server: &Server, id: &str, encoding: Encoding) -> String {
    let mut query = match encoding {
        Encoding::Png => Vec::new(),
        Encoding::Jpeg(quality) => vec![format!("format=jpeg&quality={quality}")],
        Encoding::Webp => vec!["format=webp".to_owned()],
    };
    if server.settings.signed_urls {
        let expires = server.upkeep.clock.date().saturating_add(server.settings.signed_urls_s as u64);
        query.push(format!("expires={expires}&signature={}", server.ids.signature(id, expires)));
    }
    let begin = if query.is_empty() { "" } else { "?" };
    format!("{}/v1/images/{id}{begin}{}", server.origin, query.join("&"))
}

/// Form and signature of a picture's address.
#[derive(Clone, Copy, Debug, Default)]
struct Address<'a> {
    encoding: Option<Encoding>,
    signed: Option<(u64, &'a str)>,
}

impl<'a> Address<'a> {
    /// Reads a query. Keys that are not known are passed over, as ever.
    fn read(query: &'a str) -> Result<Self, ApiError> {
        let find = |key: &str| query.split('&').filter_map(|pair| pair.split_once('=')).find(|(own, _)| *own == key);
        let quality = match find("quality") {
            None => Encoding::USUAL_QUALITY,
            Some((_, text)) => super::whole(text).filter(|quality| *quality <= 100).ok_or_else(|| {
                ApiError::wrong("quality", "quality: expected a whole number from 0 to 100, for format=jpeg")
            })? as u8,
        };
        let encoding = find("format").map(|(_, name)| {
            let wrong = || ApiError::wrong("format", "format: expected png, jpeg or webp");
            Encoding::named(name, quality).ok_or_else(wrong)
        });
        let expires = find("expires").and_then(|(_, text)| super::whole(text));
        let signed = expires.zip(find("signature").map(|(_, signature)| signature));
        Ok(Self { encoding: encoding.transpose()?, signed })
    }
}

/// Handles `GET /v1/images/{id}`: sends a result or a cached picture. A result whose address is signed needs no key.
pub(super) async fn picture(
    State(server): Shared,
    access: Result<Access, ApiError>,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = query.unwrap_or_default();
    let address = Address::read(&query)?;
    let bytes = if let (Err(no_key), Some((expires, signature))) = (&access, address.signed) {
        // Signatures are given to results alone, and hold as long as they are switched on.
        if !server.settings.signed_urls {
            return Err(no_key.clone());
        }
        if !server.ids.has_signed(&id, expires, signature) || expires < server.upkeep.clock.date() {
            return Err(ApiError::wrong_signature());
        }
        stored(&server, None, &id).await?
    } else {
        stored(&server, Some(&access?), &id).await?
    };
    sent(bytes, address.encoding).await
}

/// Answers with the bytes of a picture, in another form if one is asked for.
async fn sent(bytes: Vec<u8>, encoding: Option<Encoding>) -> Result<Response, ApiError> {
    let as_it_is = |bytes: &[u8]| if bytes.starts_with(b"\x89PNG") { "png" } else { "jpeg" };
    let (bytes, name) = match encoding {
        Some(encoding) if encoding.name() != as_it_is(&bytes) || matches!(encoding, Encoding::Jpeg(_)) => {
            let damaged = |_| ApiError::failed("the image is damaged on the server's disk");
            let picture = Picture::decode(&bytes).map_err(damaged)?;
            (encoded(Arc::new(picture), encoding).await?, encoding.name())
        }
        _ => {
            let name = as_it_is(&bytes);
            (bytes, name)
        }
    };
    // A shared proxy must not keep one tenant's picture for another.
    let headers =
        [(CONTENT_TYPE, format!("image/{name}")), (CACHE_CONTROL, "private, max-age=31536000, immutable".to_owned())];
    Ok((headers, bytes).into_response())
}

/// Reads a picture that the key may see: a result, or a cached picture. Without a key the address was signed.
async fn stored(server: &Arc<Server>, access: Option<&Access>, id: &str) -> Result<Vec<u8>, ApiError> {
    let missing = || ApiError::not_found("there is no such image for this key");
    let bytes = if PictureIds::is_cached(id) {
        let access = access.ok_or_else(missing)?;
        let number = server.ids.number(id).ok_or_else(missing)?;
        let owner = server.sources.owner(number).map_err(|_| missing())?;
        // Whoever may not see the picture is not told that it exists.
        if !server.may_see_cached(access, owner.as_deref()) {
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
        let may_see = |owner: Option<&str>| access.is_none_or(|access| server.may_see(access, owner));
        let known = known(server, id).await?.filter(|known| may_see(known.tenant.as_deref()));
        let known = known.ok_or_else(missing)?;
        let file = picture_file(&server.results, id);
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
    Ok(bytes)
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
