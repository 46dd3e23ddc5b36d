//! Draws a list of pictures on several devices, for measurements. Each free device takes the next picture of the list,
//! because no request waits for a particular picture. A picture is the same as in a run: it does not depend on the
//! device that drew it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::details::USUAL;
use super::error::Error;
use super::picture::Picture;
use super::settings::ImageFormat;
use super::worker::{DrawError, LoadError, Paint, Painted, Task};
use crate::model::{ModelId, Work};
use crate::output::{OutputError, write_atomic};
use crate::request::RequestId;

/// Picture to draw, and the file it goes to.
#[derive(Clone, Debug)]
pub struct WantedPicture {
    /// Request that the picture belongs to.
    pub request: RequestId,
    /// Seed that the noise of the picture derives from, together with the row of the request.
    pub seed: u64,
    /// Prompt of the picture.
    pub prompt: Arc<str>,
    /// Model, and numbers of total and skipped denoising steps.
    pub work: Work,
    /// File of the source picture, if denoising steps are skipped.
    pub source: Option<PathBuf>,
    /// PNG file that the picture is written to.
    pub to: PathBuf,
}

/// Reason that a picture of the list is not drawn, or that its file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Model of a picture that cannot be loaded.
    #[error("{}: {error}", file.display())]
    Load {
        /// File that the picture was to be written to.
        file: PathBuf,
        /// Reason.
        error: Box<LoadError>,
    },
    /// Picture that cannot be drawn.
    #[error("{}: {error}", file.display())]
    Draw {
        /// File that the picture was to be written to.
        file: PathBuf,
        /// Reason.
        error: Box<DrawError>,
    },
    /// File that cannot be read.
    #[error("{}: cannot be read: {error}", file.display())]
    Read {
        /// File.
        file: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// Picture that cannot be encoded or decoded.
    #[error("{}: {error}", file.display())]
    Codec {
        /// File of the picture.
        file: PathBuf,
        /// Error of the codec.
        error: Box<Error>,
    },
    /// File that cannot be written.
    #[error(transparent)]
    Write(#[from] OutputError),
    /// Panic in the thread of a device.
    #[error("a worker's thread died")]
    ThreadDied,
}

/// Draws all pictures of `wanted`. The list is best in order of models, because each device holds one model at a time.
/// Calls `drawn` after each picture.
///
/// # Errors
/// Returns the first failure to draw, read or write a picture. The pictures that remain are not drawn then.
pub fn draw_all(
    devices: &mut [Box<dyn Paint>],
    wanted: &[WantedPicture],
    drawn: &(dyn Fn() + Sync),
) -> Result<(), BatchError> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = |paint: &mut dyn Paint| {
        let mut held = None;
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = wanted.get(at) else { break };
            match draw(paint, &mut held, one, &stop) {
                Ok(()) => drawn(),
                Err(error) => {
                    // Errors after the first may be cancellations that the first caused, so only the first is reported.
                    let first = !stop.swap(true, Ordering::Relaxed);
                    return if first { Err(error) } else { Ok(()) };
                }
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = devices.iter_mut().map(|paint| scope.spawn(|| work(paint.as_mut()))).collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap_or(Err(BatchError::ThreadDied)));
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

fn draw(
    paint: &mut dyn Paint,
    held: &mut Option<ModelId>,
    one: &WantedPicture,
    stop: &AtomicBool,
) -> Result<(), BatchError> {
    let file = || one.to.clone();
    if *held != Some(one.work.model) {
        paint.load(one.work.model).map_err(|error| BatchError::Load { file: file(), error: error.into() })?;
        *held = Some(one.work.model);
    }
    let source = one.source.as_ref().map(|file| read(file)).transpose()?;
    let noise = (one.seed, u64::from(one.request.0));
    let (request, prompt, work) = (one.request, &*one.prompt, one.work);
    let task = Task { request, noise, prompt, details: &USUAL, work, source: source.as_ref(), image: None };
    let drawn = paint.draw(&task, &|| !stop.load(Ordering::Relaxed));
    let Painted { picture, .. } = drawn.map_err(|error| BatchError::Draw { file: file(), error: error.into() })?;
    let bytes =
        picture.encode(ImageFormat::Png).map_err(|error| BatchError::Codec { file: file(), error: error.into() })?;
    Ok(write_atomic(&one.to, |to| to.write_all(&bytes))?)
}

/// Reads a picture from a file.
///
/// # Errors
/// Returns an error if the file cannot be read or is not a picture.
pub fn read(file: &Path) -> Result<Picture, BatchError> {
    let bytes = std::fs::read(file).map_err(|error| BatchError::Read { file: file.to_owned(), error })?;
    Picture::decode(&bytes).map_err(|error| BatchError::Codec { file: file.to_owned(), error: error.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Painter whose picture is one pixel: the request, the skipped steps and the source. It fails at one request.
    struct Fake {
        held: Option<ModelId>,
        fails: u32,
    }

    impl Paint for Fake {
        fn load(&mut self, model: ModelId) -> Result<(), LoadError> {
            self.held = Some(model);
            Ok(())
        }

        fn draw(&mut self, task: &Task<'_>, _: &dyn Fn() -> bool) -> Result<Painted, DrawError> {
            assert_eq!(self.held, Some(task.work.model));
            if task.request.0 == self.fails {
                return Err(DrawError::NotLoaded);
            }
            let source = task.source.map_or(255, |source| source.bytes()[0]);
            Ok(Picture::new(1, 1, vec![task.request.0 as u8, task.work.skipped_steps as u8, source]).into())
        }
    }

    fn drawn(folder: &Path, devices: usize, fails: u32) -> Result<Vec<Vec<u8>>, BatchError> {
        let mut devices: Vec<Box<dyn Paint>> =
            (0..devices).map(|_| Box::new(Fake { held: None, fails }) as Box<dyn Paint>).collect();
        let one = |row: u32, skipped_steps: u32, source: Option<PathBuf>| WantedPicture {
            request: RequestId(row),
            seed: 1,
            prompt: "a cat".into(),
            work: Work::new(ModelId(u16::from(skipped_steps > 0)), 9, skipped_steps),
            source,
            to: folder.join(format!("{row}-{skipped_steps}.png")),
        };
        let large: Vec<WantedPicture> = (0..20).map(|row| one(row, 0, None)).collect();
        let small: Vec<WantedPicture> =
            (1..20).map(|row| one(row, 5, Some(large[row as usize - 1].to.clone()))).collect();
        let count = AtomicUsize::new(0);
        let tick = || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        draw_all(&mut devices, &large, &tick)?;
        draw_all(&mut devices, &small, &tick)?;
        assert_eq!(count.load(Ordering::Relaxed), 39);
        large.iter().chain(&small).map(|one| Ok(read(&one.to)?.bytes().to_vec())).collect()
    }

    #[test]
    fn pictures_do_not_depend_on_the_number_of_devices() {
        let folder = tempfile::tempdir().unwrap();
        let one = drawn(folder.path(), 1, 99).unwrap();
        assert_eq!((&one[7], &one[20 + 6]), (&vec![7, 0, 255], &vec![7, 5, 6]));
        assert_eq!(drawn(folder.path(), 3, 99).unwrap(), one);
    }

    #[test]
    fn the_first_failure_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = drawn(folder.path(), 2, 4).unwrap_err();
        assert!(matches!(&error, BatchError::Draw { error, .. } if matches!(**error, DrawError::NotLoaded)), "{error}");
        assert!(error.to_string().ends_with("4-0.png: the model is not loaded"), "{error}");
    }
}
