//! Recall of an approximate index: docs/semantics.md, section 8. Every search is compared with the exact search that
//! was noted just before its decision; the fold itself searches nothing.

use serde::{Deserialize, Serialize};

use crate::request::RequestId;

/// Largest difference of similarities that count as equal.
const TOLERANCE: f64 = 1e-9;

/// Quality of the searches of a run whose index was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RetrievalQuality {
    /// Number of requests that were routed after a search that was checked.
    pub searches: u64,
    /// Share of these requests that found an entry as similar as the nearest entry.
    pub recall: f64,
    /// Mean, over these requests, of the nearest entry's similarity minus that of the entry found.
    pub mean_similarity_lost: f64,
}

/// Fold over notes and decisions.
#[derive(Clone, Debug, Default)]
pub(super) struct Retrieval {
    /// Request that is routed next, and the similarity of its nearest entry.
    audited: Option<(RequestId, f64)>,
    searches: u64,
    found: u64,
    lost: f64,
}

impl Retrieval {
    /// Takes in the similarity of the nearest entry for a request.
    pub(super) fn audited(&mut self, request: RequestId, nearest: f64) {
        self.audited = Some((request, nearest));
    }

    /// Takes in a request that was routed by an entry of this similarity. `counts` says whether the request arrived at
    /// or after the warm-up.
    pub(super) fn routed(&mut self, request: RequestId, similarity: Option<f64>, counts: bool) {
        // A request that is routed again was not searched for, and one that was rejected left its audit behind.
        let Some((_, nearest)) = self.audited.take_if(|(audited, _)| *audited == request) else { return };
        if counts {
            let lost = nearest - similarity.unwrap_or(0.0);
            self.searches += 1;
            self.found += u64::from(lost.abs() <= TOLERANCE);
            self.lost += lost;
        }
    }

    /// Returns the quality of the searches; `None` if no search was checked.
    pub(super) fn quality(&self) -> Option<RetrievalQuality> {
        let searches = self.searches as f64;
        (self.searches > 0).then(|| RetrievalQuality {
            searches: self.searches,
            recall: self.found as f64 / searches,
            mean_similarity_lost: self.lost / searches,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_compared_with_the_note_of_its_request() {
        let mut fold = Retrieval::default();
        assert_eq!(fold.quality(), None);
        let mut search = |request, nearest, found, counts| {
            fold.audited(RequestId(request), nearest);
            fold.routed(RequestId(request), Some(found), counts);
        };
        search(0, 0.9, 0.1, false); // arrived in the warm-up
        search(1, 0.9, 0.9, true);
        search(2, 0.8, 0.8 - 1e-12, true);
        search(3, 0.8, 0.4, true);
        fold.routed(RequestId(3), Some(0.1), true); // routed again, its source being missing: not a search
        fold.audited(RequestId(4), 0.7); // rejected, so never routed
        fold.routed(RequestId(5), Some(0.1), true);
        let quality = fold.quality().expect("searches");
        assert_eq!(quality.searches, 3);
        assert!((quality.recall - 2.0 / 3.0).abs() < 1e-12);
        assert!((quality.mean_similarity_lost - 0.4 / 3.0).abs() < 1e-9);
    }
}
