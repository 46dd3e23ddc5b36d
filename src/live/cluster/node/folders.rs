//! Folders of models and encoders below a folder, known by the hash of their content: the same model lies in another
//! place on each machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::input::{InputError, sha256, sha256_of};
use crate::live::encoder::DualEncoder;
use crate::live::pipeline::check;

/// Depth below the folder to which models are looked for.
const DEEPEST: usize = 6;

/// Models and encoders that were found.
#[derive(Clone, Debug, Default)]
pub struct Folders {
    /// Folder of each model, by the hash of its content.
    pub models: BTreeMap<String, PathBuf>,
    /// Folder of each encoder, by its fingerprint.
    pub encoders: BTreeMap<String, PathBuf>,
}

impl Folders {
    /// Finds all models and encoders below a folder, and reads them for their hashes. `say` hears of each.
    ///
    /// # Errors
    /// Returns an error if the folder or a file of a model cannot be read, or if nothing is found.
    pub fn find(root: &Path, say: &dyn Fn(&str)) -> Result<Self, InputError> {
        let mut found = Self::default();
        found.look(root, DEEPEST, say)?;
        if found.models.is_empty() {
            let message = "holds no model: expected folders as Optimum exports them, each with a model_index.json";
            return Err(InputError::new(root, message));
        }
        Ok(found)
    }

    fn look(&mut self, folder: &Path, deeper: usize, say: &dyn Fn(&str)) -> Result<(), InputError> {
        if folder.join("model_index.json").is_file() {
            match check(folder) {
                Ok(()) => {
                    let hash = hash(folder)?;
                    say(&format!("model {} ({}...)", folder.display(), &hash[..12]));
                    self.models.insert(hash, folder.to_owned());
                }
                Err(error) => say(&format!("{}: not used: {error}", folder.display())),
            }
            return Ok(());
        }
        if DualEncoder::check(folder).is_ok() {
            let fingerprint = DualEncoder::fingerprint(folder)?;
            say(&format!("encoder {} ({}...)", folder.display(), &fingerprint[..12]));
            self.encoders.insert(fingerprint, folder.to_owned());
            return Ok(());
        }
        if deeper > 0 {
            for inner in entries(folder)?.into_iter().filter(|entry| entry.is_dir()) {
                self.look(&inner, deeper - 1, say)?;
            }
        }
        Ok(())
    }
}

/// Returns the SHA-256 hash of a folder: of the names and hashes of all its files, in order. Files whose names begin
/// with a dot do not count, since tools leave them behind.
///
/// # Errors
/// Returns an error if a file cannot be read.
pub fn hash(folder: &Path) -> Result<String, InputError> {
    let mut files = Vec::new();
    list(folder, &mut files)?;
    let hashes = files.par_iter().map(sha256).collect::<Result<Vec<String>, InputError>>()?;
    let mut all = String::new();
    for (file, hash) in files.iter().zip(hashes) {
        let name = file.strip_prefix(folder).unwrap_or(file).to_string_lossy();
        let _ = writeln!(all, "{}\0{name}\0{hash}", name.len()); // a write to memory cannot fail
    }
    Ok(sha256_of(all.as_bytes()))
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), InputError> {
    for entry in entries(folder)? {
        if entry.is_dir() {
            list(&entry, files)?;
        } else {
            files.push(entry);
        }
    }
    Ok(())
}

/// Returns the entries of a folder, by name, without those whose names begin with a dot.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, InputError> {
    let failed = |error: std::io::Error| InputError::new(folder, format!("cannot be read: {error}"));
    let read = std::fs::read_dir(folder).map_err(failed)?;
    let mut entries =
        read.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.retain(|entry| entry.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')));
    entries.sort();
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_names_and_content_and_not_of_places() {
        let folder = tempfile::tempdir().expect("a folder");
        let make = |name: &str, content: &str| {
            let part = folder.path().join(name).join("unet");
            std::fs::create_dir_all(&part).expect("a folder");
            std::fs::write(part.join("model.onnx"), content).expect("a file");
            folder.path().join(name)
        };
        let (first, copy, other) = (make("a", "1"), make("b", "1"), make("c", "2"));
        std::fs::write(copy.join(".cache"), "left behind").expect("a file");
        assert_eq!(hash(&first).expect("a hash"), hash(&copy).expect("a hash"));
        assert_ne!(hash(&first).expect("a hash"), hash(&other).expect("a hash"));
        std::fs::rename(copy.join("unet"), copy.join("vae")).expect("another name");
        assert_ne!(hash(&first).expect("a hash"), hash(&copy).expect("a hash"));
        assert!(Folders::find(folder.path(), &|_| {}).expect_err("no model").to_string().contains("holds no model"));
    }
}
