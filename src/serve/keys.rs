//! Who may ask: keys of tenants, kept as hashes. A key is 256 random bits, so one pass of SHA-256 is as good as a slow hash;
//! comparing takes the same time whatever is presented.

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::input::{self, InputError};

/// What a key begins with, so that one that leaks is recognised.
const PREFIX: &str = "modm-";

/// A key of a tenant, and what it may.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// The tenant's name; that of the scenario's `tenants` and of recorded traffic.
    pub tenant: String,
    /// SHA-256 of the key, in hexadecimal.
    pub sha256: String,
    /// Images a minute with this key, in place of the server's limit.
    pub rate_per_min: Option<u32>,
    /// Images at once with this key, likewise.
    pub burst: Option<u32>,
    /// Images a day of the tenant, likewise; the same in all its keys.
    pub images_per_day: Option<u64>,
    /// Whether the key sees the whole server: its counters, its status and everybody's cached pictures.
    #[serde(default)]
    pub operator: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Tenant>,
}

/// All keys.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<(Tenant, [u8; 32])>);

impl Keys {
    /// Reads a file of `[[key]]` tables.
    ///
    /// # Errors
    /// The file cannot be read, has no key of a tenant, or has one with a value that is not accepted.
    pub fn read(file: &Path) -> Result<Self, InputError> {
        let table = input::toml::parse(&input::text(file)?, file)?;
        let File { key: tenants } = input::toml::settings(&table, &["key.*"], file)?;
        if tenants.is_empty() {
            return Err(InputError::new(file, "has no [[key]]: `modm key TENANT` makes one"));
        }
        let mut keys: Vec<(Tenant, [u8; 32])> = Vec::new();
        for (index, tenant) in tenants.into_iter().enumerate() {
            let wrong = |key: &str, message: &str, value: &str| {
                InputError::new(file, message.to_owned()).value(format!("key.{index}.{key}"), format!("{value:?}"))
            };
            if tenant.tenant.is_empty() || tenant.tenant.len() > 100 || tenant.tenant.chars().any(char::is_control) {
                return Err(wrong("tenant", "expected a name of 1 to 100 characters", &tenant.tenant));
            }
            let hash = unhex(&tenant.sha256)
                .ok_or_else(|| wrong("sha256", "expected 64 hexadecimal digits", &tenant.sha256))?;
            for (key, value) in [("rate_per_min", tenant.rate_per_min), ("burst", tenant.burst)] {
                if value == Some(0) {
                    return Err(wrong(key, "expected at least 1", "0"));
                }
            }
            if keys.iter().any(|(_, other)| *other == hash) {
                return Err(wrong("sha256", "is the key of another tenant too", &tenant.sha256));
            }
            let quota = |key: &Tenant| key.images_per_day.map_or("none".to_owned(), |images| images.to_string());
            let mut others = keys.iter().map(|(other, _)| other).filter(|other| other.tenant == tenant.tenant);
            if let Some(other) = others.find(|other| other.images_per_day != tenant.images_per_day) {
                let message = format!(
                    "another key of this tenant has {}: a quota is the tenant's, the same in all its keys",
                    quota(other)
                );
                return Err(InputError::new(file, message).value(format!("key.{index}.images_per_day"), quota(&tenant)));
            }
            keys.push((tenant, hash));
        }
        if keys.iter().all(|(key, _)| key.operator) {
            return Err(InputError::new(file, "has operators' keys alone: `modm key TENANT` makes one that draws"));
        }
        Ok(Self(keys))
    }

    /// All keys, in the order of the file; a tenant may have several.
    pub fn all(&self) -> impl Iterator<Item = &Tenant> {
        self.0.iter().map(|(tenant, _)| tenant)
    }

    /// Names of the tenants, each once: of all that have a key which is no operator's.
    #[must_use]
    pub fn tenants(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for key in self.all().filter(|key| !key.operator) {
            if !names.contains(&key.tenant) {
                names.push(key.tenant.clone());
            }
        }
        names
    }

    /// The key that is presented and its place among all, if it is one of them. Every stored hash is looked at, whatever
    /// is found.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<(usize, &Tenant)> {
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let mut found = None;
        for (place, (tenant, own)) in self.0.iter().enumerate() {
            if bool::from(own.ct_eq(&hash)) {
                found = Some((place, tenant));
            }
        }
        found
    }
}

/// A new key, and the hash to keep.
#[must_use]
pub fn fresh() -> (String, String) {
    // Two random numbers of 122 bits each: the bits that say what they are do no harm.
    let key = format!("{PREFIX}{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let hash = Sha256::digest(key.as_bytes());
    let digits = hash.iter().fold(String::with_capacity(64), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}"); // a string takes what is written to it
        digits
    });
    (key, digits)
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_key_is_known_by_its_hash() {
        let (key, hash) = fresh();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("keys.toml");
        std::fs::write(&file, format!("[[key]]\ntenant = \"alice\"\nsha256 = \"{hash}\"")).expect("a file");
        let keys = Keys::read(&file).expect("keys");
        assert_eq!(keys.find(&key).map(|(place, key)| (place, key.tenant.as_str())), Some((0, "alice")));
        for wrong in ["", "modm-", &hash, &key[1..], &format!("{key} ")] {
            assert!(keys.find(wrong).is_none(), "{wrong}");
        }
        assert!(key.len() == 69 && !hash.contains(&key[5..]) && fresh().0 != key);
    }

    #[test]
    fn what_is_no_file_of_keys_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("keys.toml");
        let hash = "0".repeat(64);
        let refused = |text: String, message: &str| {
            std::fs::write(&file, text).expect("a file");
            let error = Keys::read(&file).expect_err("refused").to_string();
            assert!(error.contains(message), "{error}");
        };
        refused(String::new(), "has no [[key]]");
        refused(format!("[[key]]\ntenant = \"\"\nsha256 = \"{hash}\""), "key.0.tenant");
        refused("[[key]]\ntenant = \"a\"\nsha256 = \"xyz\"".into(), "64 hexadecimal digits");
        refused(format!("[[key]]\ntenant = \"a\"\nsha256 = \"{hash}\"\nkey = 5"), "is not a key here");
        let twice =
            format!("[[key]]\ntenant = \"a\"\nsha256 = \"{hash}\"\n[[key]]\ntenant = \"b\"\nsha256 = \"{hash}\"");
        refused(twice, "another tenant too");
        let both = |first: &str, second: &str| {
            let key = |digit: &str, more: &str| {
                format!("[[key]]\ntenant = \"a\"\nsha256 = \"{}\"\n{more}\n", digit.repeat(64))
            };
            key("0", first) + &key("1", second)
        };
        refused(both("images_per_day = 5", ""), "key.1.images_per_day = none: another key of this tenant has 5");
        refused(both("operator = true", "operator = true"), "operators' keys alone");
        refused(both("burst = 0", ""), "key.0.burst");
        let apart = both("rate_per_min = 5\noperator = true", "burst = 3");
        std::fs::write(&file, apart).expect("a file");
        let keys = Keys::read(&file).expect("keys with rates of their own");
        assert_eq!((keys.all().count(), keys.tenants()), (2, vec!["a".to_owned()]));
    }
}
