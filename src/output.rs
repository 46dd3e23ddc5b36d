//! Output files and folders of commands. A file is written under a temporary name first and renamed when it is
//! complete, so that a killed run leaves no incomplete file under the final name. An earlier run is overwritten only if
//! the user asks for it. File formats are elsewhere: each writer has its own.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::input::InputError;

/// End of the temporary name of a file that is being written.
const PARTIAL: &str = ".partial";

/// Failure to write a file or to make a folder.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be written: {reason}", path.display())]
pub struct OutputError {
    /// Path of the file or folder.
    pub path: PathBuf,
    /// Error of the system. It is part of the message, so it is no source: a chain would say it twice.
    pub reason: io::Error,
}

/// Writes a file through `write` under a temporary name, then renames the file to `path`.
///
/// # Errors
/// Returns the error of `write` or of the system. The incomplete file is removed then.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), OutputError> {
    write_whole(path, PARTIAL, write, false).map_err(|reason| OutputError { path: path.to_owned(), reason })
}

/// Writes a file as [`write_atomic`] does, where several processes may write the file at the same time. The last one
/// that is done wins.
///
/// # Errors
/// Returns the error of `write` or of the system. The incomplete file is removed then.
pub fn write_shared(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), OutputError> {
    // With one temporary name for all, a process could rename what another has only begun to write. Process ids would
    // not tell them apart: they are equal in containers. The random number comes from the system and reaches no result.
    let own = RandomState::new().build_hasher().finish();
    let written = write_whole(path, &format!(".{own:016x}{PARTIAL}"), write, false);
    written.map_err(|reason| OutputError { path: path.to_owned(), reason })
}

/// Writes a file as [`write_atomic`] does. Once the function has returned, the file survives a loss of power.
///
/// # Errors
/// Returns the error of `write` or of the system. The incomplete file is removed then.
pub fn write_durable(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    write_whole(path, PARTIAL, write, true)
}

/// Writes a file whose temporary name has `suffix` after the final name.
fn write_whole(
    path: &Path,
    suffix: &str,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    durable: bool,
) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    let partial = path.with_file_name(name);
    let attempt = || {
        let mut writer = BufWriter::with_capacity(1 << 16, File::create(&partial)?);
        write(&mut writer)?;
        // A `BufWriter` that is dropped with bytes in it hides the error of the last write.
        writer.flush()?;
        if durable {
            // The data goes to disk before the name does: a name that survives a loss of power must not lead to an
            // incomplete file.
            writer.get_ref().sync_all()?;
        }
        drop(writer);
        fs::rename(&partial, path)?;
        match path.parent() {
            // The folder's own data holds the name of the file, so the folder is synchronised too.
            Some(folder) if durable => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    };
    attempt().inspect_err(|_| {
        // The partial file may not exist. The first error is the one to report.
        let _ = fs::remove_file(&partial);
    })
}

/// Makes a folder and its parents. Does nothing if the folder exists.
///
/// # Errors
/// Returns the system's error.
pub fn make_folder(folder: &Path) -> Result<(), OutputError> {
    fs::create_dir_all(folder).map_err(|reason| OutputError { path: folder.to_owned(), reason })
}

/// Moves a file into a folder, which is made if there is none.
///
/// # Errors
/// Returns the system's error.
pub fn move_into(file: &Path, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::rename(file, folder.join(file.file_name().unwrap_or_default()))
}

/// Copies a file into a folder, which is made if there is none. Does nothing if there is no such file. Once the
/// function has returned, the copy survives a loss of power.
///
/// # Errors
/// Returns the error of the system.
pub fn copy_into(file: &Path, folder: &Path) -> io::Result<()> {
    let mut from = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        from => from?,
    };
    fs::create_dir_all(folder)?;
    write_durable(&folder.join(file.file_name().unwrap_or_default()), |to| io::copy(&mut from, to).map(drop))?;
    // The name of the folder is in the folder above, which may have been made as well.
    folder.parent().filter(|above| above.is_dir()).map_or(Ok(()), |above| File::open(above)?.sync_all())
}

/// Removes a file. Does nothing if there is none.
///
/// # Errors
/// Returns the system's error.
pub fn remove_file(file: &Path) -> Result<(), OutputError> {
    match fs::remove_file(file) {
        Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(OutputError { path: file.to_owned(), reason }),
        _ => Ok(()),
    }
}

/// Refuses an output file that exists, unless `force` is true.
///
/// # Errors
/// Returns an error if the file exists and `force` is false.
pub fn refuse_file(file: &Path, force: bool) -> Result<(), InputError> {
    if force || !file.exists() {
        return Ok(());
    }
    let message = "is there already: choose another file, or overwrite it with --force";
    Err(InputError::new(file, message).key("--out"))
}

/// Refuses an output folder that holds one of `names` from an earlier run, unless `force` is true.
///
/// # Errors
/// Returns an error if the folder holds an earlier run and `force` is false.
pub fn refuse_earlier(folder: &Path, names: &[&str], force: bool) -> Result<(), InputError> {
    if !force && let Some(name) = names.iter().find(|name| folder.join(name).exists()) {
        let message = format!("holds an earlier run ({name}): choose another folder, or overwrite it with --force");
        return Err(InputError::new(folder, message).key("--out"));
    }
    Ok(())
}

/// Makes an output folder. Refuses a folder that holds one of `names` from an earlier run, unless `force` is true.
///
/// # Errors
/// Returns an error if the folder holds an earlier run, or if it cannot be made or written to.
pub fn prepare(folder: &Path, names: &[&str], force: bool) -> Result<(), InputError> {
    refuse_earlier(folder, names, force)?;
    let refused = |message: String| InputError::new(folder, message).key("--out");
    // The system says only that the file exists, which does not tell a user what to change.
    if folder.exists() && !folder.is_dir() {
        return Err(refused("is a file: expected a folder, which is made where there is none".into()));
    }
    fs::create_dir_all(folder).map_err(|error| refused(format!("the folder cannot be made: {error}")))?;
    // A folder that cannot be written to is reported now and not after a long run.
    let probe = folder.join("modm.partial");
    // Where two commands prepare one folder at once, one of them removes the probe of both.
    let removed = || {
        fs::remove_file(&probe).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
    };
    let written = File::create(&probe).and_then(|_| removed());
    written.map_err(|error| refused(format!("the folder cannot be written to: {error}")))
}

/// Escapes a text for an element or an attribute of HTML.
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
    fn many_may_write_one_file_and_prepare_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let text = "row\n".repeat(40_000);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        prepare(folder.path(), &[], false).unwrap();
                        write_shared(&path, |writer| writer.write_all(text.as_bytes())).unwrap();
                        assert!(fs::read_to_string(&path).unwrap() == text, "a file has its name once it is whole");
                    }
                });
            }
        });
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
