//! Plans: `plan.csv` and its table, one row for each cluster that was tried. The report is in `page`.

use super::calibration::percent;
use super::hit_rate;
use super::quality;
use super::statistics::{Estimate, estimate};
use super::table::plain_table;
use crate::experiments::plan::{PlanAtEnd, PlanAtHitRate, PlanRow};
use crate::metrics::quality::QualityKind;

mod figures;
mod page;

pub use page::PlanReport;

/// Returns the share in time with its 95 % interval; `None` for runs that were stopped, which have no measures.
fn attainment(row: &PlanRow) -> Option<Estimate> {
    estimate(row.attainments.iter().copied())
}

/// Returns a sentence on the choice at other hit rates; `None` for a system that does not retrieve. A reader needs the
/// sentence because stand-in embeddings reproduce the hit rate of one group of users: those who wrote the prompts that
/// the embeddings were fitted on.
fn other_hit_rates(groups: &[String], rows: &[PlanAtHitRate]) -> Option<String> {
    let usual = rows.first()?.shift.usual_hit_rate;
    let one =
        |row: &PlanAtHitRate| format!("at {} {}", hit_rate::words(&row.shift), named(groups, row.choice.as_ref()));
    let all: Vec<String> = rows.iter().map(one).collect();
    Some(format!("hit rate {}: {}", percent(usual), all.join("; ")))
}

/// Returns a sentence on the choice at the ends of the profile's uncertainty; `None` if no such choice was looked for.
fn at_ends(groups: &[String], rows: &[PlanAtEnd]) -> Option<String> {
    let first = rows.first()?;
    let all: Vec<String> =
        rows.iter().map(|row| format!("{} {}", row.end.words(), named(groups, row.choice.as_ref()))).collect();
    Some(format!("service times {}: {}", first.spread, all.join("; ")))
}

/// Returns the name of a choice.
fn named(groups: &[String], choice: Option<&PlanRow>) -> String {
    choice.map_or_else(|| "none of these clusters".to_owned(), |row| row.name(groups))
}

/// Returns the content of `plan.csv`.
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
        let in_time = attainment(row);
        let share = |share: f64| share.clamp(0.0, 1.0);
        let interval = in_time.and_then(|estimate| estimate.interval());
        let interval = interval.map(|(low, high)| (share(low), share(high)));
        let cells = [
            row.holds.to_string(),
            row.stopped.to_string(),
            row.requests.to_string(),
            row.late.to_string(),
            number(in_time.map(|estimate| estimate.mean)),
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

/// Returns the table of a plan for a terminal.
#[must_use]
pub fn plan_table(groups: &[String], rows: &[PlanRow], width: Option<u16>) -> String {
    let (titles, rows) = cells(groups, rows);
    format!("{}\n", plain_table(&titles, &rows, width))
}

/// Formats the mean quality of a row, with how the quality is known.
fn shown_quality(row: &PlanRow) -> String {
    let known = row.quality.zip(row.quality_kind);
    known.map_or_else(|| "–".to_owned(), |(value, kind)| format!("{value:.2} {}", quality::short(kind)))
}

/// Returns titles and rows of a plan's table.
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
        let in_time = attainment(row).map_or_else(
            || format!("stopped: {} of {} late", row.late, row.requests),
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
            row.quality_kept.map_or("–".to_owned(), |kept| format!("{:.1}%", 100.0 * kept)),
            quality::shares(&row.images).unwrap_or_else(|| "–".to_owned()),
            number(row.p99_s, 0),
        ]);
        cells.extend(models.iter().map(|model| number(row.split.get(*model).copied(), 1)));
        if priced {
            cells.extend([number(row.usd_per_hour, 2), number(row.usd_per_1000_images, 2)]);
        }
        cells.push(number(row.energy_j_per_image.map(|joules| joules / 1000.0), 2));
        cells
    });
    let shown = shown.collect();
    (titles, shown)
}
