//! Search for the cheapest cluster that holds. The search assumes that more GPUs never hold less: if a cluster fails,
//! all clusters that are no larger are taken to fail, and are not tried. The plan shows the clusters that were tried.

/// Number of GPUs of each group.
pub(super) type Mix = Vec<u32>;

/// Mixes to choose from, and those that were tried so far.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    /// All mixes by price, then by number of GPUs, then by the counts of the first groups, the larger first.
    by_price: Vec<(f64, Mix)>,
    failed: Vec<Mix>,
    held: Vec<Mix>,
    /// Number of mixes that failed since the last one that held.
    in_a_row: u32,
}

/// Returns whether a mix has at least as many GPUs of each group as another mix.
fn covers(mix: &[u32], other: &[u32]) -> bool {
    mix.iter().zip(other).all(|(a, b)| a >= b)
}

impl Candidates {
    /// Makes candidates of all mixes with up to `most` GPUs of each group, except the empty mix.
    pub(super) fn new(most: &[u32], price: impl Fn(&[u32]) -> f64) -> Self {
        let mut mixes: Vec<Mix> = vec![Vec::new()];
        for most in most {
            mixes = mixes.iter().flat_map(|mix| (0..=*most).map(|count| [mix.as_slice(), &[count]].concat())).collect();
        }
        let gpus = |mix: &Mix| mix.iter().sum::<u32>();
        let mut by_price: Vec<(f64, Mix)> =
            mixes.into_iter().filter(|mix| gpus(mix) > 0).map(|mix| (price(&mix), mix)).collect();
        by_price.sort_by(|(a, a_mix), (b, b_mix)| {
            a.total_cmp(b).then(gpus(a_mix).cmp(&gpus(b_mix))).then(b_mix.cmp(a_mix))
        });
        Self { by_price, failed: Vec::new(), held: Vec::new(), in_a_row: 0 }
    }

    fn is_open(&self, mix: &Mix) -> bool {
        !self.failed.iter().any(|failed| covers(failed, mix)) && !self.held.contains(mix)
    }

    /// Returns the mix to try next; `None` once the cheapest is known. It is the cheapest open mix at first. Failures
    /// in a row make the search skip more and more of the cheapest open mixes, up to a third of them, because a mix
    /// that fails is known to fail before the trace is over, whereas a mix that holds costs whole runs.
    pub(super) fn next(&self) -> Option<Mix> {
        let open: Vec<&Mix> = self.cheaper().filter(|mix| self.is_open(mix)).collect();
        // The inner minimum keeps the shift within the width of the number.
        let far = (1_usize << self.in_a_row.saturating_sub(1).min(20)) - 1;
        open.get(far.min(open.len() / 3)).map(|mix| (*mix).clone())
    }

    /// Returns the mixes that are cheaper than the cheapest one that holds.
    fn cheaper(&self) -> impl Iterator<Item = &Mix> {
        let mixes = self.by_price.iter().map(|(_, mix)| mix);
        mixes.take_while(|mix| !self.held.contains(mix))
    }

    /// Leaves out the mixes that are known to fail without a run. Returns their number.
    pub(super) fn rule_out(&mut self, fails: impl Fn(&[u32]) -> bool) -> usize {
        let before = self.by_price.len();
        self.by_price.retain(|(_, mix)| !fails(mix));
        before - self.by_price.len()
    }

    /// Notes whether a mix that was tried holds.
    pub(super) fn tell(&mut self, mix: Mix, holds: bool) {
        if holds {
            self.held.push(mix);
            self.in_a_row = 0;
        } else {
            self.failed.push(mix);
            self.in_a_row += 1;
        }
    }

    /// Returns the cheapest of the mixes that were tried and hold.
    pub(super) fn cheapest(&self) -> Option<&Mix> {
        self.by_price.iter().map(|(_, mix)| mix).find(|mix| self.held.contains(mix))
    }

    /// Returns the mixes to try as next-best choices of a plan: the cheapest ones after the choice of which nothing is
    /// known except that they cost more.
    pub(super) fn alternatives(&self, count: usize) -> Vec<Mix> {
        let dearer = self.by_price.iter().map(|(_, mix)| mix).skip_while(|mix| !self.held.contains(mix));
        dearer.filter(|mix| self.is_open(mix)).take(count).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::draw::{Purpose, stream};

    /// Makes a search. Returns the choice and the number of mixes that were tried.
    fn find(most: &[u32], price: impl Fn(&[u32]) -> f64, holds: impl Fn(&[u32]) -> bool) -> (Option<Mix>, usize) {
        let mut search = Candidates::new(most, price);
        let mut tried = 0;
        while let Some(mix) = search.next() {
            tried += 1;
            let held = holds(&mix);
            search.tell(mix, held);
        }
        (search.cheapest().cloned(), tried)
    }

    #[test]
    fn finds_the_smallest_cluster_in_a_few_tries() {
        for least in 1..=64 {
            let (found, tried) = find(&[64], |mix| f64::from(mix[0]), |mix| mix[0] >= least);
            assert_eq!(found, Some(vec![least]));
            assert!(tried <= 14, "{tried} tries for {least}");
        }
        assert_eq!(find(&[64], |mix| f64::from(mix[0]), |_| false).0, None);
    }

    #[test]
    fn finds_the_cheapest_mix_of_all() {
        for seed in 0..200 {
            let mut draws = stream(seed, Purpose::Test, 60);
            let speeds: Vec<f64> = (0..3).map(|_| draws.random_range(0.2..3.0)).collect();
            let prices: Vec<f64> = (0..3).map(|_| draws.random_range(0.2..3.0)).collect();
            let needed = draws.random_range(1.0..20.0);
            let sum =
                |mix: &[u32], of: &[f64]| mix.iter().zip(of).map(|(count, each)| f64::from(*count) * each).sum::<f64>();
            let holds = |mix: &[u32]| sum(mix, &speeds) >= needed;
            let (found, tried) = find(&[8, 8, 8], |mix| sum(mix, &prices), holds);
            let all = Candidates::new(&[8, 8, 8], |mix| sum(mix, &prices)).by_price;
            let best = all.iter().find(|(_, mix)| holds(mix));
            assert_eq!(found.as_ref(), best.map(|(_, mix)| mix), "seed {seed}");
            assert!(tried < all.len() / 4, "{tried} tries of {}", all.len());
        }
    }

    #[test]
    fn what_is_ruled_out_is_not_tried() {
        let mut search = Candidates::new(&[9], |mix| f64::from(mix[0]));
        search.rule_out(|mix| mix[0] < 5);
        assert_eq!(search.next(), Some(vec![5]));
        search.tell(vec![5], false);
        assert_eq!(search.next(), Some(vec![6]));
        search.tell(vec![6], true);
        assert_eq!(
            (search.next(), search.cheapest(), search.alternatives(2)),
            (None, Some(&vec![6]), vec![vec![7], vec![8]])
        );
    }
}
