//! Rule by which the end of a request decides whether its row is used: what succeeded is, what failed or is unknown is
//! not.

use super::cell::Cell;

/// End of a request as its log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed,
    /// Value that the rule does not know, or no value.
    Unknown,
}

/// Kind of a column that tells how requests ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatusKind {
    /// Word or code of HTTP: `ok`, `failed`, `200`.
    Status,
    /// True for requests that succeeded.
    Success,
    /// Message of an error; nothing for requests that succeeded.
    Error,
}

const SUCCEEDED: [&str; 17] = [
    "ok",
    "success",
    "successful",
    "succeeded",
    "succeed",
    "complete",
    "completed",
    "done",
    "finished",
    "finish",
    "stop",
    "served",
    "delivered",
    "true",
    "pass",
    "passed",
    "yes",
];

const FAILED: [&str; 29] = [
    "fail",
    "failed",
    "failure",
    "error",
    "errored",
    "exception",
    "cancel",
    "cancelled",
    "canceled",
    "abort",
    "aborted",
    "timeout",
    "timedout",
    "expired",
    "rejected",
    "refused",
    "dropped",
    "blocked",
    "filtered",
    "nsfw",
    "denied",
    "throttled",
    "false",
    "no",
    "pending",
    "queued",
    "running",
    "processing",
    "started",
];

impl StatusKind {
    /// Returns how the request of a row ended.
    pub(super) fn end(self, cell: &Cell<'_>) -> End {
        let succeeded = |succeeded: bool| if succeeded { End::Succeeded } else { End::Failed };
        if self == Self::Error {
            let none = match cell {
                Cell::Text(text) => ["", "0", "false", "False", "ok", "OK"].contains(&text.trim()) || cell.is_null(),
                Cell::Boolean(value) => !value,
                Cell::Integer(number) => *number == 0,
                Cell::List(cells) => cells.is_empty(),
                other => other.is_null(),
            };
            return succeeded(none);
        }
        match cell {
            Cell::Boolean(value) => succeeded(*value),
            Cell::Integer(code) => self.code(*code as f64),
            Cell::Float(code) => self.code(*code),
            Cell::Text(text) => self.text(text),
            _ => End::Unknown,
        }
    }

    fn text(self, text: &str) -> End {
        let words: String =
            text.trim().chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        if SUCCEEDED.contains(&words.as_str()) {
            return End::Succeeded;
        }
        if FAILED.contains(&words.as_str()) {
            return End::Failed;
        }
        // A code may stand with its phrase: `200 OK`, `503 Service Unavailable`.
        let code = text.split_whitespace().next().and_then(|code| code.parse().ok());
        code.map_or(End::Unknown, |code| self.code(code))
    }

    fn code(self, code: f64) -> End {
        let is_within = |from: f64, to: f64| (from..to).contains(&code);
        match self {
            Self::Success if is_within(1.0, 1.5) => End::Succeeded,
            Self::Success if is_within(0.0, 0.5) => End::Failed,
            Self::Status if is_within(200.0, 300.0) => End::Succeeded,
            Self::Status if is_within(100.0, 200.0) || is_within(300.0, 600.0) => End::Failed,
            _ => End::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn words_and_codes() {
        let end = |text: &'static str| StatusKind::Status.end(&Cell::Text(Cow::Borrowed(text)));
        for text in ["ok", "SUCCEEDED", "200", "200 OK", "204.0", "Done"] {
            assert_eq!(end(text), End::Succeeded, "{text}");
        }
        for text in ["error", "CANCELLED", "timed_out", "500", "404 Not Found", "302", "pending"] {
            assert_eq!(end(text), End::Failed, "{text}");
        }
        for text in ["", "blue", "7", "1.5.2", "NaN"] {
            assert_eq!(end(text), End::Unknown, "{text}");
        }
        assert_eq!(StatusKind::Status.end(&Cell::Integer(201)), End::Succeeded);
        assert_eq!(StatusKind::Status.end(&Cell::Null), End::Unknown);
        assert_eq!(StatusKind::Status.end(&Cell::List(Vec::new())), End::Unknown);
    }

    #[test]
    fn flags_and_messages() {
        let text = |text: &'static str| Cell::Text(Cow::Borrowed(text));
        assert_eq!(StatusKind::Success.end(&Cell::Boolean(false)), End::Failed);
        assert_eq!(StatusKind::Success.end(&text("1")), End::Succeeded);
        assert_eq!(StatusKind::Success.end(&text("True")), End::Succeeded);
        assert_eq!(StatusKind::Success.end(&Cell::Integer(3)), End::Unknown);
        assert_eq!(StatusKind::Error.end(&Cell::Null), End::Succeeded);
        assert_eq!(StatusKind::Error.end(&text("")), End::Succeeded);
        assert_eq!(StatusKind::Error.end(&text("out of memory")), End::Failed);
        assert_eq!(StatusKind::Error.end(&Cell::Boolean(true)), End::Failed);
    }
}
