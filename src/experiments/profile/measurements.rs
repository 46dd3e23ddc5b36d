//! Measurements of a scenario's models and encoder on its devices, over several rounds, and the profile that follows
//! from them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use super::under_load::{self, Jobs};
use crate::experiments::live::Equipment;
use crate::experiments::{ExperimentError, Progress};
use crate::live::measure::{
    Encoding, Measured, Neighbours, Plan, Samples, encoding, loads_after, mean, median, model, usual_variation,
    variation,
};
use crate::model::ModelId;
use crate::profile::{EncodingTimes, MOST_SPREAD, Measurement, Neighbourhood, ProfileFile, Service, SpreadKind};
use crate::scenario::Scenario;

/// Coefficient of variation above which steps or jobs count as disturbed.
const NOISY: f64 = 0.05;

/// Least number of jobs beside a model from which the profile states their time.
const FEWEST_BESIDE: usize = 4;

/// Key of measurements: GPU type, model, and what the other workers did.
type Cell = (usize, usize, Neighbourhood);

/// Measurements so far.
#[derive(Clone, Debug, Default)]
pub struct Measurements {
    cells: BTreeMap<Cell, Measured>,
    encoding: Encoding,
    /// Jobs while all the work of a live run went on, by round.
    loaded: Vec<Loaded>,
}

/// Jobs by GPU type, model and skipped steps.
type Loaded = BTreeMap<(usize, usize, u32), Jobs>;

impl Measurements {
    /// Measures one more round: every model on every GPU type, with the other workers idle and busy, and the encoder.
    /// Rounds follow each other so that a slow minute of the machine affects all kinds alike.
    ///
    /// # Errors
    /// Returns an error if a model does not load or does not draw.
    pub fn round(
        &mut self,
        scenario: &Scenario,
        equipment: &Equipment,
        batches: &[u32],
        plan: &Plan,
        say: &dyn Fn(&str),
    ) -> Result<(), ExperimentError> {
        let gpus = scenario.gpus();
        for (gpu, gpu_name) in scenario.gpu_types().iter().enumerate() {
            let worker = gpus.iter().position(|id| id.index() == gpu).unwrap_or(0);
            let device = equipment.devices[worker];
            let others = equipment.devices.iter().enumerate().filter(|(other, _)| *other != worker);
            let others: Vec<_> = others.map(|(_, device)| *device).collect();
            for around in [Neighbourhood::Idle, Neighbourhood::Busy] {
                if around == Neighbourhood::Busy && others.is_empty() {
                    continue;
                }
                let busy = if around == Neighbourhood::Busy { others.as_slice() } else { &[] };
                // The neighbours draw until this value is dropped, at the end of the block.
                let _neighbours = Neighbours::start(&equipment.library, busy, &equipment.palette, plan)?;
                for (index, name) in scenario.model_names().iter().enumerate() {
                    say(&format!("{gpu_name} ({device}), {name}, others {}", around.word()));
                    let (folder, guidance) = &equipment.palette.models[index];
                    let (what, size) = ((folder.as_path(), *guidance), equipment.palette.size);
                    let plan = &Plan { steps: scenario.models.steps_of(name), ..plan.clone() };
                    let mut measured = model(&equipment.library, device, what, size, index > 0, batches, plan)?;
                    for (other, (its_folder, its_guidance)) in equipment.palette.models.iter().enumerate() {
                        if other != index {
                            let from = (its_folder.as_path(), *its_guidance);
                            let times = loads_after(&equipment.library, device, from, what, size, plan.loads)?;
                            measured.loads_after.insert(other, times);
                        }
                    }
                    self.cells.entry((gpu, index, around)).or_default().extend(measured);
                }
            }
        }
        say("the encoder, all workers busy");
        let _neighbours = Neighbours::start(&equipment.library, &equipment.devices, &equipment.palette, plan)?;
        // The encoder runs as in live runs: in a process of its own, if theirs does.
        let encoder = equipment.embed(&equipment.limits(None))?;
        let measured = encoding(encoder, &equipment.encoder, equipment.palette.size, plan)?;
        self.encoding.prompts.extend(measured.prompts);
        self.encoding.pictures.extend(measured.pictures);
        Ok(())
    }

    /// Measures jobs while all the work of a live run goes on, at least `jobs` for each worker and model. The pictures
    /// go into a folder in `place`, which is removed afterwards.
    ///
    /// # Errors
    /// Returns an error if a model does not load or does not draw, or if a picture cannot be written.
    pub fn under_load(
        &mut self,
        scenario: &Scenario,
        equipment: &Equipment,
        jobs: u32,
        place: &Path,
        progress: &Rc<dyn Progress>,
    ) -> Result<(), ExperimentError> {
        let gpus = scenario.gpus();
        // The folder must not exist yet, so that no folder of others is removed.
        let folder = place.join(format!("profiling-{}", std::process::id()));
        std::fs::create_dir(&folder).map_err(ExperimentError::file(&folder, "cannot be made"))?;
        let mut round = Loaded::new();
        for ((worker, model, skipped), jobs) in under_load::measure(scenario, equipment, jobs, &folder, progress)? {
            let key = (gpus[worker.index()].index(), model.index(), skipped);
            round.entry(key).or_default().extend(jobs);
        }
        self.loaded.push(round);
        std::fs::remove_dir_all(&folder).map_err(ExperimentError::file(&folder, "cannot be removed"))
    }

    /// Returns the number of rounds under load so far.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.loaded.len()
    }

    /// Returns the same measurements with only the given rounds under load, e.g. those near the time of a live run.
    #[must_use]
    pub fn near(&self, rounds: Range<usize>) -> Self {
        let (from, to) = (rounds.start.min(self.loaded.len()), rounds.end.min(self.loaded.len()));
        Self { loaded: self.loaded[from..to].to_vec(), ..self.clone() }
    }

    /// Returns the jobs of a model on a GPU type, with the number of steps that they ran.
    fn loaded(&self, gpu: usize, model: usize, steps: u32) -> Vec<(u32, &Jobs)> {
        let all = self.loaded.iter().flatten().filter(|((on, of, _), _)| (*on, *of) == (gpu, model));
        all.map(|((.., skipped), jobs)| (steps - skipped, jobs)).collect()
    }

    /// Returns the mean time of each round's jobs on a GPU type over the time that the profile's rows predict, by
    /// model, then by round under load. `steps` are those of a full generation, by model.
    fn relative_rounds(&self, gpu: usize, rows: &[&mut Service], steps: &[u32]) -> Vec<Vec<f64>> {
        let of_model = |(model, row): (usize, &&mut Service)| -> Vec<f64> {
            let steps = steps[model];
            let of_round = |round: &Loaded| {
                let own = round.iter().filter(|((on, of, _), _)| (*on, *of) == (gpu, model));
                let times = own.flat_map(|((.., skipped), jobs)| {
                    let usual_s = row.overhead_s + row.step_s * f64::from(steps - skipped);
                    jobs.loaded.iter().map(move |seconds| seconds / usual_s)
                });
                mean(&times.collect::<Vec<f64>>())
            };
            // A round without jobs of the model has a mean of 0, which says nothing.
            self.loaded.iter().map(of_round).filter(|mean| mean.is_finite() && *mean > 0.0).collect()
        };
        rows.iter().enumerate().map(of_model).collect()
    }

    /// Returns the profile, and the warnings for a reader.
    #[must_use]
    pub fn profile(&self, scenario: &Scenario, source: &str) -> (ProfileFile, Vec<String>) {
        let (gpus, models) = (scenario.gpu_types(), scenario.model_names());
        let mut profile = ProfileFile {
            source: source.to_owned(),
            service: Vec::new(),
            encoding: Some(EncodingTimes {
                prompt_s: rounded(mean(&self.encoding.prompts)),
                image_s: rounded(mean(&self.encoding.pictures)),
            }),
            gpu: Vec::new(),
            measurement: Vec::new(),
            quality: Vec::new(),
            own_quality: Vec::new(),
        };
        let steps: Vec<u32> = models.iter().map(|name| scenario.models.steps_of(name)).collect();
        let mut warnings = Vec::new();
        for (&(gpu, model, around), measured) in &self.cells {
            let names = (gpus[gpu].as_str(), models[model].as_str(), around);
            profile.measurement.extend(measured.points.iter().map(|point| row(names, measured, point)));
            warnings.extend(complaint(names, measured));
        }
        for (gpu, gpu_name) in gpus.iter().enumerate() {
            for (model, name) in models.iter().enumerate() {
                let of = |around| self.cells.get(&(gpu, model, around));
                let idle = of(Neighbourhood::Idle);
                let busy = of(Neighbourhood::Busy).or(idle);
                let row = idle.zip(busy).and_then(|(idle, busy)| service(gpu_name, name, &models, idle, busy));
                let loaded = self.loaded(gpu, model, steps[model]);
                profile.service.extend(row.map(|row| under_load_row(row, &loaded, &models)));
            }
            let rows = profile.service.iter_mut().filter(|row| row.gpu == *gpu_name);
            let rows: Vec<&mut Service> = rows.collect();
            let spread = spread(&self.relative_rounds(gpu, &rows, &steps));
            for row in rows {
                row.spread = spread.map(rounded);
                row.spread_kind = if spread.is_some() { SpreadKind::Measured } else { SpreadKind::Assumed };
            }
        }
        if !warnings.is_empty() {
            profile.source.push_str("; noisy");
        }
        (profile, warnings)
    }
}

/// Returns the row that the simulator and the policies use: means of batch 1 with the other workers busy, and the part
/// of these times that a job takes alone. Means are used, because queues depend on them.
fn service(gpu: &str, model: &str, models: &[String], idle: &Measured, busy: &Measured) -> Option<Service> {
    let known = busy.loads_after.iter().filter(|(_, loads)| !loads.is_empty());
    let load_after = known.filter_map(|(other, loads)| Some((models.get(*other)?.clone(), rounded(mean(loads)))));
    let (alone, point) = (idle.points.first()?, busy.points.first()?);
    let part = mean(&alone.totals) / mean(&point.totals);
    Some(Service {
        step_s: rounded(mean(&point.steps)),
        overhead_s: rounded(mean(&point.overheads)),
        load_s: rounded(mean(&busy.loads)),
        load_after: load_after.collect(),
        jitter_cv: rounded(variation(&point.totals)),
        // A job is not slower alone than beside others, so a measured part above 1 is noise.
        alone: rounded(part.clamp(0.01, 1.0)),
        ..Service::new(gpu, model)
    })
}

/// Number of rounds before and after a round, or before and after a live run, from which it is predicted.
pub const NEIGHBOURS: usize = 2;

/// Student's t at 95 % for 1 to 30 degrees of freedom, for ranges of 90 %.
const T_90: [f64; 30] = [
    6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761, 1.753, 1.746,
    1.740, 1.734, 1.729, 1.725, 1.721, 1.717, 1.714, 1.711, 1.708, 1.706, 1.703, 1.701, 1.699, 1.697,
];

/// Returns Student's t of a range of 90 %. Beyond 30 degrees of freedom, returns that of 30, which is a little too
/// wide.
fn student_t_90(degrees: usize) -> f64 {
    if degrees == 0 { f64::INFINITY } else { T_90[degrees.min(T_90.len()) - 1] }
}

/// Returns the relative half-width of the 90 % range of a service time in another minute; `None` if there are too few
/// rounds. Each round is predicted from those around it, and the root of the mean squared error is multiplied by
/// Student's t. `rounds` has the rounds in their order, by model.
fn spread(rounds: &[Vec<f64>]) -> Option<f64> {
    let error = |rounds: &Vec<f64>, at: usize| {
        let near = at.saturating_sub(NEIGHBOURS)..(at + NEIGHBOURS + 1).min(rounds.len());
        let others: Vec<f64> = near.filter(|other| *other != at).map(|other| rounds[other]).collect();
        rounds[at] / mean(&others) - 1.0
    };
    let known = rounds.iter().filter(|rounds| rounds.len() > 1);
    let errors: Vec<f64> =
        known.clone().flat_map(|rounds| (0..rounds.len()).map(move |at| error(rounds, at))).collect();
    let degrees = known.map(|rounds| rounds.len() - 1).max()?;
    let square = errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64;
    // The models of one machine are slow and fast together, so they do not count as independent.
    Some((student_t_90(degrees) * square.sqrt()).min(MOST_SPREAD))
}

/// Returns the row with the times and the variation of jobs under load, with the part of these times that jobs take
/// alone, measured in turns, and with the times beside each model. Without jobs under load the row stays as it is.
fn under_load_row(row: Service, jobs: &[(u32, &Jobs)], models: &[String]) -> Service {
    let flat = |of: fn(&Jobs) -> &Vec<f64>| -> Vec<(f64, f64)> {
        jobs.iter().flat_map(|(steps, jobs)| of(jobs).iter().map(|seconds| (f64::from(*steps), *seconds))).collect()
    };
    let (loaded, alone) = (flat(|jobs| &jobs.loaded), flat(|jobs| &jobs.alone));
    if loaded.is_empty() {
        return row;
    }
    // Jobs of one length do not tell steps from overhead, so the overhead of the model by itself stays.
    let (overhead_s, step_s) = line(&loaded).unwrap_or_else(|| {
        let steps: f64 = loaded.iter().map(|(steps, _)| steps).sum();
        (row.overhead_s, loaded.iter().map(|(_, seconds)| seconds - row.overhead_s).sum::<f64>() / steps)
    });
    let relative = |jobs: &[(f64, f64)]| -> Vec<f64> {
        jobs.iter().map(|(steps, seconds)| seconds / (overhead_s + step_s * steps)).collect()
    };
    let part = if alone.is_empty() { row.alone } else { mean(&relative(&alone)) };
    let beside = |model: usize| {
        let own = jobs.iter().filter_map(|(steps, jobs)| Some((steps, jobs.beside.get(&ModelId(model as u16))?)));
        let own = own.flat_map(|(steps, seconds)| seconds.iter().map(|seconds| (f64::from(*steps), *seconds)));
        let own: Vec<(f64, f64)> = own.collect();
        (own.len() >= FEWEST_BESIDE).then(|| rounded(mean(&relative(&own)).clamp(0.1, 10.0)))
    };
    let named = models.iter().enumerate().filter_map(|(model, name)| Some((name.clone(), beside(model)?)));
    Service {
        step_s: rounded(step_s),
        overhead_s: rounded(overhead_s),
        jitter_cv: rounded(variation(&relative(&loaded))),
        // A job is not slower alone than beside others, so a measured part above 1 is noise.
        alone: rounded(part.clamp(0.01, 1.0)),
        beside: named.collect(),
        ..row
    }
}

/// Fits seconds to steps by least squares. Returns the seconds that a job takes beyond its steps, and the seconds of a
/// step; `None` if all jobs have the same number of steps, or if a result cannot be a time.
fn line(jobs: &[(f64, f64)]) -> Option<(f64, f64)> {
    let n = jobs.len() as f64;
    let mean_of = |of: fn(&(f64, f64)) -> f64| jobs.iter().map(of).sum::<f64>() / n;
    let (steps, seconds) = (mean_of(|job| job.0), mean_of(|job| job.1));
    let spread: f64 = jobs.iter().map(|job| (job.0 - steps) * (job.0 - steps)).sum();
    let together: f64 = jobs.iter().map(|job| (job.0 - steps) * (job.1 - seconds)).sum();
    // The quotient is NaN where all jobs have the same number of steps. The condition below refuses it.
    let step = together / spread;
    (spread > 0.0 && step > 0.0 && seconds >= step * steps).then_some((seconds - step * steps, step))
}

/// Returns the measurement of one point, from medians.
fn row((gpu, name, around): (&str, &str, Neighbourhood), measured: &Measured, point: &Samples) -> Measurement {
    Measurement {
        gpu: gpu.to_owned(),
        model: name.to_owned(),
        batch: point.batch,
        neighbours: around,
        step_s: rounded(median(&point.steps)),
        bare_step_s: rounded(median(&point.bare)),
        step_cv: rounded(usual_variation(&point.spans)),
        overhead_s: rounded(median(&point.overheads)),
        job_cv: rounded(usual_variation(&point.totals)),
        load_s: rounded(median(&measured.loads)),
        load_cv: rounded(usual_variation(&measured.loads)),
        // Memory that grows while others draw may be theirs.
        memory_mb: measured.memory_mb.filter(|_| around == Neighbourhood::Idle).map(rounded),
        jobs: point.totals.len() as u32,
    }
}

fn complaint((gpu, name, around): (&str, &str, Neighbourhood), measured: &Measured) -> Option<String> {
    let first = measured.points.first()?;
    let (steps, jobs) = (usual_variation(&first.spans), usual_variation(&first.totals));
    (steps > NOISY || jobs > NOISY).then(|| {
        format!(
            "{name} on {gpu}, others {}: steps vary by {:.0} %, jobs by {:.0} %: something else used the machine, or it shares its cores; measure again when it is quiet",
            around.word(),
            steps * 100.0,
            jobs * 100.0
        )
    })
}

/// Rounds to six significant digits, because no clock is better.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_what_jobs_took_under_load() {
        let row = Service { step_s: 9.0, overhead_s: 1.0, load_s: 3.0, alone: 0.9, ..Service::new("a", "m") };
        let [long, short] = [50, 25].map(f64::from).map(|steps| Jobs {
            loaded: vec![1.0 + 0.18 * steps, 1.0 + 0.22 * steps],
            alone: vec![0.8 * (1.0 + 0.2 * steps)],
            beside: BTreeMap::from([(ModelId(1), vec![1.1 * (1.0 + 0.2 * steps); 2])]),
        });
        let models = ["l", "s"].map(str::to_owned);
        let measured = under_load_row(row.clone(), &[(50, &long), (25, &short)], &models);
        assert!((measured.step_s - 0.2).abs() < 1e-6 && (measured.alone - 0.8).abs() < 1e-5, "{measured:?}");
        assert!(measured.jitter_cv > 0.05 && measured.jitter_cv < 0.1, "{measured:?}");
        assert!((measured.overhead_s - 1.0).abs() < 1e-5 && (measured.load_s - 3.0).abs() < 1e-12, "{measured:?}");
        assert!(measured.beside.len() == 1 && (measured.beside["s"] - 1.1).abs() < 1e-5, "{measured:?}");
        assert_eq!(under_load_row(row.clone(), &[], &models), row, "without such jobs it stays");
        let one_length = under_load_row(row.clone(), &[(50, &long)], &models);
        assert!(
            (one_length.step_s - 0.2).abs() < 1e-6 && (one_length.overhead_s - 1.0).abs() < 1e-12,
            "{one_length:?}"
        );
        let slower = Jobs { loaded: vec![11.0], alone: vec![12.0], beside: BTreeMap::new() };
        assert!((under_load_row(row, &[(50, &slower)], &models).alone - 1.0).abs() < 1e-12, "nobody is slower alone");
    }

    #[test]
    fn a_spread_is_of_rounds_predicted_from_those_around_them() {
        assert_eq!(spread(&[vec![1.0], Vec::new()]), None, "a single round says nothing of another");
        assert_eq!(spread(&[vec![1.0; 4], vec![1.0; 4]]), Some(0.0));
        // Each of two rounds is predicted from the other: errors of 2 % and -2/1.02 %, and one degree of freedom.
        let two = spread(&[vec![1.0, 1.02]]).expect("two rounds");
        assert!((two - 6.314 * 0.0198).abs() < 1e-4, "{two}");
        // The prediction follows a slow drift, but not a jump from round to round.
        let drifting = spread(&[(0..20).map(|at| 1.0 + f64::from(at) / 100.0).collect()]).expect("rounds");
        let jumping = spread(&[(0..20).map(|at| 1.0 + f64::from(at % 2) / 10.0).collect()]).expect("rounds");
        assert!(drifting < 0.02 && jumping > 0.08, "{drifting} {jumping}");
    }
}
