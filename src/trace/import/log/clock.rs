//! Times of a log: dates with or without an offset, and numbers since 1970 or since the start of the log. The unit of
//! numbers is in the column's name, or else found from their magnitude.

use super::super::timestamp;
use super::cell::{Cell, billionths};

/// Unit of times that are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    Nanoseconds,
}

impl TimeUnit {
    /// All units, in the order in which the help lists them.
    pub const ALL: [Self; 4] = [Self::Seconds, Self::Milliseconds, Self::Microseconds, Self::Nanoseconds];

    /// Returns the unit's symbol, its name on the command line.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::Nanoseconds => "ns",
        }
    }

    /// Returns the unit that a word of a column's name is, as in `created_ms`.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        match word {
            "s" | "sec" | "secs" | "second" | "seconds" => Some(Self::Seconds),
            "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => Some(Self::Milliseconds),
            "us" | "usec" | "micros" | "microsecond" | "microseconds" => Some(Self::Microseconds),
            "ns" | "nsec" | "nanos" | "nanosecond" | "nanoseconds" => Some(Self::Nanoseconds),
            _ => None,
        }
    }

    /// Returns the unit in words.
    const fn words(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Microseconds => "microseconds",
            Self::Nanoseconds => "nanoseconds",
        }
    }

    /// Returns a number of these in seconds.
    pub(super) fn seconds(self, number: f64) -> f64 {
        number / self.in_a_second() as f64
    }

    /// Returns the number of these in a second.
    const fn in_a_second(self) -> i128 {
        match self {
            Self::Seconds => 1,
            Self::Milliseconds => 1_000,
            Self::Microseconds => 1_000_000,
            Self::Nanoseconds => 1_000_000_000,
        }
    }
}

/// Least number that counts from 1970, in seconds: 1973-03-03. Smaller ones count from the start of the log.
const LEAST_EPOCH: i128 = 100_000_000;

/// Number from which no date counts in seconds any more: the year 2200.
const LATEST_EPOCH: i128 = 7_258_118_400;

/// Meaning of the values in a column of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// Dates, or values whose type says that they are times.
    Dates,
    /// Numbers since 1970.
    Epoch(TimeUnit),
    /// Numbers since the start of the log.
    Start(TimeUnit),
}

/// Time of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instant {
    /// Nanoseconds since 1970 in UTC, or since the start of the log.
    pub(super) nanoseconds: u64,
    /// True if UTC was assumed, for want of an offset.
    pub(super) assumed_utc: bool,
}

impl Clock {
    /// Finds the meaning of a column from some of its values; `None` if none of them is a time. `unit` is known where
    /// the user or the column's name says it.
    pub(super) fn find<'c>(cells: impl IntoIterator<Item = &'c Cell<'c>>, unit: Option<TimeUnit>) -> Option<Self> {
        let mut largest: Option<i128> = None;
        let mut dates = 0;
        let mut numbers = 0;
        for cell in cells {
            if as_date(cell).is_some() {
                dates += 1;
            } else if let Some(number) = as_number(cell).filter(|&number| number >= 0) {
                numbers += 1;
                largest = largest.max(Some(number / 1_000_000_000));
            }
        }
        let Some(largest) = largest.filter(|_| numbers >= dates) else { return (dates > 0).then_some(Self::Dates) };
        // A name is no proof: `arrival_s` in front of milliseconds since 1970 would be dates far from now.
        if let Some(unit) = unit.filter(|unit| largest < LATEST_EPOCH * unit.in_a_second()) {
            let epoch = largest >= LEAST_EPOCH * unit.in_a_second();
            return Some(if epoch { Self::Epoch(unit) } else { Self::Start(unit) });
        }
        // A unit's range ends where the next one's begins: 10^8 s is 1973, 10^11 s the year 5138 and 10^11 ms 1973.
        let mut found = Self::Start(TimeUnit::Seconds);
        for (exponent, unit) in [8, 11, 14, 17].into_iter().zip(TimeUnit::ALL) {
            if largest >= 10_i128.pow(exponent) {
                found = Self::Epoch(unit);
            }
        }
        Some(found)
    }

    /// Reads a time; `None` for a value that is no time of this clock, or before its zero.
    pub(super) fn read(self, cell: &Cell<'_>) -> Option<Instant> {
        let unit = match self {
            Self::Dates => return as_date(cell),
            Self::Epoch(unit) | Self::Start(unit) => unit,
        };
        let nanoseconds = as_number(cell)? / unit.in_a_second();
        let is_epoch = nanoseconds >= LEAST_EPOCH * 1_000_000_000;
        let fits = matches!(self, Self::Start(_)) || is_epoch;
        u64::try_from(nanoseconds)
            .ok()
            .filter(|&nanoseconds| fits && nanoseconds < i64::MAX as u64)
            .map(|nanoseconds| Instant { nanoseconds, assumed_utc: false })
    }

    /// Returns whether times have the date: then the first one that is used becomes time zero.
    pub(super) const fn is_absolute(self) -> bool {
        !matches!(self, Self::Start(_))
    }

    /// Returns the meaning in words.
    pub(super) fn words(self) -> String {
        match self {
            Self::Dates => "dates".to_owned(),
            Self::Epoch(unit) => format!("{} since 1970", unit.words()),
            Self::Start(unit) => format!("{} from the start", unit.words()),
        }
    }
}

fn as_date(cell: &Cell<'_>) -> Option<Instant> {
    match cell {
        Cell::Text(text) => {
            timestamp::date(text).map(|date| Instant { nanoseconds: date.nanoseconds, assumed_utc: !date.has_offset })
        }
        Cell::Instant(instant) => {
            u64::try_from(*instant).ok().map(|nanoseconds| Instant { nanoseconds, assumed_utc: false })
        }
        _ => None,
    }
}

/// Returns a number in billionths.
fn as_number(cell: &Cell<'_>) -> Option<i128> {
    match cell {
        Cell::Integer(number) => Some(i128::from(*number) * 1_000_000_000),
        Cell::Float(number) if number.abs() < 1e20 => {
            // The product alone would round whole numbers of microseconds.
            Some(number.trunc() as i128 * 1_000_000_000 + (number.fract() * 1e9).round() as i128)
        }
        Cell::Text(text) => billionths(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn text(text: &'static str) -> Cell<'static> {
        Cell::Text(Cow::Borrowed(text))
    }

    #[test]
    fn units_are_found_from_the_magnitude() {
        use TimeUnit::{Microseconds, Milliseconds, Nanoseconds, Seconds};
        for (cell, clock) in [
            (text("1700158623.98"), Clock::Epoch(Seconds)),
            (Cell::Integer(1_700_158_623_980), Clock::Epoch(Milliseconds)),
            (Cell::Float(1_700_158_623_980_000.0), Clock::Epoch(Microseconds)),
            (Cell::Integer(1_700_158_623_980_000_000), Clock::Epoch(Nanoseconds)),
            (text("187.259"), Clock::Start(Seconds)),
            (text("0"), Clock::Start(Seconds)),
        ] {
            assert_eq!(Clock::find([&cell], None), Some(clock), "{cell:?}");
            let read = clock.read(&cell).unwrap().nanoseconds;
            assert!(!clock.is_absolute() || read == 1_700_158_623_980_000_000, "{cell:?}: {read}");
        }
        let named = Clock::find([&Cell::Integer(1_700_158_623_980)], Some(Seconds));
        assert_eq!(named, Some(Clock::Epoch(Milliseconds)), "more than the name promises");
        let later = [text("5"), text("90000000")];
        assert_eq!(Clock::find(&later, Some(Milliseconds)), Some(Clock::Start(Milliseconds)));
        assert_eq!(Clock::Start(Milliseconds).read(&later[0]).unwrap().nanoseconds, 5_000_000);
        assert_eq!(Clock::Start(Microseconds).read(&text("1.5")).unwrap().nanoseconds, 1500);
        assert_eq!(Clock::find([&Cell::Integer(1_700_158_623)], Some(Milliseconds)), Some(Clock::Start(Milliseconds)));
    }

    #[test]
    fn a_column_has_one_kind_of_time() {
        let dates = [text("2023-11-16T18:17:03Z"), text("5"), text("2023-11-16 18:17:04")];
        assert_eq!(Clock::find(&dates, None), Some(Clock::Dates));
        assert!(
            !Clock::Dates.read(&dates[0]).unwrap().assumed_utc && Clock::Dates.read(&dates[2]).unwrap().assumed_utc
        );
        assert_eq!(Clock::Dates.read(&dates[1]), None);
        assert_eq!(Clock::Epoch(TimeUnit::Seconds).read(&text("12")), None, "no time since 1970");
        assert_eq!(Clock::Start(TimeUnit::Seconds).read(&text("-1")), None);
        assert_eq!(Clock::Start(TimeUnit::Seconds).read(&Cell::Integer(i64::MAX)), None);
        assert_eq!(Clock::find(&[text("soon"), Cell::Null, Cell::Boolean(true)], None), None);
        assert_eq!(Clock::Dates.read(&Cell::Instant(7)).unwrap().nanoseconds, 7);
    }
}
