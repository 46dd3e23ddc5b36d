//! Handler of `GET /v1/jobs`. It lists the jobs of the key's tenant, newest first and one page at a time. The number of
//! rows that a page reads from the ledger does not grow with the number of jobs, of this tenant or of others.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::paging::paged;
use super::{Access, ApiError, Server, Shared, jobs, whole};
use crate::serve::ledger::{Job, Place};

/// Prefix of the name of every job.
const JOB: &str = "job-";
/// Number of hexadecimal digits after the prefix.
const DIGITS: usize = 32;

pub(super) async fn list(
    State(server): Shared,
    access: Access,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    // Without keys there is one user, to whom all jobs belong.
    let tenant = if server.keys.is_some() { Some(access.caller()?.name.clone().unwrap_or_default()) } else { None };
    let (limit, after) =
        paged(&query.unwrap_or_default(), "after", "`next` of an earlier page, as it was answered", place)?;
    let own = server.clone();
    // One more than the page has: it tells whether another page follows.
    let found = server.on_disk(move || own.ledger.newest_jobs(tenant.as_deref(), after.as_ref(), limit + 1)).await??;
    Ok(super::json(StatusCode::OK, &described(&server, found, limit)))
}

/// Returns the cursor of a job, the text of its position in the list. The cursor stays valid after the job is removed.
fn cursor(job: &Job) -> String {
    format!("{}-{}", job.created, job.id)
}

/// Parses a cursor.
fn place(text: &str) -> Option<Place> {
    let (created, id) = text.split_once('-')?;
    let digits = id.strip_prefix(JOB)?;
    let is_name = digits.len() == DIGITS && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let created = whole(created).filter(|_| is_name)?;
    Some(Place { created, id: id.to_owned() })
}

fn described(server: &Server, mut found: Vec<Job>, limit: usize) -> Value {
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(cursor);
    let data: Vec<Value> = found.iter().map(|job| jobs::as_it_stands(server, job)).collect();
    json!({ "object": "list", "data": data, "has_more": more, "next": next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_are_written_and_nothing_else_is() {
        let digits = "0123456789abcdef0123456789abcdef";
        let good = format!("1700000000-job-{digits}");
        let found = place(&good).expect("a cursor");
        assert_eq!((found.created, found.id), (1_700_000_000, format!("job-{digits}")));
        let wrong = [
            String::new(),
            digits.to_owned(),
            format!("job-{digits}"),
            format!("-1-job-{digits}"),
            format!("+1-job-{digits}"),
            format!("1-img-{digits}"),
            format!("1-job-{}", digits.to_uppercase()),
            format!("1-job-{digits}0"),
            format!("99999999999999999999-job-{digits}"),
        ];
        for text in wrong {
            assert!(place(&text).is_none(), "{text}");
        }
    }
}
