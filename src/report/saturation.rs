//! Detection of a queue that was still growing at the last arrival. If a run has one, its latencies depend on the
//! length of the trace, and its throughput is what the system can serve, not what was asked of it.

use super::Run;
use crate::metrics::timeline::TimelineRow;

/// Minimum number of waiting requests that counts as a queue.
const SMALLEST_QUEUE: u64 = 10;
/// Minimum share of the requests so far that must wait at the last arrival.
const SMALLEST_SHARE: f64 = 0.05;

fn queue(row: &TimelineRow) -> u64 {
    row.queued_misses + row.queued_hits
}

fn mean_queue(rows: &[TimelineRow]) -> f64 {
    rows.iter().map(queue).sum::<u64>() as f64 / rows.len().max(1) as f64
}

/// Returns whether the queue was still growing at the last arrival. At least 5 % of the requests so far wait, and at
/// least 10, and the mean queue in the last quarter of the time of arrivals is longer than in the quarter before.
#[must_use]
pub fn still_growing(run: &Run) -> bool {
    let rows = &run.timeline.rows;
    let Some(last) = rows.iter().rposition(|row| row.arrivals > 0) else { return false };
    let rows = &rows[..=last];
    let arrived: u64 = rows.iter().map(|row| row.arrivals).sum();
    let waiting = queue(&rows[last]);
    if waiting < SMALLEST_QUEUE || (waiting as f64) < SMALLEST_SHARE * arrived as f64 {
        return false;
    }
    let (first_s, last_s) = (rows[0].time_s, rows[last].time_s);
    let at = |share: f64| rows.partition_point(|row| row.time_s < first_s + share * (last_s - first_s));
    let (half, three_quarters) = (at(0.5), at(0.75));
    mean_queue(&rows[three_quarters..]) > mean_queue(&rows[half..three_quarters])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_growing_queue_is_told_from_one_that_holds() {
        assert!(still_growing(&sample::vanilla()));
        assert!(!still_growing(&sample::modm()));
        assert!(!still_growing(&Run::default()));
    }

    #[test]
    fn a_queue_that_shrinks_again_is_not_growing() {
        let mut run = sample::vanilla();
        for row in &mut run.timeline.rows {
            row.queued_misses = 200 - (row.time_s / 60.0) as u64 * 5;
        }
        assert!(!still_growing(&run));
    }
}
