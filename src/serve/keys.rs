//! Keys of the tenants, stored as hashes. A key has 244 random bits, so one pass of SHA-256 is as good as a slow hash.
//! The comparison takes the same time for every key that is presented.

use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::input::{self, InputError};

/// Prefix of every key, so that a leaked key is recognised.
const PREFIX: &str = "modm-";

/// Key of a tenant, with its limits.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Name of the tenant, as in the scenario's `tenants` and in recorded traffic.
    pub tenant: String,
    /// SHA-256 of the key, in hexadecimal.
    pub sha256: String,
    /// Number of images that may be requested with this key in a minute, in place of the server's limit.
    pub rate_per_min: Option<u32>,
    /// Number of images that may be requested with this key at once, in place of the server's limit.
    pub burst: Option<u32>,
    /// Number of images that the tenant may request in a day, in place of the server's limit. All keys of a tenant have
    /// the same value.
    pub images_per_day: Option<u64>,
    /// True if the key gives access to the whole server: its counters, its status and the cached pictures of all
    /// tenants.
    #[serde(default)]
    pub operator: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Tenant>,
}

/// Keys of a file.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<(Tenant, [u8; 32])>);

impl Keys {
    /// Reads a file of `[[key]]` tables.
    ///
    /// # Errors
    /// The file cannot be read, has no key of a tenant, or has a key with a value that is not accepted.
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
            // Names stand in logs and in rows of `audit.csv`, where a line break would begin another row.
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

    /// Returns all keys, in the order of the file. A tenant may have several.
    pub fn all(&self) -> impl Iterator<Item = &Tenant> {
        self.0.iter().map(|(tenant, _)| tenant)
    }

    /// Returns the names of the tenants that have a key which is not an operator's, each name once.
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

    /// Returns the place and the settings of the key that is presented, or `None` if it is not known. The search
    /// compares every stored hash, so that its duration reveals nothing about the match.
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

/// Makes a new key. Returns the key, and its hash to store.
#[must_use]
pub fn fresh() -> (String, String) {
    // Two random UUIDs have 122 random bits each. Their fixed bits, which state version and variant, do no harm.
    let key = format!("{PREFIX}{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let hash = input::sha256_of(key.as_bytes());
    (key, hash)
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
