//! Dot products of a query's codes with those of rows: the inner loop of every search, for the processor that it runs on.
//! Not about what codes mean: that is `super::codes`.

use multiversion::multiversion;

/// Dot products of `query` with the rows of `rows`, as many as `dots` has. All codes are from -127 to 127, and few enough
/// that no sum leaves 32 bits. `far` says that the rows are not in the processor's cache: they, and what comes after
/// those that are wanted, are asked for ahead.
pub(super) fn dot_products(query: &[i8], rows: &[u8], far: bool, dots: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        #[expect(unsafe_code, reason = "the processor has been asked for what the function needs")]
        unsafe {
            avx2::dot_products(query, rows, far, dots);
        }
        return;
    }
    // Elsewhere there is no stable way to ask ahead.
    let _ = far;
    portable(query, rows, dots);
}

/// Whether there is AVX2: on this processor, or without `std` on all that the program is built for.
#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    #[cfg(feature = "std")]
    return std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(feature = "std"))]
    return cfg!(target_feature = "avx2");
}

/// The compiler makes SIMD of it.
#[multiversion(targets("aarch64+neon"))]
fn portable(query: &[i8], rows: &[u8], dots: &mut [i32]) {
    for (row, dot) in rows.chunks_exact(query.len()).zip(dots) {
        let products = row.iter().zip(query).map(|(&a, &b)| i32::from(i16::from(a.cast_signed()) * i16::from(b)));
        *dot = products.sum();
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use core::arch::x86_64::{
        __m256i, _MM_HINT_T0, _mm_add_epi32, _mm_cvtsi128_si32, _mm_hadd_epi32, _mm_prefetch, _mm256_abs_epi8,
        _mm256_add_epi32, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16,
        _mm256_maddubs_epi16, _mm256_set1_epi16, _mm256_setzero_si256, _mm256_sign_epi8,
    };

    /// How far ahead of itself a scan asks for what it will read, in bytes: measured, `docs/performance.md`.
    const AHEAD: usize = 2048;
    /// Bytes that memory hands over together.
    const LINE: usize = 64;
    /// Codes that a register holds.
    const WIDTH: usize = 32;

    #[expect(unsafe_code, reason = "reads the bytes of an array of their number")]
    #[target_feature(enable = "avx2")]
    fn load(bytes: &[u8; WIDTH]) -> __m256i {
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[expect(unsafe_code, reason = "reads the bytes of an array of their number")]
    #[target_feature(enable = "avx2")]
    fn load_signed(bytes: &[i8; WIDTH]) -> __m256i {
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    /// Sums of four products each. Pairs of products of |a| and b with a's sign are at most 2 x 127^2: they fit 16 bits.
    #[target_feature(enable = "avx2")]
    fn products(a: &[u8; WIDTH], b: &[i8; WIDTH]) -> __m256i {
        let (a, b) = (load(a), load_signed(b));
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a));
        _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn dot_products(query: &[i8], rows: &[u8], far: bool, dots: &mut [i32]) {
        let (wide, rest) = query.as_chunks::<WIDTH>();
        let (fours, few) = wide.as_chunks::<4>();
        for (at, (row, dot)) in rows.chunks_exact(query.len()).zip(dots).enumerate() {
            if far {
                fetch_ahead(rows, at * query.len() + AHEAD, query.len());
            }
            let (row_wide, row_rest) = row.as_chunks::<WIDTH>();
            // Four sums, so that none waits for the one before it.
            let (row_fours, row_few) = row_wide.as_chunks::<4>();
            let mut sums = [_mm256_setzero_si256(); 4];
            for (a, b) in row_fours.iter().zip(fours) {
                for k in 0..4 {
                    sums[k] = _mm256_add_epi32(sums[k], products(&a[k], &b[k]));
                }
            }
            for (a, b) in row_few.iter().zip(few) {
                sums[0] = _mm256_add_epi32(sums[0], products(a, b));
            }
            let [a, b, c, d] = sums;
            let sum = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
            let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
            let sum = _mm_hadd_epi32(sum, sum);
            let products = row_rest.iter().zip(rest).map(|(&a, &b)| i32::from(a.cast_signed()) * i32::from(b));
            *dot = _mm_cvtsi128_si32(_mm_hadd_epi32(sum, sum)) + products.sum::<i32>();
        }
    }

    /// Asks for some bytes from here on, if there are so many, so that they are near when they are read. The
    /// processor does so by itself, but stops at the end of each page.
    fn fetch_ahead(rows: &[u8], from: usize, count: usize) {
        let Some(bytes) = rows.get(from..(from + count).min(rows.len())) else { return };
        for line in bytes.iter().step_by(LINE) {
            #[expect(unsafe_code, reason = "a hint: it reads nothing")]
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(line).cast());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use rand::RngExt;

    use super::*;
    use crate::draw::{Purpose, stream};

    #[test]
    fn every_processor_has_the_same_sums() {
        let mut draws = stream(21, Purpose::Test, 0);
        for dimension in [1, 3, 31, 32, 33, 100, 128, 129, 768, 4096] {
            for extreme in [false, true] {
                let mut code = || {
                    if extreme { [-127, 127][draws.random_range(0..2_usize)] } else { draws.random_range(-127..=127) }
                };
                let query: Vec<i8> = (0..dimension).map(|_| code()).collect();
                let rows: Vec<i8> = (0..9 * dimension).map(|_| code()).collect();
                let bytes: Vec<u8> = rows.iter().map(|code| code.cast_unsigned()).collect();
                let expected: Vec<i32> = rows
                    .chunks(dimension)
                    .map(|row| row.iter().zip(&query).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum())
                    .collect();
                let (mut one, mut other) = (vec![0; 7], vec![0; 7]);
                dot_products(&query, &bytes, extreme, &mut one);
                portable(&query, &bytes, &mut other);
                assert!(one == expected[..7] && other == expected[..7], "{dimension} {extreme}");
            }
        }
    }
}
