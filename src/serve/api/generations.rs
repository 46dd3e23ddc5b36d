//! `POST /v1/images/generations`: waits for the pictures. Who goes away withdraws the request.

use std::time::Duration as HostDuration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::ask::{Format, Wanted};
use super::pictures::{self, Made, RESULT};
use super::{ApiError, Caller, Shared, fresh_name, seconds_since_1970};
use crate::request::RequestId;
use crate::serve::desk::Desk;

/// An answer.
#[derive(Serialize)]
struct Generated<'a> {
    created: u64,
    data: Vec<Datum<'a>>,
    size: String,
    output_format: &'static str,
    modm: &'a [Made],
}

/// A picture of it, in one form or the other.
#[derive(Serialize)]
struct Datum<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    b64_json: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    modm: &'a Made,
}

/// Withdraws requests when it is dropped before they have ended.
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
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let wanted = Wanted::read(&server, &headers, body).await?;
    let mut tickets = server.submit(&caller, wanted.asks(&caller))?;
    let withdraws = Withdraws(server.desk.clone(), tickets.iter().map(|ticket| ticket.id).collect());
    let seconds = server.settings.timeout_s;
    let all = async {
        let mut views = Vec::with_capacity(tickets.len());
        for ticket in &mut tickets {
            views.push(ticket.ended().await);
        }
        views
    };
    let views = tokio::time::timeout(HostDuration::from_secs_f64(seconds), all).await;
    let views = views.map_err(|_| ApiError::timed_out(seconds))?;
    drop(withdraws);
    let (mut bytes, mut made) = (Vec::with_capacity(views.len()), Vec::with_capacity(views.len()));
    for view in &views {
        bytes.push(pictures::png(pictures::of(view)?).await?);
        made.push(Made::of(&server, fresh_name(RESULT), view));
    }
    let url = |made: &Made| (wanted.format == Format::Url).then(|| pictures::url(&server, &made.id));
    let base64 = |bytes| (wanted.format == Format::Base64).then(|| STANDARD.encode(bytes));
    let data =
        made.iter().zip(&bytes).map(|(made, bytes)| Datum { b64_json: base64(bytes), url: url(made), modm: made });
    let [width, height] = server.size;
    let answer = Generated {
        created: seconds_since_1970(),
        data: data.collect(),
        size: format!("{width}x{height}"),
        output_format: "png",
        modm: &made,
    };
    let answer = serde_json::to_vec(&answer).map_err(|error| ApiError::failed(error.to_string()))?;
    if wanted.format == Format::Url {
        let files = made.into_iter().map(|made| made.id).zip(bytes).collect();
        pictures::keep(&server, caller.name, files, None).await?;
    }
    Ok(([(CONTENT_TYPE, "application/json")], answer).into_response())
}
