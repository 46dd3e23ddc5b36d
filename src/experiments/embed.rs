//! Embeds a trace's prompts or its pictures with an ONNX dual encoder, in batches. Finished batches are on disk, so
//! that an interrupted job continues after them.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::live::{available_devices, file_names};
use super::{ExperimentError, Progress};
use crate::embedding::Embedding;
use crate::input::{InputError, sha256};
use crate::live::encoder::DualEncoder;
use crate::live::library::LibraryOptions;
use crate::live::picture::Picture;
use crate::live::settings::Device;
use crate::output::{refuse_file, write_atomic};
use crate::trace::{Trace, TraceFiles, npy};

/// Rows to embed, and the file to write.
#[derive(Clone, Debug)]
pub struct Job {
    /// File of the requests, with a `prompt` column unless pictures are embedded.
    pub requests: PathBuf,
    /// Folder of the pictures, if they are embedded in place of prompts. Each is named by the id of its request, as a
    /// live run names it.
    pub images: Option<PathBuf>,
    /// Folder of the encoder.
    pub model: PathBuf,
    /// Device of the encoder.
    pub device: Device,
    /// Number of rows in a batch, at least 1.
    pub batch: usize,
    /// The `.npy` file to write.
    pub out: PathBuf,
    /// True if an earlier file is overwritten.
    pub force: bool,
}

/// File that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Number of rows.
    pub rows: usize,
    /// Dimension of the embeddings.
    pub dimension: usize,
}

/// Inputs of an unfinished file. Only a job with the same inputs continues the file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unfinished {
    requests_sha256: String,
    model_sha256: String,
    images: Option<PathBuf>,
    dimension: usize,
}

/// Writes one row for each request, in the order of the trace.
///
/// # Errors
/// Returns an error if an input, the library or the device cannot be used, if the file exists and `force` is false, or
/// if it cannot be written.
pub fn embed(job: &Job, library: &LibraryOptions, progress: &dyn Progress) -> Result<Embedded, ExperimentError> {
    refuse_file(&job.out, job.force)?;
    let trace = crate::trace::read(&TraceFiles { requests: job.requests.clone(), ..TraceFiles::default() })?;
    let pictures = job.images.as_ref().map(|folder| pictures(&trace, folder, &job.requests)).transpose()?;
    if pictures.is_none() && trace.columns().prompts.is_none() {
        return Err(
            InputError::new(&job.requests, "has no `prompt` column; with --images pictures are embedded").into()
        );
    }
    let opened = library.open()?;
    let place = ("the command line".as_ref(), "--device");
    let device = available_devices(&opened, &[job.device], place, library.allow_cpu, progress)?[0];
    let mut encoder = DualEncoder::open(&opened, &job.model, device)?;
    let dimension = encoder.texts(&[""])?[0].as_slice().len();
    let unfinished = Unfinished {
        requests_sha256: sha256(&job.requests)?,
        model_sha256: DualEncoder::fingerprint(&job.model)?,
        images: job.images.clone(),
        dimension,
    };
    let mut rows = Rows::open(&job.out, &unfinished)?;
    if rows.done > 0 {
        progress.say(&format!("going on after row {} of {}", rows.done, trace.len()));
    }
    let counted = progress.work_begins(trace.len() as u64);
    counted.requests_ended(rows.done as u64);
    while rows.done < trace.len() {
        let batch = rows.done..(rows.done + job.batch).min(trace.len());
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
        counted.requests_ended(batch.len() as u64);
    }
    drop(counted);
    rows.finish(&job.out, trace.len(), dimension)?;
    Ok(Embedded { rows: trace.len(), dimension })
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
    fn open(out: &Path, what: &Unfinished) -> Result<Self, ExperimentError> {
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
        let (to, done) = Self::cut(&file, what.dimension).map_err(ExperimentError::file(&file, "cannot be written"))?;
        Ok(Self { file, about, to, done, dimension: what.dimension })
    }

    /// Opens the file, and returns it with the number of its rows. A row that was only partly written when a job was
    /// interrupted is cut off and written again.
    fn cut(file: &Path, dimension: usize) -> io::Result<(File, usize)> {
        let mut to = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(file)?;
        let width = dimension as u64 * size_of::<f32>() as u64;
        let done = to.metadata()?.len() / width;
        to.set_len(done * width)?;
        to.seek(io::SeekFrom::End(0))?;
        Ok((to, done as usize))
    }

    fn append(&mut self, rows: &[Embedding]) -> Result<(), ExperimentError> {
        let bytes: Vec<u8> = rows.iter().flat_map(Embedding::as_slice).flat_map(|value| value.to_le_bytes()).collect();
        self.to.write_all(&bytes).map_err(ExperimentError::file(&self.file, "cannot be written"))?;
        self.done += rows.len();
        Ok(())
    }

    /// Writes the rows with their header to the output file, and removes the unfinished files.
    fn finish(mut self, out: &Path, rows: usize, dimension: usize) -> Result<(), ExperimentError> {
        let mut bytes = Vec::with_capacity(self.done * self.dimension * size_of::<f32>());
        let read = self.to.rewind().and_then(|()| self.to.read_to_end(&mut bytes));
        read.map_err(ExperimentError::file(&self.file, "cannot be read"))?;
        let values = bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value));
        write_atomic(out, |to: &mut BufWriter<File>| npy::write(to, rows, dimension, values))?;
        let _ = (std::fs::remove_file(&self.file), std::fs::remove_file(&self.about));
        Ok(())
    }
}
