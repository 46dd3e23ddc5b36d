//! Names of cached pictures, as clients see them. A name is the picture's number in the image store, encrypted with a
//! secret of the data folder. The name therefore reveals neither how many pictures there are nor whose they are, and
//! stays the same after a restart. The same secret signs the addresses of pictures.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use crate::input::{InputError, hexadecimal};
use crate::output::write_durable;

/// Prefix of every name.
const PREFIX: &str = "cache-";
const FILE: &str = "picture-ids.secret";
/// Number of rounds of the Feistel network. Four rounds make a strong pseudorandom permutation from a pseudorandom
/// function (Luby, Rackoff, SIAM J. Comput. 17, 1988).
const ROUNDS: u8 = 4;

/// Names of cached pictures, derived from a secret.
#[derive(Clone)]
pub struct PictureIds([u8; 32]);

impl PictureIds {
    /// Reads the secret of a data folder, or makes a new one.
    ///
    /// # Errors
    /// The file cannot be read or written, or does not have the length of a secret.
    pub fn open(folder: &Path) -> Result<Self, InputError> {
        let file = folder.join(FILE);
        let wrong = |message: String| InputError::new(&file, message);
        match fs::read(&file) {
            Ok(bytes) => bytes.try_into().map(Self).map_err(|bytes: Vec<u8>| {
                wrong(format!("expected 32 bytes, found {}: without the file, pictures get new names", bytes.len()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let ids = Self::fresh();
                let written = write_durable(&file, |to| {
                    // The mode is set while the file is still empty.
                    to.get_ref().set_permissions(fs::Permissions::from_mode(0o600))?;
                    to.write_all(&ids.0)
                });
                written.map_err(|error| wrong(format!("cannot be written: {error}")))?;
                Ok(ids)
            }
            Err(error) => Err(wrong(format!("cannot be read: {error}"))),
        }
    }

    /// Makes names with a new secret that is stored nowhere.
    #[must_use]
    pub fn fresh() -> Self {
        let random = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
        Self(Sha256::digest(random.map(uuid::Uuid::into_bytes).concat()).into())
    }

    /// Returns the name of the picture with this number.
    #[must_use]
    pub fn name(&self, number: u64) -> String {
        // The other half of the block is zero, so that an invented name is recognised when it is decrypted.
        let (mut left, mut right) = (number, 0);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.mask(round, right));
        }
        format!("{PREFIX}{left:016x}{right:016x}")
    }

    /// Returns the number of the picture with this name, or `None` for a name that was never given out.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(PREFIX)?;
        let plain = digits.len() == 32 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let half = |digits: &str| u64::from_str_radix(digits, 16).ok();
        let (mut left, mut right) = plain.then(|| digits.split_at(16)).and_then(|(l, r)| half(l).zip(half(r)))?;
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.mask(round, left), left);
        }
        (right == 0).then_some(left)
    }

    /// Returns whether a name has the prefix of cached pictures' names.
    #[must_use]
    pub fn is_cached(name: &str) -> bool {
        name.starts_with(PREFIX)
    }

    /// Computes the signature of a picture's address that holds until a date, in seconds since 1970: HMAC-SHA256 in
    /// hexadecimal.
    #[must_use]
    pub fn signature(&self, id: &str, expires: u64) -> String {
        // No name has a line break, so that different pairs never give the same text.
        hexadecimal(&hmac(&self.0, format!("picture address\n{id}\n{expires}").as_bytes()))
    }

    /// Returns whether a signature is that of a picture's address. The comparison takes the same time for every
    /// signature of the right length.
    #[must_use]
    pub fn has_signed(&self, id: &str, expires: u64, signature: &str) -> bool {
        self.signature(id, expires).as_bytes().ct_eq(signature.as_bytes()).into()
    }

    /// Computes the round function of the network: SHA-256 of the secret, the round and half of the block. The three
    /// parts have fixed lengths, so that different inputs never give the same bytes to hash.
    fn mask(&self, round: u8, half: u64) -> u64 {
        let hash = Sha256::new().chain_update(self.0).chain_update([round]).chain_update(half.to_le_bytes()).finalize();
        hash.iter().take(8).fold(0, |mask, byte| mask << 8 | u64::from(*byte))
    }
}

/// Computes HMAC-SHA256 (RFC 2104) with a key of at most 64 bytes, the length of SHA-256's block.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let pad = |byte: u8| -> [u8; 64] { std::array::from_fn(|at| key.get(at).copied().unwrap_or(0) ^ byte) };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_of_one_address_and_one_date() {
        // Test case 1 of RFC 4231.
        let expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(hexadecimal(&hmac(&[0x0b; 20], b"Hi There")), expected);
        let ids = PictureIds::fresh();
        let signature = ids.signature("img-1", 100);
        assert!(signature.len() == 64 && ids.has_signed("img-1", 100, &signature));
        for (id, expires) in [("img-2", 100), ("img-1", 101)] {
            assert!(!ids.has_signed(id, expires, &signature));
        }
        for wrong in ["", &signature[1..], &signature.to_uppercase()] {
            assert!(!ids.has_signed("img-1", 100, wrong), "{wrong}");
        }
        assert!(!PictureIds::fresh().has_signed("img-1", 100, &signature), "of another server");
    }

    #[test]
    fn names_lead_back_to_numbers_and_tell_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let ids = PictureIds::open(folder.path()).expect("a secret");
        let again = PictureIds::open(folder.path()).expect("the same");
        let mode = fs::metadata(folder.path().join(FILE)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for number in [0, 1, 2, 1 << 40, u64::MAX] {
            let name = ids.name(number);
            assert_eq!((again.number(&name), again.name(number)), (Some(number), name.clone()));
            assert_eq!(PictureIds::fresh().number(&name), None, "of another server");
            for wrong in
                [name.to_uppercase(), format!("{name}0"), name.replace("cache-", "img-"), format!("cache-{number}")]
            {
                assert_eq!(ids.number(&wrong), None, "{wrong}");
            }
        }
        // Names of consecutive numbers share no pattern: each digit takes many values.
        let names: Vec<String> = (0..100).map(|number| ids.name(number)).collect();
        for place in PREFIX.len()..names[0].len() {
            let digits: std::collections::BTreeSet<u8> = names.iter().map(|name| name.as_bytes()[place]).collect();
            assert!(digits.len() > 10, "{digits:?} at {place}");
        }
        fs::write(folder.path().join(FILE), "short").expect("written");
        assert!(
            PictureIds::open(folder.path()).err().expect("refused").to_string().contains("expected 32 bytes, found 5")
        );
    }
}
