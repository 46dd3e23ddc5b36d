//! Uncertainty of a profile: the spread of each service time, and the service times at the ends of the spreads.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::{Profile, Service};
use crate::model::{GpuId, ModelId};

/// Relative half-width of the 90 % range of a service time if the profile states none. The value is assumed: between
/// two processors of one kind, service times differed by 5 % (docs/fidelity.md).
pub const USUAL_SPREAD: f64 = 0.05;

/// Largest spread that a profile may state.
pub const MOST_SPREAD: f64 = 0.9;

/// Source of a spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpreadKind {
    /// Assumed spread: published and derived service times come without one.
    #[default]
    Assumed,
    /// Measured spread, from the rounds of `modm profile`.
    Measured,
}

impl SpreadKind {
    /// Returns whether the spread is assumed.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(super) fn is_assumed(&self) -> bool {
        *self == Self::Assumed
    }
}

/// Spread of the service times of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Largest relative half-width of the 90 % range of a service time.
    pub share: f64,
    /// Weakest source of a spread.
    pub kind: SpreadKind,
    /// Mean of the natural logarithms of the factors on service times at [`End::AllLonger`].
    pub mean_log_factor: f64,
}

impl Spread {
    /// Returns the change of a value if every service time is 1 % longer, from the values at [`End::AllLonger`] and
    /// [`End::AllShorter`]; `None` if the change is not finite.
    #[must_use]
    pub fn per_percent(&self, all_longer: f64, all_shorter: f64) -> Option<f64> {
        // The two ends are 2 ln(1 + u) apart in the logarithm of the times, and one per cent is about 0.01 of it.
        Some((all_longer - all_shorter) / (2.0 * 100.0 * self.mean_log_factor)).filter(|change| change.is_finite())
    }
}

/// Returns the least and the greatest of a value and its values at the ends; `None` if a value at an end is missing.
#[must_use]
pub fn range_around(usual: f64, at_ends: impl IntoIterator<Item = Option<f64>>) -> Option<(f64, f64)> {
    let values: Vec<f64> = at_ends.into_iter().collect::<Option<_>>()?;
    let low = values.iter().copied().fold(usual, f64::min);
    Some((low, values.into_iter().fold(usual, f64::max)))
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            SpreadKind::Assumed => "assumed",
            SpreadKind::Measured => "measured",
        };
        write!(f, "± {:.1} % ({kind})", 100.0 * self.share)
    }
}

/// Direction in which all service times of a profile move away from their values together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Longer times of every model, each by its spread.
    AllLonger,
    /// Shorter times of every model, each by its spread.
    AllShorter,
    /// Longer times of the large model and shorter times of the others, which moves ratios of systems most.
    LargeLonger,
    /// Shorter times of the large model and longer times of the others.
    LargeShorter,
}

impl End {
    /// Ends of a profile, in the order of tables.
    pub const ALL: [Self; 4] = [Self::AllLonger, Self::AllShorter, Self::LargeLonger, Self::LargeShorter];

    /// Returns the name in tables.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::AllLonger => "all longer",
            Self::AllShorter => "all shorter",
            Self::LargeLonger => "large longer, others shorter",
            Self::LargeShorter => "large shorter, others longer",
        }
    }

    /// Returns the factor on a model's service time with this spread. If the large model and the others move apart, the
    /// exponents are the square root of 1/2 and its negative: their ratio then moves as far as that of two independent
    /// errors does.
    #[must_use]
    pub fn factor(self, model: ModelId, spread: f64) -> f64 {
        let apart = core::f64::consts::FRAC_1_SQRT_2;
        let power = match self {
            Self::AllLonger => 1.0,
            Self::AllShorter => -1.0,
            Self::LargeLonger if model.is_large() => apart,
            Self::LargeLonger => -apart,
            Self::LargeShorter if model.is_large() => -apart,
            Self::LargeShorter => apart,
        };
        libm::pow(1.0 + spread, power)
    }
}

impl Service {
    /// Returns the spread of the row, or the usual spread if the row states none.
    #[must_use]
    pub fn known_to(&self) -> f64 {
        self.spread.unwrap_or(USUAL_SPREAD)
    }

    /// Returns the row with the times of steps and of all that is beside them multiplied by a factor.
    #[must_use]
    pub fn times(&self, factor: f64) -> Self {
        Self {
            step_s: self.step_s * factor,
            overhead_s: self.overhead_s * factor,
            text_s: self.text_s * factor,
            decode_s: self.decode_s * factor,
            source_s: self.source_s * factor,
            ..self.clone()
        }
    }
}

impl Profile {
    /// Returns the profile with the service times at an end.
    #[must_use]
    pub fn at_end(&self, end: End) -> Self {
        let models = self.models.max(1);
        // Rows are by GPU type, then model.
        let model = |at: usize| ModelId((at % models) as u16);
        let rows = self.service.iter().enumerate();
        let service = rows.map(|(at, row)| row.times(end.factor(model(at), row.known_to()))).collect();
        Self { service, ..self.clone() }
    }

    /// Returns the spread of the service times.
    #[must_use]
    pub fn spread(&self) -> Spread {
        let logs: f64 = self.service.iter().map(|row| libm::log1p(row.known_to())).sum();
        Spread {
            share: self.service.iter().map(Service::known_to).fold(0.0, f64::max),
            kind: self.service.iter().map(|row| row.spread_kind).min().unwrap_or_default(),
            mean_log_factor: logs / self.service.len().max(1) as f64,
        }
    }

    /// Returns the least share of a job's time that a job of this GPU type and model takes, whatever the other workers
    /// do.
    #[must_use]
    pub fn least_part(&self, gpu: GpuId, model: ModelId) -> f64 {
        let beside = self.beside(gpu, model).iter().copied();
        beside.fold(self.service(gpu, model).alone, f64::min).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use super::*;

    #[test]
    fn ends_move_service_times_by_their_spread() {
        let row = |model: &str, spread: Option<f64>| Service {
            step_s: 2.0,
            overhead_s: 1.0,
            spread,
            ..Service::new("a", model)
        };
        let file = super::super::ProfileFile {
            source: String::new(),
            service: vec![row("l", Some(0.21)), row("s", None)],
            gpu: Vec::new(),
            encoding: None,
            measurement: Vec::new(),
            quality: Vec::new(),
            own_quality: Vec::new(),
        };
        let profile = Profile::select(&file, &["a".into()], &["l".into(), "s".into()]).expect("rows are there");
        assert!((profile.spread().share - 0.21).abs() < 1e-12);
        assert_eq!(profile.spread().to_string(), "± 21.0 % (assumed)");
        let steps = |end| {
            let profile = profile.at_end(end);
            [ModelId(0), ModelId(1)].map(|model| profile.service(GpuId(0), model).step_s)
        };
        let close = |found: [f64; 2], wanted: [f64; 2]| {
            assert!(
                found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-9),
                "{found:?} {wanted:?}"
            );
        };
        close(steps(End::AllLonger), [2.0 * 1.21, 2.0 * 1.05]);
        close(steps(End::AllShorter), [2.0 / 1.21, 2.0 / 1.05]);
        let [large, small] = steps(End::LargeLonger);
        assert!(large > 2.0 && small < 2.0, "{large} {small}");
        let apart = libm::log(large / small);
        let independent = f64::hypot(libm::log(1.21), libm::log(1.05));
        assert!(
            apart <= independent * core::f64::consts::SQRT_2 && apart >= independent * 0.7,
            "{apart} {independent}"
        );
        close(steps(End::LargeShorter), [4.0 / large, 4.0 / small]);
    }
}
