//! Hits that a cold cache or an overloaded cluster hides: requests that missed although the image of an earlier
//! request, which was still waiting or being drawn, would have matched. They are computed once a run has ended, on a
//! sample that is small beside the run.

use alloc::vec::Vec;

use rand::RngExt;

use super::{Compared, Topic, Vector, Warning, percent};
use crate::cache::Admission;
use crate::cache::Tenancy;
use crate::draw::{Purpose, stream};
use crate::metrics::RequestEnd;
use crate::scheduler::DecisionKind;
use crate::time::{Duration, Time};

/// Largest number of misses to look at. With 400 misses a share of 5 % is known to within 2 points.
const MOST_MISSES: usize = 400;

/// Number of comparisons after which no further miss is looked at, so that the cost is bounded for a queue of any
/// length.
const MOST_COMPARED: usize = 40_000;

/// Smallest number of misses for which a share is reported.
const LEAST_MISSES: usize = 20;

/// Smallest share of the routed requests for which a warning is given.
const WORTH_SAYING: f64 = 0.05;

/// Images that a system keeps.
#[derive(Clone, Copy, Debug)]
pub enum KeptImages {
    /// Final images, by admission.
    Images(Admission),
    /// Images of misses, in systems that look up prompts.
    Misses,
}

/// Delays from an arrival to its look-up and from an image's completion to the time at which it can be found, and the
/// warm-up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Time from arrival to look-up.
    pub retrieval: Duration,
    /// Time from completion until the image can be found.
    pub image_encoding: Duration,
    /// End of the warm-up. Requests that arrive earlier are left out.
    pub warmup: Time,
}

impl KeptImages {
    fn keeps(self, end: &RequestEnd) -> bool {
        let missed = end.kind == Some(DecisionKind::Miss);
        end.completed
            && match self {
                Self::Misses | Self::Images(Admission::Miss) => missed,
                Self::Images(Admission::Large) => end.by_large,
                Self::Images(Admission::All) => end.kind != Some(DecisionKind::Return),
            }
    }
}

/// Counts of the requests, of the misses, and of the sample of misses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hidden {
    routed: usize,
    misses: usize,
    looked_at: usize,
    matched: usize,
}

/// Looks at misses in a random order, until enough misses were looked at or enough pairs were compared. `ends` are in
/// the order of arrivals.
fn count(ends: &[RequestEnd], compared: &Compared, kept: KeptImages, timing: Timing, tenancy: &Tenancy) -> Hidden {
    let counted = |end: &&RequestEnd| end.arrival >= timing.warmup && end.kind.is_some();
    let mut misses: Vec<usize> = Vec::new();
    let mut hidden = Hidden::default();
    for (at, end) in ends.iter().enumerate().filter(|(_, end)| counted(end)) {
        hidden.routed += 1;
        misses.extend((end.kind == Some(DecisionKind::Miss)).then_some(at));
    }
    hidden.misses = misses.len();
    let mut draws = stream(compared.seed, Purpose::Misses, 0);
    let (mut query, mut key) = (Vector::default(), Vector::default());
    let mut pairs = 0;
    while hidden.looked_at < MOST_MISSES && pairs < MOST_COMPARED && !misses.is_empty() {
        // Drawn without being put back: no miss is looked at twice.
        let at = misses.swap_remove(draws.random_range(0..misses.len()));
        let miss = &ends[at];
        if !compared.queries.read(miss.id.row(), &mut query) {
            continue;
        }
        hidden.looked_at += 1;
        let looked_up = miss.arrival + timing.retrieval;
        // The latest images first: users who try again ask for much the same soon after.
        let late = ends[..at].iter().rev().filter(|end| {
            end.finish + timing.image_encoding > looked_up
                && kept.keeps(end)
                && tenancy.may_find(miss.tenant, end.tenant)
        });
        for end in late {
            if !compared.keys.read(end.id.row(), &mut key) {
                continue;
            }
            pairs += 1;
            if compared.reaches((miss.id.row(), &query), (end.id.row(), &key)) {
                hidden.matched += 1;
                break;
            }
        }
    }
    hidden
}

/// Returns a warning if the images of earlier requests came too late for many requests.
#[must_use]
pub fn hidden_hits(
    ends: &[RequestEnd],
    compared: &Compared,
    kept: KeptImages,
    timing: Timing,
    tenancy: &Tenancy,
) -> Option<Warning> {
    let Hidden { routed, misses, looked_at, matched } = count(ends, compared, kept, timing, tenancy);
    let of_misses = matched as f64 / looked_at.max(1) as f64;
    // The sample gives the share among misses. The warning is about the share of all requests.
    let share = of_misses * misses as f64 / routed.max(1) as f64;
    if looked_at < LEAST_MISSES || share < WORTH_SAYING {
        return None;
    }
    let sample = if looked_at == misses {
        format!("{matched} of {misses} misses")
    } else {
        format!("{matched} of the {looked_at} looked at of {misses} misses")
    };
    Some(Warning {
        topic: Topic::HiddenHits,
        text: format!(
            "{} of the requests ({sample}) missed although the image of an earlier request matches that was still waiting or \
             being drawn: a cold cache or an overloaded cluster hides hits; {} (cold), or more GPUs or a lower rate (overloaded) \
             shows them",
            percent(share),
            compared.warmed_by
        ),
    })
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use alloc::collections::{BTreeMap, BTreeSet};

    use super::super::Rows;
    use super::*;
    use crate::cache::Scope;
    use crate::embedding::EmbeddingMatrix;
    use crate::request::{RequestId, TenantId};

    /// Returns the ends of `count` requests, one a second. Each image is done `drawing_s` seconds after its request
    /// arrived.
    fn ends(count: u32, drawing_s: f64, kind: impl Fn(u32) -> DecisionKind) -> Vec<RequestEnd> {
        let time = |seconds: f64| Time::from_seconds(seconds).expect("a time");
        let end = |id: u32| RequestEnd {
            id: RequestId(id),
            tenant: TenantId(id % 2),
            arrival: time(f64::from(id)),
            finish: time(f64::from(id) + drawing_s),
            least_work: 0,
            kind: Some(kind(id)),
            completed: true,
            by_large: !kind(id).is_hit(),
            place: crate::request::Place::ONLY,
        };
        (0..count).map(end).collect()
    }

    /// Returns embeddings of prompts that come back every `topics` requests and are otherwise orthogonal.
    fn compared(rows: u32, topics: u32) -> Compared {
        let values = (0..rows).flat_map(|row| (0..topics).map(move |at| if row % topics == at { 1.0 } else { 0.0 }));
        let rows = Rows::Matrix(EmbeddingMatrix::new(topics as usize, values.collect::<Vec<f32>>()).expect("rows"));
        let (queries, keys) = (rows.clone(), rows);
        Compared {
            queries,
            keys,
            lowest_bound: 0.5,
            strict: false,
            keys_are: "image",
            origin: String::new(),
            warmed_by: "trace.warm_requests",
            seed: 3,
        }
    }

    const ALL: KeptImages = KeptImages::Images(Admission::All);

    fn counted(ends: &[RequestEnd], topics: u32, kept: KeptImages, timing: Timing, scope: Scope) -> Hidden {
        let tenancy = Tenancy { scope, shares: BTreeMap::new(), public: BTreeSet::new() };
        count(ends, &compared(ends.len() as u32, topics), kept, timing, &tenancy)
    }

    #[test]
    fn a_match_that_is_drawn_in_time_hides_nothing() {
        let miss = |_| DecisionKind::Miss;
        let usual = Timing::default();
        // The prompt comes back after 10 s: images that take 9.5 s are there, images that take 10.5 s are not.
        let found = counted(&ends(200, 9.5, miss), 10, ALL, usual, Scope::Shared);
        assert_eq!(found, Hidden { routed: 200, misses: 200, looked_at: 200, matched: 0 });
        assert_eq!(counted(&ends(200, 10.5, miss), 10, ALL, usual, Scope::Shared).matched, 190);
        let second = |seconds: f64| Duration::from_seconds_saturating(seconds);
        let slow = Timing { image_encoding: second(1.0), ..usual };
        assert_eq!(counted(&ends(200, 9.5, miss), 10, ALL, slow, Scope::Shared).matched, 190);
        let late = Timing { retrieval: second(1.0), ..usual };
        assert_eq!(counted(&ends(200, 10.5, miss), 10, ALL, late, Scope::Shared).matched, 0);
        let warm = Timing { warmup: Time::from_seconds(100.0).expect("a time"), ..usual };
        assert_eq!(counted(&ends(200, 10.5, miss), 10, ALL, warm, Scope::Shared).routed, 100);
    }

    #[test]
    fn what_is_not_kept_or_another_tenants_could_not_have_been_found() {
        // Prompts of the even rows come back at odd rows, which are of the other tenant.
        let miss = |_| DecisionKind::Miss;
        let apart = counted(&ends(200, 1e6, miss), 9, ALL, Timing::default(), Scope::Tenant);
        assert_eq!(apart.matched, 200 - 18, "a prompt comes back to its tenant every other time");
        let once = counted(&ends(18, 1e6, miss), 9, ALL, Timing::default(), Scope::Tenant);
        let shared = counted(&ends(18, 1e6, miss), 9, ALL, Timing::default(), Scope::Shared);
        assert_eq!((once.matched, shared.matched), (0, 9));
        // One row in ten is a hit, and its image is made by the small model.
        let some = |id: u32| if id.is_multiple_of(10) { DecisionKind::Hit } else { DecisionKind::Miss };
        let matched = |kept| counted(&ends(100, 15.0, some), 5, kept, Timing::default(), Scope::Shared).matched;
        let (all, large) = (matched(ALL), matched(KeptImages::Images(Admission::Large)));
        assert!(large < all && large == matched(KeptImages::Misses), "{all} {large}");
        let mut failed = ends(200, 10.5, miss);
        for end in &mut failed {
            end.completed = false;
        }
        assert_eq!(counted(&failed, 10, ALL, Timing::default(), Scope::Shared).matched, 0);
    }

    #[test]
    fn a_sample_is_bounded_and_says_how_large_it_is() {
        let ends = ends(3_000, 1e6, |_| DecisionKind::Miss);
        let tenancy = Tenancy::default();
        let said = hidden_hits(&ends, &compared(3_000, 7), ALL, Timing::default(), &tenancy).expect("a warning").text;
        assert!(said.contains("400 of the 400 looked at of 3000 misses") && said.contains("100 % of"), "{said}");
        let none = Compared { lowest_bound: 1.5, ..compared(3_000, 7) };
        assert!(count(&ends, &none, ALL, Timing::default(), &tenancy).looked_at < 60, "each costs hundreds of pairs");
        assert_eq!(hidden_hits(&ends, &none, ALL, Timing::default(), &tenancy), None);
    }
}
