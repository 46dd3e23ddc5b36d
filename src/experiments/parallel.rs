//! Spreads runs over threads. Each run has a single thread, so results do not depend on the number of threads.

use std::num::NonZeroUsize;

use rayon::iter::{ParallelBridge, ParallelIterator};

use super::ExperimentError;

/// Returns the number of runs at a time: the wanted number, or one for each core.
#[must_use]
pub fn threads(wanted: Option<NonZeroUsize>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    wanted.map_or_else(cores, NonZeroUsize::get)
}

/// Runs each item on one of `threads` threads, and returns the results in the order of the items. Items begin in that
/// order too, so that data that several of them share can be dropped after the last of them has ended.
///
/// # Errors
/// Returns an error if threads cannot be started.
pub fn spread<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    run: impl Fn(&T) -> R + Sync,
) -> Result<Vec<R>, ExperimentError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.min(items.len()).max(1)).build()?;
    // A parallel iterator over the slice would cut it into halves, which begin at once. The bridge takes the items in
    // order.
    let mut done: Vec<(usize, R)> =
        pool.install(|| items.iter().enumerate().par_bridge().map(|(index, item)| (index, run(item))).collect());
    done.sort_unstable_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
