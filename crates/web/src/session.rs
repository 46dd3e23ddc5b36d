//! Session of the page: what it asks for, as JSON, with the work that earlier questions have done already.

use std::sync::Arc;

use modm_core::metrics::summary::Summary;
use modm_core::metrics::timeline::TimelineRow;
use modm_core::time::Time;

use crate::json::{list, number, numbers, object, text};
use crate::presets::{Model, PRESETS, Preset};
use crate::run::{Ran, Setup, System, arrivals, at_rate, mean_rate_per_min};
use crate::scenario;
use crate::search::{Found, Trial, search};
use crate::searched::{REPLAYED, Searched};
use crate::settings::{CONTROLS, Settings, WARM};

/// Number of points of a curve over time.
const WINDOWS: u64 = 100;

/// Share of the requests that must be in time at a capacity.
const ATTAINMENT: f64 = 0.99;

/// Largest multiple of the nominal rate at which a capacity is searched.
const UP_TO: f64 = 10.0;

/// Systems that the page compares.
const SYSTEMS: [System; 2] = [System::Vanilla, System::Modm];

/// Requests of a trace, shared by all runs with equal settings of the prompts.
type Prompts = (u32, u64, u64);

/// Settings that the capacity of a system depends on, and the factors on the nominal rate that were tried with them.
#[derive(Debug, Default)]
struct Tried {
    settings: Vec<u64>,
    factors: Vec<(f64, Trial)>,
}

/// Session of the page.
#[derive(Debug, Default)]
pub struct Session {
    searched: Option<(Prompts, Arc<Searched>)>,
    /// Searches of capacities by system.
    tried: [Tried; 2],
}

/// Reason for which a search of a capacity stops.
enum Stop {
    /// A further run is needed.
    More,
    Failed(String),
}

impl Session {
    /// Returns the requests of the settings, and makes them if the last settings had others.
    ///
    /// # Errors
    /// Returns a sentence if a setting cannot be used.
    pub fn searched(&mut self, settings: &Settings) -> Result<Arc<Searched>, String> {
        let prompts = (settings.topics, settings.repeats.to_bits(), settings.seed);
        if let Some((_, searched)) = self.searched.as_ref().filter(|(own, _)| *own == prompts) {
            return Ok(searched.clone());
        }
        let searched = Arc::new(Searched::new(settings).map_err(|error| error.to_string())?);
        self.searched = Some((prompts, searched.clone()));
        Ok(searched)
    }

    /// Runs both systems, and returns their measures and curves.
    ///
    /// # Errors
    /// Returns a sentence if a setting cannot be used.
    pub fn run(&mut self, settings: &Settings) -> Result<String, String> {
        let searched = self.searched(settings)?;
        let arrivals = arrivals(settings, settings.rate_per_min)?;
        let mut fields = vec![("span_s", number(arrivals[arrivals.len() - 1].seconds()))];
        for (name, system) in ["vanilla", "modm"].into_iter().zip(SYSTEMS) {
            let setup = Setup::new(settings, searched.clone(), system);
            let ran = setup.run(&arrivals, WINDOWS)?;
            fields.push((
                name,
                object([("summary", summary(&ran.results.summary)), ("curves", curves(&ran, &arrivals))]),
            ));
        }
        let full_s = Setup::new(settings, searched, System::Vanilla).full_s();
        fields.push(("limit_s", number(settings.slo * full_s)));
        let models = [settings.preset().large, settings.preset().small];
        fields.push(("models", list(models.iter().map(|model| text(model.title)))));
        let bounds = settings.bounds().into_iter().map(|(bound, skipped)| numbers([bound, f64::from(skipped)]));
        fields.push(("bounds", list(bounds)));
        fields.push(("steps", settings.preset().steps.to_string()));
        Ok(object(fields))
    }

    /// Goes on with the searches of both capacities for one more run, and returns what is known by then. `done` is true
    /// once there is nothing to go on with.
    ///
    /// # Errors
    /// Returns a sentence if a setting cannot be used.
    pub fn capacity(&mut self, settings: &Settings) -> Result<String, String> {
        let searched = self.searched(settings)?;
        let nominal = arrivals(settings, settings.nominal_rate_per_min())?;
        let rate = mean_rate_per_min(&nominal);
        let (mut left, mut fields) = (1, Vec::new());
        for (place, name) in ["vanilla", "modm"].into_iter().enumerate() {
            let setup = Setup::new(settings, searched.clone(), SYSTEMS[place]);
            let found = self.go_on(place, settings, &setup, &nominal, &mut left)?;
            let points = self.tried[place]
                .factors
                .iter()
                .map(|(factor, trial)| [factor * rate, trial.attainment.unwrap_or(0.0)]);
            let mut points: Vec<[f64; 2]> = points.collect();
            points.sort_by(|a, b| a[0].total_cmp(&b[0]));
            let per_min = found.as_ref().and_then(|found| found.factor).map(|factor| factor * rate);
            fields.push((
                name,
                object([
                    ("done", found.is_some().to_string()),
                    ("per_min", number(per_min)),
                    ("no_limit", found.is_some_and(|found| found.no_limit).to_string()),
                    ("points", list(points.into_iter().map(numbers))),
                ]),
            ));
        }
        fields.push(("done", (left > 0).to_string()));
        Ok(object(fields))
    }

    /// Goes on with the search of a system's capacity while runs are left; returns its result once there is one.
    fn go_on(
        &mut self,
        place: usize,
        settings: &Settings,
        setup: &Setup,
        nominal: &[Time],
        left: &mut u32,
    ) -> Result<Option<Found>, String> {
        let of = depends_on(settings, SYSTEMS[place]);
        if self.tried[place].settings != of {
            self.tried[place] = Tried { settings: of, factors: Vec::new() };
        }
        let tried = &mut self.tried[place].factors;
        // Runs that were made are looked up: the search takes the same way again, and then goes one run further.
        let found = search(UP_TO, |factor, _| {
            if let Some((_, trial)) = tried.iter().find(|(other, _)| other.total_cmp(&factor).is_eq()) {
                return Ok(trial.clone());
            }
            *left = left.checked_sub(1).ok_or(Stop::More)?;
            let ran = setup.run(&at_rate(nominal, factor), 1).map_err(Stop::Failed)?;
            let attainment = ran.results.summary.slo.first().map(|slo| slo.attainment);
            let holds = attainment.is_some_and(|attainment| attainment >= ATTAINMENT);
            let trial = Trial { holds, attainment, summary: None };
            tried.push((factor, trial.clone()));
            Ok(trial)
        });
        match found {
            Ok(found) => Ok(Some(found)),
            Err(Stop::More) => Ok(None),
            Err(Stop::Failed(why)) => Err(why),
        }
    }
}

/// Returns the settings that the capacity of a system depends on.
fn depends_on(settings: &Settings, system: System) -> Vec<u64> {
    let own = |name: &str| match system {
        System::Vanilla => !["small", "load", "cache", "bounds", "mode", "repeats", "topics", "rate"].contains(&name),
        _ => name != "rate",
    };
    let both = CONTROLS.iter().zip(settings.numbers());
    both.filter(|(control, _)| own(control.name)).map(|(_, number)| number.to_bits()).collect()
}

/// Returns what the page needs to draw its controls.
#[must_use]
pub fn description() -> String {
    let control = |at: &crate::settings::Control| {
        object([
            ("name", text(at.name)),
            ("low", number(at.low)),
            ("high", number(at.high)),
            ("whole", at.whole.to_string()),
        ])
    };
    object([
        ("controls", list(CONTROLS.iter().map(control))),
        ("presets", list(PRESETS.iter().enumerate().map(|(place, own)| preset(place, own)))),
        ("warm", WARM.to_string()),
        ("replayed", REPLAYED.to_string()),
    ])
}

fn preset(place: usize, own: &Preset) -> String {
    let model =
        |model: Model| object([("name", text(model.name)), ("title", text(model.title)), ("clip", number(model.clip))]);
    object([
        ("name", text(own.name)),
        ("title", text(own.title)),
        ("gpu", text(own.gpu)),
        ("large", model(own.large)),
        ("small", model(own.small)),
        ("steps", own.steps.to_string()),
        ("source", text(own.source)),
        ("numbers", numbers(Settings::of_preset(place).numbers())),
    ])
}

/// Returns the files of the settings for the program: the scenario, and the profile where it needs one.
#[must_use]
pub fn files(settings: &Settings) -> String {
    let profile = scenario::profile(settings).map_or_else(|| "null".to_owned(), |profile| text(&profile));
    object([
        ("scenario", text(&scenario::scenario(settings))),
        ("profile", profile),
        ("profile_name", text(scenario::PROFILE)),
    ])
}

fn summary(summary: &Summary) -> String {
    let latency = |of: fn(&modm_core::metrics::summary::Latency) -> f64| number(summary.latency_s.as_ref().map(of));
    let models = summary.completed_by_model.values().map(|count| *count as f64);
    object([
        ("completed", summary.completed.to_string()),
        ("throughput_per_min", number(summary.throughput_per_min)),
        ("steady_per_min", number(summary.throughput_steady_per_min)),
        ("hit_rate", number(summary.hit_rate)),
        ("latency_mean_s", latency(|latency| latency.mean)),
        ("latency_p50_s", latency(|latency| latency.p50)),
        ("latency_p99_s", latency(|latency| latency.p99)),
        ("in_time", number(summary.slo.first().map(|slo| slo.attainment))),
        ("quality", number(summary.quality.clip())),
        ("quality_kept", number(summary.quality_kept)),
        ("gpu_s_per_request", number(summary.serving_gpu_s_per_request)),
        ("energy_j_per_image", number(summary.energy_j_per_image)),
        ("model_loads", summary.model_loads.to_string()),
        ("completed_by_model", numbers(models)),
        (
            "hits_by_skipped_steps",
            object(
                summary
                    .hits_by_skipped_steps
                    .iter()
                    .map(|(k, count)| (k.to_string(), count.to_string()))
                    .collect::<Vec<_>>()
                    .iter()
                    .map(|(k, count)| (k.as_str(), count.clone())),
            ),
        ),
    ])
}

/// Returns the curves of a run while requests arrive, a point for each window. Latencies are by arrival.
fn curves(ran: &Ran, arrivals: &[Time]) -> String {
    let timeline = &ran.results.timeline;
    let count = WINDOWS as usize;
    let window = |time_s: f64| (time_s / timeline.window_s + 0.5) as usize;
    let mut rows: Vec<Option<&TimelineRow>> = vec![None; count];
    for row in timeline.rows.iter().filter(|row| window(row.time_s) < count) {
        rows[window(row.time_s)] = Some(row);
    }
    // In a window without an event nothing changes.
    for at in 1..count {
        rows[at] = rows[at].or(rows[at - 1]);
    }
    let of = |value: &dyn Fn(&TimelineRow) -> f64| numbers(rows.iter().map(|row| row.map_or(0.0, value)));
    let workers = (0..timeline.models.len()).map(|model| of(&|row| row.workers_by_model[model]));
    let span = arrivals[arrivals.len() - 1].nanoseconds().max(1);
    let mut latencies: Vec<Vec<f64>> = vec![Vec::new(); count];
    for (arrival, latency) in &ran.completed {
        let place = u128::from(arrival.nanoseconds()) * u128::from(WINDOWS) / u128::from(span);
        latencies[(place as usize).min(count - 1)].push(latency.seconds());
    }
    for window in &mut latencies {
        window.sort_unstable_by(f64::total_cmp);
    }
    let rank = |share: f64| {
        numbers(latencies.iter().map(|window| {
            let last = window.len().checked_sub(1);
            last.map_or(f64::NAN, |last| window[(share * last as f64 + 0.5) as usize])
        }))
    };
    object([
        ("waiting", of(&|row| (row.queued_misses + row.queued_hits) as f64)),
        ("busy", of(&|row| row.workers_busy)),
        ("loading", of(&|row| row.workers_loading)),
        ("hit_rate", numbers(rows.iter().map(|row| row.and_then(|row| row.hit_rate).unwrap_or(f64::NAN)))),
        ("workers", list(workers)),
        ("latency_p50_s", rank(0.5)),
        ("latency_p95_s", rank(0.95)),
    ])
}
