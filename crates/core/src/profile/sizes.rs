//! Growth of service times with the pixels of an image. Between the sizes that a row knows, times are linear in the
//! pixels. Beyond them, times are assumed to be in proportion to the pixels.

use alloc::vec::Vec;

use super::{Profile, Service};

impl Service {
    /// Returns the time of a step on images of so many pixels as a multiple of `step_s`.
    pub fn growth(&self, pixels: u64) -> f64 {
        let share = |pixels: u64, of: u64| pixels as f64 / of as f64;
        let (mut below, mut above) = (None::<(u64, f64)>, None::<(u64, f64)>);
        for &point in self.sizes.iter().chain([&(self.pixels, 1.0)]) {
            if point.0 <= pixels && below.is_none_or(|other| other.0 <= point.0) {
                below = Some(point);
            }
            if point.0 >= pixels && above.is_none_or(|other| other.0 > point.0) {
                above = Some(point);
            }
        }
        match (below, above) {
            (Some((from, low)), Some((to, high))) if from < to => low + (high - low) * share(pixels - from, to - from),
            (Some((at, factor)), _) | (None, Some((at, factor))) => factor * share(pixels, at),
            // There is always the row itself.
            (None, None) => 1.0,
        }
    }

    /// Returns the least and the greatest number of pixels for which the row has a time.
    pub(super) fn known_pixels(&self) -> (u64, u64) {
        let all = || self.sizes.iter().map(|(at, _)| *at).chain([self.pixels]);
        (all().min().unwrap_or(self.pixels), all().max().unwrap_or(self.pixels))
    }

    /// Returns the row with its times for images of so many pixels.
    #[must_use]
    pub fn at_pixels(&self, pixels: u64) -> Self {
        if pixels == self.pixels {
            return self.clone();
        }
        let growth = self.growth(pixels);
        let (step_s, decode_s, source_s) = (self.step_s * growth, self.decode_s * growth, self.source_s * growth);
        let own = [(self.pixels, 1.0)];
        let mut sizes: Vec<(u64, f64)> =
            self.sizes.iter().chain(&own).map(|(at, factor)| (*at, factor / growth)).collect();
        sizes.sort_by_key(|(at, _)| *at);
        sizes.dedup_by_key(|(at, _)| *at);
        Self { step_s, decode_s, source_s, pixels, sizes, ..self.clone() }
    }
}

impl Profile {
    /// Returns the profile with times for a usual size of so many pixels.
    #[must_use]
    pub fn at_pixels(self, pixels: u64) -> Self {
        let service = self.service.iter().map(|row| row.at_pixels(pixels)).collect();
        Self { service, ..self }
    }

    /// Returns whether the time of any row on images of so many pixels is assumed.
    #[must_use]
    pub fn is_assumed(&self, pixels: u64) -> bool {
        self.known_pixels.iter().any(|(least, most)| pixels < *least || pixels > *most)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-12, "{value} for {expected}");
    }

    #[test]
    fn times_grow_with_pixels() {
        let row = Service { step_s: 2.0, pixels: 1000, ..Service::new("gpu", "model") };
        near(row.growth(500), 0.5);
        near(row.growth(4000), 4.0);
        assert_eq!(row.known_pixels(), (1000, 1000));
        let row = Service { sizes: vec![(200, 0.3), (2000, 2.4)], ..row };
        for (pixels, expected) in
            [(100, 0.15), (200, 0.3), (600, 0.65), (1000, 1.0), (1500, 1.7), (2000, 2.4), (4000, 4.8)]
        {
            near(row.growth(pixels), expected);
        }
        assert_eq!(row.known_pixels(), (200, 2000));
    }

    #[test]
    fn a_row_for_another_size_has_the_same_times() {
        let row =
            Service { step_s: 2.0, decode_s: 1.0, pixels: 1000, sizes: vec![(200, 0.3)], ..Service::new("g", "m") };
        let other = row.at_pixels(600);
        near(other.step_s, 1.3);
        near(other.decode_s, 0.65);
        for pixels in [100, 200, 400, 600, 800, 1000, 3000] {
            near(other.step_s * other.growth(pixels), row.step_s * row.growth(pixels));
        }
    }
}
