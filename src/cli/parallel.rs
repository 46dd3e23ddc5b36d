//! Spreads runs over threads. Each run is single-threaded, so that results do not depend on how many there are.

use std::num::NonZeroUsize;

use rayon::iter::{ParallelBridge, ParallelIterator};

/// How many runs go on at a time: as many as asked for, else a run a core.
pub(super) fn threads(wanted: Option<NonZeroUsize>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    wanted.map_or_else(cores, NonZeroUsize::get)
}

/// What `run` makes of each item, in the order of the items. They are begun in that order too, so that what
/// several of them share can be let go once the last of them has ended.
pub(super) fn spread<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    run: impl Fn(&T) -> R + Sync,
) -> anyhow::Result<Vec<R>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.min(items.len()).max(1)).build()?;
    let mut done: Vec<(usize, R)> =
        pool.install(|| items.iter().enumerate().par_bridge().map(|(index, item)| (index, run(item))).collect());
    done.sort_unstable_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// Parses a count as flags take it.
pub(super) fn count(text: &str) -> Result<NonZeroUsize, String> {
    let count = text.parse().ok().filter(|count: &NonZeroUsize| count.get() <= 1000);
    count.ok_or_else(|| "expected a whole number from 1 to 1000".to_owned())
}
