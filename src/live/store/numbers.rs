//! Numbers of entries, each of which is given once. Names and addresses of pictures derive from the numbers, and
//! clients keep what they got at an address. A file has a number above all that were given, so that the number of an
//! entry that is gone is not given again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::Error as _;

use super::{DIGITS, Disk, RealDisk, StoreError};

pub(super) const NUMBERS: &str = "modm-store-numbers.json";

/// Numbers that one write of the file covers. A run that is killed leaves at most so many out.
const AHEAD: u64 = 1000;
/// Numbers that are covered before they are given, as long as no more pictures wait for the disk: an answer may name a
/// picture that is not on the disk yet.
const MARGIN: u64 = AHEAD / 2;
/// Numbers that file names have room for.
const MOST: u64 = 10_u64.pow(DIGITS as u32);

/// Content of the file.
#[derive(Deserialize)]
struct Above {
    /// Number above all that were given.
    next: u64,
}

/// Numbers that may be given without another write of the file.
pub(super) struct Reserved {
    file: PathBuf,
    until: u64,
}

impl Reserved {
    /// Covers the first numbers that a run gives. Returns the reservation, and a warning if the file cannot be written:
    /// it is then written before the first picture.
    pub(super) fn begin(folder: &Path, next: u64) -> (Self, Option<String>) {
        let (file, until) = (folder.join(NUMBERS), next + AHEAD);
        match write(folder, until) {
            Ok(()) => (Self { file, until }, None),
            Err(error) => {
                let warning = format!("{}: {error}", file.display());
                (Self { file, until: 0 }, Some(warning))
            }
        }
    }

    /// Has the file cover a number, before anything of this number is on the disk.
    pub(super) fn cover(&mut self, disk: &impl Disk, number: u64) -> Result<(), StoreError> {
        if number + MARGIN >= self.until {
            let until = number + AHEAD;
            disk.write(&self.file, text(until).as_bytes()).map_err(StoreError::file(&self.file))?;
            self.until = until;
        }
        Ok(())
    }
}

fn text(next: u64) -> String {
    format!("{{\"next\":{next}}}\n")
}

/// Reads the number above all that were given; 0 if the store has no such file, as a store of an older version.
pub(super) fn read(folder: &Path) -> Result<u64, StoreError> {
    let file = folder.join(NUMBERS);
    match fs::read(&file) {
        Ok(text) => {
            let read = serde_json::from_slice(&text).and_then(|Above { next }| match next {
                0..=MOST => Ok(next),
                _ => Err(serde_json::Error::custom(format!("next: expected at most {MOST}, found {next}"))),
            });
            read.map_err(StoreError::record(&file))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(StoreError::File { file, error }),
    }
}

/// Writes the number above all that were given, if the file has another one.
pub(super) fn write(folder: &Path, next: u64) -> io::Result<()> {
    if read(folder).is_ok_and(|before| before == next) {
        return Ok(());
    }
    RealDisk.write(&folder.join(NUMBERS), text(next).as_bytes())
}
