//! Writes docs/reproduction.md from finished runs of scenarios/paper: the figures that the MoDM paper (arXiv
//! 2503.11972) published, the figures of these runs, which of them are fitted, and why some differ. `scripts/reproduce`
//! makes the runs, and then calls
//!
//! ```text
//! cargo run --release --example reproduction -- --runs results/reproduction --machine CPU --date DATE --commit HASH
//! ```

mod causes;
mod experiments;
mod locality;
mod page;
mod runs;
mod slo;
mod variants;

use std::path::PathBuf;

use clap::Parser;

use page::Page;
use runs::Runs;

#[derive(Parser)]
struct Arguments {
    /// Folder that holds a folder of results for each experiment
    #[arg(long)]
    runs: PathBuf,
    /// CPU model and number of cores
    #[arg(long)]
    machine: String,
    /// Date of the runs
    #[arg(long)]
    date: String,
    /// Commit of the runs
    #[arg(long)]
    commit: String,
    /// File of the page
    #[arg(long, default_value = "docs/reproduction.md")]
    out: PathBuf,
}

const INTRODUCTION: &str = "\
# The paper's experiments, run here

Written by `scripts/reproduce`; do not edit. Published figures are those of the MoDM paper (arXiv 2503.11972).

- *fitted*: embeddings or prompts were set so that this figure comes out; it proves nothing. Embeddings are fitted on real
  prompts with images cached at once (the next section). One set of synthetic prompts, `prompts_saturated.toml`, serves
  all experiments but the one on locality: it is fitted to the throughputs of MoDM-SDXL and Pinecone in full simulations.
- *predicted*: follows from that, the published service times and the published rules.
- *derived*: follows from the published service times alone.

Assumed: all powers, every A40 time but SD3.5-Large's, times to load a model on these GPUs, the arrival rate of the
throughput experiment (40 a minute on 16 MI210). The scenarios say so line by line. Over several seeds, `a (b to c)` is
the mean and the range.
";

const OMITTED: &str = "\
## Not reproduced

MJHQ's own list of prompts (synthetic ones stand for it above), FID, IS and Pick scores (they need the models and their images), and the choice of small model by load, which the
paper describes and its scripts do not have.
";

/// Function that writes one section.
type Section = fn(&Runs, &mut Page) -> anyhow::Result<()>;

/// Sections in the order of the page: the experiment that each needs, the part of `scripts/reproduce` that runs the
/// experiment, and the function that writes the section.
const SECTIONS: [(&str, &str, Section); 14] = [
    ("throughput-mi210", "throughput", experiments::throughput),
    ("cache-large", "cache-large", causes::cache_large),
    ("throughput-mi210", "throughput", experiments::fluid_optimum),
    ("throughput-mi210", "throughput", experiments::energy),
    ("throughput-mi210", "throughput", variants::quality),
    ("throughput-a40", "throughput-a40", experiments::throughput_a40),
    ("throughput-flux", "flux", variants::flux),
    ("throughput-mjhq", "mjhq", variants::mjhq),
    ("artifact", "artifact", variants::artifact),
    ("slo-mi210", "slo-mi210", slo::mi210),
    ("slo-a40", "slo-a40", slo::a40),
    ("rising-mi210", "rising", experiments::rising),
    ("scaling-mi210", "scaling", experiments::scaling),
    ("locality", "locality", locality::locality),
];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runs = Runs::new(arguments.runs);
    let mut page = Page::new(INTRODUCTION);
    page.paragraph(&format!(
        "`scripts/reproduce` at commit {} on {}, {}. Seeds: 42 to 45 for throughput on 16 MI210, 42 elsewhere. The \
         comparisons it read are under `results/reference/`.",
        arguments.commit, arguments.machine, arguments.date
    ));
    variants::stand_ins(&mut page);
    variants::real_prompts(&runs, &mut page)?;
    causes::time_to_make(&runs, &mut page)?;
    for (experiment, part, section) in SECTIONS {
        if runs.has(experiment) {
            section(&runs, &mut page)?;
        } else {
            page.heading(experiment);
            page.not_run(part);
        }
    }
    variants::cache_size(&runs, &mut page)?;
    page.paragraph(OMITTED.trim_end());
    std::fs::write(&arguments.out, page.text())?;
    Ok(())
}
