//! Audits of cache hits: the large model draws the prompt of a hit as well, and both images are scored against the
//! prompt. An audit is the online form of a calibration's check (`check`): the same ratio of means, with the same
//! interval. The module holds the records of audits and evaluates them; `serve` draws the images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::check::{Worth, worth};
use crate::input::InputError;

/// Name of the file of audits, in a server's data folder.
pub const FILE: &str = "audit.csv";

/// Minimum number of audits of one group for which an interval is given: resampling fewer audits says little.
pub const LEAST: usize = 10;

/// Audited hit: a row of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// Time of the audit, in seconds since 1970.
    pub created: u64,
    /// Tenant of the request; empty on a server without keys.
    pub tenant: String,
    /// Denoising steps that the hit skipped (k).
    pub skipped_steps: u32,
    /// Similarity of the hit's prompt and the cached image that the hit started from.
    pub similarity: f64,
    /// Similarity of the hit's prompt and the hit's own image.
    pub hit_score: f64,
    /// Similarity of the hit's prompt and the large model's image.
    pub large_score: f64,
}

/// Quality that the hits of one group keep of the large model's quality.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Tenant of the requests; `None` for all tenants together.
    pub tenant: Option<String>,
    /// Denoising steps that the hits skipped; `None` for all hits together.
    pub skipped_steps: Option<u32>,
    /// Number of hits that were audited.
    pub audited: u64,
    /// Quality of the hits compared with the large model's; `None` if the large model's mean score is 0.
    pub worth: Option<Worth>,
}

impl Kept {
    /// Compares pairs of scores (hit, large model).
    #[must_use]
    pub fn new(
        tenant: Option<String>,
        skipped_steps: Option<u32>,
        pairs: &[(f64, f64)],
        audited: u64,
        seed: u64,
    ) -> Self {
        Self { tenant, skipped_steps, audited, worth: worth(pairs, seed, skipped_steps.unwrap_or(0)) }
    }

    /// Returns the ends of the 95 % interval of the ratio; `None` if fewer than [`LEAST`] hits were audited.
    #[must_use]
    pub fn interval(&self) -> Option<(f64, f64)> {
        self.worth.map(|worth| worth.interval).filter(|_| self.audited >= LEAST as u64)
    }
}

/// Reads a file of audits.
///
/// # Errors
/// The file cannot be read, or a row is not an audit. The error names the row and the reason.
pub fn read(file: &Path) -> Result<Vec<Audit>, InputError> {
    let text = crate::input::text(file)?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let wrong = |error: csv::Error| InputError::new(file, format!("is no file of audits: {error}"));
    let audits: Vec<Audit> = reader.deserialize().collect::<Result<_, _>>().map_err(wrong)?;
    // A cosine that was summed in floating point may be slightly above 1.
    let is_score = |score: f64| (0.0..=1.0 + 1e-6).contains(&score);
    match audits.iter().position(|audit| !is_score(audit.hit_score) || !is_score(audit.large_score)) {
        Some(row) => Err(InputError::new(file, format!("row {}: expected scores from 0 to 1", row + 1))),
        None => Ok(audits),
    }
}

/// Returns the quality that hits keep: by tenant and skipped steps, then by skipped steps, then for all hits together.
#[must_use]
pub fn kept(audits: &[Audit], seed: u64) -> Vec<Kept> {
    let pair = |audit: &Audit| (audit.hit_score, audit.large_score);
    let mut by_both: BTreeMap<(&str, u32), Vec<(f64, f64)>> = BTreeMap::new();
    let mut by_steps: BTreeMap<u32, Vec<(f64, f64)>> = BTreeMap::new();
    for audit in audits {
        by_both.entry((&audit.tenant, audit.skipped_steps)).or_default().push(pair(audit));
        by_steps.entry(audit.skipped_steps).or_default().push(pair(audit));
    }
    let of = |tenant: Option<&str>, skipped_steps: Option<u32>, pairs: &[(f64, f64)]| {
        Kept::new(tenant.map(str::to_owned), skipped_steps, pairs, pairs.len() as u64, seed)
    };
    let tenants: BTreeSet<&str> = by_both.keys().map(|(tenant, _)| *tenant).collect();
    // With one tenant, the rows by tenant would repeat the rows by skipped steps.
    let each = by_both.iter().filter(|_| tenants.len() > 1);
    let each = each.map(|((tenant, skipped), pairs)| of(Some(tenant), Some(*skipped), pairs));
    let together = by_steps.iter().map(|(skipped, pairs)| of(None, Some(*skipped), pairs));
    let all: Vec<(f64, f64)> = audits.iter().map(pair).collect();
    each.chain(together).chain((!all.is_empty()).then(|| of(None, None, &all))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(tenant: &str, skipped_steps: u32, hit_score: f64) -> Audit {
        Audit { created: 1, tenant: tenant.to_owned(), skipped_steps, similarity: 0.9, hit_score, large_score: 0.8 }
    }

    #[test]
    fn what_is_kept_is_the_ratio_of_the_means() {
        let audits: Vec<Audit> =
            (0..40).map(|at| audit(["a", "b"][at % 2], 10, if at % 4 < 2 { 0.8 } else { 0.72 })).collect();
        let kept = kept(&audits, 1);
        let kinds: Vec<_> =
            kept.iter().map(|kept| (kept.tenant.as_deref(), kept.skipped_steps, kept.audited)).collect();
        assert_eq!(
            kinds,
            [(Some("a"), Some(10), 20), (Some("b"), Some(10), 20), (None, Some(10), 40), (None, None, 40)]
        );
        let all = kept[3].worth.expect("audits");
        assert!((all.ratio - 0.95).abs() < 1e-9, "{all:?}");
        let (low, high) = kept[3].interval().expect("enough");
        // The scores have a standard deviation of 0.05 over 40 audits, so the interval reaches 0.016 to either side.
        assert!((low - 0.934).abs() < 0.005 && (high - 0.966).abs() < 0.005, "{low} {high}");
        assert_eq!(super::kept(&audits[..3], 1).last().and_then(Kept::interval), None, "too few");
        assert!(super::kept(&[], 1).is_empty());
    }

    #[test]
    fn what_is_no_file_of_audits_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(FILE);
        let header = "created,tenant,skipped_steps,similarity,hit_score,large_score\n";
        std::fs::write(&file, format!("{header}5,\"a, b\",10,0.9,0.8,0.9\n")).expect("a file");
        assert_eq!(read(&file).expect("read")[0].tenant, "a, b");
        for wrong in ["x\n1\n".to_owned(), format!("{header}5,a,10,0.9\n"), format!("{header}5,a,10,0.9,NaN,0.9\n")] {
            std::fs::write(&file, wrong).expect("a file");
            assert!(read(&file).expect_err("refused").to_string().contains("audit.csv"));
        }
    }
}
