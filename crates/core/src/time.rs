//! Simulated and wall-clock time as integer nanoseconds since the trace's zero.
//!
//! Not a clock: nothing here reads one. Seconds become nanoseconds once, by `floor(s * 1e9 + 0.5)`. A duration is
//! computed in seconds and converted once.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

const NANOSECONDS_PER_SECOND: f64 = 1e9;

/// Longest time that an input may name, in seconds: ten years of 365 days.
pub const MAX_INPUT_S: f64 = 10.0 * 365.0 * 86_400.0;

/// Point in time: nanoseconds since the trace's zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(u64);

/// Length of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(u64);

fn nanoseconds(seconds: f64) -> Option<u64> {
    let rounded = seconds * NANOSECONDS_PER_SECOND + 0.5; // the cast drops the fraction
    // `u64::MAX as f64` rounds up to 2^64, so a number strictly below it fits.
    (rounded >= 0.0 && rounded < u64::MAX as f64).then_some(rounded as u64)
}

impl Time {
    /// Zero of the trace.
    pub const ZERO: Self = Self(0);
    /// End of representable time, about 584 years. A run that reaches it fails.
    pub const MAX: Self = Self(u64::MAX);

    /// Returns the time with this number of nanoseconds.
    #[must_use]
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Returns the time with this number of seconds, to a whole nanosecond: half a nanosecond is rounded up. `None` if
    /// the rounded number is negative or beyond [`Self::MAX`], or the number is NaN.
    #[must_use]
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        nanoseconds(seconds).map(Self)
    }

    /// Returns the nanoseconds since zero.
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }

    /// Returns the seconds since zero.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / NANOSECONDS_PER_SECOND
    }

    /// Returns the time since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl Duration {
    /// Duration of zero.
    pub const ZERO: Self = Self(0);

    /// Returns the duration with this number of nanoseconds.
    #[must_use]
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Returns the duration with this number of seconds, rounded and refused as in [`Time::from_seconds`].
    #[must_use]
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        nanoseconds(seconds).map(Self)
    }

    /// Returns the duration of seconds that a model computed, rounded as in [`Time::from_seconds`]. Negative numbers
    /// and NaN give zero, and numbers that are too large give the maximum.
    #[must_use]
    pub fn from_seconds_saturating(seconds: f64) -> Self {
        // A cast from float to integer rounds towards zero, saturates, and turns NaN into zero.
        Self((seconds * NANOSECONDS_PER_SECOND + 0.5) as u64)
    }

    /// Returns the nanoseconds.
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }

    /// Returns the seconds.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / NANOSECONDS_PER_SECOND
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    /// Adds a duration. The sum saturates at [`Time::MAX`], where the loop stops the run.
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }
}

impl Sub for Time {
    type Output = Duration;
    /// Returns the same as [`Time::since`].
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

/// Writes seconds digit by digit. Tables of requests have four times a row, and formatting them as integers took a
/// third of the time to write a table.
fn write_seconds(nanoseconds: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DECIMALS: usize = 9;
    // A u64 has 20 digits at most, and the point takes one place.
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

/// Writes seconds with nine decimals, exactly.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_seconds(self.0, f)
    }
}

/// Writes seconds with nine decimals, exactly.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_seconds(self.0, f)
    }
}

/// Rank among the events at one instant, in the order in which they are handled (docs/semantics.md, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Completion or failure of a job.
    Job,
    /// End of a model load.
    Load,
    /// Tick of the monitor.
    Tick,
    /// Routing of a request, whose embedding is ready.
    Route,
    /// Events from outside: arrivals, cancellations, faults.
    Outside,
}

/// Time of an event and its rank. Events are handled in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Time of the event.
    pub time: Time,
    /// Rank of the event among those at the same time.
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
        // Less than half a nanosecond below zero is zero.
        assert_eq!(Time::from_seconds(-0.000_000_000_4), Some(Time(0)));
        assert_eq!(Time::from_seconds(-0.000_000_000_6), None);
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
