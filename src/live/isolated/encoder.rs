//! Dual encoder in a process of its own. A call that hangs or crashes costs one embedding, and the next call starts the
//! process again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::process::{Launch, LostProcess, Process};
use super::wire::{Reply, WireOrder};
use crate::embedding::Embedding;
use crate::live::embedder::{Embed, EmbedError};
use crate::live::error::Error;
use crate::live::library::Library;
use crate::live::limits::Limits;
use crate::live::picture::Picture;
use crate::live::settings::Device;

/// Encoder that embeds in another process.
#[derive(Debug)]
pub struct IsolatedEncoder {
    launch: Launch,
    library: Library,
    folder: PathBuf,
    device: Device,
    limits: Limits,
    process: Option<Process>,
    /// Number of losses since the process last answered.
    losses: u32,
    /// Time before which the process is not started again, if it must wait.
    away: Option<Instant>,
}

/// Time that a lost encoder stays away, doubled for each earlier loss in a row, and at most `LONGEST_AWAY`. After the
/// first loss in a row the encoder does not stay away.
const AWAY: Duration = Duration::from_secs(1);
const LONGEST_AWAY: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "a run in real time has the host's clock")]
fn now() -> Instant {
    Instant::now()
}

impl IsolatedEncoder {
    /// Starts the process and loads the encoder of a folder.
    ///
    /// # Errors
    /// Returns an error if the process cannot be started or the encoder does not load.
    pub fn open(
        launch: Launch,
        library: Library,
        folder: PathBuf,
        device: Device,
        limits: Limits,
    ) -> Result<Self, LostProcess> {
        let mut encoder = Self { launch, library, folder, device, limits, process: None, losses: 0, away: None };
        encoder.process = Some(encoder.start()?);
        Ok(encoder)
    }

    fn start(&self) -> Result<Process, LostProcess> {
        let (library, folder) = (self.library.file.clone(), self.folder.clone());
        let role = WireOrder::Encode { library, device: self.device, folder };
        Process::start(&self.launch, &role, self.limits.load_encoder)
    }

    fn ask(&mut self, order: &WireOrder, tail: &[u8]) -> Result<Embedding, EmbedError> {
        if self.away.is_some_and(|until| now() < until) {
            return Err(EmbedError::Away);
        }
        match self.answer(order, tail) {
            Ok(answer) => {
                self.losses = 0;
                Ok(answer?)
            }
            Err(lost) => {
                // After the first loss the next call starts the process at once: later requests should not pay for one
                // bad prompt.
                let away = AWAY * 1_u32.checked_shl(self.losses.saturating_sub(1)).unwrap_or(u32::MAX);
                self.away = (self.losses > 0).then(|| now() + away.min(LONGEST_AWAY));
                self.losses = (self.losses + 1).min(16);
                Err(EmbedError::Lost(lost))
            }
        }
    }

    fn answer(&mut self, order: &WireOrder, tail: &[u8]) -> Result<Result<Embedding, Error>, LostProcess> {
        // The process is put back only after an answer. After any error it is dropped, which ends it.
        let mut process = match self.process.take() {
            Some(process) => process,
            None => self.start()?,
        };
        process.send(order, tail, self.limits.encode, "an embedding")?;
        let answer = match process.receive(self.limits.encode, "an embedding")?.header {
            Reply::Embedding(embedding) => Ok(embedding),
            Reply::Failed(reported) => Err(reported.into()),
            other => return Err(process.confused(&other)),
        };
        self.process = Some(process);
        Ok(answer)
    }
}

impl Embed for IsolatedEncoder {
    fn prompt(&mut self, prompt: &str) -> Result<Embedding, EmbedError> {
        self.ask(&WireOrder::Prompt(prompt.to_owned()), &[])
    }

    fn picture(&mut self, picture: &Picture) -> Result<Embedding, EmbedError> {
        self.ask(&WireOrder::Picture(picture.size()), picture.bytes())
    }
}
