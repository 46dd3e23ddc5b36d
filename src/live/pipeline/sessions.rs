//! Sessions of a model's parts on a device. A part that the model before has with the same content is not loaded again:
//! FLUX.1-dev and FLUX.1-schnell share their text encoders and autoencoder, and so do SD3.5-Large and its Turbo.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::{Deref, DerefMut};
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
    left: Vec<Part>,
    /// Number of sessions that were opened so far, and not taken over.
    opened: u64,
    compared: Compared,
}

/// Results of comparisons: pairs of files take seconds to read, and models change again and again.
#[derive(Debug)]
struct Compared(BTreeMap<[Version; 2], bool>);

/// Session, with the version of the files that it was loaded from.
#[derive(Debug)]
pub(super) struct Part {
    session: Onnx,
    /// Version of the files; `None` if they cannot be compared.
    version: Option<Version>,
}

impl Deref for Part {
    type Target = Onnx;

    fn deref(&self) -> &Onnx {
        &self.session
    }
}

impl DerefMut for Part {
    fn deref_mut(&mut self) -> &mut Onnx {
        &mut self.session
    }
}

/// Version of a model's files: those in its folder that are not JSON, in order.
type Version = Vec<FileVersion>;

/// Version of a file: its name, the path behind links, its length and the time of its last change.
type FileVersion = (OsString, PathBuf, u64, SystemTime);

impl Sessions {
    /// Makes an opener with no sessions left.
    #[must_use]
    pub const fn new(library: Library, device: Device) -> Self {
        Self { library, device, left: Vec::new(), opened: 0, compared: Compared(BTreeMap::new()) }
    }

    /// Leaves sessions for the next model.
    pub(super) fn leave(&mut self, parts: impl IntoIterator<Item = Part>) {
        self.left.extend(parts);
    }

    /// Drops the sessions that were left and not taken over.
    pub fn clear(&mut self) {
        self.left.clear();
    }

    /// Drops the sessions that none of these files can take over. The device may not have room for them and the new
    /// model.
    pub(super) fn keep_for(&mut self, files: &[PathBuf]) {
        let wanted: Vec<Option<Version>> = files.iter().map(|file| version(file).ok()).collect();
        self.left.retain(|part| {
            wanted.iter().any(|version| self.compared.are_same(part.version.as_ref(), version.as_ref()))
        });
    }

    /// Takes over a session with the content of a file, or opens one.
    pub(super) fn open(&mut self, file: &Path) -> Result<Part, Error> {
        let version = version(file).ok();
        let found = self.left.iter().position(|part| self.compared.are_same(part.version.as_ref(), version.as_ref()));
        if let Some(index) = found {
            let mut part = self.left.swap_remove(index);
            file.clone_into(&mut part.session.file);
            return Ok(part);
        }
        self.opened += 1;
        Ok(Part { session: Onnx::open(&self.library, file, self.device)?, version })
    }

    /// Returns the number of sessions that were opened so far, and not taken over.
    #[must_use]
    pub const fn opened(&self) -> u64 {
        self.opened
    }

    /// Returns whether a part of one model has the content of a part of the other.
    pub(super) fn share(&mut self, some: &[PathBuf], others: &[PathBuf]) -> bool {
        let versions = |files: &[PathBuf]| files.iter().map(|file| version(file).ok()).collect::<Vec<_>>();
        let (some, others) = (versions(some), versions(others));
        some.iter().any(|a| others.iter().any(|b| self.compared.are_same(a.as_ref(), b.as_ref())))
    }
}

impl Compared {
    /// Returns whether two versions have the same content: the graph, and the files of weights beside it. A session
    /// keeps the version that it was loaded from, so that files that were replaced since are not taken for it.
    fn are_same(&mut self, a: Option<&Version>, b: Option<&Version>) -> bool {
        let Some((a, b)) = a.zip(b) else { return false };
        if a == b {
            return true;
        }
        let pair = [a.clone(), b.clone()];
        if let Some(&same) = self.0.get(&pair) {
            return same;
        }
        let same = has_same_content(a, b).unwrap_or(false);
        self.0.insert(pair, same);
        same
    }
}

/// Returns the version of a model's files.
fn version(model: &Path) -> io::Result<Version> {
    let mut files = Vec::new();
    for entry in model.parent().unwrap_or(Path::new(".")).read_dir()? {
        let entry = entry?;
        let (path, about) = (entry.path().canonicalize()?, std::fs::metadata(entry.path())?);
        if about.is_dir() {
            // Weights may be in it. The exporter makes none.
            return Err(io::Error::other("a folder within the folder of a model's part"));
        }
        if entry.path().extension().is_none_or(|extension| extension != "json") {
            files.push((entry.file_name(), path, about.len(), about.modified()?));
        }
    }
    files.sort();
    Ok(files)
}

/// Compares the files of two versions. Files that have changed since their version are not the same.
fn has_same_content(a: &Version, b: &Version) -> io::Result<bool> {
    if a.len() != b.len() || a.iter().zip(b).any(|(one, other)| (&one.0, one.2) != (&other.0, other.2)) {
        return Ok(false);
    }
    for (one, other) in a.iter().zip(b) {
        for (_, path, length, changed) in [one, other] {
            let about = path.metadata()?;
            if (about.len(), about.modified()?) != (*length, *changed) {
                return Ok(false);
            }
        }
        if one.1 != other.1 && !are_equal(BufReader::new(File::open(&one.1)?), BufReader::new(File::open(&other.1)?))? {
            return Ok(false);
        }
    }
    Ok(true)
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
        let same = |a: &Path, b: &Path| has_same_content(&version(a).expect("files"), &version(b).expect("files"));
        assert!(same(&a, &b).expect("files") && !same(&a, &c).expect("files"));
        // A graph that is a link to the other's, beside other weights.
        std::fs::remove_file(&c).expect("a file");
        std::os::unix::fs::symlink(&a, &c).expect("a link");
        assert!(!same(&a, &c).expect("files"));
        // Files that were replaced after a session was loaded from them.
        let before = version(&b).expect("files");
        std::fs::write(b.with_file_name("model.onnx_data"), [3; 9]).expect("a file");
        let changed = File::options().write(true).open(b.with_file_name("model.onnx_data")).expect("a file");
        changed.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
        assert!(!has_same_content(&version(&a).expect("files"), &before).expect("files"));
        assert!(!same(&a, &b).expect("files"));
        std::fs::write(c.with_file_name("more"), "").expect("a file");
        assert!(!same(&a, &c).expect("files"), "one file more");
        std::fs::create_dir(a.with_file_name("weights")).expect("a folder");
        assert!(version(&a).is_err() && version(&folder.path().join("none/model.onnx")).is_err());
    }
}
