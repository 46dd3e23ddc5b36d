//! Simulated and wall-clock time as integer nanoseconds since the trace's zero.
//!
//! Not a clock: nothing here reads one. Seconds become nanoseconds once, by
//! `floor(s * 1e9 + 0.5)`; a duration is computed in seconds and converted once.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

const NANOSECONDS_PER_SECOND: f64 = 1e9;

/// The longest time an input may name: ten years of 365 days, in seconds.
pub const MAX_INPUT_S: f64 = 10.0 * 365.0 * 86_400.0;

/// A point in time: nanoseconds since the trace's zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(u64);

/// A length of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(u64);

fn nanoseconds(seconds: f64) -> Option<u64> {
    let rounded = seconds * NANOSECONDS_PER_SECOND + 0.5; // the fraction goes with the cast
    // `u64::MAX as f64` rounds up to 2^64, so strictly below it fits.
    (rounded >= 0.0 && rounded < u64::MAX as f64).then_some(rounded as u64)
}

impl Time {
    /// The trace's zero.
    pub const ZERO: Self = Self(0);
    /// The end of representable time, about 584 years; reaching it fails the run.
    pub const MAX: Self = Self(u64::MAX);

    /// From nanoseconds.
    #[must_use]
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// From seconds, rounded to the nearest nanosecond; `None` if negative, not finite or too large.
    #[must_use]
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        nanoseconds(seconds).map(Self)
    }

    /// Nanoseconds since zero.
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }

    /// Seconds since zero.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / NANOSECONDS_PER_SECOND
    }

    /// The time since `earlier`, zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds.
    #[must_use]
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// From seconds, rounded to the nearest nanosecond; `None` if negative, not finite or too large.
    #[must_use]
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        nanoseconds(seconds).map(Self)
    }

    /// From seconds as a model computes them: negative and NaN give zero, too large gives the maximum.
    #[must_use]
    pub fn from_seconds_saturating(seconds: f64) -> Self {
        // A float-to-integer cast rounds towards zero, saturates, and sends NaN to zero.
        Self((seconds * NANOSECONDS_PER_SECOND + 0.5) as u64)
    }

    /// Nanoseconds.
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }

    /// Seconds.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / NANOSECONDS_PER_SECOND
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    /// Saturates at [`Time::MAX`], where the loop stops the run.
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }
}

impl Sub for Time {
    type Output = Duration;
    /// Like [`Time::since`].
    fn sub(self, rhs: Self) -> Duration {
        self.since(rhs)
    }
}

impl Add for Duration {
    type Output = Self;
    fn add(self, rhs: Self) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }
}

impl AddAssign for Duration {
    fn add_assign(&mut self, rhs: Self) {
        *self = *self + rhs;
    }
}

/// Digits by hand: tables of requests have four times a row, which took a third of their writing as formatted integers.
fn write_seconds(nanoseconds: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DECIMALS: usize = 9;
    // A u64 has 20 digits at most.
    let mut text = [b'0'; 21];
    let (mut rest, mut at, point) = (nanoseconds, text.len(), text.len() - DECIMALS - 1);
    while rest > 0 || at + 1 > point {
        at -= 1;
        if at == point {
            text[at] = b'.';
            continue;
        }
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    f.write_str(core::str::from_utf8(&text[at..]).unwrap_or_default())
}

/// Seconds with nine decimals, exactly.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_seconds(self.0, f)
    }
}

/// Seconds with nine decimals, exactly.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_seconds(self.0, f)
    }
}

/// What comes first among events at one instant (docs/semantics.md, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A job completed or failed.
    Job,
    /// A model load ended.
    Load,
    /// A monitor tick.
    Tick,
    /// A request's embedding is ready: it is routed.
    Route,
    /// What comes from outside: arrivals, cancellations, faults.
    Outside,
}

/// A time and the rank of what happens then; events are handled in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// When.
    pub time: Time,
    /// Which of the events at that time.
    pub rank: Rank,
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn seconds_round_half_up_once() {
        assert_eq!(Time::from_seconds(5.921_631), Some(Time(5_921_631_000)));
        assert_eq!(Time::from_seconds(0.000_000_000_5), Some(Time(1)));
        assert_eq!(Time::from_seconds(0.000_000_000_4), Some(Time(0)));
        assert_eq!(Time::from_seconds(-1.0), None);
        assert_eq!(Time::from_seconds(f64::NAN), None);
        assert_eq!(Time::from_seconds(f64::INFINITY), None);
        assert_eq!(Time::from_seconds(1e11), None);
    }

    #[test]
    fn shows_nine_decimals_exactly() {
        assert_eq!(Time(1).to_string(), "0.000000001");
        assert_eq!(Time(97_471_631_000).to_string(), "97.471631000");
        let mut some = 1;
        while some < u64::MAX / 7 {
            some = some * 7 + 3;
            for time in [some, some - some % 1_000_000_000, some % 1_000_000_000, u64::MAX, 0, 999_999_999] {
                assert_eq!(Time(time).to_string(), format!("{}.{:09}", time / 1_000_000_000, time % 1_000_000_000));
            }
        }
    }

    #[test]
    fn sums_saturate() {
        assert_eq!(Time::MAX + Duration(1), Time::MAX);
        assert_eq!(Duration::from_seconds_saturating(1e300), Duration(u64::MAX));
        assert_eq!(Duration::from_seconds_saturating(f64::NAN), Duration::ZERO);
    }

    #[test]
    fn moments_order_by_time_then_rank() {
        let at = |time, rank| Moment { time: Time(time), rank };
        assert!(at(1, Rank::Outside) < at(2, Rank::Job));
        assert!(at(2, Rank::Job) < at(2, Rank::Tick));
        assert!(at(2, Rank::Route) < at(2, Rank::Outside));
    }
}
