//! Writing to a disk so that a file is whole or not there, whatever happens. A trait, so that tests can have a
//! disk that is full.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

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
    /// Under another name, to the platters, then by its name.
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = file.with_file_name(name);
        let attempt = || {
            let mut to = File::create(&partial)?;
            to.write_all(bytes)?;
            to.sync_all()?;
            fs::rename(&partial, file)?;
            // The name is in the folder's own data.
            file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        attempt().inspect_err(|_| {
            let _ = fs::remove_file(&partial);
        })
    }
}
