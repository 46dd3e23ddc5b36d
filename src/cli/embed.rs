//! `modm embed`: embeds a trace's prompts or its pictures with an ONNX dual encoder, in batches. Finished batches are
//! on disk, so that an interrupted command continues after them.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::live::LibraryArguments;
use super::progress::{Lines, Progress};
use crate::embedding::Embedding;
use crate::experiments::live::{available_devices, file_names};
use crate::input::{InputError, sha256};
use crate::live::encoder::DualEncoder;
use crate::live::picture::Picture;
use crate::live::settings::Device;
use crate::output::{refuse_file, write_atomic};
use crate::trace::{Trace, TraceFiles, npy};

/// Embed a trace's prompts, or its pictures, with an ONNX dual encoder (CLIP as Optimum exports it, models/shapes/encoder)
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

/// Inputs of an unfinished file. Only a command with the same inputs continues the file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unfinished {
    requests_sha256: String,
    model_sha256: String,
    images: Option<PathBuf>,
    dimension: usize,
}

pub(super) fn run(command: &Embed) -> anyhow::Result<()> {
    refuse_file(&command.out, command.force)?;
    let trace = crate::trace::read(&TraceFiles { requests: command.requests.clone(), ..TraceFiles::default() })?;
    let pictures = command.images.as_ref().map(|folder| pictures(&trace, folder, &command.requests)).transpose()?;
    if pictures.is_none() && trace.columns().prompts.is_none() {
        return Err(
            InputError::new(&command.requests, "has no `prompt` column; with --images pictures are embedded").into()
        );
    }
    let library = command.library.open()?;
    let device = available_devices(
        &library,
        &[command.device],
        ("the command line".as_ref(), "--device"),
        command.library.allow_cpu,
        &Lines::new(false),
    )?[0];
    let mut encoder = DualEncoder::open(&library, &command.model, device)?;
    let dimension = encoder.texts(&[""])?[0].as_slice().len();
    let unfinished = Unfinished {
        requests_sha256: sha256(&command.requests)?,
        model_sha256: DualEncoder::fingerprint(&command.model)?,
        images: command.images.clone(),
        dimension,
    };
    let mut rows = Rows::open(&command.out, &unfinished)?;
    if rows.done > 0 && !command.quiet {
        eprintln!("going on after row {} of {}", rows.done, trace.len());
    }
    let progress = Progress::new(trace.len() as u64, command.quiet);
    progress.advance(rows.done as u64);
    while rows.done < trace.len() {
        let batch = rows.done..(rows.done + command.batch as usize).min(trace.len());
        let embeddings = match &pictures {
            Some(files) => {
                let read: Vec<Picture> =
                    files[batch.clone()].iter().map(|file| picture(file)).collect::<Result<_, _>>()?;
                encoder.images(&read.iter().collect::<Vec<_>>())?
            }
            None => {
                encoder.texts(&batch.clone().map(|row| trace.prompt(row).unwrap_or_default()).collect::<Vec<_>>())?
            }
        };
        rows.append(&embeddings)?;
        progress.advance(batch.len() as u64);
    }
    progress.finish();
    rows.finish(&command.out, trace.len(), dimension)?;
    println!("{} rows of {dimension} in {}", trace.len(), command.out.display());
    Ok(())
}

/// Returns the picture file of each row.
fn pictures(trace: &Trace, folder: &Path, requests: &Path) -> Result<Vec<PathBuf>, InputError> {
    let names = file_names(trace);
    let find = |(row, name): (usize, &String)| {
        let candidates = ["png", "jpg", "jpeg"].map(|extension| folder.join(format!("{name}.{extension}")));
        candidates.into_iter().find(|file| file.is_file()).ok_or_else(|| {
            let message = format!("expected {} or .jpg", folder.join(format!("{name}.png")).display());
            InputError::new(requests, message).value(format!("the picture of row {}", row + 1), "missing")
        })
    };
    names.iter().enumerate().map(find).collect()
}

fn picture(file: &Path) -> Result<Picture, InputError> {
    let bytes = std::fs::read(file).map_err(|error| InputError::unreadable(file, &error))?;
    Picture::decode(&bytes).map_err(|error| InputError::new(file, error.to_string()))
}

/// Rows that were embedded so far, in a file beside the output file.
struct Rows {
    file: PathBuf,
    about: PathBuf,
    to: File,
    done: usize,
    dimension: usize,
}

impl Rows {
    fn open(out: &Path, what: &Unfinished) -> anyhow::Result<Self> {
        let beside = |ending: &str| {
            let mut name = out.file_name().unwrap_or_default().to_owned();
            name.push(ending);
            out.with_file_name(name)
        };
        let (file, about) = (beside(".unfinished"), beside(".unfinished.json"));
        let same = std::fs::read_to_string(&about).ok().and_then(|text| serde_json::from_str::<Unfinished>(&text).ok());
        if same.as_ref() != Some(what) {
            let _ = std::fs::remove_file(&file);
            write_atomic(&about, |to| Ok(serde_json::to_writer(to, what)?))?;
        }
        let to = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&file);
        let mut to = to.with_context(|| format!("{}: cannot be written", file.display()))?;
        // A row that was only partly written when the command was interrupted is cut off and written again.
        let width = what.dimension as u64 * size_of::<f32>() as u64;
        let done = to.metadata()?.len() / width;
        to.set_len(done * width)?;
        to.seek(std::io::SeekFrom::End(0))?;
        Ok(Self { file, about, to, done: done as usize, dimension: what.dimension })
    }

    fn append(&mut self, rows: &[Embedding]) -> anyhow::Result<()> {
        let bytes: Vec<u8> = rows.iter().flat_map(Embedding::as_slice).flat_map(|value| value.to_le_bytes()).collect();
        self.to.write_all(&bytes).with_context(|| format!("{}: cannot be written", self.file.display()))?;
        self.done += rows.len();
        Ok(())
    }

    /// Writes the rows with their header to the output file, and removes the unfinished files.
    fn finish(mut self, out: &Path, rows: usize, dimension: usize) -> anyhow::Result<()> {
        self.to.rewind()?;
        let mut bytes = Vec::with_capacity(self.done * self.dimension * size_of::<f32>());
        self.to.read_to_end(&mut bytes)?;
        let values = bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value));
        write_atomic(out, |to: &mut BufWriter<File>| npy::write(to, rows, dimension, values))?;
        let _ = (std::fs::remove_file(&self.file), std::fs::remove_file(&self.about));
        Ok(())
    }
}
