//! Section `[models]`: profile, names of the models, and the requests that each of them may serve.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AllocationKind, Scenario, Steps};
use crate::denoising::Schedule;
use crate::input::InputError;
use crate::model::{ModelId, ModelSet};
use crate::scheduler::allocation::Mode;
use crate::serve::names::{BadAlias, ModelNames};

/// Section `[models]`: profile, names of the models, and number of denoising steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Models {
    /// Profile with the service times, TOML, or `catalogue`, the built-in catalogue
    /// (`scenarios/profiles/catalogue.toml`). If absent, the paper's profile is used, which is built in
    /// (`scenarios/profiles/paper.toml`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<PathBuf>,
    /// Name of the large model, which serves misses.
    pub large: String,
    /// Names of the small models, which refine hits, best first.
    pub small: Vec<String>,
    /// Exceptions to the rules by which models serve requests, by name of the model. Only `what_if` gives workers to
    /// several small models at once: hits that a small model may not serve are refused where it would be alone.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub serves: BTreeMap<String, ServesSetting>,
    /// Denoising steps of a full generation: one number (T), or a table by model, such as
    /// `{ flux-dev = 28, flux-schnell = 4 }`.
    pub steps: Steps,
    /// Noise levels of each model's steps: `{ NAME = { shift = 3.0 } }` for flow matching (1 for no shift) or `{ NAME =
    /// "scaled-linear" }` for Stable Diffusion. Set it for all models or for none, and where their numbers of steps
    /// differ. If absent, all models are taken to have the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<BTreeMap<String, Schedule>>,
    /// Width and height in pixels of an image whose request names no size.
    #[serde(skip_serializing_if = "is_usual")]
    #[schemars(!skip_serializing_if)]
    pub size: [u16; 2],
}

const USUAL_SIZE: [u16; 2] = [1024, 1024];

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_usual(size: &[u16; 2]) -> bool {
    *size == USUAL_SIZE
}

/// Requests that one model may serve. For an absent field, the rule of the model's place in the list holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServesSetting {
    /// True if the model may serve misses. If absent, only the large model may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misses: Option<bool>,
    /// Hits that the model may serve, by the number of steps that they skip; all hits if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hits: Option<Vec<u32>>,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            profile: None,
            large: "sd3.5-large".into(),
            small: vec!["sdxl".into()],
            serves: BTreeMap::new(),
            steps: Steps::All(50),
            schedule: None,
            size: USUAL_SIZE,
        }
    }
}

impl Scenario {
    /// Returns the names of the models that the system uses, best first.
    pub fn model_names(&self) -> Vec<String> {
        let small = if self.system.policy.has_small_models() { self.models.small.as_slice() } else { &[] };
        std::iter::once(&self.models.large).chain(small).cloned().collect()
    }

    /// Checks that there is a place for every model of the list, and that some model may serve each kind of request.
    pub(super) fn check_serving(&self, file: &Path) -> Result<(), InputError> {
        let names = self.model_names();
        if names.len() > ModelSet::MOST {
            let message = format!("expected at most {} models in all", ModelSet::MOST);
            return Err(
                InputError::new(file, message).value("models.small", format_args!("{} models", names.len() - 1))
            );
        }
        if !self.system.policy.has_small_models() {
            return Ok(());
        }
        let steps = if self.drafts() { Vec::new() } else { self.skipped_steps() };
        for name in self.models.serves.keys() {
            let key = format!("models.serves.{name}");
            if !names.contains(name) {
                let message = format!("is not a model of this scenario: expected one of {}", names.join(", "));
                return Err(InputError::new(file, message).key(key));
            }
        }
        let serving = self.serving();
        if self.drafts() && serving.of_misses() != ModelSet::EMPTY.with(ModelId::LARGE) {
            return Err(InputError::new(file, "a cascade's large model alone makes drafts again").key("models.serves"));
        }
        if serving.of_misses().is_empty() {
            return Err(InputError::new(file, "no model may serve misses: one must").key("models.serves"));
        }
        if let Some(skipped) = steps.iter().find(|skipped| serving.of_hits(**skipped).is_empty()) {
            let message = format!("no model may serve hits that skip {skipped} steps: one must");
            return Err(InputError::new(file, message).key("models.serves"));
        }
        self.check_held(&steps, file)
    }

    /// Returns the names that requests to a server may give a model.
    ///
    /// # Errors
    /// An alias of `[serve.aliases]` cannot be used.
    pub fn names_of_models(&self) -> Result<ModelNames, BadAlias> {
        ModelNames::new(self.model_names(), &self.name, &self.serve.aliases, &self.serving())
    }

    /// Checks the aliases of models.
    pub(super) fn check_aliases(&self, file: &Path) -> Result<(), InputError> {
        self.names_of_models().map(drop).map_err(|BadAlias { alias, target, message }| {
            InputError::new(file, message).value(format!("serve.aliases.{alias}"), format_args!("{target:?}"))
        })
    }

    /// Checks that every small model that is alone beside the large one may serve every hit that small models serve:
    /// each of them in mode `load`, and the first otherwise, unless the policy is `what_if`. Only `what_if` gives
    /// workers to several small models at once. Hits of another small model would wait behind every miss.
    fn check_held(&self, steps: &[u32], file: &Path) -> Result<(), InputError> {
        if self.allocation.policy == AllocationKind::WhatIf {
            return Ok(());
        }
        let (names, serving) = (self.model_names(), self.serving());
        let small = |skipped: u32| serving.of_hits(skipped).without(ModelSet::EMPTY.with(ModelId::LARGE));
        let by_load = self.allocation.policy == AllocationKind::Modm && self.allocation.mode == Mode::Load;
        let alone = if by_load { names.len() } else { names.len().min(2) };
        let left = steps.iter().find_map(|&skipped| {
            let others = small(skipped);
            let lacks = (1..alone).find(|model| !others.contains(ModelId(*model as u16)))?;
            others.iter().next().map(|model| (skipped, &names[model.index()], &names[lacks]))
        });
        let Some((skipped, model, lacks)) = left else { return Ok(()) };
        let which = if by_load { "one small model at a time" } else { "the first small model alone" };
        let message = format!(
            "hits that skip {skipped} steps are for {model}, and this allocation policy gives workers to {which}: let \
             {lacks} serve them, or set allocation.policy = \"what_if\""
        );
        Err(InputError::new(file, message).key("models.serves"))
    }
}
