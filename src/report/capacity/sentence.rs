//! Capacities in one sentence: the gain of each variant, and the share of the large model's quality that its images
//! keep.

use super::{no_limit, quality, rate, ratio, target};
use crate::experiments::capacity::Capacities;
use crate::metrics::quality::{ALPHA, QualityKind};
use crate::report::statistics::{Estimate, estimate};
use crate::report::verdict::{interval, listed, times};

/// Number of further variants up to which all are named. If there are more, only those are named that no other variant
/// beats in both gain and quality.
const MOST_NAMED: usize = 4;

/// Gain and quality of a variant, as the sentence needs them.
struct Worth<'a> {
    variant: &'a str,
    ratio: Estimate,
    no_limit: bool,
    kept: Option<(f64, QualityKind)>,
}

impl<'a> Worth<'a> {
    fn new(capacities: &Capacities, variant: &'a str) -> Option<Self> {
        let ratio = ratio(capacities, variant)?;
        Some(Self { variant, ratio, no_limit: no_limit(capacities, variant), kept: kept(capacities, variant) })
    }

    /// Formats the gain: "2.50x", or "at least 2.50x" if the capacity has no limit.
    fn gain(&self) -> String {
        format!("{}{}", if self.no_limit { "at least " } else { "" }, times(self.ratio))
    }

    /// Formats the quality that is kept: " with 98.1 % of the large model's quality (estimated)".
    fn quality(&self, of_what: bool) -> String {
        let of_what = if of_what { " of the large model's quality" } else { "" };
        self.kept.map_or_else(String::new, |(kept, kind)| {
            let kind = if of_what.is_empty() { String::new() } else { format!(" ({})", kind.word()) };
            format!(" with {:.1} %{of_what}{kind}", 100.0 * kept)
        })
    }

    fn is_good(&self) -> bool {
        self.kept.is_none_or(|(kept, _)| kept >= ALPHA)
    }

    /// Returns whether another variant has both more gain and more quality.
    fn is_dominated(&self, all: &[Self]) -> bool {
        let kept = |worth: &Self| worth.kept.map_or(0.0, |(kept, _)| kept);
        all.iter().any(|other| other.ratio.mean > self.ratio.mean && kept(other) > kept(self))
    }
}

/// Returns the share of the large model's quality that a variant's images keep at its capacity, over its seeds.
fn kept(capacities: &Capacities, variant: &str) -> Option<(f64, QualityKind)> {
    let summaries = || capacities.of_variant(variant).filter_map(|row| row.summary.as_ref());
    let kept = estimate(summaries().filter_map(|summary| summary.quality_kept))?.mean;
    Some((kept, summaries().filter_map(quality::kind).min()?))
}

/// Formats capacities as one sentence.
pub(in crate::report) fn sentence(name: &str, capacities: &Capacities) -> String {
    let variants = capacities.variants();
    let Some((baseline, others)) = variants.split_first() else { return "Nothing was run.".to_owned() };
    let Some(base) = rate(capacities, baseline).filter(|_| !no_limit(capacities, baseline)) else {
        return without_baseline(name, capacities, &variants);
    };
    let mut all: Vec<Worth<'_>> = others.iter().filter_map(|variant| Worth::new(capacities, variant)).collect();
    // A variant that gains by giving up quality must not head the sentence.
    all.sort_by(|a, b| b.is_good().cmp(&a.is_good()).then(b.ratio.mean.total_cmp(&a.ratio.mean)));
    let Some(best) = all.first() else { return without_baseline(name, capacities, &variants) };
    let best_rate = rate(capacities, best.variant).map_or(0.0, |rate| rate.mean);
    let first = format!(
        "On {name}, {} holds {}{} the rate of {baseline} ({best_rate:.1} against {:.1} requests per minute, {}){}.",
        best.variant,
        best.gain(),
        interval(best.ratio),
        base.mean,
        target(capacities),
        best.quality(true)
    );
    let few = all.len() - 1 <= MOST_NAMED;
    let mut rest: Vec<&Worth<'_>> = all[1..].iter().filter(|one| few || !one.is_dominated(&all)).collect();
    rest.sort_by(|a, b| b.ratio.mean.total_cmp(&a.ratio.mean));
    let rest: Vec<String> =
        rest.into_iter().map(|one| format!("{} {}{}", one.variant, one.gain(), one.quality(false))).collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let rest = if rest.is_empty() { String::new() } else { format!(" By the same measures: {}.", listed(&rest)) };
    format!("{first}{rest}")
}

/// Formats the rates alone, without ratios, for capacities that have no baseline to divide by.
fn without_baseline(name: &str, capacities: &Capacities, variants: &[&str]) -> String {
    let one = |variant: &&str| {
        let kept = kept(capacities, variant);
        let kept = kept.map_or_else(String::new, |(kept, kind)| {
            format!(" with {:.1} % of the large model's quality ({})", 100.0 * kept, kind.word())
        });
        match rate(capacities, variant) {
            None => format!("{variant} holds at no rate"),
            Some(_) if no_limit(capacities, variant) => {
                format!("{variant} has no limit up to {} times the trace's rate{kept}", capacities.up_to)
            }
            Some(rate) => format!("{variant} holds {:.1} requests per minute{kept}", rate.mean),
        }
    };
    let all: Vec<String> = variants.iter().map(one).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    format!("On {name}, {} ({}).", listed(&all), target(capacities))
}
