//! Requests for images: the body that OpenAI's clients send, checked key by key.

use std::sync::Arc;
use std::time::Duration as HostDuration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Map, Value};

use super::{ApiError, Caller, Server, foreign};
use crate::live::picture::Picture;
use crate::request::Reuse;
use crate::serve::desk::Ask;
use crate::serve::names::{AskedModel, OWN};
use crate::serve::offers::{Offers, Wanted};
use crate::serve::settings::OtherSizes;
pub(super) use crate::serve::settings::ResponseFormat as Format;
use crate::time::Duration;

/// Largest number of pictures of a request.
const MOST: u64 = 10;
/// Largest whole number that is accepted: up to it, every whole number is exact as a floating-point number of JSON.
const LARGEST: u64 = 1 << 53;

/// Request that can be served.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WantedPictures {
    pub(super) prompt: String,
    pub(super) pictures: u32,
    pub(super) seed: Option<u64>,
    pub(super) deadline_s: Option<f64>,
    pub(super) reuse: Reuse,
    pub(super) format: Format,
    pub(super) wanted: Wanted,
    /// True if the answer is a stream of events.
    pub(super) stream: bool,
    /// Keys that were accepted and change nothing.
    pub(super) ignored: Vec<String>,
    /// Picture to refine, in the size of the result, and the steps of the large model that are skipped.
    pub(super) source: Option<(Arc<Picture>, u32)>,
}

/// Values of the key `cache`, with the use of the image cache that each allows.
const CACHE: [(&str, Reuse); 4] = [
    ("auto", Reuse::ALL),
    ("no-hit", Reuse { look_up: false, keep: true }),
    ("no-keep", Reuse { look_up: true, keep: false }),
    ("off", Reuse::NONE),
];

/// Reads a JSON body within the time limit and checks it.
impl FromRequest<Arc<Server>> for WantedPictures {
    type Rejection = ApiError;

    async fn from_request(request: Request, server: &Arc<Server>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        // A browser sends forms and plain text from pages of other sites without asking this server first. JSON it
        // sends only if the server allows it, and this server allows only the origins of its settings.
        if !media_type(&parts.headers).eq_ignore_ascii_case("application/json") {
            return Err(ApiError::not_json());
        }
        let bytes = read(body, server.settings.max_body, server.settings.read_timeout_s).await?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::unreadable(format!("the body is no JSON: {error}")))?;
        let Value::Object(keys) = value else { return Err(ApiError::unreadable("expected an object of keys")) };
        Self::parse(&keys, &parts.headers, server)
    }
}

/// Returns the media type of a body, without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> &str {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim()
}

/// Reads a body of at most `most` bytes. The time limit is for a client that sends its body byte by byte: hyper limits
/// the time of the header alone.
pub(super) async fn read(body: Body, most: usize, seconds: f64) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(HostDuration::from_secs_f64(seconds), to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(ApiError::too_large(most)),
        Err(_) => Err(ApiError::unreadable("the body took too long to come")),
    }
}

impl WantedPictures {
    /// Makes a request for one usual picture.
    pub(super) fn of_prompt(prompt: String) -> Self {
        Self {
            prompt,
            pictures: 1,
            seed: None,
            deadline_s: None,
            reuse: Reuse::ALL,
            format: Format::B64Json,
            wanted: Wanted::default(),
            stream: false,
            ignored: Vec::new(),
            source: None,
        }
    }

    /// Checks the keys of a request and its headers.
    pub(super) fn parse(keys: &Map<String, Value>, headers: &HeaderMap, server: &Server) -> Result<Self, ApiError> {
        let mut wanted = Self::of_prompt(String::new());
        for (key, value) in keys {
            match wanted.take(key, value, server) {
                Ok(()) => {}
                Err(Refused::Value(accepted)) => {
                    return Err(ApiError::wrong(key, format!("{key}: expected {accepted}")));
                }
                Err(Refused::Key) => return Err(ApiError::wrong(key, format!("{key}: is not known here"))),
            }
        }
        wanted.wanted.encoding = foreign::encoding(keys, &mut wanted.ignored)?;
        wanted.other_size(server);
        if keys.get("response_format").is_none_or(Value::is_null) && !wanted.stream {
            wanted.format = foreign::usual_format(keys, server.settings.response_format);
        }
        if let Some((key, message)) = server.offers.refusal(&wanted.wanted) {
            return Err(ApiError::wrong(key, format!("{key}: {message}")));
        }
        wanted.reuse = wanted.reuse.and(allowed(headers));
        wanted.check_prompt(server)
    }

    /// Takes the value of a key.
    fn take(&mut self, key: &str, value: &Value, server: &Server) -> Result<(), Refused> {
        let wrong = |accepted: &str| Err(Refused::Value(accepted.to_owned()));
        if let Some(taken) = wish(&mut self.wanted, key, value) {
            return taken.map_err(|accepted| Refused::Value(accepted.to_owned()));
        }
        match key {
            "prompt" => match value.as_str() {
                Some(prompt) => prompt.clone_into(&mut self.prompt),
                None => return wrong("text"),
            },
            // All keys below may be null, because clients send null for a value that is not set.
            _ if value.is_null() && KNOWN.contains(&key) => {}
            "n" => match count(value).filter(|n| (1..=MOST).contains(n)) {
                Some(n) => self.pictures = n as u32,
                None => return wrong(&format!("a whole number from 1 to {MOST}")),
            },
            "response_format" => match value.as_str() {
                Some("b64_json") => self.format = Format::B64Json,
                Some("url") => self.format = Format::Url,
                _ => return wrong("\"b64_json\" or \"url\""),
            },
            "model" => match value.as_str().and_then(|name| server.names.find(name)) {
                // Only one model draws misses in most scenarios. A picture that is not looked up is then of this model.
                Some(AskedModel::Model(model)) if server.names.draws_every_miss(model) => self.reuse.look_up = false,
                Some(_) => {}
                None => return wrong(&format!("\"{OWN}\" or one of GET /v1/models")),
            },
            "seed" => match count(value).filter(|seed| *seed <= LARGEST) {
                Some(seed) => self.seed = Some(seed),
                None => return wrong("a whole number from 0 to 2^53"),
            },
            "deadline_s" => match value.as_f64().filter(|seconds| (1e-3..=1e7).contains(seconds)) {
                Some(seconds) => self.deadline_s = Some(seconds),
                None => return wrong("seconds, from 0.001 to 10000000"),
            },
            "cache" => match CACHE.iter().find(|(name, _)| value.as_str() == Some(*name)) {
                // A model that was asked for by its name may have forbidden more.
                Some((_, reuse)) => self.reuse = self.reuse.and(*reuse),
                None => return wrong(&format!("one of {}", CACHE.map(|(name, _)| name).join(", "))),
            },
            "stream" => match value.as_bool() {
                Some(stream) => self.stream = stream,
                None => return wrong("true or false"),
            },
            // Read together, once all keys are known.
            "output_format" | "output_compression" => {}
            _ => return foreign::take(key, value, &mut self.ignored),
        }
        Ok(())
    }

    /// Takes the usual size in place of one that is not offered, if the settings say so.
    fn other_size(&mut self, server: &Server) {
        let is_offered = |size: [u32; 2]| server.offers.all_sizes().any(|offered| offered == size);
        if server.settings.other_sizes == OtherSizes::Usual && self.wanted.size.is_some_and(|size| !is_offered(size)) {
            self.wanted.size = None;
            self.ignored.push("size".to_owned());
        }
    }

    fn check_prompt(self, server: &Server) -> Result<Self, ApiError> {
        let most = server.settings.max_prompt;
        let length = self.prompt.chars().count();
        if self.prompt.trim().is_empty() || length > most {
            let message = format!("prompt: expected text of 1 to {most} characters, found {length}");
            return Err(ApiError::wrong("prompt", message));
        }
        let length = self.wanted.negative_prompt.chars().count();
        if length > most {
            let message = format!("negative_prompt: expected text of at most {most} characters, found {length}");
            return Err(ApiError::wrong("negative_prompt", message));
        }
        Ok(self)
    }

    /// Returns the requests for the desk, one for each picture.
    pub(super) fn asks(&self, caller: &Caller, offers: &Offers) -> Vec<Ask> {
        let (mut wishes, details) = offers.ask(&self.wanted);
        wishes.skips = self.source.as_ref().map_or(0, |(_, skips)| *skips);
        let prompt: Arc<str> = self.prompt.as_str().into();
        let ask = |picture: u32| Ask {
            prompt: prompt.clone(),
            tenant: caller.id,
            // Each picture has a row of its own, so that the pictures of one request differ.
            seed: self.seed.map(|seed| (seed, u64::from(picture))),
            deadline: self.deadline_s.map(Duration::from_seconds_saturating),
            reuse: self.reuse,
            wishes,
            details: details.clone(),
            source: self.source.as_ref().map(|(picture, _)| picture.clone()),
            progress: None,
        };
        (0..self.pictures).map(ask).collect()
    }
}

/// Returns the use of the image cache that a request's headers allow. `no-cache` and `no-store` mean the same as for
/// any HTTP cache, and other directives are ignored, as HTTP demands.
fn allowed(headers: &HeaderMap) -> Reuse {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let directives = values.flat_map(|value| value.split(',')).map(str::trim);
    directives.fold(Reuse::ALL, |reuse, directive| Reuse {
        look_up: reuse.look_up && !directive.eq_ignore_ascii_case("no-cache"),
        keep: reuse.keep && !directive.eq_ignore_ascii_case("no-store"),
    })
}

/// Reason for which the value of a key is not taken.
pub(super) enum Refused {
    /// Value of a known key. The text says what is accepted.
    Value(String),
    /// Key that is not known.
    Key,
}

/// Returns a JSON number as a whole number, even if it is written as 2.0 or 2e0.
pub(super) fn count(value: &Value) -> Option<u64> {
    let whole =
        |number: f64| (number.fract() == 0.0 && (0.0..=LARGEST as f64).contains(&number)).then_some(number as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}

/// Takes a wish beside the prompt. Returns nothing for a key of something else, and the values that the key accepts if
/// this is none of them.
fn wish(wanted: &mut Wanted, key: &str, value: &Value) -> Option<Result<(), &'static str>> {
    if value.is_null() {
        return None;
    }
    let text = || value.as_str().map(str::trim).map(str::to_owned);
    let taken = match key {
        "size" if value.as_str() == Some("auto") => Some(()),
        "size" => value.as_str().and_then(size).map(|size| wanted.size = Some(size)),
        "num_inference_steps" => {
            let steps = count(value).and_then(|steps| u32::try_from(steps).ok());
            steps.map(|steps| wanted.steps = Some(steps))
        }
        "checkpoint" => text().map(|name| wanted.checkpoint = Some(name)),
        "negative_prompt" => text().map(|text| wanted.negative_prompt = text),
        "guidance_scale" => {
            let scale = value.as_f64().filter(|scale| (0.0..=1000.0).contains(scale));
            scale.map(|scale| wanted.guidance = Some(scale))
        }
        "loras" => value.as_array().filter(|loras| loras.is_empty()).map(|_| ()),
        _ => return None,
    };
    Some(taken.ok_or(match key {
        "size" => "\"WIDTHxHEIGHT\" in pixels, or \"auto\"",
        "num_inference_steps" => "a whole number of denoising steps",
        "checkpoint" => "the name of a checkpoint",
        "guidance_scale" => "a number from 0 to 1000",
        "loras" => "no LoRAs: the workers here take none, a checkpoint may have them",
        _ => "text",
    }))
}

/// Returns a width and a height in pixels that are written as "512x512".
fn size(text: &str) -> Option<[u32; 2]> {
    let (width, height) = text.split_once('x')?;
    let side = |text| super::whole(text).and_then(|side| u32::try_from(side).ok()).filter(|side| *side > 0);
    Some([side(width)?, side(height)?])
}

/// Keys that may be null. Null stands for what is usual.
const KNOWN: [&str; 16] = [
    "num_inference_steps",
    "checkpoint",
    "negative_prompt",
    "guidance_scale",
    "loras",
    "cache",
    "n",
    "size",
    "response_format",
    "model",
    "seed",
    "deadline_s",
    "stream",
    "output_compression",
    "output_format",
    "user",
];
