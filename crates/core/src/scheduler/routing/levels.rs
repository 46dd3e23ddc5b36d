//! How far hits may go under load: levels, each with bounds that find more hits or skip more steps, and the quality that
//! is left of a large model's. A level is entered when requests pile up and left when they no longer do; what it costs is
//! paid out of what better images have saved, so that the mean of all images never falls below the floor.

use alloc::vec::Vec;

use super::{Bounds, Load};

/// One level.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// Requests waiting for each worker from which it is entered; it is left at less than half of that.
    pub from: f64,
    /// What hits decided by it keep of the large model's quality, by whoever calibrated the bounds.
    pub quality: f64,
    /// Its decision table.
    pub bounds: Bounds,
}

/// The levels of a run, the usual one first, and where it stands.
#[derive(Clone, Debug)]
pub struct Levels {
    all: Vec<Level>,
    floor: f64,
    /// The most that may be saved up, in units of quality times images.
    most: f64,
    saved: f64,
    current: usize,
}

impl Levels {
    /// The first of these is the usual one and keeps at least `floor`; at most what `memory` images of the large model's
    /// quality save is saved up.
    #[must_use]
    pub fn new(levels: Vec<Level>, floor: f64, memory: u32) -> Self {
        assert!(!levels.is_empty() && levels[0].quality >= floor, "the scenario was checked");
        Self { all: levels, floor, most: f64::from(memory) * (1.0 - floor), saved: 0.0, current: 0 }
    }

    /// Bounds that never change.
    #[must_use]
    pub fn always(bounds: Bounds) -> Self {
        Self::new(vec![Level { from: 0.0, quality: 1.0, bounds }], 0.0, 0)
    }

    /// The level for the next hit: the current one, or the highest below it that can be paid for.
    pub fn level(&self) -> u8 {
        let payable = |level: &usize| *level == 0 || self.saved + self.all[*level].quality - self.floor >= 0.0;
        (0..=self.current).rev().find(payable).unwrap_or(0) as u8
    }

    /// The bounds of a level.
    #[must_use]
    pub fn bounds(&self, level: u8) -> &Bounds {
        &self.all[usize::from(level)].bounds
    }

    /// A request was routed: a hit at this level, or an image by the large model.
    pub fn routed(&mut self, hit: Option<u8>, load: &Load) {
        let quality = hit.map_or(1.0, |level| self.all[usize::from(level)].quality);
        self.saved = (self.saved + quality - self.floor).clamp(0.0, self.most);
        let waiting = (load.waiting_misses + load.waiting_hits) as f64 / load.workers.max(1) as f64;
        let entered = (1..self.all.len()).rev().find(|level| waiting >= self.all[*level].from).unwrap_or(0);
        self.current = self.current.max(entered);
        while self.current > entered && waiting < self.all[self.current].from / 2.0 {
            self.current -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::draw::{Purpose, stream};
    use crate::time::Time;

    fn levels(memory: u32) -> Levels {
        let level = |from, quality| Level { from, quality, bounds: Bounds::at_or_above(&[(0.2, 5)]) };
        Levels::new(vec![level(0.0, 0.95), level(2.0, 0.92), level(6.0, 0.85)], 0.94, memory)
    }

    fn load(waiting: usize) -> Load {
        Load { now: Time::ZERO, waiting_misses: waiting, waiting_hits: 0, workers: 4 }
    }

    #[test]
    fn is_entered_under_load_and_left_when_it_passes() {
        let mut levels = levels(1000);
        let mut at = |waiting: usize| {
            levels.routed(None, &load(waiting));
            levels.level()
        };
        assert_eq!([0, 7, 8, 23, 24, 12, 11, 8, 4, 3].map(&mut at), [0, 0, 1, 1, 2, 2, 1, 1, 1, 0]);
    }

    #[test]
    fn the_mean_never_falls_below_the_floor() {
        for seed in 0..50 {
            let (mut draws, mut levels) = (stream(seed, Purpose::Test, 95), levels((seed as u32 + 1) * 10));
            let (mut sum, mut used) = (0.0, [0; 3]);
            for count in 1..5_000 {
                let hit = draws.random_bool(0.7).then(|| levels.level());
                sum += hit.map_or(1.0, |level| [0.95, 0.92, 0.85][usize::from(level)]);
                assert!(sum / f64::from(count) >= 0.94 - 1e-9, "seed {seed}, {count}");
                if let Some(level) = hit {
                    used[usize::from(level)] += 1;
                }
                let busy = count / 500 % 2 == 1;
                levels.routed(hit, &load(if busy { draws.random_range(8..60) } else { draws.random_range(0..3) }));
            }
            assert!(used[0] > 1000 && used[1] + used[2] > 50, "{used:?}");
        }
    }

    #[test]
    fn what_is_saved_up_has_an_end() {
        let mut levels = levels(10);
        (0..1_000).for_each(|_| levels.routed(None, &load(100)));
        let mut low = 0;
        while levels.level() == 2 {
            levels.routed(Some(2), &load(100));
            low += 1;
        }
        // Ten images of full quality save 0.6; each at the lowest level costs 0.09.
        assert_eq!(low, 6);
    }
}
