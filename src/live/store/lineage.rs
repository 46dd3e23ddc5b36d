//! Lineage of cached pictures: the pictures that each was refined from, by their numbers in the store. The lineage is
//! updated as pictures come and go. A deletion thus finds at once the pictures that were refined from a picture, even
//! if a picture in between has been evicted.

use std::collections::{BTreeMap, BTreeSet};

/// Cached picture.
#[derive(Debug)]
struct Member {
    tenant: Option<String>,
    /// Cached pictures that this one was refined from, directly or not.
    origins: Vec<u64>,
}

/// Lineage of all cached pictures.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    members: BTreeMap<u64, Member>,
    /// Members by origin: the pictures that were refined from each picture.
    refined: BTreeMap<u64, BTreeSet<u64>>,
}

impl Lineage {
    /// Takes a picture in. `origins` are the numbers of the pictures that it was refined from, nearest first; the first
    /// number is enough while its picture is cached. Returns those that are still cached, with their own origins,
    /// nearest first.
    pub(super) fn insert(&mut self, number: u64, tenant: Option<String>, origins: &[u64]) -> Vec<u64> {
        // The nearest origin that is cached has all its own origins. The other numbers count if the nearest is no
        // longer cached.
        let nearest = origins.iter().find_map(|origin| self.members.get(origin));
        let known = origins.iter().chain(nearest.map_or(&[][..], |member| &member.origins));
        let mut seen = BTreeSet::new();
        let is_new = |origin: &&u64| self.members.contains_key(*origin) && seen.insert(**origin);
        let all: Vec<u64> = known.filter(is_new).copied().collect();
        for origin in &all {
            self.refined.entry(*origin).or_default().insert(number);
        }
        self.members.insert(number, Member { tenant, origins: all.clone() });
        all
    }

    /// Removes a picture. Pictures that were refined from it keep their other origins.
    pub(super) fn remove(&mut self, number: u64) {
        // The number stays in the origins of pictures that were refined from it. `line` leaves it out there.
        self.refined.remove(&number);
        let Some(member) = self.members.remove(&number) else { return };
        for origin in member.origins {
            if let Some(refined) = self.refined.get_mut(&origin) {
                refined.remove(&number);
                if refined.is_empty() {
                    self.refined.remove(&origin);
                }
            }
        }
    }

    /// Returns a picture and the pictures that it was refined from, nearest first.
    pub(super) fn line(&self, number: u64) -> Vec<u64> {
        let origins = self.members.get(&number).map_or(&[][..], |member| &member.origins);
        let cached = |origin: &&u64| self.members.contains_key(*origin);
        std::iter::once(number).chain(origins.iter().filter(cached).copied()).collect()
    }

    /// Returns the pictures that were refined from a picture, directly or not, oldest first.
    pub(super) fn refined(&self, number: u64) -> Vec<u64> {
        self.refined.get(&number).into_iter().flatten().copied().collect()
    }

    /// Returns the tenant that asked for a picture, if the tenant is known.
    pub(super) fn tenant(&self, number: u64) -> Option<&str> {
        self.members.get(&number)?.tenant.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_a_picture_is_found_when_what_lies_between_is_gone() {
        let mut lineage = Lineage::default();
        assert!(lineage.insert(0, Some("a".to_owned()), &[]).is_empty());
        assert_eq!(lineage.insert(1, None, &[0]), [0]);
        assert_eq!(lineage.insert(2, None, &[1]), [1, 0]);
        assert!(lineage.insert(3, None, &[7]).is_empty(), "what is not cached is left out");
        assert_eq!((lineage.refined(0), lineage.line(2)), (vec![1, 2], vec![2, 1, 0]));
        lineage.remove(1);
        assert_eq!((lineage.refined(0), lineage.refined(1), lineage.line(2)), (vec![2], vec![], vec![2, 0]));
        // The source of this picture was evicted while the picture was drawn.
        assert_eq!(lineage.insert(4, None, &[1, 0]), [0]);
        assert_eq!((lineage.refined(0), lineage.tenant(0), lineage.tenant(1)), (vec![2, 4], Some("a"), None));
        for number in [0, 2, 3, 4] {
            lineage.remove(number);
        }
        assert!(lineage.members.is_empty() && lineage.refined.is_empty());
    }

    #[test]
    fn a_long_line_of_refinements_takes_no_longer_than_it_is() {
        // A walk through the origins of each origin would take 10^10 steps.
        let mut lineage = Lineage::default();
        let mut line = Vec::new();
        for number in 0..3_000 {
            let origins = lineage.insert(number, None, &line);
            assert_eq!(origins.len() as u64, number);
            line = lineage.line(number);
        }
        assert_eq!(lineage.refined(0).len(), 2_999);
    }
}
