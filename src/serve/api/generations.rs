//! Handler of `POST /v1/images/generations`, which waits for the pictures. A client that goes away withdraws its
//! request.

use std::sync::Arc;
use std::time::Duration as HostDuration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::OwnedSemaphorePermit;

use super::ask::{Format, WantedPictures};
use super::pictures::{self, MadePicture, RESULT};
use super::{Access, ApiError, Caller, Server, Shared, foreign, fresh_name, jobs, stream};
use crate::request::RequestId;
use crate::serve::desk::{Desk, View};
use crate::serve::offers::Encoding;

/// Header with the models that have drawn the pictures, in the order of the pictures, each name once in a row.
const MODEL: HeaderName = HeaderName::from_static("x-modm-model");
/// Header with the text encoders that did not see all of the prompt, each with the number of tokens that it missed.
const PROMPT_CUT: HeaderName = HeaderName::from_static("x-modm-prompt-cut");

/// Body of an answer.
#[derive(Serialize)]
struct Generated<'a> {
    created: u64,
    data: Vec<Datum<'a>>,
    size: &'a str,
    output_format: &'static str,
    modm: &'a [Box<RawValue>],
}

/// Picture of an answer, either as base64 text or as an address.
#[derive(Serialize)]
pub(super) struct Datum<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    b64_json: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    modm: &'a RawValue,
}

/// Kind of a request for pictures.
pub(super) enum Kind {
    Generation,
    /// Refinement of a picture that the client has sent, with the room for it in memory.
    Edit(#[expect(dead_code, reason = "its end is what matters")] OwnedSemaphorePermit),
}

impl Kind {
    /// Returns the name of the event of a picture that is done.
    pub(super) const fn event(&self) -> &'static str {
        match self {
            Self::Generation => "image_generation.completed",
            Self::Edit(_) => "image_edit.completed",
        }
    }
}

/// Time without a worker that can generate images after which requests are refused instead of waiting. A worker that is
/// lost once is back after a second and the load of its model.
const PATIENCE: HostDuration = HostDuration::from_secs(10);

/// Guard that withdraws its requests when it is dropped. A request that has ended keeps its outcome.
pub(super) struct Withdraws(Desk, Vec<RequestId>);

impl Drop for Withdraws {
    fn drop(&mut self) {
        for id in &self.1 {
            self.0.cancel(*id);
        }
    }
}

pub(super) async fn generate(
    State(server): Shared,
    access: Access,
    wanted: WantedPictures,
) -> Result<Response, ApiError> {
    answer(server, &access, wanted, Kind::Generation).await
}

/// Has the pictures of a request drawn, and answers with them or with their events.
pub(super) async fn answer(
    server: Arc<Server>,
    access: &Access,
    mut wanted: WantedPictures,
    kind: Kind,
) -> Result<Response, ApiError> {
    let caller = access.caller()?;
    // The check comes before the limits are counted: a request that nobody can serve costs its tenant nothing.
    if server.desk.without_worker() > PATIENCE {
        server.desk.meter().refused("no_worker");
        return Err(ApiError::no_worker(PATIENCE.as_secs()));
    }
    let mut views = Vec::new();
    let mut tickets = server.submit(access, wanted.pictures, || {
        let asks = wanted.asks(caller, &server.offers);
        if !wanted.stream {
            return asks;
        }
        let (asks, followed) = jobs::followed(asks);
        views = followed;
        asks
    })?;
    // The desk has the source now, and lets it go with its request.
    wanted.source = None;
    // The guard is made before the first wait. If the client goes away, hyper drops this future at a wait, and the
    // guard with it.
    let mut withdraws = Withdraws(server.desk.clone(), tickets.iter().map(|ticket| ticket.id).collect());
    let ignored = std::mem::take(&mut wanted.ignored);
    let mut response = if wanted.stream {
        stream::answer(server.clone(), caller.clone(), wanted, kind, (tickets, views), withdraws)
    } else {
        let seconds = server.settings.timeout_s;
        let all = async {
            let mut views = Vec::with_capacity(tickets.len());
            // All pictures must end, in whatever order, so that no time is lost by waiting for one after the other.
            for ticket in &mut tickets {
                views.push(ticket.ended().await);
            }
            views
        };
        let views = tokio::time::timeout(HostDuration::from_secs_f64(seconds), all).await;
        let views = views.map_err(|_| ApiError::timed_out(seconds))?;
        withdraws.1.clear();
        Drawn::from_views(&server, caller, &wanted, &views).await?.answer()?
    };
    foreign::name(&mut response, &ignored);
    Ok(response)
}

/// Pictures that were drawn, as clients get them.
pub(super) struct Drawn {
    pub(super) created: u64,
    pub(super) size: String,
    pub(super) output_format: &'static str,
    /// Base64 text or address of each picture.
    sent: Vec<String>,
    is_url: bool,
    made: Vec<Box<RawValue>>,
    /// Headers about the pictures.
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Drawn {
    /// Encodes the pictures of requests that have ended. Pictures that are sent as addresses are kept as results.
    pub(super) async fn from_views(
        server: &Server,
        caller: &Caller,
        wanted: &WantedPictures,
        views: &[View],
    ) -> Result<Self, ApiError> {
        let wrong = |error: serde_json::Error| ApiError::failed(error.to_string());
        let (encoding, is_url) = (wanted.wanted.encoding, wanted.format == Format::Url);
        // Results are kept without loss, and are sent in the form that their addresses name.
        let form = if is_url { Encoding::Png } else { encoding };
        let (mut files, mut made) = (Vec::with_capacity(views.len()), Vec::with_capacity(views.len()));
        for view in views {
            let (id, bytes) = (fresh_name(RESULT), pictures::encoded(pictures::picture_of(view)?, form).await?);
            made.push(to_raw_value(&MadePicture::from_view(server, &id, view, wanted.seed)).map_err(wrong)?);
            files.push((id, bytes));
        }
        if is_url {
            pictures::keep(server, caller.name.clone(), &files, None).await?;
        }
        let sent = files.iter().map(
            |(id, bytes)| {
                if is_url { pictures::url(server, id, encoding) } else { STANDARD.encode(bytes) }
            },
        );
        let [width, height] = server.offers.size_of(&wanted.wanted);
        Ok(Self {
            created: server.upkeep.clock.date(),
            size: format!("{width}x{height}"),
            output_format: encoding.name(),
            sent: sent.collect(),
            is_url,
            made,
            headers: headers(server, views),
        })
    }

    /// Returns the pictures as entries of an answer.
    pub(super) fn data(&self) -> impl Iterator<Item = Datum<'_>> {
        self.sent.iter().zip(&self.made).map(|(sent, modm)| {
            let of = |is: bool| is.then_some(sent.as_str());
            Datum { b64_json: of(!self.is_url), url: of(self.is_url), modm }
        })
    }

    fn answer(&self) -> Result<Response, ApiError> {
        let answer = Generated {
            created: self.created,
            data: self.data().collect(),
            size: &self.size,
            output_format: self.output_format,
            modm: &self.made,
        };
        let answer = serde_json::to_vec(&answer).map_err(|error| ApiError::failed(error.to_string()))?;
        let mut response = ([(CONTENT_TYPE, "application/json")], answer).into_response();
        response.headers_mut().extend(self.headers.iter().cloned());
        Ok(response)
    }
}

/// Returns the headers that say which models have drawn, and what of the prompt they did not see.
fn headers(server: &Server, views: &[View]) -> Vec<(HeaderName, HeaderValue)> {
    let models = &server.desk.facts().models;
    let mut drawn: Vec<&str> =
        views.iter().filter_map(|view| view.started).map(|(_, model)| &*models[model.index()]).collect();
    drawn.dedup();
    let cuts = views.first().map(|view| view.cuts.as_slice()).unwrap_or_default();
    let cuts: Vec<String> = cuts.iter().map(|cut| format!("{}={}", cut.encoder, cut.left_out)).collect();
    let header = |name: HeaderName, values: String| Some((name, HeaderValue::try_from(values).ok()?));
    let both = [(MODEL, drawn.join(", ")), (PROMPT_CUT, cuts.join(", "))];
    both.into_iter()
        .filter(|(_, values)| !values.is_empty())
        .filter_map(|(name, values)| header(name, values))
        .collect()
}
