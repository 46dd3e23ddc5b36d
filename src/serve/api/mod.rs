//! HTTP API of docs/openapi.json: access rights, the decision to take a request in or to refuse it, and answers, with
//! one file for each kind of resource.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::desk::{Ask, Desk, Refused, Ticket};
use super::ids::PictureIds;
use super::keys::Keys;
use super::ledger::Ledger;
use super::names::ModelNames;
use super::offers::Offers;
use super::settings::ServeSettings;
use crate::live::executor::Elsewhere;
use crate::live::store::Sources;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

mod access;
mod answers;
mod ask;
mod audits;
mod cache;
mod cors;
mod edits;
mod error;
mod foreign;
mod generations;
mod info;
mod jobs;
mod listing;
mod multipart;
mod paging;
mod pictures;
mod resume;
mod stream;
mod upkeep;
mod usage;

use access::{Access, Caller, Operator};
pub use answers::answers;
pub use edits::{Edits, PARTS};
pub use error::ApiError;
pub(super) use pictures::checksum;
pub use resume::resume;
pub use upkeep::Upkeep;
pub use usage::Usage;

/// State of the server, which every handler uses.
pub struct Server {
    /// Desk that accepts the requests.
    pub desk: Desk,
    /// Access to the cached pictures.
    pub sources: Sources,
    /// Ledger of what must survive a crash.
    pub ledger: Ledger,
    /// Folder of the pictures of results.
    pub results: PathBuf,
    /// Settings of the section `[serve]`.
    pub settings: ServeSettings,
    /// Keys of the tenants; `None` if requests need no key.
    pub keys: Option<Keys>,
    /// Names of the tenants whose images all tenants may see.
    pub public: Vec<String>,
    /// Names of cached pictures.
    pub ids: PictureIds,
    /// Wishes that clients may have beside their prompts.
    pub offers: Offers,
    /// Names that requests may give a model.
    pub names: ModelNames,
    /// Refinement of clients' pictures.
    pub edits: Edits,
    /// Beginning of the addresses in answers, such as `http://127.0.0.1:8080`.
    pub origin: String,
    /// Use of the server by keys and tenants, and the running jobs.
    pub usage: Usage,
    /// State of the disk and the clocks.
    pub upkeep: Upkeep,
    /// Workers on other machines; set once there are any.
    pub elsewhere: Arc<OnceLock<Arc<dyn Elsewhere>>>,
}

impl Server {
    /// Accepts the pictures of a request, if there is room for them and they fit the rate of the key and the quota of
    /// the tenant. `asks` makes the requests, once they are accepted: a refused one leaves nothing behind.
    fn submit(&self, access: &Access, count: u32, asks: impl FnOnce() -> Vec<Ask>) -> Result<Vec<Ticket>, ApiError> {
        let caller = access.caller()?;
        let refused = |error: ApiError, reason: &'static str| {
            self.desk.meter().refused(reason);
            error
        };
        let no_room = |refusal| match refusal {
            Refused::Full { retry_after_s } => refused(ApiError::queue_full(retry_after_s), "queue"),
            Refused::ShareFull { retry_after_s } => refused(ApiError::share_full(retry_after_s), "queue_share"),
            Refused::Draining => refused(ApiError::draining(), "draining"),
        };
        self.storage_fits().map_err(|error| refused(error, "disk"))?;
        self.fits(access, caller, count)?;
        // The room is checked before the limits, so that a request without room does not count against its tenant.
        self.desk.has_room(caller.id, count as usize).map_err(no_room)?;
        let limits = &self.usage.limits[caller.id.0 as usize];
        // The rate comes before the quota: a request that is too fast costs its tenant nothing of the day.
        self.usage.keys[access.key].check_rate(count).map_err(|wait| refused(ApiError::rate_limited(wait), "rate"))?;
        if !limits.take(u64::from(count), &self.upkeep.clock) {
            let to_midnight = 86_400 - self.upkeep.clock.date() % 86_400;
            return Err(refused(ApiError::quota_exceeded(to_midnight), "quota"));
        }
        // Another request may have taken the room since it was checked.
        self.desk.submit(asks()).map_err(|refusal| {
            limits.give_back(u64::from(count));
            no_room(refusal)
        })
    }

    /// Refuses a request for more pictures than a limit ever allows at once, because waiting would not help. The error
    /// names the limit.
    fn fits(&self, access: &Access, caller: &Caller, pictures: u32) -> Result<(), ApiError> {
        let facts = self.desk.facts();
        let limits = [
            ("burst", u64::from(self.usage.keys[access.key].burst)),
            ("max_queue_per_tenant", facts.max_queue_per_tenant as u64),
            ("max_queue", facts.max_queue as u64),
            ("images_per_day", self.usage.limits[caller.id.0 as usize].a_day.unwrap_or(u64::MAX)),
        ];
        match limits.into_iter().filter(|(_, most)| u64::from(pictures) > *most).min_by_key(|(_, most)| *most) {
            None => Ok(()),
            Some((name, most)) => {
                Err(ApiError::wrong("n", format!("n: expected at most {most}, the limit {name}, found {pictures}")))
            }
        }
    }
}

/// Returns whole seconds since 1970, or 0 for an earlier time.
pub(super) fn since_1970(time: std::time::SystemTime) -> u64 {
    time.duration_since(std::time::UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}

/// Makes a name that cannot be guessed.
fn fresh_name(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}

/// Makes the name of a job, which sorts after all names that were made before. Dates are whole seconds, and jobs of the
/// same second are listed and begun again in the order of their names.
fn next_job_name() -> String {
    format!("job-{}", uuid::Uuid::now_v7().simple())
}

type Shared = State<Arc<Server>>;

/// Name in the path of an address. A name that is not valid text is answered with 404.
struct Id(String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| ApiError::not_found("there is nothing of such a name"))
    }
}

/// Parses a whole number that is written with digits alone, without a sign.
fn whole(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Server {
    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, jobs::Running>> {
        super::lock(&self.usage.jobs)
    }
}

/// Makes an answer of JSON.
fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(axum::http::header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_jobs_are_in_the_order_in_which_they_were_given() {
        let names: Vec<String> = (0..10_000).map(|_| next_job_name()).collect();
        assert!(names.is_sorted_by(|one, next| one < next));
        assert!(names.iter().all(|name| name.len() == "job-".len() + 32));
    }
}
