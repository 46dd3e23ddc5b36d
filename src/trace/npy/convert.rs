//! Components of arrays that cannot be used in place: half and double precision, big-endian numbers, Fortran order. All
//! become `f32` in C order.

/// Type of the numbers of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NumberType {
    /// Size of a number in bytes: 2, 4 or 8.
    pub(super) size: usize,
    is_big_endian: bool,
}

impl NumberType {
    /// Returns the type that numpy describes so, e.g. `'<f4'`.
    pub(super) fn from_descr(descr: &str) -> Option<Self> {
        let descr = descr.trim_matches(['\'', '"']);
        let (order, rest) = descr.split_at_checked(1)?;
        let is_big_endian = match order {
            "<" => false,
            ">" => true,
            "=" => cfg!(target_endian = "big"),
            _ => return None,
        };
        let size = match rest {
            "f2" => 2,
            "f4" => 4,
            "f8" => 8,
            _ => return None,
        };
        Some(Self { size, is_big_endian })
    }

    /// Returns whether numbers lie in memory as this machine has `f32`.
    pub(super) const fn is_native(self) -> bool {
        self.size == size_of::<f32>() && self.is_big_endian == cfg!(target_endian = "big")
    }

    /// Returns the name of the type.
    pub(super) const fn name(self) -> &'static str {
        match self.size {
            2 => "f16",
            4 => "f32",
            _ => "f64",
        }
    }

    /// Reads a number from its bytes.
    fn read(self, bytes: &[u8]) -> f32 {
        let mut ordered = [0; 8];
        ordered[..self.size].copy_from_slice(bytes);
        if self.is_big_endian {
            ordered[..self.size].reverse();
        }
        let bits = u64::from_le_bytes(ordered);
        match self.size {
            2 => from_half(bits as u16),
            4 => f32::from_bits(bits as u32),
            _ => f64::from_bits(bits) as f32,
        }
    }
}

/// Reads an array of `rows` times `dimension` numbers, whose bytes are as many.
pub(super) fn components(bytes: &[u8], kind: NumberType, is_fortran: bool, rows: usize, dimension: usize) -> Vec<f32> {
    let at = |index: usize| kind.read(&bytes[index * kind.size..(index + 1) * kind.size]);
    if !is_fortran {
        return (0..rows * dimension).map(at).collect();
    }
    let place = |index: usize| (index % dimension) * rows + index / dimension;
    (0..rows * dimension).map(|index| at(place(index))).collect()
}

/// Returns the value of a number in half precision (IEEE 754 binary16).
fn from_half(bits: u16) -> f32 {
    /// Least positive number in half precision, 2^-24.
    const LEAST: f32 = f32::from_bits(0x3380_0000);
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => (fraction as f32 * LEAST).to_bits(),
        0x1f => 0x7f80_0000 | fraction << 13,
        // The exponents are biased by 15 and by 127.
        _ => (exponent + 127 - 15) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(from_half(bits).to_bits(), f32::to_bits(value), "{bits:#x}");
        }
        assert!(from_half(0x7e00).is_nan());
    }

    #[test]
    #[cfg(feature = "live")]
    fn half_precision_as_the_crate_has_it() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (from_half(bits), half::f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{bits:#x}");
        }
    }

    #[test]
    fn orders_and_types() {
        let kind = |descr| NumberType::from_descr(descr).unwrap();
        let big: Vec<u8> = [1.5_f64, -2.0, 3.0, 4.0, 5.0, 6.0].into_iter().flat_map(f64::to_be_bytes).collect();
        assert_eq!(components(&big, kind("'>f8'"), false, 2, 3), [1.5, -2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(components(&big, kind("'>f8'"), true, 2, 3), [1.5, 3.0, 5.0, -2.0, 4.0, 6.0]);
        assert_eq!(components(&[0x3c, 0, 0xc0, 0], kind(">f2"), false, 1, 2), [1.0, -2.0]);
        assert!(kind("<f4").is_native() && !kind(">f4").is_native() && !kind("<f2").is_native());
        assert!(["'<i4'", "'|O'", "", "f", "é", "'<f16'"].into_iter().all(|bad| NumberType::from_descr(bad).is_none()));
    }
}
