//! Rates that fit the machine (`live.fit_rate`): the models are measured for some seconds, and the rates of a synthetic
//! trace are scaled so that the mean rate is a multiple of what the large model alone can carry here. The times that
//! were measured are those of the run: its latency objectives are multiples of them.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::json;

use super::{Equipment, PlannedRun};
use crate::experiments::profile::{Measurements, PROMPTS, check_steps, source_of};
use crate::experiments::{ExperimentError, Progress};
use crate::input::InputError;
use crate::live::library::Library;
use crate::live::measure::Plan;
use crate::profile::{self, ProfileFile, Service};
use crate::scenario::{Override, Scenario, Source, read_profile};

/// Name of the file with the profile that was measured.
const PROFILE: &str = "profile.toml";
/// Number of jobs of each kind of a model by itself. They are few, because people wait.
const JOBS: u32 = 2;
/// Number of jobs of each worker while all the work of a live run goes on, for each pair of models.
const JOBS_UNDER_LOAD: u32 = 4;
/// Name of the origin of the settings, for errors.
const ORIGIN: &str = "live.fit_rate";

/// Rates that were fitted to the machine.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Wanted mean rate, as a multiple of the rate that the large model alone can carry.
    pub multiple: f64,
    /// Seconds of a full generation by the large model, in the mean over the workers' rates.
    pub generation_s: f64,
    /// Requests a minute that the large model alone can carry on all workers.
    pub carried_per_min: f64,
    /// Mean rate of arrivals a minute, as the scenario has it.
    pub rate_per_min: f64,
    /// Profile that was measured.
    pub profile: PathBuf,
    /// Factor on the rates, with the scenario's own.
    rate_factor: f64,
}

impl Fit {
    /// Measures the models of the scenario, and writes the profile into the folder `out`. Returns `None` if the
    /// scenario wants no fit, or if its workers are on other machines.
    ///
    /// # Errors
    /// Returns an error if the trace or a variant does not go with a fit, or if a model does not draw.
    pub fn measure(
        (source, sets): (&Source, &[Override]),
        planned: &[PlannedRun],
        (library, allow_cpu): (&Library, bool),
        out: &Path,
        progress: &Rc<dyn Progress>,
    ) -> Result<Option<Self>, ExperimentError> {
        let scenario = source.scenario(sets)?;
        let Some(multiple) = wanted(&scenario) else { return Ok(None) };
        if scenario.live.cluster.is_some() {
            progress
                .say("live.fit_rate is left out: the workers are on other machines; rates are as the trace has them");
            return Ok(None);
        }
        let trace = planned.first().map(|run| &run.simulation.inputs.trace.trace);
        let rate_per_min = trace.and_then(crate::trace::Trace::mean_rate_per_min).unwrap_or(0.0);
        let factor = scenario.trace.synthetic.as_ref().map_or(1.0, |synthetic| synthetic.rate_factor);
        progress
            .say("measuring the models here, to fit the rates of the trace (live.fit_rate; --no-fit leaves it out)");
        let equipment = Equipment::find_here(&scenario, source.file(), library, allow_cpu, &**progress)?;
        let measured = measure(&scenario, source.file(), &equipment, out, progress)?;
        let carried_per_min = carried_per_min(&scenario, &measured.service);
        let profile = std::fs::canonicalize(out).map_err(ExperimentError::file(out, "cannot be read"))?.join(PROFILE);
        profile::write(&measured, &profile)?;
        let fit = Self {
            multiple,
            generation_s: 60.0 * scenario.workers() as f64 / carried_per_min,
            carried_per_min,
            rate_per_min,
            profile,
            rate_factor: factor * multiple * carried_per_min / rate_per_min,
        };
        progress.say(&fit.sentence());
        Ok(Some(fit))
    }

    /// Refuses what a fit does not go with, before anything is measured.
    ///
    /// # Errors
    /// Returns an error for a trace with times of its own, for too few steps, and for variants of other models, other
    /// GPU types or another trace.
    pub fn check(source: &Source, sets: &[Override], planned: &[PlannedRun]) -> Result<(), InputError> {
        let scenario = source.scenario(sets)?;
        let Some(multiple) = wanted(&scenario).filter(|_| scenario.live.cluster.is_none()) else { return Ok(()) };
        let refused = |message: &str| {
            let error = InputError::new(source.file(), message).value("live.fit_rate", multiple);
            Err(source.place(error, sets))
        };
        let at_once = |run: &PlannedRun| run.simulation.inputs.trace.trace.mean_rate_per_min().is_none();
        if scenario.trace.synthetic.is_none() || planned.iter().any(at_once) {
            return refused(
                "scales the rates of [trace.synthetic]: the times of this trace are its own; --no-fit replays it as it \
                 is",
            );
        }
        let (models, gpus) = (scenario.model_names(), scenario.gpu_types());
        for run in planned {
            let own = &run.simulation.scenario;
            let is_covered = own.model_names().iter().all(|name| models.contains(name))
                && own.gpu_types().iter().all(|name| gpus.contains(name))
                && own.same_trace(&scenario)
                && own.models.profile == scenario.models.profile;
            if !is_covered {
                return refused(
                    "goes with variants that have the trace, the profile, the models and the GPU types of the scenario \
                     itself, since all are measured once; --no-fit replays the trace as it is",
                );
            }
        }
        check_steps(&scenario, source)
    }

    /// Returns the settings of a run with the fitted rates and the measured times.
    #[must_use]
    pub fn sets(&self) -> Vec<Override> {
        let set = |key: &str, value| Override { key: key.to_owned(), value, origin: ORIGIN.to_owned() };
        vec![
            set("models.profile", toml::Value::String(self.profile.display().to_string())),
            set("trace.synthetic.rate_factor", toml::Value::Float(self.rate_factor)),
        ]
    }

    /// Returns the fit in words.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { multiple, generation_s, carried_per_min, rate_per_min, .. } = self;
        let wanted = multiple * carried_per_min;
        format!(
            "rates fitted to this machine: a full generation takes {generation_s:.3} s on the large model, which alone \
             carries {carried_per_min:.0} requests/min; the trace's {rate_per_min:.0}/min times {:.3} are {wanted:.0}/min \
             (live.fit_rate = {multiple})",
            wanted / rate_per_min
        )
    }

    /// Returns the fit for `run.json`.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        json!({
            "fit_rate": self.multiple,
            "generation_s": self.generation_s,
            "carried_per_min": self.carried_per_min,
            "rate_per_min": self.rate_per_min,
            "factor": self.multiple * self.carried_per_min / self.rate_per_min,
            "rate_factor": self.rate_factor,
            "profile": self.profile,
        })
    }
}

/// Returns the wanted multiple; `None` if the rates are to stay as they are.
fn wanted(scenario: &Scenario) -> Option<f64> {
    scenario.live.fit_rate.filter(|multiple| *multiple > 0.0)
}

/// Measures all models for some seconds. What is no time of this machine, qualities and sizes, stays as the scenario's
/// profile has it.
fn measure(
    scenario: &Scenario,
    file: &Path,
    equipment: &Equipment,
    out: &Path,
    progress: &Rc<dyn Progress>,
) -> Result<ProfileFile, ExperimentError> {
    let plan = Plan {
        steps: scenario.models.large_steps(),
        jobs: JOBS,
        loads: 1,
        prompts: PROMPTS.map(str::to_owned).to_vec(),
    };
    let mut measurements = Measurements::default();
    measurements.round(scenario, equipment, &[1], &plan, &|_| {})?;
    measurements.under_load(scenario, equipment, JOBS_UNDER_LOAD, out, progress)?;
    let (mut measured, _) = measurements.profile(scenario, &source_of(&equipment.library));
    let (own, ..) = read_profile(scenario, file)?;
    for row in &mut measured.service {
        let known = own.service.iter().find(|known| (&known.gpu, &known.model) == (&row.gpu, &row.model));
        row.memory_gb = known.and_then(|known| known.memory_gb);
    }
    Ok(ProfileFile { gpu: own.gpu, quality: own.quality, own_quality: own.own_quality, ..measured })
}

/// Returns the requests a minute that the large model alone can carry on all workers.
fn carried_per_min(scenario: &Scenario, measured: &[Service]) -> f64 {
    let (types, large) = (scenario.gpu_types(), scenario.model_names());
    let steps = f64::from(scenario.models.large_steps());
    let rate = |gpu: &String| {
        let row = measured.iter().find(|row| row.gpu == *gpu && Some(&row.model) == large.first());
        row.map_or(0.0, |row| 60.0 / (row.overhead_s + row.step_s * steps))
    };
    scenario.gpus().iter().map(|gpu| rate(&types[gpu.index()])).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_large_model_alone_carries_the_sum_over_the_workers() {
        let text = "name = \"a\"\ntrace = { requests = \"r.csv\" }\nmodels = { large = \"l\", small = [\"s\"], steps = 50 }\n\
                    cluster.gpus = [{ type = \"x\", count = 2 }, { type = \"y\", count = 1 }]\n";
        let scenario = Source::new(Path::new("s.toml"), text.into()).unwrap().scenario(&[]).unwrap();
        let row = |gpu: &str, model: &str, step_s| Service { step_s, overhead_s: 1.0, ..Service::new(gpu, model) };
        let rows = vec![row("x", "s", 9.0), row("x", "l", 0.1), row("y", "l", 0.02)];
        // Two of six seconds and one of two: 10 + 10 + 30 a minute.
        assert!((carried_per_min(&scenario, &rows) - 50.0).abs() < 1e-9);
    }
}
