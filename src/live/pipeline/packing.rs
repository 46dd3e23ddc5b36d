//! Packing of FLUX's latents: each block of two by two latents, with all its channels, is one token of the denoiser.

use super::text::Rows;

/// Side of a block, in latents.
pub(super) const SIDE: usize = 2;

/// Returns the number of tokens and their width, for latents of `[channels, height, width]`.
pub(super) const fn tokens([channels, height, width]: [usize; 3]) -> [usize; 2] {
    [(height / SIDE) * (width / SIDE), channels * SIDE * SIDE]
}

/// Packs latents, `[pictures, channels, height, width]`, to `[pictures, tokens, width of a token]`.
pub(super) fn pack(latents: &[f32], shape: [usize; 3]) -> Vec<f32> {
    let each: usize = shape.iter().product();
    let places = places(shape);
    latents.chunks(each).flat_map(|picture| places.iter().map(|&place| picture[place])).collect()
}

/// Reverses [`pack`].
pub(super) fn unpack(tokens: &[f32], shape: [usize; 3]) -> Vec<f32> {
    let each: usize = shape.iter().product();
    let places = places(shape);
    let mut latents = vec![0.0; tokens.len()];
    for (picture, packed) in latents.chunks_mut(each).zip(tokens.chunks(each)) {
        for (&place, &value) in places.iter().zip(packed) {
            picture[place] = value;
        }
    }
    latents
}

/// Returns the place in the latents of each packed value: rows of blocks, the blocks of a row, channels, and the rows
/// and columns within a block.
fn places([channels, height, width]: [usize; 3]) -> Vec<usize> {
    let mut places = Vec::with_capacity(channels * height * width);
    for row in (0..height).step_by(SIDE) {
        for column in (0..width).step_by(SIDE) {
            for channel in 0..channels {
                for (down, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    places.push((channel * height + row + down) * width + column + right);
                }
            }
        }
    }
    places
}

/// Returns the positions of a picture's tokens, `[tokens, 3]`: 0, row and column.
pub(super) fn positions([_, height, width]: [usize; 3]) -> Rows {
    let (rows, columns) = (height / SIDE, width / SIDE);
    let each = (0..rows).flat_map(|row| (0..columns).flat_map(move |column| [0.0, row as f32, column as f32]));
    Rows { shape: vec![rows * columns, 3], values: each.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_block_of_all_channels() {
        // Two channels of 2 x 4.
        let latents: Vec<f32> = (0..16).map(|value| value as f32).collect();
        let packed = pack(&latents, [2, 2, 4]);
        assert_eq!(tokens([2, 2, 4]), [2, 8]);
        assert_eq!(packed[..8], [0.0, 1.0, 4.0, 5.0, 8.0, 9.0, 12.0, 13.0]);
        assert_eq!(unpack(&packed, [2, 2, 4]), latents);
        let two: Vec<f32> = latents.iter().chain(&latents).copied().collect();
        assert_eq!(pack(&two, [2, 2, 4]), [&packed[..], &packed[..]].concat());
        assert_eq!(positions([2, 2, 4]).values, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    }
}
