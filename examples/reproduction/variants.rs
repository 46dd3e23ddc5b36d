//! Sections beside the main experiments of the paper: targets of the stand-ins, real prompts, FLUX, MJHQ, the settings
//! of the published scripts, quality, and caches of other sizes.

use std::fs;

use anyhow::Context;
use modm::metrics::summary::Summary;

use crate::experiments::ratio;
use crate::page::{Kind, Page, Row};
use crate::runs::Runs;

/// Table that `scripts/fit_stand_ins --judge` printed.
const TARGETS: &str = "results/reference/stand-ins/targets.md";

const FIT: &str = "Embeddings are made without a neural model, so that the prompts alone decide; \
    [semantics](semantics.md) has the formula. Five values are fitted to the figures of this table, all at once, by \
    `scripts/fit_stand_ins` on the first 5,000 prompts of DiffusionDB 2M: the background of prompts, the gap between \
    texts and images, the spread of an image's own similarity, the chance part, and Pinecone's bound, which the paper \
    does not print. In the fit, and in this table, images are cached at once and the first 2,500 prompts are warm; seeds \
    of the chance part are not those of the fit. The hit rate is derived from the published throughputs. All else on \
    this page is of full simulations, in which an image is cached when it has been made.";

pub(crate) fn stand_ins(page: &mut Page) {
    page.heading("The stand-ins");
    page.paragraph(FIT);
    match fs::read_to_string(TARGETS) {
        Ok(table) => page.paragraph(table.trim()),
        Err(_) => page.not_run("stand-ins"),
    }
}

pub(crate) fn real_prompts(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    const NAME: &str = "real-prompts";
    page.heading("Real prompts, 16 x MI210");
    page.paragraph(
        "`scenarios/paper/real-prompts.toml`: the second half of 5,000 prompts of DiffusionDB 2M, the first half of which \
         fills the cache. The embeddings were fitted on these prompts with images cached at once; what the time to \
         make an image takes away is predicted.",
    );
    if !runs.has(NAME) {
        page.not_run("real");
        return Ok(());
    }
    let rows = ["nirvana", "pinecone", "modm-sdxl", "modm-sana", "modm-sdxl-cache-large"];
    let rows: anyhow::Result<Vec<_>> =
        rows.into_iter().map(|variant| ratio(runs, NAME, variant, (Kind::Predicted, ""))).collect();
    page.against(&rows?);
    Ok(())
}

pub(crate) fn flux(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    const NAME: &str = "throughput-flux";
    page.heading("Throughput with FLUX, 16 x MI210");
    page.paragraph(
        "`scenarios/paper/throughput-flux.toml`. No service time of FLUX is published. Its 68 s are derived from \
         SD3.5-Large's 91.5 s by parameters and passes a step (`scenarios/profiles/flux-derived.toml`), so every row \
         rests on a derived time. With FLUX the paper caches images of the large model alone. Prompts and embeddings \
         are those of the experiment above: the published columns differ by them too.",
    );
    let rows = ["nirvana", "pinecone", "modm-sdxl", "modm-sana"];
    let rows: anyhow::Result<Vec<_>> =
        rows.into_iter().map(|variant| ratio(runs, NAME, variant, (Kind::Predicted, ""))).collect();
    page.against(&rows?);
    Ok(())
}

pub(crate) fn mjhq(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    const NAME: &str = "throughput-mjhq";
    page.heading("Throughput and quality on MJHQ, 16 x MI210");
    page.paragraph(
        "`scenarios/paper/throughput-mjhq.toml`. MJHQ is a list of prompts in shuffled order. The list itself is not at hand: \
         synthetic prompts without sessions and repeats stand for it, with as many topics as bring about Pinecone's published \
         ratio. All else is as on DiffusionDB, but for the models' own scores, which are those published for MJHQ, and that \
         images of the large model alone are cached.",
    );
    let kinds = [
        ("nirvana", Kind::Predicted),
        ("pinecone", Kind::Fitted),
        ("modm-sdxl", Kind::Predicted),
        ("modm-sana", Kind::Predicted),
    ];
    let ratios = kinds.into_iter().map(|(variant, kind)| ratio(runs, NAME, variant, (kind, "")));
    let scores = ["nirvana", "pinecone", "modm-sdxl", "modm-sana"];
    let scores = scores.into_iter().map(|variant| score(runs, NAME, variant, Kind::Predicted));
    page.against(&ratios.chain(scores).collect::<anyhow::Result<Vec<_>>>()?);
    Ok(())
}

pub(crate) fn artifact(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    const NAME: &str = "artifact";
    page.heading("The settings of the published scripts");
    page.paragraph(
        "`scenarios/paper/artifact.toml`: 1,000 requests on a filled cache, and images of hits are not cached, as the \
         published throughput script has it. The paper's text says 10,000 requests and caches all.",
    );
    let rows = ["nirvana", "pinecone", "modm-sdxl", "modm-sana"];
    let rows: anyhow::Result<Vec<_>> =
        rows.into_iter().map(|variant| ratio(runs, NAME, variant, (Kind::Predicted, ""))).collect();
    page.against(&rows?);
    let hit_rates = |variant: &str| -> anyhow::Result<String> {
        let of = |folder| runs.measure(folder, variant, |summary| summary.hit_rate);
        Ok(format!("{} against {} for {variant}", of(NAME)?.text(3), of("throughput-mi210")?.text(3)))
    };
    page.paragraph(&format!(
        "What Nirvana and Pinecone have more than in the experiment on throughput is the smaller number of requests: they keep \
         images of misses alone either way, and that run begins with the same 1,000 requests. As its backlog grows, images \
         come ever later than the requests that could use them. Hit rates: {}; {}.",
        hit_rates("nirvana")?,
        hit_rates("pinecone")?
    ));
    Ok(())
}

/// Writes the section on quality, with a row of published and estimated quality for each variant.
pub(crate) fn quality(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    const NAME: &str = "throughput-mi210";
    page.heading("Quality, DiffusionDB");
    page.paragraph(
        "Mean CLIPScore x 100 of the images of the throughput experiment. Ours are estimates: own scores of the models as \
         published, less what a hit takes over from the retrieved image by its similarity, with one constant fitted to the four \
         systems at once ([semantics](semantics.md), section 7). CLIPScore ranks SDXL above SD3.5-Large; FID (published: \
         SD3.5-Large 6.29, MoDM-SDXL 11.85, cache-large 10.67) does not, and nothing here estimates FID.",
    );
    let rows = [
        ("vanilla", Kind::Derived),
        ("nirvana", Kind::Fitted),
        ("pinecone", Kind::Fitted),
        ("modm-sdxl", Kind::Fitted),
        ("modm-sana", Kind::Fitted),
        ("modm-sdxl-cache-large", Kind::Predicted),
    ];
    let rows = rows.into_iter().map(|(variant, kind)| score(runs, NAME, variant, kind));
    page.against(&rows.collect::<anyhow::Result<Vec<_>>>()?);
    Ok(())
}

/// Returns the row of a variant's mean quality.
fn score(runs: &Runs, name: &str, variant: &str, kind: Kind) -> anyhow::Result<Row> {
    Ok(Row {
        what: format!("{variant}, CLIPScore"),
        published: runs.published(name, variant)?.quality.context("no quality")?,
        ours: runs.measure(name, variant, |summary| summary.quality.clip())?,
        decimals: 2,
        kind,
        why: "",
    })
}

pub(crate) fn cache_size(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    page.heading("Hit rate against the size of the cache");
    page.paragraph(
        "MoDM on 128 x MI210, so that nothing waits: an image is there 91.5 s after a miss, sooner after a hit. At 40 \
         requests a minute that leaves out the newest 61 requests. All predicted. A cache of 100,000 is in the section on locality.",
    );
    let sweeps = [("real-cache-size", "5,000 real prompts", "real"), ("cache-size", "synthetic prompts", "cache-size")];
    for (name, what, part) in sweeps {
        if !runs.has(name) {
            page.paragraph(&format!("{what}:"));
            page.not_run(part);
            continue;
        }
        let swept = runs.swept_by_one(name)?;
        let mut head = vec![format!("{what}, images")];
        let mut hits = vec!["hit rate".to_owned()];
        for (size, summary) in &swept {
            head.push(size.clone());
            hits.push(format!("{:.1} %", hit_rate(summary)? * 100.0));
        }
        page.table(&head.iter().map(String::as_str).collect::<Vec<_>>(), &[hits]);
    }
    Ok(())
}

fn hit_rate(summary: &Summary) -> anyhow::Result<f64> {
    summary.hit_rate.context("no hit rate")
}
