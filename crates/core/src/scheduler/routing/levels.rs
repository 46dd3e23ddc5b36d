//! Levels of approximation under load. Each level has bounds that find more hits or skip more steps, and a quality as a
//! share of the large model's. A level is entered when many requests wait and left when fewer wait. The quality that a
//! level costs is paid out of the quality that better images have saved, so that the mean over all images never falls
//! below the floor.

use alloc::vec::Vec;

use super::{Bounds, Load};

/// Level of approximation.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// Number of waiting requests for each worker from which the level is entered. The level is left at less than half
    /// of that number.
    pub from: f64,
    /// Quality of the hits of this level as a share of the large model's quality, according to the calibration of the
    /// bounds.
    pub quality: f64,
    /// Decision table of the level.
    pub bounds: Bounds,
}

/// Levels of a run, the usual level first, with the current level and the saved quality.
#[derive(Clone, Debug)]
pub struct Levels {
    all: Vec<Level>,
    /// Lowest mean quality of all images.
    floor: f64,
    /// Upper bound of `saved`.
    most: f64,
    /// Quality saved above the floor, in units of quality times images.
    saved: f64,
    current: usize,
}

impl Levels {
    /// Makes the levels of a run. The first level is the usual one, with a quality of at least `floor`. At most the
    /// quality that `memory` images of the large model save is kept.
    #[must_use]
    pub fn new(levels: Vec<Level>, floor: f64, memory: u32) -> Self {
        assert!(!levels.is_empty() && levels[0].quality >= floor, "the scenario was checked");
        Self { all: levels, floor, most: f64::from(memory) * (1.0 - floor), saved: 0.0, current: 0 }
    }

    /// Makes a single level, so that the bounds never change.
    #[must_use]
    pub fn always(bounds: Bounds) -> Self {
        Self::new(vec![Level { from: 0.0, quality: 1.0, bounds }], 0.0, 0)
    }

    /// Returns the level for the next hit: the highest level, up to the current one, that the saved quality can pay
    /// for, or else level 0.
    pub fn level(&self) -> u8 {
        let payable = |level: &usize| *level == 0 || self.saved + self.all[*level].quality - self.floor >= 0.0;
        (0..=self.current).rev().find(payable).unwrap_or(0) as u8
    }

    /// Returns the bounds of a level.
    #[must_use]
    pub fn bounds(&self, level: u8) -> &Bounds {
        &self.all[usize::from(level)].bounds
    }

    /// Notes a routed request: a hit at this level, or with `None` an image by the large model. The new current level
    /// holds from the next request on.
    pub fn routed(&mut self, hit: Option<u8>, load: &Load) {
        let quality = hit.map_or(1.0, |level| self.all[usize::from(level)].quality);
        self.saved = (self.saved + quality - self.floor).clamp(0.0, self.most);
        let waiting = (load.waiting_misses + load.waiting_hits) as f64 / load.workers.max(1) as f64;
        // A level is entered at its limit and left only below half of it, so that a load near a limit does not switch
        // to and fro.
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
        // Ten images of full quality save 0.6. Each hit at level 2 costs 0.09.
        assert_eq!(low, 6);
    }
}
