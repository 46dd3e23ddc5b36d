//! Server that answers requests over HTTP. It uses the core, the loop and the executor of live runs, with the network
//! as the inbox. The module `desk` stands between the network and the loop; everything that knows of HTTP is in `api`.
//! docs/serve.md describes how to run the server, docs/openapi.json what it answers.

pub mod names;
pub mod settings;

#[cfg(feature = "serve")]
pub mod api;
#[cfg(feature = "serve")]
pub mod audit;
#[cfg(feature = "serve")]
pub mod check;
#[cfg(feature = "serve")]
pub mod clock;
#[cfg(feature = "serve")]
pub mod desk;
#[cfg(feature = "serve")]
pub mod ids;
#[cfg(feature = "serve")]
pub mod keys;
#[cfg(feature = "serve")]
pub mod ledger;
#[cfg(feature = "serve")]
pub mod listen;
#[cfg(feature = "serve")]
pub mod meter;
#[cfg(feature = "serve")]
pub mod offers;
#[cfg(feature = "serve")]
mod quiet;
#[cfg(feature = "serve")]
pub mod recordings;
#[cfg(feature = "serve")]
mod scribe;
#[cfg(feature = "serve")]
pub mod traffic;

/// Sleeps while the end of a run waits for a thread that writes.
#[cfg(feature = "serve")]
#[expect(clippy::disallowed_methods, reason = "the end of a run waits for its files")]
fn pause(time: std::time::Duration) {
    std::thread::sleep(time);
}

/// Locks a mutex, also after a panic of another thread that held it: the values behind these locks stay usable.
#[cfg(feature = "serve")]
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Returns the host's date, in whole seconds since 1970. The date is for what people read, never for what is measured.
#[cfg(feature = "serve")]
#[expect(clippy::disallowed_methods, reason = "dates of answers and quotas of a day are the host's")]
fn seconds_since_1970() -> u64 {
    since_1970(std::time::SystemTime::now())
}

/// Returns whole seconds since 1970, or 0 for an earlier time.
#[cfg(feature = "serve")]
fn since_1970(time: std::time::SystemTime) -> u64 {
    time.duration_since(std::time::UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}
