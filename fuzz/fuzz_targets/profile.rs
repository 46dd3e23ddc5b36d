//! Profiles: an error, or rows that can be found and that read back as they are written.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use modm::profile::{self, Profile};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let file = Path::new("profile.toml");
    let Ok(profile) = profile::parse(text, file) else { return };
    for row in &profile.service {
        Profile::select(&profile, &[row.gpu.clone()], &[row.model.clone()]).expect("the row is there");
    }
    let written = toml::to_string(&profile).expect("rows are TOML");
    assert_eq!(profile::parse(&written, file).expect("our own TOML is good"), profile);
});
