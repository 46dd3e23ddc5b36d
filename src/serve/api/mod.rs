//! The API as docs/openapi.json has it: who may ask, what is asked, and what is answered. One file for each kind of thing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::desk::{Ask, Desk, Refused, Ticket};
use super::keys::Keys;
use super::ledger::Ledger;
use super::settings::ServeSettings;
use crate::cache::Scope;
use crate::live::store::Sources;
use crate::request::TenantId;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

mod answers;
mod ask;
mod cache;
mod error;
mod generations;
mod info;
mod jobs;
mod pictures;
mod resume;
mod upkeep;
mod usage;

pub use answers::answers;
pub use error::ApiError;
pub(super) use pictures::checksum;
pub use resume::resume;
pub use upkeep::Upkeep;
pub use usage::Usage;

/// What every answer is made from.
pub struct Server {
    /// Where requests go.
    pub desk: Desk,
    /// Where the cache's pictures are.
    pub sources: Sources,
    /// What must outlive a crash.
    pub ledger: Ledger,
    /// Where pictures of results go.
    pub results: PathBuf,
    /// What is allowed.
    pub settings: ServeSettings,
    /// Who may ask; none: everybody.
    pub keys: Option<Keys>,
    /// Whose images a tenant may find.
    pub scope: Scope,
    /// Tenants whose images are everybody's.
    pub public: Vec<String>,
    /// Width and height of all pictures.
    pub size: [u32; 2],
    /// As the server is called from outside: `http://127.0.0.1:8080`, unless a request names its host.
    pub origin: String,
    /// What has been asked for.
    pub usage: Usage,
    /// State of the disk and the clocks.
    pub upkeep: Upkeep,
}

/// Who asks: a handler that takes one is not reached without a key, where there are keys.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    id: TenantId,
    /// None without keys.
    name: Option<String>,
}

impl FromRequestParts<Arc<Server>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, ApiError> {
        let Some(keys) = &server.keys else { return Ok(Self { id: TenantId(0), name: None }) };
        let given = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = given.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        let tenant = key.and_then(|(_, key)| keys.tenant(key.trim()));
        let tenant = tenant.ok_or_else(|| ApiError::no_key(given.is_some()))?;
        let id = server.usage.number(Some(&tenant.tenant)).ok_or_else(|| ApiError::no_key(true))?;
        Ok(Self { id, name: Some(tenant.tenant.clone()) })
    }
}

impl Server {
    /// Whether somebody may see what another one's request made.
    fn may_see(&self, caller: &Caller, owner: Option<&str>) -> bool {
        let Some(owner) = owner.filter(|_| self.keys.is_some()) else { return true };
        caller.name.as_deref() == Some(owner) || self.public.iter().any(|public| public == owner)
    }

    /// Whether somebody may find what is cached for another one.
    fn may_find(&self, caller: &Caller, owner: Option<&str>) -> bool {
        self.scope == Scope::Shared || self.may_see(caller, owner)
    }

    /// Takes a request's pictures in, if its tenant has as many left.
    fn submit(&self, caller: &Caller, asks: Vec<Ask>) -> Result<Vec<Ticket>, ApiError> {
        let refused = |error: ApiError, reason: &'static str| {
            self.desk.meter().refused(reason);
            error
        };
        let no_room = |refusal| match refusal {
            Refused::Full { retry_after_s } => refused(ApiError::queue_full(retry_after_s), "queue"),
            Refused::Draining => refused(ApiError::draining(), "draining"),
        };
        self.storage_fits().map_err(|error| refused(error, "disk"))?;
        // First, so that what finds no room does not count against its tenant.
        self.desk.has_room(asks.len()).map_err(no_room)?;
        let limits = &self.usage.limits[caller.id.0 as usize];
        let count = asks.len() as u32;
        limits.check_rate(count).map_err(|wait_s| refused(ApiError::rate_limited(wait_s), "rate"))?;
        if !limits.take(u64::from(count), &self.upkeep.clock) {
            let to_midnight = 86_400 - self.upkeep.clock.date() % 86_400;
            return Err(refused(ApiError::quota_exceeded(to_midnight), "quota"));
        }
        self.desk.submit(asks).map_err(|refusal| {
            limits.give_back(u64::from(count));
            no_room(refusal)
        })
    }
}

/// Whole seconds since 1970.
pub(super) fn since_1970(time: std::time::SystemTime) -> u64 {
    time.duration_since(std::time::UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}

/// A name that cannot be guessed.
fn fresh_name(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}

type Shared = State<Arc<Server>>;

/// The name in an address; one that is no text names nothing.
struct Id(String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| ApiError::not_found("there is nothing of such a name"))
    }
}

/// A number as it is written, without signs.
fn whole(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Server {
    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, jobs::Running>> {
        super::lock(&self.usage.jobs)
    }
}

/// An answer of JSON.
fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(axum::http::header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
