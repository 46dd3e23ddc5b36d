//! Files a command writes: under a temporary name first, so that a killed run leaves no half file, and
//! never over an earlier run unless asked. Not formats: each writer knows its own.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::input::InputError;

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be written: {source}", path.display())]
pub struct OutputError {
    /// Where it was to be.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Writes a file through `write`, then gives it its name.
///
/// # Errors
/// What `write` or the system says; no file is left behind then.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), OutputError> {
    write_whole(path, write, false).map_err(|source| OutputError { path: path.to_owned(), source })
}

/// The same, and when it returns the file survives a loss of power.
///
/// # Errors
/// What `write` or the system says; no file is left behind then.
pub fn write_durable(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    write_whole(path, write, true)
}

fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    durable: bool,
) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let attempt = || {
        let mut writer = BufWriter::with_capacity(1 << 16, File::create(&partial)?);
        write(&mut writer)?;
        writer.flush()?;
        if durable {
            writer.get_ref().sync_all()?;
        }
        drop(writer);
        fs::rename(&partial, path)?;
        match path.parent() {
            // The name is in the folder's own data.
            Some(folder) if durable => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    };
    attempt().inspect_err(|_| {
        // It may not exist; the first error is the one worth telling.
        let _ = fs::remove_file(&partial);
    })
}

/// Makes a folder and those that it is in, unless it is there.
///
/// # Errors
/// What the system says.
pub fn make_folder(folder: &Path) -> Result<(), OutputError> {
    fs::create_dir_all(folder).map_err(|source| OutputError { path: folder.to_owned(), source })
}

/// Refuses an output file that is there already, unless `force` is given.
///
/// # Errors
/// It is there.
pub fn refuse_file(file: &Path, force: bool) -> Result<(), InputError> {
    if force || !file.exists() {
        return Ok(());
    }
    let message = "is there already: choose another file, or overwrite it with --force";
    Err(InputError::new(file, message).key("--out"))
}

/// Refuses an output folder that holds one of `names` from an earlier run, unless `force` is given.
///
/// # Errors
/// An earlier run.
pub fn refuse_earlier(folder: &Path, names: &[&str], force: bool) -> Result<(), InputError> {
    if !force && let Some(name) = names.iter().find(|name| folder.join(name).exists()) {
        let message = format!("holds an earlier run ({name}): choose another folder, or overwrite it with --force");
        return Err(InputError::new(folder, message).key("--out"));
    }
    Ok(())
}

/// Makes an output folder, unless it holds one of `names` from an earlier run and `force` is not given.
///
/// # Errors
/// An earlier run, or a folder that cannot be made or written to.
pub fn prepare(folder: &Path, names: &[&str], force: bool) -> Result<(), InputError> {
    refuse_earlier(folder, names, force)?;
    let refused = |message: String| InputError::new(folder, message).key("--out");
    if folder.exists() && !folder.is_dir() {
        return Err(refused("is a file: expected a folder, which is made where there is none".into()));
    }
    fs::create_dir_all(folder).map_err(|error| refused(format!("the folder cannot be made: {error}")))?;
    // Better now than after a long run.
    let probe = folder.join("modm.partial");
    let written = File::create(&probe).and_then(|_| fs::remove_file(&probe));
    written.map_err(|error| refused(format!("the folder cannot be written to: {error}")))
}

/// Makes a text safe within an element or an attribute of HTML.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_earlier_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        write_atomic(&path, |writer| writer.write_all(b"old")).unwrap();
        let failed = write_atomic(&path, |writer| {
            writer.write_all(b"half")?;
            Err(io::Error::other("the disk is full"))
        });
        assert!(failed.unwrap_err().to_string().ends_with("a.csv: cannot be written: the disk is full"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing half written stays");
    }

    #[test]
    fn an_earlier_run_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path(), &["run.json"], false).unwrap();
        fs::write(folder.path().join("run.json"), "{}").unwrap();
        let refused = prepare(folder.path(), &["run.json"], false).unwrap_err();
        assert!(refused.to_string().contains("--force"), "{refused}");
        prepare(folder.path(), &["run.json"], true).unwrap();
    }
}
