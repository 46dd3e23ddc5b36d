//! `modm embed`: embeds a trace's prompts or its pictures.

use std::path::PathBuf;

use clap::Args;

use super::arguments::LibraryArguments;
use super::progress::Lines;
use crate::experiments::embed::{Embedded, Job, embed};
use crate::live::settings::Device;

/// Embed a trace's prompts, or its pictures, with an ONNX dual encoder (CLIP as Optimum exports it,
/// models/shapes/encoder)
///
/// Writes one row for each request, in the order of the trace, to a file for `trace.prompt_embeddings` or
/// `trace.image_embeddings` of a scenario. A command that was interrupted continues where it stopped.
#[derive(Debug, Args)]
pub(super) struct Embed {
    /// Requests (CSV) with a `prompt` column, or with pictures in --images
    requests: PathBuf,
    /// Folder of the encoder
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The .npy file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Embed pictures in place of prompts: a folder with one file a request, named by its id as `modm live` names them
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Number of rows in a batch
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Device of the encoder, e.g. cpu:0,threads=4 or cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "cpu:0")]
    device: Device,
    #[command(flatten)]
    library: LibraryArguments,
    /// Overwrite an earlier file
    #[arg(long)]
    force: bool,
    /// Show no progress on standard error
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(command: &Embed) -> anyhow::Result<()> {
    let job = Job {
        requests: command.requests.clone(),
        images: command.images.clone(),
        model: command.model.clone(),
        device: command.device,
        batch: command.batch as usize,
        out: command.out.clone(),
        force: command.force,
    };
    let Embedded { rows, dimension } = embed(&job, &command.library.options(), &Lines::new(command.quiet))?;
    out!("{rows} rows of {dimension} in {}", command.out.display());
    Ok(())
}
