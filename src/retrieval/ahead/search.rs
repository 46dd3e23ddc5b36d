//! Computes the bounds: products of matrices in f32, tile by tile, over all requests and the history before each. The
//! highest product of each block is kept. The search is bound by arithmetic: requests x history / 2 x dimension
//! multiplications.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Ahead, Bounds, History, bound_of, layout};
use crate::cache::index::margin;
use crate::embedding::EmbeddingMatrix;

/// Largest number of requests in a tile. Short traces have smaller tiles, so that every thread has some.
const REQUESTS: usize = 512;
/// Number of places of the history in a tile, before it is rounded up to whole blocks. The places are read again for
/// each tile of requests.
const PLACES: usize = 1024;
/// Number of tiles of requests into which a short trace is cut.
const LEAST_TILES: usize = 32;

impl Ahead {
    /// Searches the history before each of `prompts` on this number of threads. `progress` receives the number of
    /// requests of each tile that is done. Row i of the prompts and row i of the history are those of request i.
    ///
    /// # Panics
    /// If the number of prompts is not the number of rows, or if the dimensions differ.
    #[must_use]
    pub fn search(
        prompts: &EmbeddingMatrix,
        history: History,
        threads: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Self {
        let bounds = bounds(prompts, &history, threads, progress);
        Self::new(history, Bounds::Held(bounds))
    }
}

/// Work of a thread: the first request of a tile, and the place for the bounds of the tile.
type Tile<'a> = (usize, &'a mut [u16]);

/// Returns the bounds of all requests, one request after the other.
pub(super) fn bounds(
    prompts: &EmbeddingMatrix,
    history: &History,
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Vec<u16> {
    assert_eq!(prompts.rows(), history.rows.rows(), "a prompt a row");
    assert_eq!(prompts.dimension(), history.dimension(), "one dimension for all");
    let (block, begins) = layout(history);
    let mut bounds = vec![0_u16; begins.last().copied().unwrap_or(0)];
    let requests = (prompts.rows() / LEAST_TILES).clamp(1, REQUESTS);
    let mut tiles: Vec<Mutex<Option<Tile<'_>>>> = Vec::new();
    let mut rest = bounds.as_mut_slice();
    for first in (0..prompts.rows()).step_by(requests) {
        let last = (first + requests).min(prompts.rows());
        let (own, after) = rest.split_at_mut(begins[last] - begins[first]);
        tiles.push(Mutex::new(Some((first, own))));
        rest = after;
    }
    // The threads of rayon are not used: a waiting one would take up another run, which may wait for this very search.
    let next = AtomicUsize::new(tiles.len());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, tiles.len().max(1)) {
            scope.spawn(|| {
                let mut work = Work::new(block, history.dimension());
                // The last tiles have the longest history. They come first, so that no thread is left with one at the
                // end.
                // The counter only gives out numbers, so its order is relaxed. The mutex of a tile orders the accesses
                // to its memory.
                while let Ok(left) = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                {
                    let tile = tiles[left - 1].lock().unwrap_or_else(PoisonError::into_inner).take();
                    let (first, own) = tile.expect("each tile is taken once");
                    let last = (first + requests).min(prompts.rows());
                    work.tile(prompts, history, first..last, &begins, own);
                    progress((last - first) as u64);
                }
            });
        }
    });
    drop(tiles);
    bounds
}

/// Scratch memory of a thread.
struct Work {
    block: usize,
    dimension: usize,
    /// Unit vectors of the requests of a tile, row-major.
    prompts: Vec<f32>,
    /// Unit vectors of the places of a tile, row-major.
    places: Vec<f32>,
    /// Products of each request with each place, row-major.
    products: Vec<f32>,
    vector: Vec<f32>,
}

impl Work {
    fn new(block: usize, dimension: usize) -> Self {
        let [prompts, places, products, vector] = [const { Vec::new() }; 4];
        Self { block, dimension, prompts, places, products, vector }
    }

    /// Computes the bounds of the requests of a tile.
    fn tile(
        &mut self,
        prompts: &EmbeddingMatrix,
        history: &History,
        rows: std::ops::Range<usize>,
        begins: &[usize],
        bounds: &mut [u16],
    ) {
        let (block, warm, margin) = (self.block, history.warm_len(), margin(self.dimension));
        self.prompts.clear();
        for row in rows.clone() {
            prompts.read_unit(row, &mut self.vector);
            self.prompts.extend_from_slice(&self.vector);
        }
        // The tile goes as far as the history of its last request. Earlier requests of the tile know fewer blocks, and
        // the products beyond these are dropped.
        let whole = |row: usize| (warm + row) / block;
        let most = whole(rows.end - 1) * block;
        for first in (0..most).step_by(PLACES.next_multiple_of(block)) {
            let last = (first + PLACES.next_multiple_of(block)).min(most);
            self.places.clear();
            for place in first..last {
                history.read(place, &mut self.vector);
                self.places.extend_from_slice(&self.vector);
            }
            let (width, blocks) = (last - first, (last - first) / block);
            self.products.clear();
            self.products.resize(rows.len() * width, 0.0);
            products(&self.prompts, &self.places, self.dimension, &mut self.products);
            for (row, products) in rows.clone().zip(self.products.chunks_exact(width)) {
                let begin = begins[row] - begins[rows.start] + first / block;
                let known = whole(row).saturating_sub(first / block).min(blocks);
                for (bound, products) in bounds[begin..].iter_mut().zip(products.chunks_exact(block)).take(known) {
                    let highest = products.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    // The margin covers the rounding of f32 sums, so that no similarity in f64 is above its bound.
                    *bound = bound_of(f64::from(highest) + margin);
                }
            }
        }
    }
}

/// Computes `products[i][j]` = a[i] . b[j], in f32.
fn products(a: &[f32], b: &[f32], dimension: usize, products: &mut [f32]) {
    let (rows, columns) = (a.len() / dimension, b.len() / dimension);
    assert!(a.len() == rows * dimension && b.len() == columns * dimension && products.len() == rows * columns);
    let (along, down) = (1, dimension.cast_signed());
    #[expect(unsafe_code, reason = "the lengths asserted above are what it reads and writes")]
    unsafe {
        matrixmultiply::sgemm(
            rows,
            dimension,
            columns,
            1.0,
            a.as_ptr(),
            down,
            along,
            b.as_ptr(),
            along,
            down,
            0.0,
            products.as_mut_ptr(),
            columns.cast_signed(),
            1,
        );
    }
}
