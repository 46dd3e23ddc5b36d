//! Any text as a profile: an error or a profile, never a panic; errors can be shown.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use modm::profile::ProfileFile;

fuzz_target!(|text: &str| {
    if let Err(error) = ProfileFile::parse(text, Path::new("profile.toml")) {
        assert!(!error.to_string().is_empty());
    }
});
