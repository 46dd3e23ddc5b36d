//! Searched ahead: for a trace, once, how similar the most similar image of each stretch of its history can be to each
//! prompt, so that any number of runs with any capacity and eviction look up among the few that matter.
//!
//! A *history* is what can ever be in the cache: what was cached before time zero, then what each request makes, in
//! order of rows. It is cut into blocks of equal length; request i has a bound for each whole block before its own
//! place. A run knows which of the history is cached: blocks are looked into from the highest bound down until no
//! bound can beat what was found. Not an approximation: what comes out is what a direct search finds, bit by bit.

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

/// Blocks of a history are as many as this, or a little more: about two bytes a block and request.
const BLOCKS: usize = 1024;

/// The least length of a block: that of one which is scanned in about the time it takes to find it.
const SHORTEST: usize = 16;

/// Bounds are stored as multiples of 1 / `STEPS`, rounded up; 0 stands for a similarity of 0, where they are clamped.
const STEPS: f64 = 65_000.0;

/// What can be in the cache of any run over a trace, in order.
#[derive(Clone, Debug)]
pub struct History {
    /// Cached before time zero, oldest first.
    pub warm: Option<EmbeddingMatrix>,
    /// By request, what it makes is found by.
    pub rows: EmbeddingMatrix,
}

impl History {
    /// Images of before time zero.
    fn warm_len(&self) -> usize {
        self.warm.as_ref().map_or(0, EmbeddingMatrix::rows)
    }

    /// All of it.
    fn len(&self) -> usize {
        self.warm_len() + self.rows.rows()
    }

    /// Components of an embedding.
    const fn dimension(&self) -> usize {
        self.rows.dimension()
    }

    /// The place of an image.
    fn place(&self, image: ImageId) -> Option<usize> {
        let warm = self.warm_len();
        let place = match image.request() {
            Some(request) => warm + request.row(),
            None => image.warm_row()? as usize,
        };
        (place < self.len()).then_some(place)
    }

    /// The image at a place.
    fn image(&self, place: usize) -> ImageId {
        match place.checked_sub(self.warm_len()) {
            Some(row) => ImageId::of_request(crate::request::RequestId(row as u32)),
            None => ImageId::warm(place as u32),
        }
    }

    /// The unit vector at a place, into `vector`.
    fn read(&self, place: usize, vector: &mut Vec<f32>) {
        match (place.checked_sub(self.warm_len()), &self.warm) {
            (None, Some(warm)) => warm.read_unit(place, vector),
            (row, _) => self.rows.read_unit(row.unwrap_or(place), vector),
        }
    }
}

/// What was found out about a trace.
#[derive(Debug)]
pub struct Ahead {
    history: History,
    /// Length of a block.
    block: usize,
    /// By request: where its bounds begin. One more at the end.
    begins: Vec<usize>,
    bounds: Bounds,
    /// The history's unit vectors, by place.
    vectors: Vectors,
}

/// In memory, or in a file, little-endian.
#[derive(Debug)]
enum Bounds {
    Held(Vec<u16>),
    Mapped { map: memmap2::Mmap, offset: usize },
}

impl Bounds {
    /// Some of them, one after the other.
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
    /// One of them.
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

/// The bound that stands for similarities up to this one.
fn bound_of(most: f64) -> u16 {
    if most > 0.0 { (most * STEPS).ceil().min(f64::from(u16::MAX)) as u16 } else { 0 }
}

/// What a similarity under a bound is at most.
fn most_under(bound: u16) -> f64 {
    if bound == u16::MAX { f64::INFINITY } else { f64::from(bound) / STEPS }
}

/// Length of the blocks of a history: a power of two.
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

    /// Requests that were searched for.
    pub fn requests(&self) -> usize {
        self.begins.len() - 1
    }

    /// A request's bounds, block by block of the history.
    fn bounds_of(&self, row: usize) -> Vec<u16> {
        self.bounds.slice(self.begins[row], self.begins[row + 1])
    }

    /// An index of the images that a run has cached, none yet.
    #[must_use]
    pub fn index(self: &Arc<Self>) -> AheadIndex {
        AheadIndex::new(self.clone())
    }
}

/// Length of a block, and where each request's bounds begin: as many as there are whole blocks before its place.
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
