//! Keys of other servers' requests. Those that change nothing here are accepted, and the answer names them. Those that
//! would change the picture, and are not done here, are refused with their values.

use axum::http::HeaderValue;
use axum::response::Response;
use serde_json::{Map, Value};

use super::ApiError;
use super::ask::{Refused, count};
use crate::serve::offers::Encoding;
use crate::serve::settings::ResponseFormat;

/// Header that names the keys of a request that changed nothing.
pub(super) const IGNORED: &str = "x-modm-ignored";

/// Keys whose accepted values change nothing, with these values.
const WITHOUT_EFFECT: [(&str, &[&str]); 5] = [
    ("quality", &["auto", "standard", "hd", "low", "medium", "high"]),
    ("style", &["natural", "vivid"]),
    ("background", &["auto", "opaque"]),
    ("moderation", &["auto", "low"]),
    ("input_fidelity", &["low"]),
];

/// Largest number of partial pictures that a client may ask for, as OpenAI's API has it. None is sent.
const MOST_PARTIAL: u64 = 3;
/// Largest number of keys that an answer names, and largest number of characters of one that is not known.
const MOST_IGNORED: usize = 32;
const LONGEST: usize = 64;

/// Takes a key that changes nothing, and notes it.
pub(super) fn take(key: &str, value: &Value, ignored: &mut Vec<String>) -> Result<(), Refused> {
    let known = WITHOUT_EFFECT.iter().find(|(name, _)| *name == key);
    match (key, known) {
        // Clients send null for what is not set, also under names that only other servers know.
        _ if value.is_null() && may_be_named(key, ignored.len()) => {}
        (_, Some((_, accepted))) if value.as_str().is_some_and(|value| accepted.contains(&value)) => {}
        (_, Some((_, accepted))) => return Err(Refused::Value(format!("one of {}", accepted.join(", ")))),
        ("user", _) if value.is_string() => {}
        ("user", _) => return Err(Refused::Value("text".to_owned())),
        ("partial_images", _) if count(value).is_some_and(|number| number <= MOST_PARTIAL) => {}
        ("partial_images", _) => {
            return Err(Refused::Value(format!("a whole number from 0 to {MOST_PARTIAL}")));
        }
        ("strength", _) => return Err(Refused::Value("no strength: POST /v1/images/edits takes one".to_owned())),
        _ => return Err(Refused::Key),
    }
    ignored.push(key.to_owned());
    Ok(())
}

/// Returns whether a key can stand in a header of the answer.
fn may_be_named(key: &str, others: usize) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    others < MOST_IGNORED && (1..=LONGEST).contains(&key.len()) && key.bytes().all(plain)
}

/// Returns the form of the pictures' files that the keys ask for. A compression without effect is noted.
pub(super) fn encoding(keys: &Map<String, Value>, ignored: &mut Vec<String>) -> Result<Encoding, ApiError> {
    let given = |key: &str| keys.get(key).filter(|value| !value.is_null());
    let compression = given("output_compression").map(|value| count(value).filter(|number| *number <= 100));
    let compression = match compression {
        Some(None) => {
            let message = "output_compression: expected a whole number from 0 to 100";
            return Err(ApiError::wrong("output_compression", message));
        }
        Some(Some(number)) => Some(number as u8),
        None => None,
    };
    let named = |name: &Value| Encoding::named(name.as_str()?, compression.unwrap_or(Encoding::USUAL_QUALITY));
    let Some(encoding) = given("output_format").map_or(Some(Encoding::Png), named) else {
        return Err(ApiError::wrong("output_format", "output_format: expected one of png, jpeg, webp"));
    };
    if compression.is_some() && !matches!(encoding, Encoding::Jpeg(_)) {
        ignored.push("output_compression".to_owned());
    }
    Ok(encoding)
}

/// Returns the way in which pictures are sent if a request does not say. OpenAI's models of these names send addresses,
/// and their clients look for nothing else.
pub(super) fn usual_format(keys: &Map<String, Value>, usual: ResponseFormat) -> ResponseFormat {
    let is_dall_e = keys.get("model").and_then(Value::as_str).is_some_and(|name| name.starts_with("dall-e-"));
    if is_dall_e { ResponseFormat::Url } else { usual }
}

/// Names the keys that changed nothing in a header of the answer.
pub(super) fn name(response: &mut Response, ignored: &[String]) {
    if let (false, Ok(names)) = (ignored.is_empty(), HeaderValue::try_from(ignored.join(", "))) {
        response.headers_mut().insert(IGNORED, names);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changes_nothing_is_noted_and_what_would_is_refused() {
        let mut ignored = Vec::new();
        for (key, value) in [
            ("quality", json!("hd")),
            ("style", json!("vivid")),
            ("user", json!("u")),
            ("partial_images", json!(3)),
            ("some.other-key_1", json!(null)),
        ] {
            assert!(take(key, &value, &mut ignored).is_ok(), "{key}");
        }
        assert_eq!(ignored, ["quality", "style", "user", "partial_images", "some.other-key_1"]);
        for (key, value) in [("background", json!("transparent")), ("quality", json!("ultra")), ("user", json!(1))] {
            assert!(matches!(take(key, &value, &mut ignored), Err(Refused::Value(_))), "{key}");
        }
        for (key, value) in [("colour", json!("red")), ("a b", json!(null)), ("\u{e4}", json!(null))] {
            assert!(matches!(take(key, &value, &mut ignored), Err(Refused::Key)), "{key}");
        }
        ignored.resize(MOST_IGNORED, "x".to_owned());
        assert!(take("another", &json!(null), &mut ignored).is_err());
    }

    #[test]
    fn a_quality_is_for_jpeg() {
        let of = |keys: Value| {
            let mut ignored = Vec::new();
            let encoding = encoding(keys.as_object().expect("keys"), &mut ignored).map_err(|error| error.body());
            (encoding, ignored.len())
        };
        assert_eq!(of(json!({ "output_compression": null })), (Ok(Encoding::Png), 0));
        assert_eq!(of(json!({ "output_format": "jpeg", "output_compression": 80 })), (Ok(Encoding::Jpeg(80)), 0));
        assert_eq!(of(json!({ "output_format": "jpeg" })), (Ok(Encoding::Jpeg(95)), 0));
        assert_eq!(of(json!({ "output_format": "webp", "output_compression": 80 })), (Ok(Encoding::Webp), 1));
        for (wrong, key) in [
            (json!({ "output_format": "gif" }), "output_format"),
            (json!({ "output_compression": 101 }), "output_compression"),
        ] {
            assert_eq!(of(wrong).0.expect_err("refused")["error"]["param"], key);
        }
    }
}
