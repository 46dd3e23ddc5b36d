//! Requests over HTTP, on the core, loop and executor of live runs: the inbox is the network. `desk` stands between the two;
//! everything that knows of HTTP is in `api`. docs/serve.md says how it is run, docs/openapi.json what it answers.

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
mod quiet;
#[cfg(feature = "serve")]
pub mod recordings;
#[cfg(feature = "serve")]
mod scribe;
#[cfg(feature = "serve")]
pub mod traffic;

/// Waits a moment for a thread that writes, at the end of a run.
#[cfg(feature = "serve")]
#[expect(clippy::disallowed_methods, reason = "the end of a run waits for its files")]
fn pause(time: std::time::Duration) {
    std::thread::sleep(time);
}

/// A thread that died while it held a lock left counters that are still counters.
#[cfg(feature = "serve")]
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The time outside: for what people read, never for what is measured.
#[cfg(feature = "serve")]
#[expect(clippy::disallowed_methods, reason = "dates of answers and quotas of a day are the host's")]
fn seconds_since_1970() -> u64 {
    since_1970(std::time::SystemTime::now())
}

/// Whole seconds.
#[cfg(feature = "serve")]
fn since_1970(time: std::time::SystemTime) -> u64 {
    time.duration_since(std::time::UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}
