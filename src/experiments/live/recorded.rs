//! Record of a live run as a trace that the simulator can read: the requests, the embeddings of their prompts and of
//! their images, and the keys of the images that were cached before.

use std::borrow::Cow;
use std::path::Path;

use crate::embedding::Embedding;
use crate::journal::{Journal, Record};
use crate::metrics::warnings::Rows;
use crate::output::{OutputError, make_folder, write_atomic};
use crate::scheduler::{Event, WarmImage};
use crate::time::Time;
use crate::trace::{Trace, npy, write_requests};

/// Embeddings by row, as the encoder gave them.
#[derive(Debug)]
pub(super) struct Recorded {
    prompts: Vec<Option<Embedding>>,
    images: Vec<Option<Embedding>>,
    warm: Vec<Embedding>,
}

/// Returns the keys of the images that were cached before a recording, as far as it has them. It has no sizes and keys
/// of such images: those that only some requests may find are left out rather than found by all.
pub fn recorded_keys(warm: &[WarmImage]) -> Vec<Embedding> {
    warm.iter().filter(|image| image.ask.is_usual()).map(|image| image.key.clone()).collect()
}

impl Recorded {
    pub(super) fn new(rows: usize, warm: &[WarmImage]) -> Self {
        Self { prompts: vec![None; rows], images: vec![None; rows], warm: recorded_keys(warm) }
    }

    /// Returns the embeddings of prompts and images by row.
    pub(super) fn rows(&self) -> (Rows, Rows) {
        (Rows::Recorded(self.prompts.clone().into()), Rows::Recorded(self.images.clone().into()))
    }

    /// Writes the folder `trace/`: the requests, and the files of embeddings that have all rows.
    pub(super) fn write(&self, folder: &Path, trace: &Trace) -> Result<(), OutputError> {
        let folder = folder.join("trace");
        make_folder(&folder)?;
        // A file has a row for each request. Of several pictures of one request, the first stands for all.
        let firsts: Vec<u32> = (0..trace.len() as u32).filter(|row| trace.place(*row as usize).at == 0).collect();
        let arrivals = firsts.iter().map(|row| trace.arrivals()[*row as usize]).collect();
        let requests =
            if firsts.len() < trace.len() { Cow::Owned(trace.select(&firsts, arrivals)) } else { Cow::Borrowed(trace) };
        write_atomic(&folder.join("requests.csv"), |to| write_requests(to, &requests))?;
        let of_requests = |rows: &[Option<Embedding>]| firsts.iter().map(|row| rows[*row as usize].clone()).collect();
        let warm: Vec<Option<Embedding>> = self.warm.iter().cloned().map(Some).collect();
        let (prompts, images): (Vec<_>, Vec<_>) = (of_requests(&self.prompts), of_requests(&self.images));
        let files = [("prompt_embeddings", &prompts), ("image_embeddings", &images), ("warm_images", &warm)];
        for (name, rows) in files {
            // A trace has embeddings for all its rows or for none.
            let Some(rows) = rows.iter().map(Option::as_ref).collect::<Option<Vec<_>>>() else { continue };
            let Some(dimension) = rows.first().map(|row| row.as_slice().len()) else { continue };
            let values = rows.iter().flat_map(|row| row.as_slice().iter().copied());
            write_atomic(&folder.join(format!("{name}.npy")), |to| npy::write(to, rows.len(), dimension, values))?;
        }
        Ok(())
    }
}

impl Journal for Recorded {
    fn record(&mut self, _: Time, record: Record<'_>) {
        match record {
            Record::Event(Event::Encoded { request, embedding }) => self.prompts[request.row()].clone_from(embedding),
            Record::Event(Event::ImageEncoded { request, embedding }) => {
                self.images[request.row()].clone_from(embedding);
            }
            _ => {}
        }
    }
}
