//! Dates with times as logs write them, with and without an offset from UTC: `2023-11-16 18:17:03.9799600`,
//! `2026-03-02T08:00:00+02:00`. The module reads only these and is no calendar library.

use std::path::Path;

use crate::input::InputError;
use crate::time::{MAX_INPUT_S, Time};

/// Description of the accepted times, for errors.
pub(super) const ACCEPTED: &str = "expected a time from 1970 to 2199 like 2023-11-16 18:17:03.9799600 (UTC)";

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// Time as a text names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    /// Nanoseconds since 1970-01-01 in UTC.
    pub(super) nanoseconds: u64,
    /// True if the text has an offset from UTC; UTC is assumed otherwise.
    pub(super) has_offset: bool,
}

/// Returns the nanoseconds since 1970-01-01 of a time, as `date` reads it.
pub(super) fn parse(text: &str) -> Option<u64> {
    date(text).map(|date| date.nanoseconds)
}

/// Reads a time `YYYY-MM-DD HH:MM:SS[.fraction][offset]`. The date may have slashes, a `T` may replace the space, a
/// comma the point. An offset is `Z`, `UTC`, `+hh`, `+hhmm` or `+hh:mm`. Digits of the fraction beyond nanoseconds are
/// cut.
pub(super) fn date(text: &str) -> Option<Date> {
    let text = text.trim();
    // In ASCII every byte is the start of a character, so the slices below cannot panic.
    if text.len() < 19 || !text.is_ascii() {
        return None;
    }
    let bytes = text.as_bytes();
    let divider = bytes[4];
    let divided = matches!(divider, b'-' | b'/') && bytes[7] == divider && bytes[13] == b':' && bytes[16] == b':';
    if !divided || !matches!(bytes[10], b' ' | b'T' | b't') {
        return None;
    }
    let number = |from: usize, to: usize| digits(&text[from..to]);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let valid = (1970..2200).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60; // clocks that follow UTC count a leap second as 60
    if !valid {
        return None;
    }
    let rest = &text[19..];
    let (fraction, rest) = match rest.strip_prefix(['.', ',']) {
        Some(rest) => {
            let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
            let kept = &rest[..end.min(9)];
            (digits(kept)? * 10_u64.pow(9 - kept.len() as u32), &rest[end..])
        }
        None => (0, rest),
    };
    let rest = rest.trim_start();
    let offset_s = if rest.is_empty() { 0 } else { offset(rest)? };
    let seconds = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    // The product is made only for a valid year: nanoseconds up to the year 2200 are below 2^63.
    let seconds = seconds.checked_add_signed(-offset_s)?;
    let nanoseconds = seconds * NANOSECONDS_PER_SECOND + fraction;
    Some(Date { nanoseconds, has_offset: !rest.is_empty() })
}

/// Returns the offset from UTC in seconds that a text is.
fn offset(text: &str) -> Option<i64> {
    if ["Z", "z", "UTC", "GMT"].contains(&text) {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match (rest.len(), rest.as_bytes().get(2)) {
        (2, _) => (rest, "00"),
        (4, _) => rest.split_at(2),
        (5, Some(b':')) => (&rest[..2], &rest[3..]),
        _ => return None,
    };
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    let seconds = i64::try_from(hours * 3600 + minutes * 60).ok()?;
    (hours < 24 && minutes < 60).then_some(sign * seconds)
}

fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + is_leap(year) as u64,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
    let months: u64 = (1..month).map(|month| days_in_month(year, month)).sum();
    years + months + day.saturating_sub(1)
}

/// Returns the times since the earliest one.
pub(super) fn since_earliest(times: Vec<u64>, file: &Path) -> Result<Vec<Time>, InputError> {
    let earliest = times.iter().copied().min().unwrap_or(0);
    let latest = times.iter().copied().max().unwrap_or(0);
    let span_s = Time::from_nanoseconds(latest - earliest).seconds();
    if span_s > MAX_INPUT_S {
        return Err(
            InputError::new(file, "expected at most ten years from first to last").value("span in seconds", span_s)
        );
    }
    Ok(times.into_iter().map(|time| Time::from_nanoseconds(time - earliest)).collect())
}

/// Returns times since the earliest minute, from minutes since 1970. The rows of a minute are spread evenly over the
/// minute in their order.
#[cfg(feature = "parquet")]
pub(super) fn since_minute(minutes: &[u64], file: &Path) -> Result<Vec<Time>, InputError> {
    const MINUTE: u64 = 60 * NANOSECONDS_PER_SECOND;
    let starts = since_earliest(minutes.iter().map(|minute| minute * MINUTE).collect(), file)?;
    let mut order: Vec<usize> = (0..starts.len()).collect();
    order.sort_by_key(|&row| starts[row]); // a stable sort
    let mut times = starts.clone();
    for rows in order.chunk_by(|&a, &b| starts[a] == starts[b]) {
        for (rank, &row) in rows.iter().enumerate() {
            // Each row has an equal share of the minute and arrives in the middle of its share.
            // A minute in nanoseconds times twice the number of rows may exceed 64 bits.
            let within = u128::from(MINUTE) * (2 * rank as u128 + 1) / (2 * rows.len() as u128);
            times[row] = Time::from_nanoseconds(starts[row].nanoseconds() + within as u64);
        }
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_logs_write() {
        assert_eq!(parse("1970-01-01 00:00:00"), Some(0));
        assert_eq!(parse("2023-11-16 18:17:03.9799600"), Some(1_700_158_623_979_960_000));
        assert_eq!(parse("2024-02-29T23:59:59.5Z"), Some(1_709_251_199_500_000_000));
        assert_eq!(parse("2024-05-10 00:00:00.009930+00:00"), Some(1_715_299_200_009_930_000));
        assert_eq!(parse("2023-11-16 18:17:03.1234567891"), Some(1_700_158_623_123_456_789));
        assert_eq!(parse("2023/11/16 18:17:03,98"), Some(1_700_158_623_980_000_000));
        for bad in [
            "",
            "2023-02-29 00:00:00",
            "2023-13-01 00:00:00",
            "2023-11-16",
            "2023-11-16 24:00:00",
            "2023-11-16 18:17:03.",
            "2023-11-16 18:17:03.x",
            "2023-11/16 18:17:03",
            "1970-01-01 00:00:00+01:00",
            "2023-11-16 18:17:03+1",
            "2023-11-16 18:17:03+24:00",
            "2023-11-16 18:17:03 CET",
            "2023-11-16 18:17:03++100",
            "+023-11-16 18:17:03",
            "0023-11-16 18:17:03",
            "2023-11-16 18:17:é3",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
    #[test]
    fn offsets_lead_to_utc() {
        const NOON: u64 = 1_772_452_800_000_000_000;
        for text in [
            "2026-03-02T12:00:00Z",
            "2026-03-02T14:00:00+02:00",
            "2026-03-02 06:30:00-0530",
            "2026-03-02 13:00:00 +01",
            "2026-03-02 12:00:00 UTC",
            "2026-03-01T23:15:00-12:45",
        ] {
            assert_eq!(date(text), Some(Date { nanoseconds: NOON, has_offset: true }), "{text}");
        }
        assert_eq!(date("2026-03-02 12:00:00"), Some(Date { nanoseconds: NOON, has_offset: false }));
        assert_eq!(parse("2016-12-31T23:59:60Z"), parse("2017-01-01T00:00:00Z"), "a leap second");
    }
}
