//! Values of a log as its file has them: text, numbers, truth values, times, lists, or nothing. CSV has text alone,
//! JSON and Parquet have types. Each conversion says `None` for a value that is of another type.

use std::borrow::Cow;

/// Value of one column in one row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Cell<'a> {
    /// No value: an empty field, `null`, or a key that the row lacks.
    #[default]
    Null,
    Text(Cow<'a, str>),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Nanoseconds since 1970-01-01, of a column whose type says so.
    Instant(i64),
    List(Vec<Cell<'a>>),
    /// Value of a type that nothing here reads, by the type's name.
    Other(&'static str),
}

/// Texts that writers put in place of no value. A prompt may be one of them, so prompts are compared with none.
const NOTHING: [&str; 8] = ["null", "NULL", "None", "nan", "NaN", "NA", "N/A", "\\N"];

impl Cell<'_> {
    /// Returns the name of the value's type, with an article.
    pub(super) const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "no value",
            Self::Text(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Boolean(_) => "true or false",
            Self::Instant(_) => "a time",
            Self::List(_) => "a list",
            Self::Other(name) => name,
        }
    }

    /// Returns whether there is no value. A text that stands for none counts as none.
    pub(super) fn is_null(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Float(number) => number.is_nan(),
            Self::Text(text) => text.trim().is_empty() || NOTHING.contains(&text.trim()),
            _ => false,
        }
    }

    /// Returns a value that names something: text, a number or a truth value. Tools that know missing values alone as
    /// NaN write whole numbers as `12.0`.
    pub(super) fn name(&self) -> Option<Cow<'_, str>> {
        match self {
            _ if self.is_null() => Some(Cow::Borrowed("")),
            Self::Text(text) => Some(Cow::Borrowed(text.trim())),
            Self::Integer(number) => Some(Cow::Owned(number.to_string())),
            Self::Float(number) => Some(Cow::Owned(number.to_string())),
            Self::Boolean(value) => Some(Cow::Owned(value.to_string())),
            _ => None,
        }
    }

    /// Returns a number.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
        .filter(|number: &f64| number.is_finite())
    }

    /// Returns the one text of a prompt, trimmed at neither end. A list of one text is that text.
    pub(super) fn prompt(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::List(cells) => match cells.as_slice() {
                [Self::Text(text)] => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the value as an error shows it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::List(cells) => format!("a list of {}", cells.len()),
            Self::Text(text) => text.chars().take(40).collect(),
            other => other.name().map_or_else(|| other.type_name().to_owned(), Cow::into_owned),
        }
    }

    /// Returns the same value with text of its own.
    pub(super) fn into_owned(self) -> Cell<'static> {
        match self {
            Self::Null => Cell::Null,
            Self::Text(text) => Cell::Text(Cow::Owned(text.into_owned())),
            Self::Integer(number) => Cell::Integer(number),
            Self::Float(number) => Cell::Float(number),
            Self::Boolean(value) => Cell::Boolean(value),
            Self::Instant(instant) => Cell::Instant(instant),
            Self::List(cells) => Cell::List(cells.into_iter().map(Cell::into_owned).collect()),
            Self::Other(name) => Cell::Other(name),
        }
    }
}

/// Reads a decimal number as a count of parts of `10^-9`, without rounding. Digits beyond those are cut. A number with
/// an exponent is read as a floating-point number.
pub(super) fn billionths(text: &str) -> Option<i128> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() > 20 || !plain(whole) || !plain(fraction) || whole.len() + fraction.len() == 0 {
        let number: f64 = text.parse().ok()?;
        return (number.abs() < 1e20).then(|| (number * 1e9).round() as i128);
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let kept = &fraction[..fraction.len().min(9)];
    let part: i128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    let value = whole * 1_000_000_000 + part * 10_i128.pow(9 - kept.len() as u32);
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        assert_eq!(billionths("1700158623.979960001"), Some(1_700_158_623_979_960_001));
        assert_eq!(billionths(" -0.5 "), Some(-500_000_000));
        assert_eq!(billionths("7."), Some(7_000_000_000));
        assert_eq!(billionths(".25"), Some(250_000_000));
        assert_eq!(billionths("1.0000000019"), Some(1_000_000_001));
        assert_eq!(billionths("1.5e3"), Some(1_500_000_000_000));
        for bad in ["", "-", "x", "1,5", "nan", "inf", "1e300", "0x1"] {
            assert_eq!(billionths(bad), None, "{bad}");
        }
    }

    #[test]
    fn values_of_other_types_are_none() {
        let text = |text: &'static str| Cell::Text(Cow::Borrowed(text));
        assert_eq!(Cell::Integer(7).name().as_deref(), Some("7"));
        assert_eq!(Cell::Float(12.0).name().as_deref(), Some("12"));
        assert_eq!(text(" NaN ").name().as_deref(), Some(""));
        assert_eq!(Cell::List(vec![Cell::Integer(1)]).name(), None);
        assert_eq!(Cell::List(vec![text("a cat")]).prompt(), Some("a cat"));
        assert_eq!(Cell::List(vec![text("a"), text("b")]).prompt(), None);
        assert_eq!(Cell::Integer(7).prompt(), None);
        assert_eq!(text("12.5").number(), Some(12.5));
        assert!(Cell::Float(f64::NAN).is_null() && !Cell::Boolean(false).is_null());
    }
}
