//! Faults that tests inject. Below the ledger and the image store, a call fails, is cut short or is slow, at a place
//! that a seed decides, or hangs for as long as the test says. Threads panic. Programs built without debug assertions
//! read no plan, so that no fault happens in them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rand::RngExt;

use crate::draw::{Purpose, stream};

/// Environment variable with the plan, for example `seed=3,one_in=30,from=100,until=400`, `call=17` or
/// `from=50,until=90`. With `hang_while=FILE`, all calls hang while that file exists.
const VARIABLE: &str = "MODM_TEST_FAULTS";
/// Environment variable with a place of the program and a file, for example `loop=FILE`. The place panics once while
/// that file exists.
const PANICS: &str = "MODM_TEST_PANIC";
/// Delay of a slow call.
const DELAY: Duration = Duration::from_millis(20);
/// Time between two checks for the end of a call that hangs.
const LOOK: Duration = Duration::from_millis(10);

/// Fault of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Failure before any work.
    Fails(io::ErrorKind),
    /// Failure after a part of the work.
    Short,
    /// Success after a delay.
    Slow,
}

/// Plan of the calls that go wrong, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// No calls.
    Never,
    /// One call, by its number.
    Once(u64, Fault),
    /// All calls from one number to before another: a disk that is full or gone for a while.
    While(u64, u64, Fault),
    /// Random calls, one in `one_in` on average.
    Seeded {
        /// Seed of the choice of calls, and of the fault of each.
        seed: u64,
        /// Mean number of calls for one fault.
        one_in: u64,
        /// Number of the first call that can go wrong.
        from: u64,
        /// Number of the first call that can no longer go wrong.
        until: u64,
    },
}

/// Counter of calls that decides the fault of each call. All code that must fail together shares one counter.
#[derive(Debug)]
pub struct Faults {
    plan: Plan,
    calls: AtomicU64,
    /// File that makes all calls hang while it exists.
    hang_while: Option<PathBuf>,
}

impl Faults {
    /// Makes the faults of a plan.
    #[must_use]
    pub fn new(plan: Plan) -> Arc<Self> {
        Arc::new(Self { plan, calls: AtomicU64::new(0), hang_while: None })
    }

    /// Makes every call hang while a file exists.
    #[must_use]
    pub fn hang_while(file: PathBuf) -> Arc<Self> {
        Arc::new(Self { plan: Plan::Never, calls: AtomicU64::new(0), hang_while: Some(file) })
    }

    /// Returns the faults of the plan in the environment, or `None` if there is no plan or the program has no debug
    /// assertions.
    #[must_use]
    pub fn from_environment() -> Option<Arc<Self>> {
        let text = std::env::var(VARIABLE).ok().filter(|_| cfg!(debug_assertions))?;
        let number = |key: &str| {
            let pair = text.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            pair.and_then(|value| value.parse::<u64>().ok())
        };
        // The rest of the text is a path, which may contain commas and keys of the other plans.
        if let Some(file) = text.strip_prefix("hang_while=") {
            return Some(Self::hang_while(file.into()));
        }
        let until = number("until").unwrap_or(u64::MAX);
        let (from, one_in) = (number("from").unwrap_or(0), number("one_in").unwrap_or(50).max(1));
        let plan = match (number("call"), number("seed")) {
            (Some(call), _) => Plan::Once(call, Fault::Fails(io::ErrorKind::Other)),
            (_, Some(seed)) => Plan::Seeded { seed, one_in, from, until },
            _ => Plan::While(from, until, Fault::Fails(io::ErrorKind::StorageFull)),
        };
        Some(Self::new(plan))
    }

    /// Returns the number of calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Hangs for as long as the test says.
    pub fn hang(&self) {
        while self.hang_while.as_deref().is_some_and(Path::exists) {
            pause(LOOK);
        }
    }

    /// Counts a call and carries out its fault. The function `short` does a part of the call's work.
    ///
    /// # Errors
    /// Returns the fault as an error.
    pub fn call(&self, short: impl FnOnce()) -> io::Result<()> {
        self.hang();
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let injected = |kind| io::Error::new(kind, format!("injected at call {number}"));
        match self.plan.fault(number) {
            None => Ok(()),
            Some(Fault::Slow) => {
                pause(DELAY);
                Ok(())
            }
            Some(Fault::Fails(kind)) => Err(injected(kind)),
            Some(Fault::Short) => {
                short();
                Err(injected(io::ErrorKind::WriteZero))
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a slow disk of a test")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Panics at the place of this name if a test planned a panic there and the file of the plan exists. The file is
/// removed first, so that the panic happens once.
pub fn may_panic(place: &str) {
    static PLAN: OnceLock<Option<(String, PathBuf)>> = OnceLock::new();
    if !cfg!(debug_assertions) {
        return;
    }
    let plan = PLAN.get_or_init(|| {
        let text = std::env::var(PANICS).ok()?;
        text.split_once('=').map(|(place, file)| (place.to_owned(), file.into()))
    });
    if let Some((_, file)) = plan.as_ref().filter(|(planned, _)| planned == place) {
        // Removing the file also tests for it: of several threads that come here, one finds it and panics.
        assert!(std::fs::remove_file(file).is_err(), "injected at {place}");
    }
}

impl Plan {
    fn fault(self, call: u64) -> Option<Fault> {
        match self {
            Self::Never => None,
            Self::Once(at, fault) => (call == at).then_some(fault),
            Self::While(from, until, fault) => (from..until).contains(&call).then_some(fault),
            Self::Seeded { seed, one_in, from, until } => {
                // Each call has a stream of its own. Its fault depends on the seed and its number alone, not on the
                // thread that made the call before.
                let mut draws = stream(seed, Purpose::Test, call);
                if !(from..until).contains(&call) || draws.random_range(0..one_in) > 0 {
                    return None;
                }
                Some(match draws.random_range(0..4) {
                    0 => Fault::Fails(io::ErrorKind::Other),
                    1 => Fault::Fails(io::ErrorKind::StorageFull),
                    2 => Fault::Short,
                    _ => Fault::Slow,
                })
            }
        }
    }
}
