//! Handler of `POST /v1/images/generations`, which waits for the pictures. A client that goes away withdraws its
//! request.

use std::time::Duration as HostDuration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::ask::{Format, WantedPictures};
use super::pictures::{self, MadePicture, RESULT};
use super::{Access, ApiError, Shared, fresh_name};
use crate::request::RequestId;
use crate::serve::desk::Desk;

/// Body of an answer.
#[derive(Serialize)]
struct Generated<'a> {
    created: u64,
    data: Vec<Datum<'a>>,
    size: String,
    output_format: &'static str,
    modm: &'a [Box<RawValue>],
}

/// Picture of an answer, either as base64 text or as an address.
#[derive(Serialize)]
struct Datum<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    b64_json: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    modm: &'a RawValue,
}

/// Time without a worker that can generate images after which requests are refused instead of waiting. A worker that is
/// lost once is back after a second and the load of its model.
const PATIENCE: HostDuration = HostDuration::from_secs(10);

/// Guard that withdraws its requests when it is dropped.
struct Withdraws(Desk, Vec<RequestId>);

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
    let caller = access.caller()?;
    // The check comes before the limits are counted: a request that nobody can serve costs its tenant nothing.
    if server.desk.without_worker() > PATIENCE {
        server.desk.meter().refused("no_worker");
        return Err(ApiError::no_worker(PATIENCE.as_secs()));
    }
    let mut tickets = server.submit(&access, wanted.pictures, || wanted.asks(caller, &server.offers))?;
    // The guard is made before the first wait. If the client goes away, hyper drops this future at a wait, and the
    // guard with it.
    let mut withdraws = Withdraws(server.desk.clone(), tickets.iter().map(|ticket| ticket.id).collect());
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
    let wrong = |error: serde_json::Error| ApiError::failed(error.to_string());
    let (mut files, mut made) = (Vec::with_capacity(views.len()), Vec::with_capacity(views.len()));
    for view in &views {
        let (id, bytes) = (fresh_name(RESULT), pictures::png(pictures::picture_of(view)?).await?);
        made.push(to_raw_value(&MadePicture::from_view(&server, &id, view, wanted.seed)).map_err(wrong)?);
        files.push((id, bytes));
    }
    let url = |id| (wanted.format == Format::Url).then(|| pictures::url(&server, id));
    let base64 = |bytes| (wanted.format == Format::Base64).then(|| STANDARD.encode(bytes));
    let data = files.iter().zip(&made).map(|((id, bytes), modm)| Datum { b64_json: base64(bytes), url: url(id), modm });
    let [width, height] = server.offers.size_of(&wanted.wanted);
    let answer = Generated {
        created: server.upkeep.clock.date(),
        data: data.collect(),
        size: format!("{width}x{height}"),
        output_format: "png",
        modm: &made,
    };
    let answer = serde_json::to_vec(&answer).map_err(wrong)?;
    if wanted.format == Format::Url {
        pictures::keep(&server, caller.name.clone(), &files, None).await?;
    }
    Ok(([(CONTENT_TYPE, "application/json")], answer).into_response())
}
