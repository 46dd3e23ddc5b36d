//! Writing to a disk so that a file is whole or not there, whatever happens. A trait, so that tests can have a
//! disk that is full.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::output::write_durable;

/// Where files go.
pub trait Disk: Send + 'static {
    /// Writes a file whole.
    ///
    /// # Errors
    /// What the system says; nothing is left behind.
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Removes a file; one that is not there is removed.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, file: &Path) -> io::Result<()> {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The one there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        write_durable(file, |to| to.write_all(bytes))
    }
}
