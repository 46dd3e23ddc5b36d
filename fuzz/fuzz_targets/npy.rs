//! Any bytes as a .npy file: an error or unit rows, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modm::trace::npy;

fuzz_target!(|bytes: &[u8]| {
    let file = std::env::temp_dir().join(format!("modm-fuzz-{}.npy", std::process::id()));
    std::fs::write(&file, bytes).expect("a temporary file");
    match npy::read(&file) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(matrix) => {
            assert!((0..matrix.rows()).all(|row| matrix.embedding(row).as_slice().len() == matrix.dimension()))
        }
    }
});
