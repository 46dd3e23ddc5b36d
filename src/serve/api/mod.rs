//! The API as docs/openapi.json has it: who may ask, what is asked, and what is answered. One file for each kind of thing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::desk::{Ask, Desk, Refused, Ticket};
use super::keys::Keys;
use super::ledger::Ledger;
use super::settings::ServeSettings;
use super::{seconds_since_1970, since_1970};
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
mod audits;
mod cache;
mod error;
mod generations;
mod info;
mod jobs;
mod pictures;
mod usage;

pub use answers::answers;
pub use error::ApiError;
pub use jobs::resume;
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
        Ok(Self { id: server.usage.number(Some(&tenant.tenant)), name: Some(tenant.tenant.clone()) })
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

    /// Whether somebody may delete what is cached for another one: nobody else's, with keys.
    fn may_delete(&self, caller: &Caller, owner: Option<&str>) -> bool {
        self.keys.is_none() || owner.is_some_and(|owner| caller.name.as_deref() == Some(owner))
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
        // First, so that what finds no room does not count against its tenant.
        self.desk.has_room(asks.len()).map_err(no_room)?;
        let limits = &self.usage.limits[caller.id.0 as usize];
        let count = asks.len() as u32;
        limits.check_rate(count).map_err(|wait_s| refused(ApiError::rate_limited(wait_s), "rate"))?;
        if !limits.take(u64::from(count)) {
            return Err(refused(ApiError::quota_exceeded(seconds_to_midnight()), "quota"));
        }
        self.desk.submit(asks).map_err(|refusal| {
            limits.give_back(u64::from(count));
            no_room(refusal)
        })
    }
}

fn seconds_to_midnight() -> u64 {
    86_400 - seconds_since_1970() % 86_400
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
    /// Waits until the ends of all jobs are on disk.
    pub async fn settled(&self) {
        while !self.running().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Forgets results that have been kept for long enough.
    pub async fn forget_old(&self) {
        let before = seconds_since_1970().saturating_sub(self.settings.keep_results_s as u64);
        match self.ledger.write(vec![super::ledger::Entry::Forget(before)]).await {
            Ok(gone) => {
                for id in gone {
                    let _ = tokio::fs::remove_file(pictures::file(&self.results, &id)).await;
                }
            }
            Err(error) => tracing::warn!("old results cannot be forgotten: {error}"),
        }
    }

    /// Puts on disk what tenants have used of their quotas.
    pub async fn keep_usage(&self) {
        let entries = self.usage.entries();
        if !entries.is_empty()
            && let Err(error) = self.ledger.write(entries).await
        {
            tracing::warn!("what tenants have used of their quotas cannot be kept: {error}");
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, jobs::Running>> {
        super::lock(&self.usage.jobs)
    }
}

/// An answer of JSON.
fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(axum::http::header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
