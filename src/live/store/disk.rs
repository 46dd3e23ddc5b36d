//! Writing to a disk so that a file is whole or absent, whatever happens. The disk is a trait, so that tests can have a
//! disk that is full.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::super::faults::Faults;
use crate::output::write_durable;

/// Disk that files are written to.
pub trait Disk: Send + 'static {
    /// Writes a whole file.
    ///
    /// # Errors
    /// Returns the error of the system. No file is left behind then.
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Removes a file. A file that does not exist counts as removed.
    ///
    /// # Errors
    /// Returns the error of the system.
    fn remove(&self, file: &Path) -> io::Result<()> {
        // A file may be gone before its order is carried out: the record of a deleted entry is removed at the deletion,
        // its picture when the core releases the image.
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Disk of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        write_durable(file, |to| to.write_all(bytes))
    }
}

/// Disk of the system, below a layer whose calls fail on the plan of a test, if there is a plan.
#[derive(Clone, Debug, Default)]
pub struct TestableDisk(Option<Arc<Faults>>);

impl TestableDisk {
    /// Makes a disk with the faults of a plan.
    #[must_use]
    pub const fn new(faults: Option<Arc<Faults>>) -> Self {
        Self(faults)
    }

    /// Returns the state of the file system of a path.
    ///
    /// # Errors
    /// Returns the error of the system.
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
        // A write that is cut short leaves what a killed program would leave: a part of the file under its temporary
        // name.
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
