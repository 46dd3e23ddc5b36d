//! Quality in tables and sentences: values with how they are known, and what made the images.

use super::Comparison;
use crate::metrics::quality::QualityKind;
use crate::metrics::summary::Summary;

/// Footnote of a table with qualities.
pub(super) const FOOTNOTE: &str = "quality: mean CLIPScore (100 x cosine) of the images, est.: estimated, pub.: \
    published, meas.: measured. kept: that over the large model's own score. CLIPScore ranks SDXL above SD3.5-Large, so \
    look at what drew the images as well.\n";

/// Mean quality in points of `CLIPScore`.
pub(super) fn clip(summary: &Summary) -> Option<f64> {
    summary.quality.clip()
}

/// Abbreviation of a kind in a cell.
pub(super) const fn short(kind: QualityKind) -> &'static str {
    match kind {
        QualityKind::Estimated => "est.",
        QualityKind::Published => "pub.",
        QualityKind::Measured => "meas.",
    }
}

/// Kind of a run's mean quality.
pub(super) fn kind(summary: &Summary) -> Option<QualityKind> {
    summary.quality.kind.filter(|_| clip(summary).is_some())
}

/// Weakest kind of the mean qualities of a variant's runs.
pub(super) fn kind_of(comparison: &Comparison, variant: &str) -> Option<QualityKind> {
    comparison.runs_of(variant).filter_map(|run| kind(&run.summary)).min()
}

/// Share of the completed images by what drew them, the largest first: "64% sdxl, 31% sd3.5-large, 5% returned".
pub(super) fn images_by_model<'a>(summaries: impl Iterator<Item = &'a Summary>) -> Option<String> {
    let (mut counts, mut completed) = (std::collections::BTreeMap::<&str, u64>::new(), 0);
    for summary in summaries {
        completed += summary.completed;
        for (model, count) in &summary.completed_by_model {
            *counts.entry(model).or_insert(0) += count;
        }
        if summary.returned > 0 {
            *counts.entry("returned").or_insert(0) += summary.returned;
        }
    }
    let mut counts: Vec<(&str, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let part = |(name, count): &(&str, u64)| format!("{:.0}% {name}", 100.0 * *count as f64 / completed as f64);
    (completed > 0 && !counts.is_empty()).then(|| counts.iter().map(part).collect::<Vec<_>>().join(", "))
}
