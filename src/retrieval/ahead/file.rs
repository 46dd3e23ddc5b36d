//! File with the result of a search ahead, beside the trace. `docs/search.md` has the format. The name has the hash of
//! the inputs, so that a search is found again for the same embeddings in the same order, and for no others.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::search::bounds;
use super::{Ahead, Bounds, History, layout};
use crate::embedding::EmbeddingMatrix;
use crate::input;
use crate::output::{OutputError, write_shared};

/// First bytes of a file. The number is the version of the format.
const MAGIC: &[u8; 8] = b"modm-s01";

/// Bytes before the bounds: magic, hash, requests, places before time zero, length of a block, rest zero.
const HEADER: usize = 128;

/// File for the search of one history with one set of prompts.
#[derive(Clone, Debug)]
pub struct SearchFile {
    file: PathBuf,
    header: [u8; HEADER],
}

impl SearchFile {
    /// Returns the file in the folder of a trace's requests. Reads all embeddings once, for their hash.
    #[must_use]
    pub fn beside(requests: &Path, prompts: &EmbeddingMatrix, history: &History) -> Self {
        let hash = hash(prompts, history);
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..40].copy_from_slice(&hash);
        let (block, begins) = layout(history);
        let sizes = [begins.len() - 1, history.warm_len(), block];
        for (slot, size) in header[40..64].chunks_exact_mut(8).zip(sizes) {
            slot.copy_from_slice(&(size as u64).to_le_bytes());
        }
        let name = requests.file_stem().unwrap_or_default().to_string_lossy();
        let short = input::hexadecimal(&hash[..8]);
        Self { file: requests.with_file_name(format!("{name}.{short}.search")), header }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Returns the bounds of an earlier search; `None` if the file is not there or not whole.
    fn bounds(&self, count: usize) -> Option<Bounds> {
        let map = input::map(&self.file).ok()?;
        // The header has the hash of the inputs and the layout, so equal bytes mean the same search. The name has only
        // a part of the hash.
        let whole = map.len() == HEADER + 2 * count && map[..HEADER] == self.header;
        whole.then_some(Bounds::Mapped { map, offset: HEADER })
    }

    /// Returns the result of an earlier search, or searches now. Also returns whether the result could be stored.
    pub fn search(
        &self,
        prompts: &EmbeddingMatrix,
        history: History,
        threads: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> (Ahead, Result<(), OutputError>) {
        let count = layout(&history).1.last().copied().unwrap_or(0);
        if let Some(bounds) = self.bounds(count) {
            return (Ahead::new(history, bounds), Ok(()));
        }
        let found = bounds(prompts, &history, threads, progress);
        // Shards of a sweep search the same trace at the same time, each on its own machine.
        let stored = write_shared(&self.file, |to| {
            to.write_all(&self.header)?;
            found.iter().try_for_each(|bound| to.write_all(&bound.to_le_bytes()))
        });
        // The bounds are mapped, so that the system may drop them from memory when it needs room.
        let bounds = if stored.is_ok() { self.bounds(count) } else { None };
        (Ahead::new(history, bounds.unwrap_or(Bounds::Held(found))), stored)
    }
}

/// Returns the SHA-256 of all that the search depends on: the embeddings as they are stored, in order.
fn hash(prompts: &EmbeddingMatrix, history: &History) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut bytes = Vec::new();
    for matrix in [Some(prompts), history.warm.as_ref(), Some(&history.rows)] {
        let rows = matrix.map_or(0, EmbeddingMatrix::rows);
        // Numbers of rows come first, so that a row that moves from one matrix to the next changes the hash.
        hash.update((rows as u64).to_le_bytes());
        let Some(matrix) = matrix else { continue };
        hash.update((matrix.dimension() as u64).to_le_bytes());
        for at in 0..rows {
            bytes.clear();
            bytes.extend(matrix.row(at).iter().flat_map(|value| value.to_le_bytes()));
            hash.update(&bytes);
        }
    }
    hash.finalize().into()
}
