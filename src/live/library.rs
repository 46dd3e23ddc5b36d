//! Finds and opens ONNX Runtime. The library is loaded when needed and not linked: one library serves CPU and CUDA. The
//! places to look are, in order, `--onnxruntime`, `ORT_DYLIB_PATH`, the folder that `modm setup`
//! fills, and the folders of the system.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::ep::cuda::{CUDA_DYLIBS, CUDNN_DYLIBS};

use crate::input::InputError;

/// Oldest minor version that works.
pub const LEAST_MINOR_VERSION: u32 = ort::MINOR_VERSION;

/// Advice for a user without a library.
pub const WAY_OUT: &str = "run `modm setup` (with --gpu for CUDA), or name one with --onnxruntime PATH";

/// ONNX Runtime library that is open.
#[derive(Clone, Debug)]
pub struct Library {
    pub(super) environment: ort::environment::Environment,
    /// File of the library.
    pub file: PathBuf,
    /// Minor version of the library. The major version is 1.
    pub minor_version: u32,
}

/// Library to open, and permission to use the CPU in place of a GPU.
#[derive(Clone, Debug, Default)]
pub struct LibraryOptions {
    /// Library or its folder; if absent, the first that is found in the other places.
    pub onnxruntime: Option<PathBuf>,
    /// True if the CPU takes the place of a CUDA device that cannot start.
    pub allow_cpu: bool,
}

impl LibraryOptions {
    /// Opens the library.
    ///
    /// # Errors
    /// See [`Library::open`].
    pub fn open(&self) -> Result<Library, InputError> {
        Library::open(self.onnxruntime.as_deref())
    }
}

/// Library that this process has opened. A process cannot open a second one.
static OPENED: OnceLock<Library> = OnceLock::new();

impl Library {
    /// Opens the first library found. Later calls return the library that is open.
    ///
    /// # Errors
    /// Returns an error, with advice, if no library is found, or if the one found is too old or is not ONNX Runtime.
    pub fn open(named: Option<&Path>) -> Result<Self, InputError> {
        if let Some(opened) = OPENED.get() {
            return Ok(opened.clone());
        }
        let file = find(named)?;
        let minor_version = check(&file)?;
        let broken = |error: &dyn std::fmt::Display| InputError::new(&file, format!("cannot be opened: {error}"));
        let builder = ort::init_from(&file).map_err(|error| broken(&error))?;
        preload_cuda(&file);
        let environment = builder.with_name("modm").build().map_err(|error| broken(&error))?;
        environment.set_log_level(ort::logging::LogLevel::Error);
        Ok(OPENED.get_or_init(|| Self { environment, file, minor_version }).clone())
    }

    /// Returns the name and the version of the library.
    #[must_use]
    pub fn build(&self) -> String {
        format!("ONNX Runtime 1.{}", self.minor_version)
    }
}

/// Returns the folder that `modm setup` (`scripts/install_onnxruntime`) fills.
#[must_use]
pub fn install_folder() -> Option<PathBuf> {
    // An empty variable counts as absent, as the XDG Base Directory Specification says.
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = of("XDG_DATA_HOME").or_else(|| of("LOCALAPPDATA")).or_else(|| Some(of("HOME")?.join(".local/share")))?;
    Some(data.join("modm").join("onnxruntime"))
}

/// Returns the places where a library may be, in order, each with its name.
#[must_use]
pub fn places(named: Option<&Path>) -> Vec<(&'static str, PathBuf)> {
    let mut places = Vec::new();
    places.extend(named.map(|path| ("--onnxruntime", path.to_owned())));
    let variable = std::env::var_os("ORT_DYLIB_PATH").filter(|value| !value.is_empty());
    places.extend(variable.map(|path| ("ORT_DYLIB_PATH", PathBuf::from(path))));
    places.extend(install_folder().map(|folder| ("modm setup", folder)));
    places.extend(SYSTEM.iter().map(|folder| ("the system", PathBuf::from(folder))));
    places
}

const SYSTEM: [&str; 4] = ["/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu"];

/// Returns the library at a place: the file itself, or the newest library in a folder.
#[must_use]
pub fn library_at(place: &Path) -> Option<PathBuf> {
    if place.is_file() {
        return Some(place.to_owned());
    }
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libonnxruntime.") || name == "onnxruntime.dll"
    };
    let entries = std::fs::read_dir(place).ok()?;
    let found = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_library);
    found.max_by_key(|path| minor_of_name(path))
}

/// Returns the minor version in a file name such as `libonnxruntime.so.1.32.0`, or 0 if the name has none.
fn minor_of_name(path: &Path) -> u32 {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let minor = name.split_once(".so.1.").and_then(|(_, rest)| rest.split('.').next()?.parse().ok());
    minor.unwrap_or(0)
}

fn find(named: Option<&Path>) -> Result<PathBuf, InputError> {
    for (what, place) in places(named) {
        if let Some(file) = library_at(&place) {
            return Ok(file);
        }
        // A place that the user named is not silently replaced by another place.
        if what == "--onnxruntime" || what == "ORT_DYLIB_PATH" {
            let message = format!("there is no ONNX Runtime library: {WAY_OUT}");
            return Err(InputError::new(what, message).value("path", place.display()));
        }
    }
    Err(InputError::new("ONNX Runtime", format!("no library is installed: {WAY_OUT}")))
}

/// Returns the minor version of a library. Refuses a library that cannot be used before any of its code runs.
pub(super) fn check(file: &Path) -> Result<u32, InputError> {
    match ort::util::probe(file) {
        None => Err(InputError::new(file, format!("is no ONNX Runtime library that can be loaded: {WAY_OUT}"))),
        Some(minor) if minor < LEAST_MINOR_VERSION => {
            let message = format!("expected 1.{LEAST_MINOR_VERSION} or newer: {WAY_OUT}");
            Err(InputError::new(file, message).value("version", format_args!("1.{minor}")))
        }
        Some(minor) => Ok(minor),
    }
}

/// Loads CUDA's libraries from the folder of ONNX Runtime, where the script puts them. If they are missing there, those
/// of the system are used. If the system has none, the CUDA provider says which libraries it needs.
fn preload_cuda(library: &Path) {
    let Some(folder) = library.parent() else { return };
    let (cuda, cudnn) = (folder.join("nvidia/cu13/lib"), folder.join("nvidia/cudnn/lib"));
    let cuda = CUDA_DYLIBS.iter().map(|name| cuda.join(name));
    let cudnn = CUDNN_DYLIBS.iter().map(|name| cudnn.join(name));
    for file in cuda.chain(cudnn).filter(|file| file.is_file()) {
        let _ = ort::util::preload_dylib(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_library_of_a_folder_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.32.0", "libonnxruntime_providers_shared.so", "README"]
        {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(library_at(folder.path()), Some(folder.path().join("libonnxruntime.so.1.32.0")));
        assert_eq!(library_at(&folder.path().join("nothing")), None);
    }

    #[test]
    fn what_is_no_library_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libonnxruntime.so");
        std::fs::write(&file, "not a library").unwrap();
        assert!(check(&file).unwrap_err().to_string().contains("modm setup"));
        assert!(find(Some(&folder.path().join("none"))).unwrap_err().to_string().starts_with("--onnxruntime: path = "));
    }
}
