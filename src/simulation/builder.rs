//! Builder of a simulation from the file or the text of a scenario, with overrides of its keys.

use std::path::{Path, PathBuf};

use super::Simulation;
use crate::input::InputError;
use crate::scenario::{Override, Source};

/// Builder of a [`Simulation`] from a scenario.
///
/// ```
/// use modm::simulation::Simulation;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let simulation = Simulation::builder()
///     .scenario_file("scenarios/quickstart.toml")
///     .set("trace.synthetic.requests", 2_500) // The first 2,000 warm the cache.
///     .set("system.policy", "vanilla")
///     .build()?;
/// let results = simulation.run()?;
///
/// assert_eq!(results.summary.completed, 500);
/// let first = &results.requests[0];
/// println!("request {} took {} s", first.id.row(), first.finish.since(first.arrival).seconds());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct SimulationBuilder {
    file: PathBuf,
    text: Option<String>,
    sets: Vec<Override>,
}

impl SimulationBuilder {
    /// Takes the scenario from a TOML file. Paths in the scenario are relative to the file.
    #[must_use]
    pub fn scenario_file(self, file: impl AsRef<Path>) -> Self {
        Self { file: file.as_ref().to_owned(), text: None, ..self }
    }

    /// Takes the scenario from a text in TOML. Paths in the scenario are relative to the working directory.
    #[must_use]
    pub fn scenario_toml(self, text: impl Into<String>) -> Self {
        Self { file: PathBuf::from("scenario.toml"), text: Some(text.into()), ..self }
    }

    /// Sets a key of the scenario, e.g. `cache.capacity`. If a key is set twice, the last value counts.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        self.sets.push(Override { key: key.to_owned(), value: value.into(), origin: "set".to_owned() });
        self
    }

    /// Checks the scenario, and reads all files that it names.
    ///
    /// # Errors
    /// Returns an error if the scenario cannot be read or used, or if a file that it names cannot be used.
    pub fn build(self) -> Result<Simulation, InputError> {
        let source = match self.text {
            Some(text) => Source::new(&self.file, text)?,
            None => Source::read(&self.file)?,
        };
        Simulation::load(&source, &self.sets)
    }
}
