//! Shifted bounds and the hit rates that they lead to, in words.

use super::calibration::percent;
use crate::experiments::hit_rate::Shift;

/// Formats a shift: "60.3 % (bounds + 0.0043)". The text also states the wanted hit rate if no bounds reach it.
pub(crate) fn words(shift: &Shift) -> String {
    let sign = if shift.by < 0.0 { '-' } else { '+' };
    let wanted = if shift.reached {
        String::new()
    } else {
        format!(", as near to {} as any bounds come", percent(shift.wanted_hit_rate))
    };
    format!("{} (bounds {sign} {:.4}{wanted})", percent(shift.hit_rate), shift.by.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_reached_is_said() {
        let reached = Shift { usual_hit_rate: 0.7, wanted_hit_rate: 0.8, by: -0.00431, hit_rate: 0.803, reached: true };
        assert_eq!(words(&reached), "80.3 % (bounds - 0.0043)");
        let short = Shift { hit_rate: 0.75, reached: false, ..reached };
        assert_eq!(words(&short), "75.0 % (bounds - 0.0043, as near to 80.0 % as any bounds come)");
    }
}
