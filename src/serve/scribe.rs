//! Thread that writes files for which no request waits: recorded traffic and audits of hits. A disk that hangs blocks
//! only this thread. After an error of a write, or when too many rows wait, the thread ends with a warning and the
//! server goes on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::pause;

/// Largest number of rows that wait for the disk.
const MOST_WAITING: usize = 4_096;
/// Time between two checks whether the thread has ended.
const POLL: Duration = Duration::from_millis(2);

/// Guard that sets a flag when the thread ends, also by a panic.
struct Ending(Arc<AtomicBool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Handle of a thread that writes rows to the disk.
#[derive(Debug)]
pub(super) struct Scribe<T> {
    /// Name of the file or folder, for warnings.
    what: String,
    to: Option<SyncSender<T>>,
    thread: Option<JoinHandle<()>>,
    has_ended: Arc<AtomicBool>,
}

impl<T: Send + 'static> Scribe<T> {
    /// Starts the thread. The thread ends at the first row that cannot be written.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(what: String, mut write: impl FnMut(T) -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (to, rows): (_, Receiver<T>) = sync_channel(MOST_WAITING);
        let (has_ended, name) = (Arc::new(AtomicBool::new(false)), what.clone());
        let ending = Ending(has_ended.clone());
        let run = move || {
            let _ending = ending;
            for row in rows {
                if let Err(error) = write(row) {
                    tracing::warn!("{name}: nothing more is written: {error}");
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("scribe".into()).spawn(run)?;
        Ok(Self { what, to: Some(to), thread: Some(thread), has_ended })
    }

    /// Returns whether no more rows are written.
    pub(super) fn has_ended(&self) -> bool {
        self.to.is_none() || self.has_ended.load(Ordering::Relaxed)
    }

    /// Passes a row to the thread, unless no more rows are written. Never blocks.
    pub(super) fn write(&mut self, row: T) {
        let Some(to) = &self.to else { return };
        if let Err(refused) = to.try_send(row) {
            if let TrySendError::Full(_) = refused {
                tracing::warn!("{}: nothing more is written: the disk does not keep up", self.what);
            }
            // The thread ends after the rows that it has. Further rows would follow a gap.
            self.to = None;
        }
    }

    /// Waits until all rows are written, or `patience` has passed. Returns whether all rows are written.
    pub(super) fn close(&mut self, mut patience: Duration) -> bool {
        // `has_ended` is asked before `to` is dropped, because it takes a missing `to` for an end.
        let was_whole = !self.has_ended();
        self.to = None;
        let Some(thread) = self.thread.take() else { return false };
        while !thread.is_finished() {
            if patience.is_zero() {
                return false;
            }
            pause(POLL);
            patience = patience.saturating_sub(POLL);
        }
        was_whole && thread.join().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_disk_that_hangs_holds_nobody_up_and_a_failure_is_the_end() {
        let (go, wait) = channel::<()>();
        let hangs = move |row: usize| if row == 0 { wait.recv().map_err(io::Error::other) } else { Ok(()) };
        let mut scribe = Scribe::start("a disk that hangs".to_owned(), hangs).expect("a thread");
        // The thread may or may not have taken the first row already.
        let fitted = (0..MOST_WAITING + 2).take_while(|row| {
            scribe.write(*row);
            !scribe.has_ended()
        });
        let fitted = fitted.count();
        assert!((MOST_WAITING..MOST_WAITING + 2).contains(&fitted), "{fitted}");
        assert!(!scribe.close(Duration::from_millis(20)), "it hangs");
        drop(go);

        let fails = |row: usize| if row == 1 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
        let mut scribe = Scribe::start("a disk that is full".to_owned(), fails).expect("a thread");
        scribe.write(0);
        scribe.write(1);
        while !scribe.has_ended() {
            pause(POLL);
        }
        scribe.write(2);
        assert!(!scribe.close(Duration::from_secs(10)));
        let mut scribe = Scribe::start("a disk that works".to_owned(), fails).expect("a thread");
        scribe.write(0);
        assert!(scribe.close(Duration::from_secs(10)));
        let mut scribe = Scribe::start("a panic".to_owned(), |(): ()| panic!("injected")).expect("a thread");
        scribe.write(());
        while !scribe.has_ended() {
            pause(POLL);
        }
        assert!(!scribe.close(Duration::from_secs(10)));
    }
}
