//! Settings of the network between the scheduler and the nodes of a simulated cluster, and the times of transfers over
//! it. The rules are in docs/semantics.md, section 8, "Network".

use alloc::vec::Vec;

use crate::model::Size;
use crate::time::Duration;

/// Settings of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Node of each worker, from 0.
    pub nodes: Vec<u16>,
    /// Time of a message between the scheduler and a node, one way.
    pub latency: Duration,
    /// Bits a second over the scheduler's link, in each direction; above 0.
    pub bandwidth: u64,
    /// Bits a second over the link of a node, in each direction; above 0.
    pub node_bandwidth: u64,
    /// Bytes of a picture of the usual size.
    pub picture_bytes: u64,
    /// Pixels of a picture of the usual size; above 0.
    pub usual_pixels: u64,
    /// Number of pictures that a node keeps.
    pub sources: usize,
}

impl Network {
    /// Returns the bytes of a picture, in proportion to its pixels.
    #[must_use]
    pub fn bytes(&self, size: Size) -> u64 {
        if size.is_usual() {
            return self.picture_bytes;
        }
        rounded(u128::from(self.picture_bytes) * u128::from(size.pixels()), self.usual_pixels)
    }

    /// Returns the time for which a transfer occupies one direction of the scheduler's link.
    #[must_use]
    pub fn occupied(&self, bytes: u64) -> Duration {
        transfer_time(bytes, self.bandwidth)
    }

    /// Returns the time of a picture of the usual size over the scheduler's link and a node's, without other traffic
    /// and without latency.
    #[must_use]
    pub fn picture_alone(&self) -> Duration {
        transfer_time(self.picture_bytes, self.bandwidth.min(self.node_bandwidth))
    }

    /// Returns the time of a message and its answer.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.latency + self.latency
    }
}

/// Returns a quotient, rounded to the nearest number.
fn rounded(number: u128, by: u64) -> u64 {
    let by = u128::from(by.max(1));
    u64::try_from((number + by / 2) / by).unwrap_or(u64::MAX)
}

/// Returns the time for which bytes occupy a link.
pub(crate) fn transfer_time(bytes: u64, bits_per_s: u64) -> Duration {
    const NANOSECONDS_PER_SECOND: u128 = 1_000_000_000;
    Duration::from_nanoseconds(rounded(u128::from(bytes) * 8 * NANOSECONDS_PER_SECOND, bits_per_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIGABIT: u64 = 1_000_000_000;

    #[test]
    fn times_and_bytes_are_rounded_to_the_nearest_and_never_overflow() {
        for (bytes, bits_per_s, expected) in [
            (1, 8 * GIGABIT, 1),
            (1, 16 * GIGABIT, 1), // half a nanosecond goes up
            (1, 17 * GIGABIT, 0),
            (0, 1, 0),
            (u64::MAX, 1, u64::MAX),
        ] {
            assert_eq!(transfer_time(bytes, bits_per_s).nanoseconds(), expected, "{bytes} bytes at {bits_per_s}");
        }
        let network = Network {
            nodes: vec![0],
            latency: Duration::ZERO,
            bandwidth: 2 * GIGABIT,
            node_bandwidth: GIGABIT,
            picture_bytes: 1000,
            usual_pixels: 512 * 512,
            sources: 0,
        };
        assert_eq!(network.bytes(Size::USUAL), 1000);
        assert_eq!(network.bytes(Size { width: 1024, height: 512 }), 2000);
        assert_eq!(network.bytes(Size { width: 256, height: 129 }), 126);
        assert_eq!(network.picture_alone().nanoseconds(), 8000, "the slower link counts");
        assert_eq!(network.occupied(1000).nanoseconds(), 4000);
    }
}
