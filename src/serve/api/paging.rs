//! Queries of listings: the largest number of entries of a page, and the entry after which the page begins.

use super::{ApiError, whole};

const USUAL: usize = 50;
const MOST: usize = 200;

/// Parses the query of a listing: `limit`, and the cursor with the name `cursor`. `expected` describes the accepted
/// values of the cursor, for the error.
///
/// # Errors
/// The query has a key or a value that is not accepted: 400, with the name of the key.
pub(super) fn paged<C>(
    query: &str,
    cursor: &str,
    expected: &str,
    parse: impl Fn(&str) -> Option<C>,
) -> Result<(usize, Option<C>), ApiError> {
    let (mut limit, mut place) = (USUAL, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key == "limit" {
            let number = whole(value).map(|limit| limit as usize).filter(|limit| (1..=MOST).contains(limit));
            let message = format!("limit: expected a whole number from 1 to {MOST}");
            limit = number.ok_or_else(|| ApiError::wrong("limit", message))?;
        } else if key == cursor {
            let wrong = || ApiError::wrong(cursor, format!("{cursor}: expected {expected}"));
            place = Some(parse(value).ok_or_else(wrong)?);
        } else {
            return Err(ApiError::wrong(key, format!("{key}: is not known here")));
        }
    }
    Ok((limit, place))
}
