//! A plan: `plan.csv` and its table, a row for each cluster that was tried. Its report is `page`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::calibration::percent;
use super::hit_rate;
use super::quality;
use super::statistics::{Estimate, estimate};
use super::table::plain_table;
use crate::experiments::hit_rate::Shift;
use crate::metrics::Results;
use crate::metrics::quality::QualityKind;
use crate::profile::{End, Spread};

mod figures;
mod page;

pub use page::PlanReport;

/// The choice, had the system a hit rate some points lower or higher.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanAtHitRate {
    /// Bounds that bring it about, found on the first trace.
    #[serde(flatten)]
    pub shift: Shift,
    /// Cheapest cluster that holds with these bounds; `None` if none does.
    pub choice: Option<PlanRow>,
}

/// The choice with the service times of an end of what the profile leaves open, while policies go by the profile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanAtEnd {
    /// End.
    pub end: End,
    /// Spread of the service times.
    pub spread: Spread,
    /// Cheapest cluster that holds there; `None` if none does.
    pub choice: Option<PlanRow>,
}

/// A cluster that was tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PlanRow {
    /// GPUs of each group.
    pub gpus: Vec<u32>,
    /// Whether enough of the requests were in time.
    pub holds: bool,
    /// Whether its runs were stopped once that was known not to be: what follows is then of a part of the requests.
    pub stopped: bool,
    /// Requests that came, over all traces.
    pub requests: u64,
    /// Of these, late.
    pub late: u64,
    /// Share in time, by trace that was run to its end.
    pub attainments: Vec<f64>,
    /// Mean workers by model, over those traces.
    pub split: BTreeMap<String, f64>,
    /// Dollars an hour, where every group has a price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_hour: Option<f64>,
    /// Dollars of a thousand images, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_1000_images: Option<f64>,
    /// Joules an image, if the profile has every power.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_j_per_image: Option<f64>,
    /// Mean quality of the images in points of `CLIPScore`, the mean over those traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<f64>,
    /// How it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality_kind: Option<QualityKind>,
    /// That over the large model's own score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality_kept: Option<f64>,
    /// Completed images by the model that drew them, and returned ones.
    pub images: BTreeMap<String, u64>,
    /// 99th percentile of latency, seconds, the mean over those traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_s: Option<f64>,
}

impl PlanRow {
    /// Takes in a trace that was run to its end, after so many others.
    pub fn add(&mut self, results: &Results, models: &[String]) {
        let summary = &results.summary;
        let before = self.attainments.len() as f64;
        let mean = |sum: Option<f64>, value: f64| (sum.unwrap_or(0.0) * before + value) / (before + 1.0);
        self.attainments.extend(summary.slo.first().map(|slo| slo.attainment));
        let rows = &results.timeline.rows;
        for (at, model) in models.iter().enumerate() {
            let sum: f64 = rows.iter().filter_map(|row| row.workers_by_model.get(at)).sum();
            let workers = self.split.entry(model.clone()).or_insert(0.0);
            *workers = mean(Some(*workers), sum / rows.len().max(1) as f64);
        }
        let kind = quality::kind(summary);
        self.quality_kind = if before > 0.0 { self.quality_kind.min(kind) } else { kind };
        self.quality = quality::clip(summary).map(|value| mean(self.quality, value));
        self.quality_kept = summary.quality_kept.map(|share| mean(self.quality_kept, share));
        quality::add_images(&mut self.images, summary);
        self.p99_s = summary.latency_s.map(|latency| mean(self.p99_s, latency.p99));
        self.energy_j_per_image = summary.energy_j_per_image.map(|joules| mean(self.energy_j_per_image, joules));
        let dollars = summary.cost_usd_per_image.map(|dollars| 1000.0 * dollars);
        self.usd_per_1000_images = dollars.map(|dollars| mean(self.usd_per_1000_images, dollars));
    }

    /// What it is made of: "8 x mi210 + 2 x a40".
    #[must_use]
    pub fn name(&self, groups: &[String]) -> String {
        mix_name(groups, &self.gpus)
    }

    /// Share in time with its 95 % interval; of runs that were stopped, what it is at most.
    fn attainment(&self) -> Option<Estimate> {
        if self.stopped { None } else { estimate(self.attainments.iter().copied()) }
    }
}

/// Sentence on the choice at other hit rates: stand-in embeddings have the hit rate of those who wrote the prompts that they
/// were fitted on. `None` for a system that does not retrieve.
fn other_hit_rates(groups: &[String], rows: &[PlanAtHitRate]) -> Option<String> {
    let usual = rows.first()?.shift.usual_hit_rate;
    let one =
        |row: &PlanAtHitRate| format!("at {} {}", hit_rate::words(&row.shift), named(groups, row.choice.as_ref()));
    let all: Vec<String> = rows.iter().map(one).collect();
    Some(format!("hit rate {}: {}", percent(usual), all.join("; ")))
}

/// Sentence on the choice at the ends of what the profile leaves open; `None` where none was looked for.
fn at_ends(groups: &[String], rows: &[PlanAtEnd]) -> Option<String> {
    let first = rows.first()?;
    let all: Vec<String> =
        rows.iter().map(|row| format!("{} {}", row.end.words(), named(groups, row.choice.as_ref()))).collect();
    Some(format!("service times {}: {}", first.spread, all.join("; ")))
}

/// Name of a choice.
fn named(groups: &[String], choice: Option<&PlanRow>) -> String {
    choice.map_or_else(|| "none of these clusters".to_owned(), |row| row.name(groups))
}

/// GPUs of each group in words.
#[must_use]
pub fn mix_name(groups: &[String], gpus: &[u32]) -> String {
    let parts = groups.iter().zip(gpus).filter(|(_, count)| **count > 0);
    parts.map(|(group, count)| format!("{count} x {group}")).collect::<Vec<_>>().join(" + ")
}

/// The text of `plan.csv`.
fn plan_csv(groups: &[String], rows: &[PlanRow]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |record: Vec<String>| writer.write_record(record).expect("rows of one length, written to memory");
    let models: Vec<&String> =
        rows.iter().flat_map(|row| row.split.keys()).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    let split = models.iter().map(|model| format!("workers_{model}"));
    let fixed = [
        "holds",
        "stopped",
        "requests",
        "late",
        "attainment",
        "attainment_low",
        "attainment_high",
        "quality",
        "quality_kind",
        "quality_kept",
        "images_by_model",
        "p99_s",
        "usd_per_hour",
        "usd_per_1000_images",
        "energy_j_per_image",
    ];
    write(groups.iter().map(|group| format!("gpus_{group}")).chain(fixed.map(str::to_owned)).chain(split).collect());
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for row in rows {
        let attainment = row.attainment();
        let share = |share: f64| share.clamp(0.0, 1.0);
        let interval = attainment.and_then(|estimate| estimate.interval());
        let interval = interval.map(|(low, high)| (share(low), share(high)));
        let cells = [
            row.holds.to_string(),
            row.stopped.to_string(),
            row.requests.to_string(),
            row.late.to_string(),
            number(attainment.map(|estimate| estimate.mean)),
            number(interval.map(|(low, _)| low)),
            number(interval.map(|(_, high)| high)),
            number(row.quality),
            row.quality_kind.map_or("", QualityKind::word).to_owned(),
            number(row.quality_kept),
            quality::shares(&row.images).unwrap_or_default(),
            number(row.p99_s),
            number(row.usd_per_hour),
            number(row.usd_per_1000_images),
            number(row.energy_j_per_image),
        ];
        let split = models.iter().map(|model| number(row.split.get(*model).copied()));
        write(row.gpus.iter().map(u32::to_string).chain(cells).chain(split).collect());
    }
    String::from_utf8(writer.into_inner().expect("memory takes what is written to it"))
        .expect("CSV of strings is UTF-8")
}

/// The table of a plan for a terminal.
#[must_use]
pub fn plan_table(groups: &[String], rows: &[PlanRow], width: Option<u16>) -> String {
    let (titles, rows) = cells(groups, rows);
    format!("{}\n", plain_table(&titles, &rows, width))
}

/// Mean quality of a row and how it is known.
fn shown_quality(row: &PlanRow) -> String {
    let known = row.quality.zip(row.quality_kind).filter(|_| !row.stopped);
    known.map_or_else(|| "–".to_owned(), |(value, kind)| format!("{value:.2} {}", quality::short(kind)))
}

/// Titles and rows of a plan's table.
fn cells(groups: &[String], rows: &[PlanRow]) -> (Vec<String>, Vec<Vec<String>>) {
    let models: std::collections::BTreeSet<&String> = rows.iter().flat_map(|row| row.split.keys()).collect();
    let priced = rows.iter().any(|row| row.usd_per_hour.is_some());
    let mut titles: Vec<String> = groups.to_vec();
    titles.extend(["holds", "in time", "quality", "kept", "images drawn by", "p99 s"].map(str::to_owned));
    titles.extend(models.iter().map(|model| format!("on {model}")));
    titles.extend(["$/h", "$/1000"].into_iter().filter(|_| priced).map(str::to_owned));
    titles.push("kJ/image".into());
    let number = |value: Option<f64>, decimals: usize| {
        value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
    };
    let shown = rows.iter().map(|row| {
        let in_time = row.attainment().map_or_else(
            || format!("stopped after {} of {}", row.late, row.requests),
            |estimate| {
                let half = estimate.half_width.map(|half| format!(" ± {:.2}", 100.0 * half)).unwrap_or_default();
                format!("{:.2}{half} %", 100.0 * estimate.mean)
            },
        );
        let mut cells: Vec<String> = row.gpus.iter().map(u32::to_string).collect();
        cells.extend([
            if row.holds { "yes" } else { "no" }.to_owned(),
            in_time,
            shown_quality(row),
            row.quality_kept.filter(|_| !row.stopped).map_or("–".to_owned(), |kept| format!("{:.1}%", 100.0 * kept)),
            quality::shares(&row.images).filter(|_| !row.stopped).unwrap_or_else(|| "–".to_owned()),
            number(row.p99_s.filter(|_| !row.stopped), 0),
        ]);
        cells.extend(models.iter().map(|model| number(row.split.get(*model).copied().filter(|_| !row.stopped), 1)));
        if priced {
            cells.extend([number(row.usd_per_hour, 2), number(row.usd_per_1000_images, 2)]);
        }
        cells.push(number(row.energy_j_per_image.filter(|_| !row.stopped).map(|joules| joules / 1000.0), 2));
        cells
    });
    let shown = shown.collect();
    (titles, shown)
}
