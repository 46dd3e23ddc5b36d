//! Tools of a real node: the painters and the encoder of this program, in processes of their own.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Folders, Say, SharedEmbed, Tools};
use crate::input::InputError;
use crate::live::cluster::protocol::Setup;
use crate::live::isolated::{IsolatedEncoder, IsolatedPainter, Launch};
use crate::live::library::Library;
use crate::live::limits::{LimitSettings, Limits};
use crate::live::painter::Palette;
use crate::live::settings::Device;
use crate::live::worker::Paint;

/// Painters and an encoder for the folders of a machine.
pub struct OwnTools {
    launch: Launch,
    library: Library,
    folders: Folders,
    encoder_device: Device,
    /// Encoder that was opened last, with its fingerprint.
    opened: Mutex<Option<(String, SharedEmbed)>>,
    say: Say,
}

impl std::fmt::Debug for OwnTools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnTools").field("folders", &self.folders).finish_non_exhaustive()
    }
}

impl OwnTools {
    /// Finds the models and encoders below a folder.
    ///
    /// # Errors
    /// Returns an error if there are none, or if this program's own file is not known.
    pub fn new(library: Library, models: &Path, encoder_device: Device, say: Say) -> Result<Self, InputError> {
        let folders = Folders::find(models, &|found| say(found))?;
        let launch = Launch::own().map_err(|error| InputError::new("this program's own file", error.to_string()))?;
        Ok(Self { launch, library, folders, encoder_device, opened: Mutex::new(None), say })
    }
}

impl Tools for OwnTools {
    fn paint(&self, device: Device, setup: &Setup) -> Result<Box<dyn Paint>, String> {
        let place = |hash: &String| {
            let missing = || format!("no folder of --models has the content {}...", &hash[..hash.len().min(12)]);
            self.folders.models.get(hash).cloned().ok_or_else(missing)
        };
        let models = setup.models.iter().map(|(hash, guidance)| Ok((place(hash)?, *guidance)));
        let checkpoints = setup.checkpoints.iter().map(|hashes| hashes.iter().map(place).collect());
        let palette = Palette {
            models: models.collect::<Result<_, String>>()?,
            guided: setup.guided.clone(),
            checkpoints: checkpoints.collect::<Result<_, String>>()?,
            size: setup.size,
        };
        let (launch, library) = (self.launch.clone(), self.library.clone());
        Ok(Box::new(IsolatedPainter::new(launch, library, device, Arc::new(palette), setup.limits.clone())))
    }

    fn embed(&self, fingerprint: &str, [encode, load_encoder]: [Duration; 2]) -> Option<SharedEmbed> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, embed)) = opened.as_ref().filter(|(known, _)| known == fingerprint) {
            return Some(embed.clone());
        }
        let folder = self.folders.encoders.get(fingerprint)?.clone();
        let mut limits = Limits::unmeasured(&LimitSettings::default(), 0, 0);
        (limits.encode, limits.load_encoder) = (encode, load_encoder);
        let (launch, library) = (self.launch.clone(), self.library.clone());
        match IsolatedEncoder::open(launch, library, folder, self.encoder_device, limits) {
            Ok(encoder) => {
                let embed: SharedEmbed = Arc::new(Mutex::new(Box::new(encoder)));
                *opened = Some((fingerprint.to_owned(), embed.clone()));
                Some(embed)
            }
            Err(error) => {
                (self.say)(&format!("the encoder does not start, the scheduler embeds pictures: {error}"));
                None
            }
        }
    }

    fn models(&self) -> Vec<String> {
        self.folders.models.keys().cloned().collect()
    }
}
