//! Writing to a disk so that a file is whole or not there, whatever happens. A trait, so that tests can have a
//! disk that is full.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::super::faults::Faults;
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
    /// The system's error.
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

/// The same with a layer whose calls fail on a test's plan, if there is one.
#[derive(Clone, Debug, Default)]
pub struct TestableDisk(Option<Arc<Faults>>);

impl TestableDisk {
    /// A disk on a plan.
    #[must_use]
    pub const fn new(faults: Option<Arc<Faults>>) -> Self {
        Self(faults)
    }

    /// Looks at the file system of a path.
    ///
    /// # Errors
    /// The system's error.
    #[cfg(feature = "serve")]
    pub fn free(&self, path: &Path) -> rustix::io::Result<rustix::fs::StatVfs> {
        if let Some(faults) = &self.0 {
            faults.hang();
        }
        rustix::fs::statvfs(path)
    }

    fn call(&self, short: impl FnOnce()) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |faults| faults.call(short))
    }
}

impl Disk for TestableDisk {
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        // A write that is cut short leaves what a killed program would: a part of the file under its temporary name.
        self.call(|| {
            let mut name = file.file_name().unwrap_or_default().to_owned();
            name.push(".partial");
            let _ = fs::write(file.with_file_name(name), &bytes[..bytes.len() / 2]);
        })?;
        RealDisk.write(file, bytes)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        self.call(|| {})?;
        RealDisk.remove(file)
    }
}
