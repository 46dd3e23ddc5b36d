//! Ctrl-C, for as long as the command runs: the first ends the intake of the run at hand, and no other is begun;
//! the second ends the program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::live::executor::Intake;

/// Listens on a thread of its own, so that it is heard whatever the command does.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Interrupts {
    heard: Arc<AtomicBool>,
    /// Of the run at hand.
    intake: Arc<Mutex<Option<Intake>>>,
}

impl Interrupts {
    /// Begins to listen.
    pub(in crate::cli) fn listen() -> std::io::Result<Self> {
        let interrupts = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let own = interrupts.clone();
        std::thread::Builder::new().name("interrupts".into()).spawn(move || {
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    if own.heard.swap(true, Ordering::Relaxed) {
                        std::process::exit(130);
                    }
                    if let Some(intake) = own.intake.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                        intake.end();
                    }
                }
            });
        })?;
        Ok(interrupts)
    }

    /// Whether there was one.
    pub(in crate::cli) fn heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// What the next one ends; at once, if it has come already.
    pub(super) fn end(&self, intake: Intake) {
        let mut current = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        if self.heard() {
            intake.end();
        }
        *current = Some(intake);
    }
}
