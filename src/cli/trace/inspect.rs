//! `modm trace inspect`: describes a trace in the terminal. `--out` writes the numbers as JSON.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::cli::printer;
use crate::output::{prepare, refuse_earlier, write_atomic};
use crate::report::inspection::terminal;
use crate::trace::inspect::{Scope, describe};
use crate::trace::{TraceFiles, read};

const FILE: &str = "inspect.json";

/// Prints requests, rate, burstiness, repeats, locality, tenants.
#[derive(Debug, Args)]
pub(in crate::cli) struct Inspect {
    /// Trace: its `requests.csv`, or the folder of that file
    trace: PathBuf,
    /// Embeddings of the prompts; those in the trace's folder if absent
    #[arg(long, value_name = "NPY")]
    prompt_embeddings: Option<PathBuf>,
    /// Embeddings of the images; those in the trace's folder if absent
    #[arg(long, value_name = "NPY")]
    image_embeddings: Option<PathBuf>,
    /// Number of earlier requests among which the nearest is searched
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// Number of requests that are examined for locality, from the first
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    sample: u32,
    /// Folder for the numbers, as JSON
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Overwrite an earlier description there
    #[arg(long)]
    force: bool,
}

pub(in crate::cli) fn run(arguments: &Inspect) -> anyhow::Result<()> {
    if let Some(out) = &arguments.out {
        refuse_earlier(out, &[FILE], arguments.force)?;
    }
    let found = TraceFiles::find(&arguments.trace);
    let files = TraceFiles {
        prompt_embeddings: arguments.prompt_embeddings.clone().or(found.prompt_embeddings),
        image_embeddings: arguments.image_embeddings.clone().or(found.image_embeddings),
        ..found
    };
    let scope = Scope { requests: arguments.sample as usize, window: arguments.window as usize };
    let description = describe(&read(&files)?, scope);
    if let Some(out) = &arguments.out {
        prepare(out, &[FILE], arguments.force)?;
        let json = serde_json::to_string_pretty(&description)?;
        write_atomic(&out.join(FILE), |writer| writer.write_all(json.as_bytes()))?;
    }
    printer::text(terminal(&description, scope));
    Ok(())
}
