//! Section on the hit rate of a cache of 100,000 images, and on the age of the images that are hit.

use std::path::Path;

use anyhow::Context;

use crate::page::{Kind, Measured, Page, Row};
use crate::runs::Runs;

/// Number of requests that fill the cache before the trace begins, as in scenarios/paper/locality.toml.
const WARM: i64 = 100_000;

/// Number of requests in four hours at 115 a minute.
const FOUR_HOURS: i64 = 4 * 60 * 115;

/// Returns the share of the hits whose image was requested at most four hours before. The sources of warm images are
/// -1, -2, ... from the oldest.
fn young(requests: &Path) -> anyhow::Result<f64> {
    let mut reader = csv::Reader::from_path(requests).with_context(|| requests.display().to_string())?;
    let column = reader.headers()?.iter().position(|name| name == "source").context("no column `source`")?;
    let (mut hits, mut young) = (0_u32, 0_u32);
    for (row, record) in (0_i64..).zip(reader.records()) {
        let record = record?;
        let source = record.get(column).unwrap_or_default();
        if source.is_empty() {
            continue;
        }
        let source: i64 = source.parse().with_context(|| format!("row {row}: source {source:?}"))?;
        let asked = if source < 0 { -source - 1 } else { WARM + source };
        hits += 1;
        young += u32::from(WARM + row - asked <= FOUR_HOURS);
    }
    Ok(f64::from(young) / f64::from(hits.max(1)))
}

pub(crate) fn locality(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    page.heading("Locality of DiffusionDB, a cache of 100,000 images");
    page.paragraph(
        "`scenarios/paper/locality.toml`, with other prompts and less noise than all the above: the best of 100,000 \
         images fits by chance nearly always at the noise that is fitted to smaller caches. Shares in percent.",
    );
    let mut rows = Vec::new();
    for (variant, kind, what, why) in [
        ("at-once", Kind::Fitted, "images cached at once", ""),
        (
            "mi210",
            Kind::Predicted,
            "images cached when made",
            "an image takes up to 91.5 s, in which 175 requests come, and the fitted prompts owe many hits to the \
             last few hundred. We assume that the published figures leave that time out.",
        ),
    ] {
        let hit_rate = runs.measure("locality", variant, |summary| Some(summary.hit_rate? * 100.0))?;
        let young = young(&runs.file("locality", variant, "requests.csv"))? * 100.0;
        let row = |measure, published, ours, why| Row {
            what: format!("{measure}, {what}"),
            published,
            ours,
            decimals: 1,
            kind,
            why,
        };
        rows.push(row("hit rate", 92.8, hit_rate, why));
        rows.push(row("hits younger than 4 h", 90.0, Measured(vec![young]), ""));
    }
    page.against(&rows);
    Ok(())
}
