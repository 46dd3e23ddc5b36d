//! Errors in the form that OpenAI's clients expect.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::serve::ledger::LedgerError;

/// Error that is sent to a client.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
    retry_after_s: Option<u64>,
}

/// Header by which OpenAI's clients are told not to send a request again.
const SHOULD_RETRY: &str = "x-should-retry";

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), param: None, code, retry_after_s: None }
    }

    /// Makes the error for a value that is not accepted.
    pub(super) fn wrong(param: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let wrong = Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, message);
        Self { param: Some(param.to_owned()), ..wrong }
    }

    /// Makes the error for a body that cannot be read.
    pub(super) fn unreadable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, message)
    }

    /// Makes the error for a body that is not declared as JSON.
    pub(super) fn not_json() -> Self {
        let message = "expected a body of JSON, with the header Content-Type: application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", None, message)
    }

    /// Makes the error for a body that is no form with files.
    pub(super) fn no_form() -> Self {
        let message = "expected a form with files, with the header Content-Type: multipart/form-data; boundary=...";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", None, message)
    }

    /// Makes the error for something that the API has elsewhere and not here.
    pub(super) fn not_offered(reason: &str) -> Self {
        let message = format!("this is not offered here: {reason}");
        Self::new(StatusCode::NOT_IMPLEMENTED, "invalid_request_error", Some("not_offered"), message)
    }

    pub(super) fn too_large(most: usize) -> Self {
        let message = format!("the body is larger than {most} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", Some("request_too_large"), message)
    }

    pub(super) fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", Some("not_found"), message)
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the address takes other methods";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", None, message)
    }

    pub(super) fn no_key(given: bool) -> Self {
        let message = if given {
            "the key is not known here"
        } else {
            "expected a key, with the header Authorization: Bearer KEY"
        };
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", Some("invalid_api_key"), message)
    }

    pub(super) fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "invalid_request_error", Some("insufficient_permissions"), message)
    }

    /// Makes the error for a tenant's key where an operator's key is needed.
    pub(super) fn operators_alone() -> Self {
        Self::forbidden("expected a key of an operator: `modm key NAME --operator` makes one")
    }

    /// Makes the error for an operator's key where a tenant's key is needed.
    pub(super) fn looks_on() -> Self {
        Self::forbidden("this key of an operator draws nothing: its name has no key of a tenant")
    }

    fn later(code: &'static str, message: &str, retry_after_s: u64) -> Self {
        let later = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some(code), message);
        Self { retry_after_s: Some(retry_after_s), ..later }
    }

    pub(super) fn rate_limited(retry_after_s: u64) -> Self {
        Self::later("rate_limit_exceeded", "more images a minute than this key may ask for", retry_after_s)
    }

    pub(super) fn quota_exceeded(retry_after_s: u64) -> Self {
        Self::later("quota_exceeded", "more images today than this key may ask for", retry_after_s)
    }

    pub(super) fn queue_full(retry_after_s: u64) -> Self {
        Self::later("queue_full", "as many requests wait as there is room for", retry_after_s)
    }

    pub(super) fn share_full(retry_after_s: u64) -> Self {
        Self::later("queue_full", "as many requests of this key's tenant wait as there is room for", retry_after_s)
    }

    pub(super) fn too_many_uploads() -> Self {
        Self::later("queue_full", "as many requests with pictures are under way as there is room for", 1)
    }

    /// Makes the error for a signed address that does not hold, or not any more.
    pub(super) fn wrong_signature() -> Self {
        Self::forbidden("the signature of this address is wrong, or it has expired")
    }

    pub(super) fn draining() -> Self {
        let message = "the server takes nothing more in: it is being shut down";
        let draining = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("shutting_down"), message);
        Self { retry_after_s: Some(30), ..draining }
    }

    pub(super) fn no_worker(retry_after_s: u64) -> Self {
        let message = "no worker can draw: all are lost, and are started again; POST /v1/jobs does not wait";
        let none = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("no_worker"), message);
        Self { retry_after_s: Some(retry_after_s), ..none }
    }

    /// Makes the error for a disk with too little room.
    pub(super) fn insufficient_storage() -> Self {
        let message = "there is too little room on the server's disk";
        let code = Some("insufficient_storage");
        let refused = Self::new(StatusCode::INSUFFICIENT_STORAGE, "server_error", code, message);
        Self { retry_after_s: Some(60), ..refused }
    }

    /// Makes the error for a disk that fails for now.
    pub(super) fn storage_unavailable() -> Self {
        let message = "the server's disk does not answer";
        let code = Some("storage_unavailable");
        let refused = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", code, message);
        Self { retry_after_s: Some(5), ..refused }
    }

    pub(super) fn timed_out(seconds: f64) -> Self {
        let message = format!("no image within {seconds} s; POST /v1/jobs does not wait");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "server_error", Some("timeout"), message)
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", Some("generation_failed"), message)
    }

    /// Returns the body that clients get.
    pub(super) fn body(&self) -> Value {
        json!({ "error": { "message": self.message, "type": self.kind, "param": self.param, "code": self.code } })
    }
}

/// Conversion that keeps paths from clients: the text of the ledger's error goes into the log, and clients get a
/// general message.
impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        tracing::error!("{error}");
        match error {
            LedgerError::Disk { is_full: true, .. } => Self::insufficient_storage(),
            _ => Self::storage_unavailable(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = self.body().to_string();
        let mut response = (self.status, [(CONTENT_TYPE, "application/json")], body).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::NOT_IMPLEMENTED {
            response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
