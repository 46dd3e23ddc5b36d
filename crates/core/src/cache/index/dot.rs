//! Dot products of the codes of a query with those of rows: the inner loop of every search, for the processor that runs
//! it. The meaning of codes is defined in `super::codes`.

use multiversion::multiversion;

/// Computes the dot products of `query` with the rows of `rows`, as many as `dots` has. All codes are from -127 to 127,
/// and a row is short enough that no sum exceeds 32 bits. `far` is true if the rows are not in the processor's cache:
/// these rows, and the bytes after them, are then prefetched.
pub(super) fn dot_products(query: &[i8], rows: &[u8], far: bool, dots: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    match Kind::here() {
        #[expect(unsafe_code, reason = "the processor has been asked for what the function needs")]
        Kind::Vnni => return unsafe { vnni::dot_products(query, rows, far, dots) },
        #[expect(unsafe_code, reason = "the processor has been asked for what the function needs")]
        Kind::Avx2 => return unsafe { avx2::dot_products(query, rows, far, dots) },
        Kind::Other => {}
    }
    // The portable loop does not prefetch: outside x86-64 there is no stable way to do so.
    let _ = far;
    portable(query, rows, dots);
}

/// Instructions for products of bytes that a processor may have.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Products of 64 bytes, with four products added at once.
    Vnni,
    Avx2,
    Other,
}

#[cfg(target_arch = "x86_64")]
impl Kind {
    /// Returns the instructions that this processor has. Without `std`, returns those that every processor has that the
    /// program is built for.
    fn here() -> Self {
        #[cfg(feature = "std")]
        let (has_vnni, has_avx2) = {
            // The standard library asks the processor once and keeps the answers, so that a call for each block costs
            // little.
            use std::arch::is_x86_feature_detected as has;
            (has!("avx512f") && has!("avx512bw") && has!("avx512vnni"), has!("avx2"))
        };
        #[cfg(not(feature = "std"))]
        let (has_vnni, has_avx2) = (
            cfg!(all(target_feature = "avx512f", target_feature = "avx512bw", target_feature = "avx512vnni")),
            cfg!(target_feature = "avx2"),
        );
        match (has_vnni, has_avx2) {
            (true, _) => Self::Vnni,
            (false, true) => Self::Avx2,
            (false, false) => Self::Other,
        }
    }
}

/// Computes the dot products in a loop that the compiler turns into SIMD instructions.
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
        __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_hadd_epi32, _mm256_abs_epi8, _mm256_add_epi32,
        _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
        _mm256_set1_epi16, _mm256_setzero_si256, _mm256_sign_epi8,
    };

    use super::fetch_ahead;

    /// Number of codes that a register holds.
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

    /// Returns sums of four products each. The instruction multiplies |a| by b with the sign of a. A sum of two such
    /// products is at most 2 x 127^2, which fits 16 bits.
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
                fetch_ahead(rows, at, query.len());
            }
            let (row_wide, row_rest) = row.as_chunks::<WIDTH>();
            // Four independent sums, so that no addition waits for the one before it.
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
            // The codes that fill no register are multiplied one by one. There are at most 31 of them.
            let products = row_rest.iter().zip(rest).map(|(&a, &b)| i32::from(a.cast_signed()) * i32::from(b));
            *dot = _mm_cvtsi128_si32(_mm_hadd_epi32(sum, sum)) + products.sum::<i32>();
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod vnni {
    use core::arch::x86_64::{
        __m512i, _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_maskz_loadu_epi8,
        _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_xor_si512,
    };

    use super::fetch_ahead;

    /// Number of codes that a register holds.
    const WIDTH: usize = 64;

    #[expect(unsafe_code, reason = "reads the bytes of an array of their number")]
    #[target_feature(enable = "avx512f")]
    fn load<T: Copy>(codes: &[T; WIDTH]) -> __m512i {
        const { assert!(size_of::<T>() == 1) };
        unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) }
    }

    /// Loads codes that do not fill a register, followed by zeros.
    #[expect(unsafe_code, reason = "reads as many bytes as there are: the others are masked out")]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn load_rest<T: Copy>(codes: &[T]) -> __m512i {
        const { assert!(size_of::<T>() == 1) };
        assert!(codes.len() < WIDTH);
        unsafe { _mm512_maskz_loadu_epi8((1 << codes.len()) - 1, codes.as_ptr().cast()) }
    }

    /// Computes the dot products. The instruction multiplies unsigned bytes by signed bytes: 128 is added to the codes
    /// of the rows, and 128 times the sum of the query's codes is subtracted from the sums. All of this is modulo 2^32,
    /// which the result fits.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn dot_products(query: &[i8], rows: &[u8], far: bool, dots: &mut [i32]) {
        let (wide, rest) = query.as_chunks::<WIDTH>();
        let (fours, few) = wide.as_chunks::<4>();
        let sum: i32 = query.iter().map(|&code| i32::from(code)).sum();
        let (added, rest_of_query) = (sum.wrapping_mul(128), load_rest(rest));
        let sign = _mm512_set1_epi8(i8::MIN);
        for (at, (row, dot)) in rows.chunks_exact(query.len()).zip(dots).enumerate() {
            if far {
                fetch_ahead(rows, at, query.len());
            }
            let (row_wide, row_rest) = row.as_chunks::<WIDTH>();
            // Four independent sums, so that no addition waits for the one before it.
            let (row_fours, row_few) = row_wide.as_chunks::<4>();
            let mut sums = [_mm512_setzero_si512(); 4];
            for (a, b) in row_fours.iter().zip(fours) {
                for k in 0..4 {
                    sums[k] = _mm512_dpbusd_epi32(sums[k], _mm512_xor_si512(load(&a[k]), sign), load(&b[k]));
                }
            }
            for (k, (a, b)) in row_few.iter().zip(few).enumerate() {
                sums[k] = _mm512_dpbusd_epi32(sums[k], _mm512_xor_si512(load(a), sign), load(b));
            }
            if !rest.is_empty() {
                // The bytes that are masked out become 128 in the row, but they are 0 in the query.
                sums[3] = _mm512_dpbusd_epi32(sums[3], _mm512_xor_si512(load_rest(row_rest), sign), rest_of_query);
            }
            let [a, b, c, d] = sums;
            let sum = _mm512_add_epi32(_mm512_add_epi32(a, b), _mm512_add_epi32(c, d));
            *dot = _mm512_reduce_add_epi32(sum).wrapping_sub(added);
        }
    }
}

/// Prefetches one row's length of bytes at the best distance ahead of a row, if there are so many bytes, so that they
/// are near when they are read. The processor prefetches by itself, but stops at the end of each page.
#[cfg(target_arch = "x86_64")]
fn fetch_ahead(rows: &[u8], row: usize, length: usize) {
    /// Distance of the prefetch in bytes, as measured in `docs/performance.md`.
    const AHEAD: usize = 2048;
    /// Bytes that memory transfers together.
    const LINE: usize = 64;
    let from = row * length + AHEAD;
    let Some(bytes) = rows.get(from..(from + length).min(rows.len())) else { return };
    for line in bytes.iter().step_by(LINE) {
        #[expect(unsafe_code, reason = "a hint: it reads nothing")]
        unsafe {
            core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(core::ptr::from_ref(line).cast());
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
        for dimension in [1, 3, 31, 32, 33, 63, 64, 65, 100, 128, 129, 320, 768, 4096] {
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
                let check = |what: &str, multiply: &dyn Fn(&mut [i32])| {
                    let mut dots = vec![0; 7];
                    multiply(&mut dots);
                    assert!(dots == expected[..7], "{what} {dimension} {extreme}");
                };
                check("chosen", &|dots| dot_products(&query, &bytes, extreme, dots));
                check("portable", &|dots| portable(&query, &bytes, dots));
                #[cfg(target_arch = "x86_64")]
                #[expect(unsafe_code, reason = "the processor has been asked for what the function needs")]
                if std::arch::is_x86_feature_detected!("avx2") {
                    check("AVX2", &|dots| unsafe { avx2::dot_products(&query, &bytes, extreme, dots) });
                }
            }
        }
    }
}
