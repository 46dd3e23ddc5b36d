//! Measures how long a run waits for the encoder: the time of a prompt or a picture to the encoder's thread and back.
//! The caller has workers draw meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;

use super::{Plan, clock};
use crate::live::embedder::{self, Ask, Embed, EmbedError};
use crate::live::error::Error;
use crate::live::picture::Picture;
use crate::request::RequestId;

/// Times of an encoder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoding {
    /// Seconds of each prompt.
    pub prompts: Vec<f64>,
    /// Seconds of each picture.
    pub pictures: Vec<f64>,
}

/// Pause between two measurements, after which the thread is asleep, as it mostly is in a run.
const PAUSE: Duration = Duration::from_millis(20);

#[expect(clippy::disallowed_methods, reason = "time is what is measured")]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// Measures an encoder. Errors name the encoder's `folder`.
///
/// # Errors
/// Returns an error if the thread does not start, or if the encoder does not embed.
pub fn encoding(encoder: Box<dyn Embed>, folder: &Path, size: [u32; 2], plan: &Plan) -> Result<Encoding, Error> {
    let failed = |message: String| Error::Session { file: folder.to_owned(), message };
    let (to_answers, mut answers) = unbounded_channel();
    let (ask, thread) = embedder::start(encoder, to_answers).map_err(|error| failed(error.to_string()))?;
    let [width, height] = size;
    let picture = Arc::new(Picture::new(width, height, vec![128; (3 * width * height) as usize]));
    let mut timed = |asked: Ask| {
        pause();
        let begun = clock();
        // A thread that is gone gives no answer, which is reported below.
        let _ = ask.send(asked);
        let answer = answers.blocking_recv().and_then(crate::live::executor::Answer::embedding);
        let seconds = begun.elapsed().as_secs_f64();
        match answer {
            Some(Ok(_)) => Ok(seconds),
            Some(Err(error)) => Err(failed(error.to_string())),
            None => Err(failed(EmbedError::ThreadDied.to_string())),
        }
    };
    let mut measured = Encoding::default();
    // The first two jobs allocate memory and choose algorithms: their times are left out.
    for job in 0..plan.jobs + 2 {
        let request = RequestId(job);
        let prompt = plan.prompts[job as usize % plan.prompts.len()].as_str().into();
        let (prompt, picture) = (timed(Ask::Prompt(request, prompt))?, timed(Ask::Picture(request, picture.clone()))?);
        if job >= 2 {
            measured.prompts.push(prompt);
            measured.pictures.push(picture);
        }
    }
    drop(ask);
    // The thread ends when its sender is dropped.
    let _ = thread.join();
    Ok(measured)
}
