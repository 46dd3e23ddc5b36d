//! Code that fuzz targets share: a file of the given bytes, for parsers that map files. In memory where the
//! system has a place for that, since a disk would set the pace.

use std::path::{Path, PathBuf};

/// Writes `bytes` to this process's own file of that name and returns where it is.
///
/// # Panics
/// If it cannot be written: no parser has run then.
#[must_use]
pub fn file_of(bytes: &[u8], name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let file = folder.join(format!("modm-fuzz-{}-{name}", std::process::id()));
    std::fs::write(&file, bytes).expect("a temporary file can be written");
    file
}
