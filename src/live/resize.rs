//! Cubic interpolation of pictures, bit by bit as Pillow does it. The preparations of models are defined by Pillow, and
//! resizers in libraries round differently (a quarter of the bytes differ by one). The width is resized first, then the
//! height, each rounded to bytes. Weights have 22 bits. The filter is wider if a picture gets smaller.

/// Number of bits of a weight's fraction.
// Pillow's `PRECISION_BITS`: 8 bits are for the byte, and 2 for sums of weights that are negative or above 1.
const BITS: u32 = 32 - 8 - 2;
/// Number of pixels that a cubic filter reaches to either side.
const REACH: f64 = 2.0;

/// Weights of one pixel of the result, and the first pixel of the source that they apply to.
struct Weights {
    first: usize,
    of: Vec<i64>,
}

/// Returns the cubic of Catmull and Rom at a distance of `x` pixels.
fn cubic(x: f64) -> f64 {
    // The value of Pillow. PyTorch and OpenCV use -0.75.
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < REACH {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn weights(from: usize, to: usize) -> Vec<Weights> {
    let scale = from as f64 / to as f64;
    let wider = scale.max(1.0);
    let reach = REACH * wider;
    let one = |pixel: usize| {
        let center = (pixel as f64 + 0.5) * scale;
        // The ends are rounded as in Pillow's `precompute_coeffs`.
        let first = (center - reach + 0.5).max(0.0) as usize;
        let last = ((center + reach + 0.5) as usize).min(from);
        let raw: Vec<f64> = (first..last).map(|at| cubic((at as f64 - center + 0.5) / wider)).collect();
        let sum: f64 = raw.iter().sum();
        // The weight is rounded to the nearest number, and a half away from zero, as Pillow does.
        let fixed = |weight: &f64| (weight / sum * f64::from(1_u32 << BITS)).round() as i64;
        Weights { first, of: raw.iter().map(fixed).collect() }
    };
    (0..to).map(one).collect()
}

/// Returns one byte of the result: the weighted sum of every `stride`th byte from `begin`.
fn blend(bytes: &[u8], begin: usize, stride: usize, weights: &[i64]) -> u8 {
    // The sum begins with a half, so that the shift at the end rounds to the nearest byte.
    let half = 1_i64 << (BITS - 1);
    let sum =
        weights.iter().enumerate().fold(half, |sum, (at, weight)| sum + i64::from(bytes[begin + at * stride]) * weight);
    (sum >> BITS).clamp(0, 255) as u8
}

/// Resizes a picture from width and height `from` to width and height `to`. The bytes are rows of red, green and blue.
pub(super) fn cubic_resize(bytes: &[u8], from: [usize; 2], to: [usize; 2]) -> Vec<u8> {
    let mut wide = bytes.to_vec();
    if from[0] != to[0] {
        let across = weights(from[0], to[0]);
        wide = Vec::with_capacity(3 * to[0] * from[1]);
        for row in 0..from[1] {
            for pixel in &across {
                let begin = 3 * (row * from[0] + pixel.first);
                wide.extend((0..3).map(|channel| blend(bytes, begin + channel, 3, &pixel.of)));
            }
        }
    }
    if from[1] == to[1] {
        return wide;
    }
    let line = 3 * to[0];
    let mut high = Vec::with_capacity(line * to[1]);
    for row in weights(from[1], to[1]) {
        high.extend((0..line).map(|at| blend(&wide, row.first * line + at, line, &row.of)));
    }
    high
}
