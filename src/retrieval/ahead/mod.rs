//! Search ahead: once for a trace, an upper bound of the similarity between each prompt and the images of each block of
//! the history. Any number of runs, with any capacity and eviction, then look only into the few blocks that matter.
//!
//! A *history* is all that can ever be in the cache: images from before time zero, then the image of each request, in
//! order of rows. It is cut into blocks of equal length. Request i has a bound for each whole block before its own
//! place. A run knows which images of the history are cached: it looks into blocks from the highest bound down, until
//! no bound can beat the result so far. Not an approximation: the result is that of a direct search, bit by bit.

use std::sync::Arc;

use super::pages;
use crate::cache::index::Vectors;
use crate::embedding::EmbeddingMatrix;
use crate::image::ImageId;

mod file;
mod index;
mod search;
mod uses;

pub use file::SearchFile;
pub use index::AheadIndex;
pub use uses::Uses;

/// Largest number of blocks of a history. A request then has at most about two bytes for each of them.
const BLOCKS: usize = 1024;

/// Least length of a block, which is scanned in about the time that it takes to find the block.
const SHORTEST: usize = 16;

/// Number of steps from 0 to a similarity of 1. Bounds are stored as multiples of 1 / `STEPS`, rounded up. A bound of 0
/// stands for a similarity of 0, at which similarities are clamped.
const STEPS: f64 = 65_000.0;

/// Images that can be in the cache of any run over a trace, in order.
#[derive(Clone, Debug)]
pub struct History {
    /// Embeddings of what was cached before time zero, oldest first.
    pub warm: Option<EmbeddingMatrix>,
    /// Embeddings by which the images of the requests are found, by request.
    pub rows: EmbeddingMatrix,
}

impl History {
    /// Returns the number of images from before time zero.
    fn warm_len(&self) -> usize {
        self.warm.as_ref().map_or(0, EmbeddingMatrix::rows)
    }

    /// Returns the number of images.
    fn len(&self) -> usize {
        self.warm_len() + self.rows.rows()
    }

    /// Returns the number of components of an embedding.
    const fn dimension(&self) -> usize {
        self.rows.dimension()
    }

    /// Returns the place of an image.
    fn place(&self, image: ImageId) -> Option<usize> {
        let warm = self.warm_len();
        let place = match image.request() {
            Some(request) => warm + request.row(),
            None => image.warm_row()? as usize,
        };
        (place < self.len()).then_some(place)
    }

    /// Returns the image at a place.
    fn image(&self, place: usize) -> ImageId {
        match place.checked_sub(self.warm_len()) {
            Some(row) => ImageId::of_request(crate::request::RequestId(row as u32)),
            None => ImageId::warm(place as u32),
        }
    }

    /// Reads the unit vector at a place into `vector`.
    fn read(&self, place: usize, vector: &mut Vec<f32>) {
        match (place.checked_sub(self.warm_len()), &self.warm) {
            (None, Some(warm)) => warm.read_unit(place, vector),
            (row, _) => self.rows.read_unit(row.unwrap_or(place), vector),
        }
    }
}

/// Result of the search ahead for a trace.
#[derive(Debug)]
pub struct Ahead {
    history: History,
    /// Length of a block.
    block: usize,
    /// Index of the first bound of each request, and at the end the number of bounds.
    begins: Vec<usize>,
    bounds: Bounds,
    /// Unit vectors of the history, by place.
    vectors: Vectors,
}

/// Bounds in memory, or in a file, little-endian.
#[derive(Debug)]
enum Bounds {
    Held(Vec<u16>),
    Mapped { map: memmap2::Mmap, offset: usize },
}

impl Bounds {
    /// Returns the bounds from one index up to another.
    fn slice(&self, from: usize, to: usize) -> Vec<u16> {
        match self {
            Self::Held(bounds) => bounds[from..to].to_vec(),
            Self::Mapped { map, offset } => {
                let (bytes, _) = map[offset + 2 * from..offset + 2 * to].as_chunks::<2>();
                bytes.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect()
            }
        }
    }
}

impl Bounds {
    /// Returns the bound at an index.
    fn at(&self, index: usize) -> u16 {
        match self {
            Self::Held(bounds) => bounds[index],
            Self::Mapped { map, offset } => {
                let at = offset + 2 * index;
                u16::from_le_bytes([map[at], map[at + 1]])
            }
        }
    }
}

/// Returns the bound that stands for similarities of at most `most`.
fn bound_of(most: f64) -> u16 {
    if most > 0.0 { (most * STEPS).ceil().min(f64::from(u16::MAX)) as u16 } else { 0 }
}

/// Returns the upper bound of a similarity that a stored bound stands for.
fn most_under(bound: u16) -> f64 {
    // `bound_of` cuts similarities that do not fit into 16 bits (above 1.008) to the largest number, which therefore
    // bounds nothing.
    if bound == u16::MAX { f64::INFINITY } else { f64::from(bound) / STEPS }
}

/// Returns the length of the blocks of a history: a power of two.
fn block_of(history: usize) -> usize {
    history.div_ceil(BLOCKS).next_power_of_two().max(SHORTEST)
}

impl Ahead {
    fn new(history: History, bounds: Bounds) -> Self {
        let (block, begins) = layout(&history);
        let mut vectors = Vectors::new(history.dimension(), pages::allocate);
        let mut vector = Vec::with_capacity(history.dimension());
        for place in 0..history.len() {
            history.read(place, &mut vector);
            vectors.push(&vector);
        }
        Self { history, block, begins, bounds, vectors }
    }

    /// Returns the number of requests that were searched for.
    pub fn requests(&self) -> usize {
        self.begins.len() - 1
    }

    /// Returns the bounds of a request, block by block of the history.
    fn bounds_of(&self, row: usize) -> Vec<u16> {
        self.bounds.slice(self.begins[row], self.begins[row + 1])
    }

    /// Returns an empty index for the images that a run caches.
    #[must_use]
    pub fn index(self: &Arc<Self>) -> AheadIndex {
        AheadIndex::new(self.clone())
    }
}

/// Returns the length of a block, and the index of the first bound of each request. A request has as many bounds as
/// there are whole blocks before its place.
fn layout(history: &History) -> (usize, Vec<usize>) {
    let (block, warm) = (block_of(history.len()), history.warm_len());
    let mut begins = Vec::with_capacity(history.rows.rows() + 1);
    let mut begin = 0;
    for row in 0..history.rows.rows() {
        begins.push(begin);
        begin += (warm + row) / block;
    }
    begins.push(begin);
    (block, begins)
}

#[cfg(test)]
mod tests;
