//! Handler of `POST /v1/images/edits`: a picture of the client is refined by the prompt. The picture goes through the
//! same scheduler as everything else and is in no cache, no file and no recording: it is in memory until its request
//! has ended.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ask::{self, WantedPictures};
use super::generations::{self, Kind};
use super::multipart::{self, Field};
use super::{Access, ApiError, Server, Shared, cors};
use crate::live::picture::Picture;
use crate::request::Reuse;

/// Part of the denoising that is done on a picture if the request does not say.
const USUAL_STRENGTH: f64 = 0.6;
/// Strengths are rounded to one of so many parts, so that requests of many strengths are few kinds of work.
pub const PARTS: u32 = 20;
/// Largest number of pixels of a side of a picture that is sent.
const MOST_SIDE: u32 = 4096;
/// Largest number of pictures that are decoded at a time.
const MOST_DECODED: usize = 2;
/// Number of times that a form may take as long as another body.
const LONGER: f64 = 6.0;

/// Refinement of clients' pictures, as far as a server offers it.
pub struct Edits {
    /// Numbers of steps of the large model that may be skipped, in rising order, or the reason for which nothing is
    /// offered.
    offered: Result<Vec<u32>, &'static str>,
    /// Steps of the large model.
    steps: u32,
    /// Room for requests in memory.
    room: Arc<Semaphore>,
    decoding: Semaphore,
}

impl Edits {
    /// Makes the offer of a server that has room for `most` requests with pictures.
    #[must_use]
    pub fn new(offered: Result<Vec<u32>, &'static str>, steps: u32, most: usize) -> Self {
        Self { offered, steps, room: Arc::new(Semaphore::new(most)), decoding: Semaphore::new(MOST_DECODED) }
    }

    /// Returns the steps that a request of this strength skips: as many as leave the part that is nearest to the
    /// strength.
    fn skipped(&self, strength: f64) -> Result<u32, ApiError> {
        let offered = self.offered.as_ref().map_err(|reason| ApiError::not_offered(reason))?;
        let distance = |skipped: u32| (1.0 - f64::from(skipped) / f64::from(self.steps) - strength).abs();
        let nearest = offered.iter().copied().min_by(|one, other| distance(*one).total_cmp(&distance(*other)));
        nearest.ok_or_else(|| ApiError::not_offered("the models have too few steps to begin later"))
    }
}

/// Receives the body of a request with a picture, if there is room for it in memory.
async fn received(server: &Server, request: Request) -> Result<(HeaderMap, Bytes, OwnedSemaphorePermit), ApiError> {
    let (parts, body) = request.into_parts();
    let room = server.edits.room.clone().try_acquire_owned().map_err(|_| {
        server.desk.meter().refused("uploads");
        ApiError::too_many_uploads()
    })?;
    let seconds = LONGER * server.settings.read_timeout_s;
    let bytes = ask::read(body, server.settings.max_upload, seconds).await?;
    Ok((parts.headers, bytes, room))
}

/// Handles `POST /v1/images/edits`.
pub(super) async fn edit(State(server): Shared, access: Access, request: Request) -> Result<Response, ApiError> {
    access.caller()?;
    // The body is received before anything is refused: a client that is still sending would see no answer.
    let (headers, bytes, room) = received(&server, request).await?;
    server.edits.offered.as_ref().map_err(|reason| ApiError::not_offered(reason))?;
    // Unlike JSON, a browser sends a form from a page of any site without asking this server first.
    if cors::is_foreign(&server, &headers) {
        return Err(ApiError::forbidden("the page that sends this form is of another site: serve.cors_origins"));
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multipart::boundary(kind).ok_or_else(ApiError::no_form)?;
    let fields = multipart::fields(&bytes, boundary).map_err(ApiError::unreadable)?;
    let (mut keys, files) = parted(&fields)?;
    let strength = strength(keys.remove("strength").as_ref())?;
    let wanted = WantedPictures::parse(&keys, &headers, &server)?;
    let image = one_image(&files)?;
    let size = server.offers.size_of(&wanted.wanted);
    let picture = decoded(&server, bytes.slice_ref(image), size).await?;
    let skips = server.edits.skipped(strength)?;
    // The picture of somebody else's device starts nothing, and nothing starts from it.
    let wanted = WantedPictures { reuse: Reuse::NONE, source: Some((Arc::new(picture), skips)), ..wanted };
    generations::answer(server, &access, wanted, Kind::Edit(room)).await
}

/// Handles `POST /v1/images/variations`, which is not offered.
pub(super) async fn variation(State(server): Shared, _: Access, request: Request) -> ApiError {
    match received(&server, request).await {
        Ok(_) => {
            ApiError::not_offered("pictures are drawn for prompts: POST /v1/images/edits takes a picture and a prompt")
        }
        Err(error) => error,
    }
}

/// Parts the fields of a form into keys, with values as in JSON, and files.
fn parted<'a>(fields: &[Field<'a>]) -> Result<(Map<String, Value>, Vec<Field<'a>>), ApiError> {
    let (mut keys, mut files) = (Map::new(), Vec::new());
    for field in fields {
        if field.is_file || ["image", "image[]", "mask"].contains(&field.name) {
            files.push(*field);
            continue;
        }
        let text = std::str::from_utf8(field.content);
        let text = text.map_err(|_| ApiError::wrong(field.name, format!("{}: expected text", field.name)))?;
        if keys.insert(field.name.to_owned(), value_of(field.name, text)).is_some() {
            return Err(ApiError::wrong(field.name, format!("{}: is there twice", field.name)));
        }
    }
    Ok((keys, files))
}

/// Returns the value of a field as JSON has it: a form has nothing but texts.
fn value_of(name: &str, text: &str) -> Value {
    const NOT_TEXT: [&str; 10] = [
        "n",
        "seed",
        "deadline_s",
        "num_inference_steps",
        "guidance_scale",
        "strength",
        "stream",
        "partial_images",
        "output_compression",
        "loras",
    ];
    let parsed = NOT_TEXT.contains(&name).then(|| serde_json::from_str(text.trim()).ok()).flatten();
    // A field that is not set is left out of a form: the word "null" is a text.
    parsed.filter(|value: &Value| !value.is_null()).unwrap_or_else(|| Value::from(text))
}

fn strength(value: Option<&Value>) -> Result<f64, ApiError> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(USUAL_STRENGTH) };
    let wrong = || {
        let message = "strength: expected a number above 0 and below 1, the part of the denoising that is done";
        ApiError::wrong("strength", message)
    };
    value.as_f64().filter(|strength| *strength > 0.0 && *strength < 1.0).ok_or_else(wrong)
}

/// Returns the only picture among the files.
fn one_image<'a>(files: &[Field<'a>]) -> Result<&'a [u8], ApiError> {
    if let Some(other) = files.iter().find(|file| !["image", "image[]", "mask"].contains(&file.name)) {
        return Err(ApiError::wrong(other.name, format!("{}: is not known here", other.name)));
    }
    if files.iter().any(|file| file.name == "mask") {
        return Err(ApiError::not_offered("mask: the whole picture is refined here, and no part is kept as it is"));
    }
    match files {
        [image] if image.content.is_empty() => {
            Err(ApiError::wrong("image", "image: expected a picture, found nothing"))
        }
        [image] => Ok(image.content),
        [] => Err(ApiError::wrong("image", "image: expected a picture as PNG, JPEG or WebP")),
        _ => Err(ApiError::not_offered("image: one picture is refined here, and several are not combined")),
    }
}

/// Decodes a picture, in the size of the result. Few are decoded at a time, since the memory for it is large.
async fn decoded(server: &Server, bytes: Bytes, size: [u32; 2]) -> Result<Picture, ApiError> {
    let wrong = || {
        let message = format!("image: expected a PNG, JPEG or WebP of at most {MOST_SIDE} x {MOST_SIDE} pixels");
        ApiError::wrong("image", message)
    };
    let _turn = server.edits.decoding.acquire().await;
    let decoding = move || Picture::decode_foreign(&bytes, MOST_SIDE).map(|picture| picture.covering(size));
    let decoded = tokio::task::spawn_blocking(decoding).await;
    decoded.map_err(|error| ApiError::failed(error.to_string()))?.map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strength_is_the_part_that_is_denoised() {
        let edits = Edits::new(Ok((1..20).collect()), 20, 1);
        let skipped = |strength| edits.skipped(strength).expect("offered");
        assert_eq!([0.95, 0.6, 0.5, 0.051, 0.001].map(skipped), [1, 8, 10, 19, 19]);
        assert_eq!(Edits::new(Ok(vec![5, 15]), 20, 1).skipped(0.6).expect("offered"), 5);
        assert!(
            Edits::new(Ok(Vec::new()), 1, 1).skipped(0.6).is_err() && Edits::new(Err("x"), 20, 1).skipped(0.6).is_err()
        );
        for wrong in [Value::from(0), Value::from(1), Value::from("x"), Value::from(-0.5)] {
            assert!(strength(Some(&wrong)).is_err(), "{wrong}");
        }
        assert!(strength(Some(&Value::Null)).is_ok_and(|strength| skipped(strength) == 8), "the usual strength");
    }
}
