//! Which requests each image of a history could serve: what eviction by knowledge of the future knows.

use std::collections::BTreeMap;

use super::{Ahead, most_under};
use crate::cache::eviction::Uses;
use crate::cache::index::QueryCodes;
use crate::embedding::EmbeddingMatrix;

impl Ahead {
    /// By image, the rows of the requests after it for which it is at least this similar. `prompts` are those that
    /// were searched for.
    #[must_use]
    pub fn uses(&self, prompts: &EmbeddingMatrix, lowest: f64) -> Uses {
        let mut uses: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        let (mut wanted, warm) = (Vec::new(), self.history.warm_len());
        for row in 0..prompts.rows() {
            prompts.read_unit(row, &mut wanted);
            let coded = QueryCodes::new(&wanted);
            let bounds = self.bounds_of(row);
            // The last block reaches up to the request's own place and has no bound.
            let bounds = bounds.into_iter().map(most_under).chain([f64::INFINITY]).enumerate();
            for (block, _) in bounds.filter(|(_, most)| *most >= lowest) {
                let places = block * self.block..((block + 1) * self.block).min(warm + row);
                for place in places.filter(|place| self.vectors.reaches(*place, &wanted, &coded, lowest)) {
                    uses.entry(self.history.image(place)).or_default().push(row as u32);
                }
            }
        }
        Uses(uses)
    }
}
