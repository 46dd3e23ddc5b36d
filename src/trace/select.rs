//! Parts and rearrangements of a trace: selected rows in a new order, with new arrival times.

use rand::seq::SliceRandom;

use super::{Columns, Embeddings, TextColumn, Trace};
use crate::draw::{Purpose, stream};
use crate::time::{Duration, Time};

/// Length in seconds of the blocks that are rearranged as a whole, so that locality within a block stays.
const BLOCK_S: u64 = 600;
/// Least number of blocks. A short trace has shorter blocks.
const LEAST_BLOCKS: u64 = 10;

impl Trace {
    /// Returns these rows of the trace in this order, with these arrival times. Deadlines keep their distance from the
    /// arrival. Labels go with their rows. Warm images stay.
    ///
    /// # Panics
    /// Panics if arrivals fall, if there is no such row, or if the lengths differ.
    #[must_use]
    pub fn select(&self, rows: &[u32], arrivals: Vec<Time>) -> Self {
        assert_eq!(rows.len(), arrivals.len(), "a time for every row");
        let text = |column: &TextColumn| rows.iter().map(|&row| column.get(row as usize)).collect::<TextColumn>();
        let own = &self.columns;
        let deadline = |deadlines: &Vec<Time>, row: u32, arrival: Time| match deadlines[row as usize] {
            Time::MAX => Time::MAX,
            deadline => arrival + deadline.since(own.arrivals[row as usize]),
        };
        let deadlines = own.deadlines.as_ref().map(|deadlines| {
            rows.iter().zip(&arrivals).map(|(&row, &arrival)| deadline(deadlines, row, arrival)).collect()
        });
        let columns = Columns {
            request_ids: own.request_ids.as_ref().map(text),
            prompts: own.prompts.as_ref().map(text),
            tenants: own.tenants.as_ref().map(|column| column.select(rows)),
            deadlines,
            asks: own.asks.as_ref().map(|asks| rows.iter().map(|&row| asks[row as usize]).collect()),
            places: own.places.as_ref().map(|places| rows.iter().map(|&row| places[row as usize]).collect()),
            extra: own.extra.iter().map(|(name, column)| (name.clone(), text(column))).collect(),
            ignored: own.ignored.clone(),
            arrivals,
        };
        Self::new(columns).with_embeddings(Embeddings {
            prompts: self.embeddings.prompts.as_ref().map(|matrix| matrix.select(rows)),
            texts: self.embeddings.texts.as_ref().map(|matrix| matrix.select(rows)),
            images: self.embeddings.images.as_ref().map(|matrix| matrix.select(rows)),
            warm: self.embeddings.warm.clone(),
        })
    }

    /// Returns the trace without its first `count` rows. Time zero becomes the arrival of the last of these rows.
    #[must_use]
    pub fn after(&self, count: usize) -> Self {
        let zero = count.checked_sub(1).map_or(Time::ZERO, |last| self.columns.arrivals[last]);
        let rows: Vec<u32> = (count as u32..self.len() as u32).collect();
        let arrivals = self.columns.arrivals[count..].iter().map(|arrival| Time::ZERO + arrival.since(zero)).collect();
        self.select(&rows, arrivals)
    }

    /// Returns the same requests with all arrival times multiplied by `factor`. Deadlines keep their distance from the
    /// arrival.
    #[must_use]
    pub fn stretched(&self, factor: f64) -> Self {
        let rows: Vec<u32> = (0..self.len() as u32).collect();
        // Conversion, product and rounding never fall where their operand rises, so the arrivals stay in order.
        let stretch = |arrival: &Time| Time::from_nanoseconds((arrival.nanoseconds() as f64 * factor).round() as u64);
        self.select(&rows, self.columns.arrivals.iter().map(stretch).collect())
    }

    /// Returns another trace like this one: its blocks of ten minutes (at least ten blocks) in a seeded order. Each
    /// block appears once, because a block that is drawn twice would hit its own images.
    #[must_use]
    pub fn resampled(&self, seed: u64) -> Self {
        let own = &self.columns.arrivals;
        // One nanosecond more, so that the last arrival lies inside a block and not at its end.
        let span = own.last().map_or(0, |last| last.nanoseconds()) + 1;
        let length = (BLOCK_S * 1_000_000_000).min(span.div_ceil(LEAST_BLOCKS));
        let mut order: Vec<u64> = (0..span.div_ceil(length)).collect();
        order.shuffle(&mut stream(seed, Purpose::Resample, 0));
        let (mut rows, mut arrivals) = (Vec::with_capacity(own.len()), Vec::with_capacity(own.len()));
        let mut start = 0;
        for block in order {
            let begin = Time::from_nanoseconds(block * length);
            let end = begin + Duration::from_nanoseconds(length);
            let (first, last) = (own.partition_point(|&t| t < begin), own.partition_point(|&t| t < end));
            for (row, arrival) in own.iter().enumerate().take(last).skip(first) {
                rows.push(row as u32);
                arrivals.push(Time::from_nanoseconds(start + arrival.since(begin).nanoseconds()));
            }
            // The last block of the trace may be shorter, and keeps its length at its new place.
            start += length.min(span - block * length);
        }
        self.select(&rows, arrivals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(seconds: &[u64]) -> Trace {
        let prompts: TextColumn = seconds.iter().map(|second| format!("at {second}")).collect();
        let arrivals: Vec<Time> = seconds.iter().map(|s| Time::from_nanoseconds(s * 1_000_000_000)).collect();
        let deadlines = Some(arrivals.iter().map(|arrival| *arrival + Duration::from_nanoseconds(7)).collect());
        Trace::new(Columns { arrivals, prompts: Some(prompts), deadlines, ..Columns::default() })
    }

    #[test]
    fn resampling_keeps_every_row_once_and_the_span() {
        let seconds: Vec<u64> = (0..500).map(|i| i * i % 997 + 100 * i).collect();
        let mut sorted = seconds;
        sorted.sort_unstable();
        let trace = trace(&sorted);
        let other = trace.resampled(3);
        assert_eq!(other.len(), trace.len());
        assert_ne!(other.prompt(0), trace.prompt(0));
        let mut prompts: Vec<_> = (0..500).filter_map(|row| other.prompt(row).map(str::to_owned)).collect();
        let mut all: Vec<_> = (0..500).filter_map(|row| trace.prompt(row).map(str::to_owned)).collect();
        prompts.sort();
        all.sort();
        assert_eq!(prompts, all);
        assert!(other.arrivals().last() <= trace.arrivals().last());
        let request = other.request(17);
        assert_eq!(request.deadline.map(|deadline| deadline.since(request.arrival).nanoseconds()), Some(7));
        assert_eq!(trace.resampled(3).arrivals(), other.arrivals());
    }

    #[test]
    fn stretching_keeps_order_and_deadlines() {
        let twice = trace(&[5, 10, 30]).stretched(2.0);
        let at = |row: usize| twice.arrivals()[row].nanoseconds() / 1_000_000_000;
        assert_eq!([at(0), at(1), at(2)], [10, 20, 60]);
        let request = twice.request(2);
        assert_eq!(request.deadline.map(|deadline| deadline.since(request.arrival).nanoseconds()), Some(7));
    }

    #[test]
    fn what_comes_after_starts_at_zero() {
        let rest = trace(&[5, 10, 30]).after(2);
        assert_eq!((rest.len(), rest.prompt(0)), (1, Some("at 30")));
        assert_eq!(rest.arrivals()[0], Time::from_nanoseconds(20_000_000_000));
    }
}
