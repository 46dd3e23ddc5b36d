//! Quality in tables and sentences: values with how they are known, and the models that made the images.

use std::collections::BTreeMap;

use super::Comparison;
use crate::metrics::quality::QualityKind;
use crate::metrics::summary::Summary;

/// Footnote of a table with qualities.
pub(super) const FOOTNOTE: &str = "quality: mean CLIPScore (100 x cosine) of the images, est.: estimated, pub.: \
    published, meas.: measured. kept: that over the large model's own score. CLIPScore ranks SDXL above SD3.5-Large, so \
    look at what drew the images as well.\n";

/// Returns the mean quality in points of `CLIPScore`.
pub(super) fn clip(summary: &Summary) -> Option<f64> {
    summary.quality.clip()
}

/// Returns the abbreviation of a kind of quality, for a cell.
pub(super) const fn short(kind: QualityKind) -> &'static str {
    match kind {
        QualityKind::Estimated => "est.",
        QualityKind::Published => "pub.",
        QualityKind::Measured => "meas.",
    }
}

/// Returns the kind of a run's mean quality.
pub(super) fn kind(summary: &Summary) -> Option<QualityKind> {
    summary.quality_kind()
}

/// Returns the weakest kind among the mean qualities of a variant's runs.
pub(super) fn kind_of(comparison: &Comparison, variant: &str) -> Option<QualityKind> {
    comparison.runs_of(variant).filter_map(|run| kind(&run.summary)).min()
}

/// Formats the shares of completed images by what made them, the largest first: "64% sdxl, 31% sd3.5-large, 5%
/// returned".
pub(super) fn images_by_model<'a>(summaries: impl Iterator<Item = &'a Summary>) -> Option<String> {
    let mut counts = BTreeMap::new();
    for summary in summaries {
        for (by, count) in summary.images() {
            *counts.entry(by.to_owned()).or_insert(0) += count;
        }
    }
    shares(&counts)
}

/// Formats counts as shares, the largest first; `None` if the total is 0.
pub(super) fn shares(counts: &BTreeMap<String, u64>) -> Option<String> {
    let total: u64 = counts.values().sum();
    let mut counts: Vec<(&String, &u64)> = counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let part = |(name, count): &(&String, &u64)| format!("{:.0}% {name}", 100.0 * **count as f64 / total as f64);
    (total > 0).then(|| counts.iter().map(part).collect::<Vec<_>>().join(", "))
}
