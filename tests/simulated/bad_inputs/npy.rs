//! Embeddings: wrong types, shapes and values, headers that promise what is not there, files cut anywhere.

use super::folder::{all, embeddings, simulate, spoiled};

const ACCEPTED: &str =
    "expected a .npy file with a two-dimensional array of f16, f32 or f64 ('<f4'), or a .npz of these";
const DATA: usize = 3 * 4 * 4;

/// A file with this header text (`{}` stands for what every header has) and 48 bytes of ones.
fn with_header(text: &str) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend([0, 0, 128, 63].repeat(DATA / 4));
    bytes
}

fn array(descr: &str, fortran: &str, shape: &str) -> Vec<u8> {
    with_header(&format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"))
}

/// Good but for one value.
fn with_value(index: usize, value: f32) -> Vec<u8> {
    let mut bytes = embeddings(3, 4);
    let at = bytes.len() - DATA + 4 * index;
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    bytes
}

fn refused(name: &str, content: impl AsRef<[u8]>, message: &str) -> Result<(), String> {
    spoiled(name, content).refusal(&simulate("scenario.toml", &[]), &format!("{name}: {message}"))
}

#[test]
fn headers() {
    let found = |what: &str| format!("{what}: {ACCEPTED}");
    let unreadable = format!("has no readable header; {ACCEPTED}");
    let cases: Vec<(Vec<u8>, String)> = vec![
        (
            array("'<f8'", "False", "(3, 4)"),
            "bytes of data = 48: the header promises (3, 4) f64 values; is the file truncated?".into(),
        ),
        (
            array("'<f2'", "False", "(3, 4)"),
            "bytes of data = 48: the header promises (3, 4) f16 values; is the file truncated?".into(),
        ),
        (array("'<i4'", "False", "(3, 4)"), found("dtype = '<i4'")),
        (array("'<c8'", "False", "(3, 4)"), found("dtype = '<c8'")),
        (array("'|O'", "False", "(3, 4)"), found("dtype = '|O'")),
        (array("[('a', '<f4')]", "False", "(3, 4)"), found("dtype = [('a', '<f4')]")),
        (array("'<f4'", "1", "(3, 4)"), found("fortran_order = 1")),
        (array("'<f4'", "False", "(12,)"), found("shape = (12,)")),
        (array("'<f4'", "False", "(3, 2, 2)"), found("shape = (3, 2, 2)")),
        (array("'<f4'", "False", "()"), found("shape = ()")),
        (array("'<f4'", "False", "(0, 4)"), "shape = (0, 4): expected at least one row and one component".into()),
        (array("'<f4'", "False", "(3, 0)"), "shape = (3, 0): expected at least one row and one component".into()),
        (array("'<f4'", "False", "(-3, 4)"), found("shape = (-3, 4)")),
        (
            array("'<f4'", "False", "(4611686018427387904, 4)"),
            "bytes of data = 48: the header promises (4611686018427387904, 4) f32 values; *".into(),
        ),
        (array("'<f4'", "False", "(99999999999999999999999, 4)"), found("shape = (99999999999999999999999, 4)")),
        (with_header("{'fortran_order': False, 'shape': (3, 4), }\n"), unreadable.clone()),
        (with_header("{'descr': '<f4', 'fortran_order': False, }\n"), unreadable.clone()),
        (with_header("[1, 2]\n"), unreadable.clone()),
        (with_header(&"(".repeat(3000)), unreadable.clone()),
        (Vec::new(), unreadable.clone()),
        (b"1,2,3\n".to_vec(), unreadable.clone()),
        (b"PK\x03\x04".repeat(30), "cannot be read as .npz: the archive is damaged, or larger than 4 GB".into()),
        (vec![0xff; 300], unreadable),
    ];
    all(cases.iter().map(|(content, message)| refused("prompts.npy", content, message)));
}

#[test]
fn values_and_sizes() {
    let not_finite = "row 2: component 1 is not finite; expected finite components, not all zero";
    let mut longer = embeddings(3, 4);
    longer.push(0);
    let mut zeros = embeddings(3, 4);
    let data = zeros.len() - DATA;
    zeros[data + 16..data + 32].fill(0);
    all(["prompts.npy", "images.npy", "warm.npy"].into_iter().flat_map(|name| {
        [
            refused(name, with_value(5, f32::NAN), not_finite),
            refused(name, with_value(5, f32::INFINITY), not_finite),
            refused(name, with_value(5, f32::NEG_INFINITY), not_finite),
            refused(name, &zeros, "row 2: all components are zero; expected finite components, not all zero"),
            refused(name, &longer, "bytes of data = 49: the header promises (3, 4) f32 values; *"),
        ]
    }));
    let rows = |found: usize| format!("rows = {found}: expected 3, one for each request of requests.csv");
    all([
        refused("prompts.npy", embeddings(2, 4), &rows(2)),
        refused("prompts.npy", embeddings(4, 4), &rows(4)),
        refused("images.npy", embeddings(2, 4), &rows(2)),
        refused("images.npy", embeddings(3, 5), "dimension = 5: expected 4, as in prompts.npy"),
        refused("warm.npy", embeddings(2, 5), "dimension = 5: expected 4, as in prompts.npy"),
        spoiled("prompts.npy", embeddings(3, 5))
            .refusal(&simulate("scenario.toml", &[]), "images.npy: dimension = 4: expected 5, as in prompts.npy"),
        spoiled("warm.npy", embeddings(7, 4)).success(&simulate("scenario.toml", &[])),
        spoiled("images.npy", with_value(5, 1e38)).success(&simulate("scenario.toml", &[])),
        spoiled("images.npy", with_value(5, 1e-45)).success(&simulate("scenario.toml", &[])),
    ]);
}

#[test]
fn cut_anywhere() {
    let good = embeddings(3, 4);
    all((0..good.len()).step_by(5).map(|end| refused("images.npy", &good[..end], "*")));
}
