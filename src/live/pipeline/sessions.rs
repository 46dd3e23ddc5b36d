//! Sessions of a model's parts on a device. A part that the model before has with the same content is not loaded again:
//! FLUX.1-dev and FLUX.1-schnell share their text encoders and autoencoder, and so do SD3.5-Large and its Turbo.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::error::Error;
use super::super::library::Library;
use super::super::onnx::Onnx;
use super::super::settings::Device;

/// Opener of sessions on a device, with the sessions that the model before has left.
#[derive(Debug)]
pub struct Sessions {
    pub(super) library: Library,
    pub(super) device: Device,
    left: Vec<Onnx>,
    /// Number of sessions that were opened so far, and not taken over.
    opened: u64,
    /// Results of comparisons: pairs of files take seconds to read, and models change again and again.
    same: BTreeMap<[Version; 2], bool>,
}

/// Version of a file: its path, length and time of change.
type Version = (PathBuf, u64, SystemTime);

impl Sessions {
    /// Makes an opener with no sessions left.
    #[must_use]
    pub const fn new(library: Library, device: Device) -> Self {
        Self { library, device, left: Vec::new(), opened: 0, same: BTreeMap::new() }
    }

    /// Leaves sessions for the next model.
    pub(super) fn leave(&mut self, sessions: impl IntoIterator<Item = Onnx>) {
        self.left.extend(sessions);
    }

    /// Drops the sessions that were left and not taken over.
    pub fn clear(&mut self) {
        self.left.clear();
    }

    /// Drops the sessions that none of these files can take over. The device may not have room for them and the new
    /// model.
    pub(super) fn keep_for(&mut self, files: &[PathBuf]) {
        let mut left = std::mem::take(&mut self.left);
        left.retain(|session| files.iter().any(|file| self.is_same(&session.file, file)));
        self.left = left;
    }

    /// Takes over a session with the content of a file, or opens one.
    pub(super) fn open(&mut self, file: &Path) -> Result<Onnx, Error> {
        let found = (0..self.left.len()).find(|&index| {
            let left = self.left[index].file.clone();
            self.is_same(&left, file)
        });
        if let Some(index) = found {
            let mut session = self.left.swap_remove(index);
            file.clone_into(&mut session.file);
            return Ok(session);
        }
        self.opened += 1;
        Onnx::open(&self.library, file, self.device)
    }

    /// Returns the number of sessions that were opened so far, and not taken over.
    #[must_use]
    pub const fn opened(&self) -> u64 {
        self.opened
    }

    /// Returns whether two files of models have the same content, with the files of weights beside them. Files that
    /// cannot be read have not.
    fn is_same(&mut self, a: &Path, b: &Path) -> bool {
        let Ok(pair) = version(a).and_then(|a| Ok([a, version(b)?])) else { return false };
        if pair[0] == pair[1] {
            return true;
        }
        if let Some(&same) = self.same.get(&pair) {
            return same;
        }
        let same = has_same_content(a, b).unwrap_or(false);
        self.same.insert(pair, same);
        same
    }
}

fn version(file: &Path) -> io::Result<Version> {
    // Links to the same file are the same file.
    let file = file.canonicalize()?;
    let about = file.metadata()?;
    Ok((file, about.len(), about.modified()?))
}

/// Compares two models, and the files of weights in their folders: all that are not JSON.
fn has_same_content(a: &Path, b: &Path) -> io::Result<bool> {
    let (a, b) = (weights(a)?, weights(b)?);
    if a.len() != b.len() || a.iter().zip(&b).any(|((name, _, length), (other, _, its))| (name, length) != (other, its))
    {
        return Ok(false);
    }
    for ((_, a, _), (_, b, _)) in a.iter().zip(&b) {
        if !are_equal(BufReader::new(File::open(a)?), BufReader::new(File::open(b)?))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns the files of a model's folder that are not JSON, in order: name, path, length.
fn weights(model: &Path) -> io::Result<Vec<(std::ffi::OsString, PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in model.parent().unwrap_or(Path::new(".")).read_dir()? {
        let entry = entry?;
        let (path, about) = (entry.path(), std::fs::metadata(entry.path())?);
        if about.is_file() && path.extension().is_none_or(|extension| extension != "json") {
            files.push((entry.file_name(), path, about.len()));
        }
    }
    files.sort();
    Ok(files)
}

/// Compares two streams of the same length.
fn are_equal(mut a: impl Read, mut b: impl Read) -> io::Result<bool> {
    let (mut one, mut other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let read = a.read(&mut one)?;
        if read == 0 {
            return Ok(true);
        }
        b.read_exact(&mut other[..read])?;
        if one[..read] != other[..read] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_the_same_by_content_and_by_the_weights_beside_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let model = |name: &str, weights: &[u8]| {
            let part = folder.path().join(name);
            std::fs::create_dir(&part).expect("a folder");
            std::fs::write(part.join("model.onnx"), "graph").expect("a file");
            std::fs::write(part.join("model.onnx_data"), weights).expect("a file");
            std::fs::write(part.join("config.json"), name).expect("a file");
            part.join("model.onnx")
        };
        let (a, b, c) = (model("a", &[1; 9]), model("b", &[1; 9]), model("c", &[2; 9]));
        assert!(has_same_content(&a, &b).expect("files") && !has_same_content(&a, &c).expect("files"));
        std::fs::write(c.with_file_name("more"), "").expect("a file");
        assert!(!has_same_content(&b, &c).expect("files"), "one file more");
        assert!(has_same_content(&a, &folder.path().join("none/model.onnx")).is_err());
    }
}
