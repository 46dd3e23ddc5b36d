//! Names that requests may give a model: those of the scenario's models, those that leave the choice to the scheduler,
//! and the aliases of `[serve.aliases]`.

use std::collections::BTreeMap;

use crate::model::ModelId;
use crate::scheduler::Serving;

/// Name of the whole system in the list of models. The scheduler chooses the model.
pub const OWN: &str = "modm";
/// Another name of the whole system, which aliases may stand for.
const AUTO: &str = "auto";
/// Largest number of characters of an alias.
const LONGEST: usize = 100;

/// Model that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedModel {
    /// Any model: the scheduler chooses.
    Any,
    /// Model of the scenario.
    Model(ModelId),
}

/// All names that requests may give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelNames {
    /// Names of the models, best first.
    models: Vec<String>,
    /// Name of the scenario.
    scenario: String,
    aliases: BTreeMap<String, String>,
    /// Model that alone serves misses.
    alone: Option<ModelId>,
}

/// Alias that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadAlias {
    /// Alias.
    pub alias: String,
    /// Name that it stands for.
    pub target: String,
    /// Names or forms that are accepted.
    pub message: String,
}

impl ModelNames {
    /// Makes the names of a scenario's models.
    ///
    /// # Errors
    /// An alias is no name, is a name already, or stands for no model.
    pub fn new(
        models: Vec<String>,
        scenario: &str,
        aliases: &BTreeMap<String, String>,
        serving: &Serving,
    ) -> Result<Self, BadAlias> {
        let of_misses: Vec<ModelId> = serving.of_misses().iter().collect();
        let alone = <[ModelId; 1]>::try_from(of_misses).ok().map(|[model]| model);
        let mut names = Self { models, scenario: scenario.to_owned(), aliases: BTreeMap::new(), alone };
        for (alias, target) in aliases {
            let wrong = |message: String| BadAlias { alias: alias.clone(), target: target.clone(), message };
            if !(1..=LONGEST).contains(&alias.len()) || !alias.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong(format!("expected a name of 1 to {LONGEST} visible ASCII characters")));
            }
            if names.find(alias).is_some() {
                return Err(wrong("is a name already: expected another one".to_owned()));
            }
            if names.find(target).is_none() {
                return Err(wrong(format!("stands for no model: expected {AUTO}, {}", names.models.join(", "))));
            }
        }
        names.aliases.clone_from(aliases);
        Ok(names)
    }

    /// Returns the model that a name stands for, or `None` if the name is not known.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<AskedModel> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        if [OWN, AUTO].contains(&name) {
            return Some(AskedModel::Any);
        }
        let model = self.models.iter().position(|model| model == name);
        let of_scenario = (name == self.scenario).then_some(AskedModel::Any);
        model.map(|model| AskedModel::Model(ModelId(model as u16))).or(of_scenario)
    }

    /// Returns all names, each with the name that it stands for if it is an alias.
    pub fn all(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let is_new = |name: &&str| ![OWN, AUTO].contains(name) && !self.models.iter().any(|model| model == name);
        let scenario = Some(self.scenario.as_str()).filter(is_new);
        let own = [OWN, AUTO].into_iter().chain(scenario).chain(self.models.iter().map(String::as_str));
        own.map(|name| (name, None))
            .chain(self.aliases.iter().map(|(alias, name)| (alias.as_str(), Some(name.as_str()))))
    }

    /// Returns whether a request for a model is drawn by no other one if it must not hit.
    #[must_use]
    pub fn draws_every_miss(&self, model: ModelId) -> bool {
        self.alone == Some(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(aliases: &[(&str, &str)]) -> Result<ModelNames, BadAlias> {
        let aliases = aliases.iter().map(|(alias, name)| ((*alias).to_owned(), (*name).to_owned())).collect();
        ModelNames::new(vec!["large".into(), "small".into()], "shop", &aliases, &Serving::large_and_small(2))
    }

    #[test]
    fn names_lead_to_models() {
        let names = names(&[("gpt-image-1", "large"), ("dall-e-3", "auto")]).expect("names");
        let model = |number| Some(AskedModel::Model(ModelId(number)));
        for name in ["modm", "auto", "shop", "dall-e-3"] {
            assert_eq!(names.find(name), Some(AskedModel::Any), "{name}");
        }
        assert_eq!(
            ["large", "small", "gpt-image-1", "other"].map(|name| names.find(name)),
            [model(0), model(1), model(0), None]
        );
        let all: Vec<&str> = names.all().map(|(name, _)| name).collect();
        assert_eq!(all, ["modm", "auto", "shop", "large", "small", "dall-e-3", "gpt-image-1"]);
        assert!(names.draws_every_miss(ModelId(0)) && !names.draws_every_miss(ModelId(1)));
    }

    #[test]
    fn an_alias_is_new_and_stands_for_a_model() {
        for (aliases, message) in [
            ([("large", "small")], "is a name already"),
            ([("modm", "small")], "is a name already"),
            ([("a", "b")], "stands for no model: expected auto, large, small"),
            ([("a b", "small")], "visible ASCII"),
        ] {
            assert!(names(&aliases).expect_err("refused").message.contains(message), "{message}");
        }
    }
}
