//! Models and the requests that each may serve: data of the scenario, in a list from the best model to the fastest. In
//! the paper the large model serves all requests and the small one serves hits.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::action::{Decision, DecisionKind};
use crate::model::{ModelId, ModelSet};

/// Requests that one model may serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Serves {
    /// True if the model may serve misses: full generations.
    pub misses: bool,
    /// Hits that the model may serve: refinements.
    pub hits: Hits,
}

/// Hits that a model may serve, by the steps that they skip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Hits {
    /// All hits, also those that skip no steps.
    All,
    /// Hits that skip one of these numbers of steps.
    Skipping(Vec<u32>),
}

/// Requests that each model may serve, by model, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving(Vec<Serves>);

impl Serving {
    /// Makes the list from one entry for each model.
    #[must_use]
    pub fn new(models: Vec<Serves>) -> Self {
        assert!(models.len() <= ModelSet::MOST, "longer lists were refused with the scenario");
        Self(models)
    }

    /// Returns the list of the paper: the large model serves all requests, the other models serve hits.
    #[must_use]
    pub fn large_and_small(models: usize) -> Self {
        Self::new((0..models).map(|model| Serves { misses: model == 0, hits: Hits::All }).collect())
    }

    /// Returns the number of models.
    pub const fn models(&self) -> usize {
        self.0.len()
    }

    /// Returns the models that may serve misses.
    #[must_use]
    pub fn of_misses(&self) -> ModelSet {
        self.whose(|serves| serves.misses)
    }

    /// Returns the models that may serve a decision; none for a return.
    #[must_use]
    pub fn models_for(&self, decision: &Decision) -> ModelSet {
        match decision.kind {
            DecisionKind::Miss => self.of_misses(),
            DecisionKind::Draft => self.whose(|serves| !serves.misses),
            DecisionKind::Hit => self.of_hits(decision.skipped_steps),
            DecisionKind::Return => ModelSet::EMPTY,
        }
    }

    /// Returns the models that may serve hits that skip `skipped_steps` steps.
    #[must_use]
    pub fn of_hits(&self, skipped_steps: u32) -> ModelSet {
        self.whose(|serves| match &serves.hits {
            Hits::All => true,
            Hits::Skipping(steps) => steps.contains(&skipped_steps),
        })
    }

    fn whose(&self, holds: impl Fn(&Serves) -> bool) -> ModelSet {
        let models = (0..).map(ModelId).zip(&self.0);
        models.filter(|(_, serves)| holds(serves)).map(|(model, _)| model).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(kind: DecisionKind, skipped_steps: u32) -> Decision {
        Decision { skipped_steps, ..Decision::new(kind) }
    }

    #[test]
    fn a_list_says_who_serves_what() {
        let models = |set: ModelSet| set.iter().map(|model| model.0).collect::<Vec<_>>();
        let paper = Serving::large_and_small(3);
        assert_eq!(models(paper.models_for(&decision(DecisionKind::Miss, 0))), [0]);
        assert_eq!(models(paper.models_for(&decision(DecisionKind::Hit, 5))), [0, 1, 2]);
        let mixed = Serving::new(vec![
            Serves { misses: true, hits: Hits::Skipping(Vec::new()) },
            Serves { misses: true, hits: Hits::All },
            Serves { misses: false, hits: Hits::Skipping(vec![15, 25]) },
        ]);
        assert_eq!(models(mixed.models_for(&decision(DecisionKind::Miss, 0))), [0, 1]);
        assert_eq!(models(mixed.models_for(&decision(DecisionKind::Hit, 5))), [1]);
        assert_eq!(models(mixed.models_for(&decision(DecisionKind::Hit, 25))), [1, 2]);
        assert!(mixed.models_for(&decision(DecisionKind::Return, 50)).is_empty());
    }
}
