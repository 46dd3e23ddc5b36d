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

/// A tenant and what it may.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its name; that of the scenario's `tenants` and of recorded traffic.
    pub tenant: String,
    /// SHA-256 of its key, in hexadecimal.
    pub sha256: String,
    /// Images a minute, in place of the server's limit.
    pub rate_per_min: Option<u32>,
    /// Images a day, likewise.
    pub images_per_day: Option<u64>,
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
    /// It cannot be read, has no keys, or what is wrong with one.
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
            if tenant.rate_per_min == Some(0) {
                return Err(wrong("rate_per_min", "expected at least 1", "0"));
            }
            if keys.iter().any(|(_, other)| *other == hash) {
                return Err(wrong("sha256", "is the key of another tenant too", &tenant.sha256));
            }
            keys.push((tenant, hash));
        }
        Ok(Self(keys))
    }

    /// The tenants, in the order of the file; one may have several keys.
    pub fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.0.iter().map(|(tenant, _)| tenant)
    }

    /// Whose key this is. Every stored hash is looked at, whatever is found.
    #[must_use]
    pub fn tenant(&self, key: &str) -> Option<&Tenant> {
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let mut found = None;
        for (tenant, own) in &self.0 {
            if bool::from(own.ct_eq(&hash)) {
                found = Some(tenant);
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
        let tenant = Tenant { tenant: "alice".into(), sha256: hash.clone(), rate_per_min: None, images_per_day: None };
        let keys = Keys(vec![(tenant, unhex(&hash).expect("a hash"))]);
        assert_eq!(keys.tenant(&key).map(|tenant| tenant.tenant.as_str()), Some("alice"));
        for wrong in ["", "modm-", &hash, &key[1..], &format!("{key} ")] {
            assert!(keys.tenant(wrong).is_none(), "{wrong}");
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
    }
}
