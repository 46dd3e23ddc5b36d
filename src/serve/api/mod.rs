//! The API as docs/openapi.json has it: who may ask, what is asked, and what is answered. One file for each kind of thing.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{FromRequestParts, MatchedPath, Path, Request, State};
use axum::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::desk::{Ask, Desk, Refused, Ticket};
use super::keys::Keys;
use super::ledger::Ledger;
use super::settings::ServeSettings;
use crate::cache::Scope;
use crate::live::store::Sources;
use crate::request::TenantId;

mod ask;
mod cache;
mod error;
mod generations;
mod info;
mod jobs;
mod pictures;

pub use error::ApiError;
pub use jobs::resume;

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

/// What the server remembers of those who ask.
pub struct Usage {
    /// Of this start of the program, and how many answers it has given: requests are told apart by both.
    name: String,
    answers: AtomicU64,
    /// By tenant; one for everybody without keys.
    limits: Vec<Limits>,
    jobs: Mutex<BTreeMap<String, jobs::Running>>,
}

impl Usage {
    /// Of tenants that have asked for nothing.
    #[must_use]
    pub fn none(settings: &ServeSettings, keys: Option<&Keys>, tenants: &[String]) -> Self {
        let limits = |tenant: &str, rate: Option<u32>, a_day: Option<u64>| {
            let rate = NonZeroU32::new(rate.unwrap_or(settings.rate_per_min)).unwrap_or(NonZeroU32::MIN);
            Limits {
                tenant: tenant.to_owned(),
                rate: RateLimiter::direct(Quota::per_minute(rate)),
                a_day: a_day.or(settings.images_per_day),
                used: AtomicU64::new(0),
            }
        };
        let own = |name: &String| {
            let key = keys.and_then(|keys| keys.tenants().find(|key| key.tenant == *name));
            limits(name, key.and_then(|key| key.rate_per_min), key.and_then(|key| key.images_per_day))
        };
        let mut all: Vec<Limits> = tenants.iter().map(own).collect();
        if all.is_empty() {
            all.push(limits("", None, None));
        }
        Self {
            name: uuid::Uuid::new_v4().simple().to_string()[..8].to_owned(),
            answers: AtomicU64::new(0),
            limits: all,
            jobs: Mutex::default(),
        }
    }
}

/// What a tenant has left.
struct Limits {
    tenant: String,
    rate: DefaultDirectRateLimiter,
    a_day: Option<u64>,
    /// Day since 1970 and images asked for on it, in one number.
    used: AtomicU64,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    id: TenantId,
    /// None without keys.
    name: Option<String>,
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
        let refused = |error: ApiError, reason: &str| {
            self.desk.meter().refused(reason);
            Err(error)
        };
        let limits = &self.usage.limits[caller.id.0 as usize];
        let count = NonZeroU32::new(asks.len() as u32).unwrap_or(NonZeroU32::MIN);
        match limits.rate.check_n(count) {
            Ok(Ok(())) => {}
            Ok(Err(wait)) => {
                use governor::clock::{Clock, DefaultClock};
                let wait = wait.wait_time_from(DefaultClock::default().now()).as_secs() + 1;
                return refused(ApiError::rate_limited(wait), "rate");
            }
            Err(_) => return refused(ApiError::rate_limited(60), "rate"),
        }
        if !limits.take(u64::from(count.get())) {
            return refused(ApiError::quota_exceeded(seconds_to_midnight()), "quota");
        }
        self.desk.submit(asks).or_else(|refusal| {
            limits.give_back(u64::from(count.get()));
            match refusal {
                Refused::Full { retry_after_s } => refused(ApiError::queue_full(retry_after_s), "queue"),
                Refused::Draining => refused(ApiError::draining(), "draining"),
            }
        })
    }
}

impl Limits {
    /// Images that were taken from the quota and then not taken in.
    fn give_back(&self, count: u64) {
        if self.a_day.is_some() {
            self.used.fetch_sub(count, Ordering::Relaxed);
        }
    }

    /// Takes so many images from the day's quota.
    fn take(&self, count: u64) -> bool {
        const BITS: u32 = 40;
        let Some(most) = self.a_day else { return true };
        let today = seconds_since_1970() / 86_400;
        let add = |before: u64| {
            let used = if before >> BITS == today { before & ((1 << BITS) - 1) } else { 0 };
            (used + count <= most).then_some(today << BITS | (used + count))
        };
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

/// The time outside: for what people read, never for what is measured.
#[expect(clippy::disallowed_methods, reason = "dates of answers and quotas of a day are the host's")]
fn seconds_since_1970() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
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

/// All routes.
pub fn router(server: Arc<Server>) -> Router {
    let guarded = Router::new()
        .route("/v1/images/generations", post(generations::generate))
        .route("/v1/images/{id}", get(pictures::picture))
        .route("/v1/jobs", post(jobs::submit))
        .route("/v1/jobs/{id}", get(jobs::job).delete(jobs::cancel))
        .route("/v1/jobs/{id}/events", get(jobs::events))
        .route("/v1/models", get(info::models))
        .route("/v1/models/{id}", get(info::model))
        .route("/v1/cache", get(cache::list))
        .route("/v1/status", get(info::status))
        .route("/metrics", get(info::metrics))
        .route_layer(from_fn_with_state(server.clone(), authenticated));
    Router::new()
        .merge(guarded)
        .route("/", get(info::page))
        .route("/page.js", get(info::script))
        .route("/page.css", get(info::style))
        .route("/openapi.json", get(info::openapi))
        .route("/healthz", get(info::healthy))
        .route("/readyz", get(info::ready))
        .fallback(|| async { ApiError::not_found("there is no such address") })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(from_fn_with_state(server.clone(), told))
        .with_state(server)
}

/// Lets in who has a key, and says who it is.
async fn authenticated(State(server): Shared, mut request: Request, next: Next) -> Response {
    let caller = match &server.keys {
        None => Caller { id: TenantId(0), name: None },
        Some(keys) => {
            let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            let key =
                given.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
            let Some(tenant) = key.and_then(|(_, key)| keys.tenant(key.trim())) else {
                let mut refused = ApiError::no_key(given.is_some()).into_response();
                refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                return refused;
            };
            let id = server.usage.limits.iter().position(|limits| limits.tenant == tenant.tenant).unwrap_or(0);
            Caller { id: TenantId(id as u32), name: Some(tenant.tenant.clone()) }
        }
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// A line and a count for each answer; what a browser may do with it.
async fn told(State(server): Shared, request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let id = format!("{}-{}", server.usage.name, server.usage.answers.fetch_add(1, Ordering::Relaxed));
    #[expect(clippy::disallowed_methods, reason = "logs have the host's time")]
    let begun = std::time::Instant::now();
    let mut response = next.run(request).await;
    let status = response.status();
    server.desk.meter().answered(route.as_ref().map_or("none", MatchedPath::as_str), status.as_u16());
    let milliseconds = begun.elapsed().as_secs_f64() * 1000.0;
    tracing::info!(request = id, %method, path = uri.path(), status = status.as_u16(), milliseconds, "answered");
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    headers.insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
    response
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

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, jobs::Running>> {
        self.usage.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer of JSON.
fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(axum::http::header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
