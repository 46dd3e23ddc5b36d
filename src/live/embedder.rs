//! Thread that computes embeddings: of prompts before routing, and of pictures after completion. Prompts go first,
//! because requests wait for them. No request waits for the embedding of its picture.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc::UnboundedSender;

use super::encoder::DualEncoder;
use super::error::Error;
use super::executor::Answer;
use super::isolated::LostProcess;
use super::picture::Picture;
use crate::embedding::Embedding;
use crate::request::RequestId;

/// Encoder of prompts and pictures. The real one is [`DualEncoder`], tests have others.
pub trait Embed: Send {
    /// Computes the embedding of a prompt.
    ///
    /// # Errors
    /// Returns an error if there is no embedding.
    fn prompt(&mut self, prompt: &str) -> Result<Embedding, EmbedError>;

    /// Computes the embedding of a picture, in the same space as the embeddings of prompts.
    ///
    /// # Errors
    /// Returns an error if there is no embedding.
    fn picture(&mut self, picture: &Picture) -> Result<Embedding, EmbedError>;
}

/// Reason that a prompt or a picture has no embedding.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// Failure of the encoder or its device.
    #[error(transparent)]
    Failed(#[from] Error),
    /// Loss of the encoder's process.
    #[error("the encoder was lost: {0}")]
    Lost(LostProcess),
    /// Encoder whose process was lost before and is not started again yet.
    #[error("the encoder was lost, and is started again soon")]
    Away,
    /// Panic of the encoder.
    #[error("the encoder panicked")]
    Panicked,
    /// Thread of the encoder that has ended.
    #[error("the thread of the encoder has died")]
    ThreadDied,
    /// Request that is forgotten, or was never known, and has no prompt.
    #[error("the request is unknown")]
    UnknownRequest,
    /// Request that has no picture.
    #[error("there is no picture")]
    NoPicture,
}

impl Embed for DualEncoder {
    fn prompt(&mut self, prompt: &str) -> Result<Embedding, EmbedError> {
        Ok(self.text(prompt)?)
    }

    fn picture(&mut self, picture: &Picture) -> Result<Embedding, EmbedError> {
        Ok(self.image(picture)?)
    }
}

pub(super) enum Ask {
    Prompt(RequestId, Arc<str>),
    Picture(RequestId, Arc<Picture>),
}

/// Starts the thread. The thread ends when the sender is dropped and nothing is left to embed.
pub(super) fn start(
    embed: Box<dyn Embed>,
    answers: UnboundedSender<Answer>,
) -> std::io::Result<(Sender<Ask>, JoinHandle<()>)> {
    let (ask, asked) = channel();
    let run = move || run(embed, &asked, &answers);
    Ok((ask, std::thread::Builder::new().name("embedder".into()).spawn(run)?))
}

fn run(mut embed: Box<dyn Embed>, asked: &Receiver<Ask>, answers: &UnboundedSender<Answer>) {
    let (mut prompts, mut pictures) = (VecDeque::new(), VecDeque::new());
    loop {
        let first = if prompts.is_empty() && pictures.is_empty() { asked.recv().ok() } else { None };
        let mut sort = |ask| match ask {
            Ask::Prompt(request, prompt) => prompts.push_back((request, prompt)),
            Ask::Picture(request, picture) => pictures.push_back((request, picture)),
        };
        first.into_iter().for_each(&mut sort);
        // Everything that has come is sorted before each choice: a prompt that came meanwhile goes before older
        // pictures.
        asked.try_iter().for_each(&mut sort);
        let answer = if let Some((request, prompt)) = prompts.pop_front() {
            Answer::Prompt { request, embedding: guarded(|| embed.prompt(&prompt)) }
        } else if let Some((request, picture)) = pictures.pop_front() {
            Answer::Picture { request, embedding: guarded(|| embed.picture(&picture)) }
        } else {
            return; // Both queues are empty and the sender is gone.
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

/// Runs `work` and turns a panic into an error, so that the thread goes on with the next prompt or picture.
fn guarded(work: impl FnOnce() -> Result<Embedding, EmbedError>) -> Result<Embedding, EmbedError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(EmbedError::Panicked))
}
