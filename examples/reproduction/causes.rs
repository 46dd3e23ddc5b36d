//! Sections on runs that show why a figure differs from the published one. One setting is changed, and the difference
//! disappears or appears.

use anyhow::Context;
use modm::metrics::summary::Summary;

use crate::experiments::{LARGE_S, SANA_S, SDXL_S, work_ratio};
use crate::page::Page;
use crate::runs::{Runs, steady};

/// Rates in requests a minute with real prompts, each with the folder in which `scripts/reproduce` puts its runs.
const RATES: [(&str, &str); 3] = [("40", "real-rate-40"), ("4", "real-rate-4"), ("0.4", "real-rate-0.4")];
/// Systems, each with the seconds of 50 steps on the model that serves its hits.
const SYSTEMS: [(&str, f64); 5] = [
    ("nirvana", LARGE_S),
    ("pinecone", LARGE_S),
    ("modm-sdxl", SDXL_S),
    ("modm-sana", SANA_S),
    ("modm-sdxl-cache-large", SDXL_S),
];

/// Writes the section on real prompts at lower rates, which shows what the time to make an image costs.
pub(crate) fn time_to_make(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    page.paragraph(
        "The cause is the time to make an image. The same prompts on 128 GPUs, so that nothing waits, at lower and lower \
         rates: an image takes 91.5 s, in which 61 requests come at 40 a minute, 6 at 4 and none at 0.4. Vanilla's GPU time a \
         request over each system's, of the hits of that very run, comes to what the table of the stand-ins has where \
         images are cached at once, and so to what was published:",
    );
    if !RATES.iter().all(|(_, folder)| runs.has(folder)) {
        page.not_run("real");
        return Ok(());
    }
    let mut rows = Vec::new();
    for (rate, folder) in RATES {
        let swept = runs.swept_by_one(folder)?;
        let ratio = |(system, small_s): (&str, f64)| -> anyhow::Result<String> {
            let (_, summary) = swept.iter().find(|(variant, _)| variant == system).context(system.to_owned())?;
            Ok(format!("{:.2}", work_ratio(summary, small_s).context("no hits")?))
        };
        let ratios: anyhow::Result<Vec<String>> = SYSTEMS.into_iter().map(ratio).collect();
        rows.push([vec![format!("{rate} a minute")], ratios?].concat());
    }
    let published = |(system, _): (&str, f64)| -> anyhow::Result<String> {
        Ok(format!("{:.2}", runs.published("real-prompts", system)?.throughput_ratio.context("no ratio")?))
    };
    let published: anyhow::Result<Vec<String>> = SYSTEMS.into_iter().map(published).collect();
    rows.push([vec!["published".to_owned()], published?].concat());
    page.table(&["", "nirvana", "pinecone", "modm-sdxl", "modm-sana", "modm-sdxl-cache-large"], &rows);
    Ok(())
}

/// Writes the section on the loss if the small model's images are not cached, for caches of other sizes.
pub(crate) fn cache_large(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    page.heading("The large model's images alone, in caches of other sizes");
    page.paragraph(
        "MoDM-SDXL as above, with all images cached and with the large model's alone, and nothing but the capacity changed. \
         At 10,000 images the window of the large model's images reaches three times as far back, which makes up for what is \
         left out; with room for all 20,000 requests it reaches no further, and the loss shows. The published loss is between \
         the two.",
    );
    let swept = runs.swept("cache-large")?;
    let of = |variant: &str| -> Vec<(&str, &Summary)> {
        let rows = swept.iter().filter(|(name, _, _)| name == variant);
        rows.map(|(_, size, summary)| (size.as_str(), summary)).collect()
    };
    let mut rows = Vec::new();
    for ((size, all), (_, large)) in of("modm-sdxl").into_iter().zip(of("modm-sdxl-cache-large")) {
        let (all, large) = (steady(all).context("no throughput")?, steady(large).context("no throughput")?);
        rows.push(vec![
            format!("{size} images"),
            format!("{all:.1}"),
            format!("{large:.1}"),
            format!("{:.2}", large / all),
        ]);
    }
    let ratio = |variant: &str| -> anyhow::Result<f64> {
        runs.published("throughput-mi210", variant)?.throughput_ratio.context("no ratio")
    };
    let (all, large) = (ratio("modm-sdxl")?, ratio("modm-sdxl-cache-large")?);
    rows.push(vec!["published, 10,000 images".into(), String::new(), String::new(), format!("{:.2}", large / all)]);
    page.table(&["", "all, a minute", "large alone, a minute", "large alone over all"], &rows);
    Ok(())
}
