//! ONNX Runtime for tests: they need it, and say what to run where it is missing.

use modm::live::library::Library;

/// The library that live mode would take.
pub(crate) fn library() -> Library {
    Library::open(None).unwrap_or_else(|error| panic!("{error}"))
}
