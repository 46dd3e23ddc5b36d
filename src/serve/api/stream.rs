//! Answers as server-sent events, in the form of OpenAI's API: one event for each picture, once it is done. The steps
//! on the way are comments, which clients skip. Partial pictures are not sent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration as HostDuration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::unfold;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use super::ask::WantedPictures;
use super::generations::{Datum, Drawn, Kind, Withdraws};
use super::jobs::KEEP_ALIVE;
use super::{ApiError, Caller, Server};
use crate::serve::desk::{Ticket, View};

/// Event of a picture that is done.
#[derive(Serialize)]
struct Completed<'a> {
    r#type: &'static str,
    created_at: u64,
    size: &'a str,
    output_format: &'static str,
    background: &'static str,
    #[serde(flatten)]
    datum: Datum<'a>,
}

/// Stream of a request's events, with what is to come.
struct PictureEvents {
    server: Arc<Server>,
    caller: Caller,
    wanted: WantedPictures,
    kind: Kind,
    /// Pictures that are not done, with their progress.
    waiting: VecDeque<(Ticket, watch::Receiver<View>)>,
    /// Guard that withdraws the requests if the client goes away.
    _withdraws: Withdraws,
    limit: Pin<Box<Sleep>>,
    step: u32,
}

/// Answers a request with the events of its pictures.
pub(super) fn answer(
    server: Arc<Server>,
    caller: Caller,
    wanted: WantedPictures,
    kind: Kind,
    (tickets, views): (Vec<Ticket>, Vec<watch::Receiver<View>>),
    withdraws: Withdraws,
) -> Response {
    let limit = Box::pin(sleep(HostDuration::from_secs_f64(server.settings.timeout_s)));
    let waiting = tickets.into_iter().zip(views).collect();
    let events = PictureEvents { server, caller, wanted, kind, waiting, _withdraws: withdraws, limit, step: 0 };
    let stream = unfold(events, |mut events| async {
        let event = events.next().await?;
        Some((Ok::<_, Infallible>(event), events))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

impl PictureEvents {
    /// Waits for the next event. Returns `None` after the last one.
    async fn next(&mut self) -> Option<Event> {
        let view = loop {
            let (ticket, progress) = self.waiting.front_mut()?;
            tokio::select! {
                view = ticket.ended() => break view,
                Ok(()) = progress.changed() => {
                    let (step, steps) = {
                        let view = progress.borrow_and_update();
                        (view.step, view.steps)
                    };
                    if let Some((total, _)) = steps.filter(|_| step != self.step) {
                        self.step = step;
                        return Some(Event::default().comment(format!("step {step} of {total}")));
                    }
                }
                () = &mut self.limit => {
                    let seconds = self.server.settings.timeout_s;
                    return Some(self.failed(&ApiError::timed_out(seconds)));
                }
            }
        };
        self.waiting.pop_front();
        let event = match Drawn::from_views(&self.server, &self.caller, &self.wanted, &[view]).await {
            Ok(drawn) => completed(self.kind.event(), &drawn),
            Err(error) => Err(error),
        };
        Some(event.unwrap_or_else(|error| self.failed(&error)))
    }

    /// Returns the event of a failure, which is the last one: the guard withdraws what is left.
    fn failed(&mut self, error: &ApiError) -> Event {
        self.waiting.clear();
        let mut body: Value = error.body();
        body["type"] = json!("error");
        Event::default().event("error").data(body.to_string())
    }
}

fn completed(name: &'static str, drawn: &Drawn) -> Result<Event, ApiError> {
    let wrong = || ApiError::failed("the server has drawn no picture");
    let completed = Completed {
        r#type: name,
        created_at: drawn.created,
        size: &drawn.size,
        output_format: drawn.output_format,
        background: "opaque",
        datum: drawn.data().next().ok_or_else(wrong)?,
    };
    let data = serde_json::to_string(&completed).map_err(|error| ApiError::failed(error.to_string()))?;
    Ok(Event::default().event(name).data(data))
}
