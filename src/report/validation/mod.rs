//! Report of `modm validate`, for readers and for programs: a live run compared with its simulations, measure by
//! measure.

use serde_json::json;

use super::figures::{DrawError, Figure, Look};
use super::provenance::Provenance;
use super::{Comparison, ReportFile, Run, figures, html};
use crate::experiments::validate::{Level, ValidatedRun};
use crate::metrics::fidelity::{CLOSE, CLOSE_S, Compared, Unit};
use crate::metrics::summary::Summary;
use crate::time::Duration;

mod page;
mod tables;
#[cfg(test)]
mod tests;

pub use tables::terminal;

/// Result of a validation, with all that its report contains.
#[derive(Clone, Debug, Default)]
pub struct Validation {
    /// Name of the scenario.
    pub name: String,
    /// Live runs at every level, the levels of a run together.
    pub runs: Vec<ValidatedRun>,
    /// Policies, settings of the command line and inputs.
    pub provenance: Provenance,
    /// Sentences on the source of the profile and on what was repeated.
    pub notes: Vec<String>,
    /// Names and values of what produced the results: program version, commit, library.
    pub versions: Vec<(String, String)>,
    /// Scenario as TOML text.
    pub scenario_toml: String,
}

impl Validation {
    fn grounds(&self) -> html::Grounds<'_> {
        html::Grounds {
            provenance: &self.provenance,
            stand_ins: &[],
            notes: &self.notes,
            versions: &self.versions,
            scenario_toml: &self.scenario_toml,
        }
    }

    /// Returns the loads in the order in which they were run.
    fn loads(&self) -> Vec<Option<f64>> {
        let mut loads = Vec::new();
        for run in &self.runs {
            if !loads.contains(&run.load) {
                loads.push(run.load);
            }
        }
        loads
    }

    /// Returns the runs at a load and level, one for each seed.
    fn at(&self, load: Option<f64>, level: &'static str) -> Vec<&ValidatedRun> {
        self.runs.iter().filter(|run| run.load == load && run.level.word() == level).collect()
    }

    /// Returns the verdict in sentences: on the model of the loop, then on the predictions at each load.
    #[must_use]
    pub fn verdicts(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let fed: Vec<&ValidatedRun> = self.runs.iter().filter(|run| run.level == Level::Measured).collect();
        let lowest = |name: &str| {
            let values = fed.iter().filter_map(|run| run.row(name)).map(|row| row.simulated);
            values.fold(1.0, f64::min) * 100.0
        };
        let worst_ms = fed.iter().map(|run| run.greatest_difference_s).fold(0.0, f64::max) * 1e3;
        let fed_text = format!(
            "Fed with the durations of the live run, the simulator repeats it: at least {:.1} % of the decisions, {:.1} % of the allocation, {:.1} % of the latencies within {:.0} % or {:.0} ms; the greatest difference is {worst_ms:.3} ms.",
            lowest("same_source"),
            lowest("same_allocation"),
            lowest("same_latency"),
            CLOSE * 100.0,
            CLOSE_S * 1e3,
        );
        sentences.extend((!fed.is_empty()).then_some(fed_text));
        for load in self.loads() {
            let runs = self.at(load, Level::Profile.word());
            let errors = |name: &str| {
                let shown = runs.iter().filter_map(|run| run.row(name)).map(|row| error_text(row.unit, row.error));
                shown.collect::<Vec<_>>().join(", ")
            };
            sentences.push(format!(
                "From the profile, {}: service time off by {}, mean latency by {}, p95 by {}, throughput by {} (a figure a seed).",
                load_text(load),
                errors("service_per_request"),
                errors("latency_mean"),
                errors("latency_p95"),
                errors("throughput"),
            ));
        }
        sentences.extend(self.coverage());
        sentences
    }

    /// Returns a sentence on how often live values lay within the predicted ranges, and on how wide the ranges were: by
    /// headline measure and in total.
    fn coverage(&self) -> Option<String> {
        let predicted = || self.runs.iter().filter(|run| run.level == Level::Profile);
        let mut all = (0, 0);
        let one = |(name, words): &(&str, &str)| {
            let rows: Vec<&Compared> = predicted().filter_map(|run| run.row(name)).collect();
            let inside = rows.iter().filter(|row| row.is_inside() == Some(true)).count();
            let mut widths: Vec<f64> = rows.iter().filter_map(|row| row.width()).collect();
            widths.sort_unstable_by(f64::total_cmp);
            let width = error_text(rows.first()?.unit, *widths.get(widths.len() / 2)?);
            all = (all.0 + inside, all.1 + widths.len());
            Some(format!("{words} {inside} of {} (median width {})", widths.len(), width.trim_start_matches('+')))
        };
        let each: Vec<String> = HEADLINES.iter().filter_map(one).collect();
        let (inside, count) = all;
        (count > 0).then(|| {
            format!(
                "Live values within the predicted 90 % range: {inside} of {count} ({:.0} %): {}.",
                100.0 * inside as f64 / count as f64,
                each.join(", ")
            )
        })
    }

    /// Makes the figures of live and simulated latencies, one for each load.
    fn figures(&self) -> Vec<Figure> {
        let figure = |load: Option<f64>| {
            let live = self.at(load, Level::Measured.word());
            let mut runs: Vec<Run> = live.iter().map(|run| latencies_of("live", run, &run.live_latencies)).collect();
            for (name, level) in [("from the profile", "profile"), ("the same, rescaled", "rescaled")] {
                runs.extend(self.at(load, level).iter().map(|run| latencies_of(name, run, &run.latencies)));
            }
            let name = load.map_or_else(|| "latency".to_owned(), |load| format!("latency-{load}"));
            let title = format!("Latency live and simulated, {}", load_text(load));
            figures::latencies(&Comparison { name: self.name.clone(), runs, ..Comparison::default() }, &name, title)
        };
        self.loads().into_iter().filter_map(figure).collect()
    }
}

/// Makes a run that holds the latencies of one curve. Several simulations have several times as many latencies, so the
/// number of requests is multiplied as well.
fn latencies_of(name: &str, run: &ValidatedRun, latencies: &[Duration]) -> Run {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    let times = (sorted.len() as u64).div_ceil(run.live.completed.max(1));
    let summary = Summary { requests: run.live.requests * times, slo: run.live.slo.clone(), ..Summary::default() };
    Run { variant: name.to_owned(), seed: run.seed, summary, latencies: sorted, ..Run::default() }
}

fn load_text(load: Option<f64>) -> String {
    load.map_or_else(|| "the trace as it is".to_owned(), |load| format!("at {} % load", (load * 1e4).round() / 1e2))
}

/// Formats an error for readers: "+1.2 %", "-0.4 points".
fn error_text(unit: Unit, error: f64) -> String {
    match unit {
        Unit::Seconds | Unit::PerMinute => format!("{:+.1} %", error * 100.0),
        Unit::Share => format!("{error:+.1} points"),
        Unit::Count => format!("{error:+.1}"),
    }
}

/// Measures whose predicted ranges are judged, with their names in sentences.
const HEADLINES: [(&str, &str); 5] = [
    ("latency_mean", "mean latency"),
    ("latency_p95", "p95"),
    ("throughput", "throughput"),
    ("slo_2x", "within 2x"),
    ("slo_4x", "within 4x"),
];

const MEMORY: &str = "memory takes what is written to it";

/// Returns the content of `validation.csv`: one row for each measure of every live run and level. Errors are relative
/// for seconds and rates, in points for shares, and differences for counts. `per_percent` is the change of the error if
/// service times are 1 % longer. `low` and `high` are the ends of the predicted 90 % range, and `inside` says whether
/// the live value lies in the range.
#[must_use]
pub fn csv(validation: &Validation) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = [
        "measure",
        "unit",
        "live",
        "simulated",
        "error",
        "level",
        "load",
        "seed",
        "factor",
        "spread",
        "per_percent",
        "low",
        "high",
        "inside",
    ];
    let number = |value: f64| format!("{value:.9}");
    let maybe = |value: Option<f64>| value.map(number).unwrap_or_default();
    writer.write_record(header).expect(MEMORY);
    for run in &validation.runs {
        for row in &run.rows {
            let cells = [
                row.name.clone(),
                row.unit.word().to_owned(),
                number(row.live),
                number(row.simulated),
                number(row.error),
                run.level.word().to_owned(),
                run.load.map(|load| load.to_string()).unwrap_or_default(),
                run.seed.to_string(),
                maybe(run.level.factor()),
                maybe(row.spread),
                maybe(row.per_percent),
                maybe(row.range.map(|(low, _)| low)),
                maybe(row.range.map(|(_, high)| high)),
                row.is_inside().map(|inside| inside.to_string()).unwrap_or_default(),
            ];
            writer.write_record(cells).expect(MEMORY);
        }
    }
    String::from_utf8(writer.into_inner().expect(MEMORY)).expect("text was written")
}

/// Returns the same results as JSON, for programs.
#[must_use]
pub fn json(validation: &Validation) -> serde_json::Value {
    let row = |row: &Compared| {
        json!({
            "measure": row.name, "unit": row.unit.word(), "live": row.live, "simulated": row.simulated,
            "error": row.error, "spread": row.spread, "per_percent": row.per_percent, "range": row.range,
            "inside": row.is_inside(),
        })
    };
    let run = |run: &ValidatedRun| {
        json!({
            "load": run.load, "seed": run.seed, "level": run.level.word(),
            "factor": run.level.factor(),
            "greatest_difference_s": run.greatest_difference_s,
            "rows": run.rows.iter().map(row).collect::<Vec<_>>(),
        })
    };
    json!(validation.runs.iter().map(run).collect::<Vec<_>>())
}

/// Returns all files of the report: `validation.csv`, `report.html`, `report.md` and the figures.
///
/// # Errors
/// See [`DrawError`].
pub fn files(validation: &Validation) -> Result<Vec<ReportFile>, DrawError> {
    let table = ReportFile::new("validation.csv", csv(validation));
    let (markdown, figures) = (page::markdown(validation), validation.figures());
    html::files(&validation.name, vec![table], markdown, &figures, Look::default(), |page, drawn| {
        page::write(page, validation, drawn)
    })
}
