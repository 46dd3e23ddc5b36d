//! Embeddings in `.npy` files: an error, or rows of length 1.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modm::trace::npy;
use modm_fuzz::file_of;

fuzz_target!(|bytes: &[u8]| {
    let Ok(matrix) = npy::read(&file_of(bytes, "embeddings.npy")) else { return };
    assert!(matrix.rows() > 0 && matrix.dimension() > 0);
    for row in 0..matrix.rows() {
        let embedding = matrix.embedding(row);
        let square: f64 = embedding.as_slice().iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        assert!((square - 1.0).abs() < 1e-3, "row {row} has the square {square}");
    }
});
