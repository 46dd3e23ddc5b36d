//! Ctrl-C and SIGTERM, for as long as the command runs. The first signal ends the intake of the current run, and no
//! other run is begun. The second signal ends the program. Slurm, Kubernetes and timeout(1) send SIGTERM.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::executor::Intake;

/// Exit codes of a program that a signal ends, as shells give them: 128 plus the number of the signal.
const INTERRUPTED: i32 = 130;
const TERMINATED: i32 = 143;

/// Receiver of both signals. Signals are heard from its creation on, not only while a task waits for them.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Starts to hear the signals. The caller must be within a tokio runtime.
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next signal. Returns the exit code that belongs to the signal.
    async fn next(&mut self) -> Option<i32> {
        poll_fn(|context| match self.interrupt.poll_recv(context) {
            Poll::Ready(heard) => Poll::Ready(heard.map(|()| INTERRUPTED)),
            Poll::Pending => self.terminate.poll_recv(context).map(|heard| heard.map(|()| TERMINATED)),
        })
        .await
    }
}

/// Listener on a thread of its own, so that a signal is heard whatever the program does. The default listener hears
/// nothing.
#[derive(Clone, Debug, Default)]
pub struct Interrupts {
    heard: Arc<AtomicBool>,
    /// Intake of the current run.
    intake: Arc<Mutex<Option<Intake>>>,
}

impl Interrupts {
    /// Begins to listen, for as long as the program runs.
    ///
    /// # Errors
    /// Returns an error if signals cannot be listened for.
    pub fn listen() -> std::io::Result<Self> {
        let interrupts = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // The signals are caught from here on, before the thread runs: a signal that comes in between is not lost, and
        // an error reaches the caller.
        let mut signals = runtime.block_on(async { Signals::listen() })?;
        let own = interrupts.clone();
        std::thread::Builder::new().name("interrupts".into()).spawn(move || {
            runtime.block_on(async {
                while let Some(code) = signals.next().await {
                    if own.heard.swap(true, Ordering::Relaxed) {
                        // Nothing is waited for. Worker processes end by themselves, because their standard input ends.
                        std::process::exit(code);
                    }
                    if let Some(intake) = own.intake.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                        intake.end();
                    }
                }
            });
        })?;
        Ok(interrupts)
    }

    /// Returns whether a signal was heard.
    #[must_use]
    pub fn heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Sets the intake that the next signal ends. If a signal has come already, the intake is ended at once.
    pub fn end(&self, intake: Intake) {
        // The lock is taken before the flag is read. A signal between the two would otherwise set the flag, find no
        // intake and end none.
        let mut current = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        if self.heard() {
            intake.end();
        }
        *current = Some(intake);
    }
}
