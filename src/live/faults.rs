//! Faults that tests inject: below the ledger and the image store a call fails, is cut short or takes long, at a place that a
//! seed decides, or hangs for as long as the test says; threads panic. Programs built without debug assertions read no plan, so
//! none of it happens there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rand::RngExt;

use crate::draw::{Purpose, stream};

/// Environment variable with the plan: `seed=3,one_in=30,from=100,until=400`, `call=17`, or
/// `from=50,until=90`; or `hang_while=FILE`: all calls hang while that file is there.
const VARIABLE: &str = "MODM_TEST_FAULTS";
/// Environment variable with a place of the program and a file: `loop=FILE`. The place panics once while that file is there.
const PANICS: &str = "MODM_TEST_PANIC";
/// Delay of a slow call.
const DELAY: Duration = Duration::from_millis(20);
/// Time between two looks at whether a call still hangs.
const LOOK: Duration = Duration::from_millis(10);

/// Fault of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing and fails.
    Fails(io::ErrorKind),
    /// It does a part of its work and fails.
    Short,
    /// It works, later.
    Slow,
}

/// Calls that go wrong, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// None.
    Never,
    /// One call.
    Once(u64, Fault),
    /// All calls from one to before another: a disk that is full or gone for a while.
    While(u64, u64, Fault),
    /// One in so many.
    Seeded {
        /// Seed of which calls, and what happens to each.
        seed: u64,
        /// Mean number of calls for one fault.
        one_in: u64,
        /// Call before which nothing goes wrong.
        from: u64,
        /// Call from which on nothing goes wrong.
        until: u64,
    },
}

/// Counts calls and decides what happens to each; shared by all that are to fail together.
#[derive(Debug)]
pub struct Faults {
    plan: Plan,
    calls: AtomicU64,
    /// All calls hang while this file is there.
    hang_while: Option<PathBuf>,
}

impl Faults {
    /// Follows a plan.
    #[must_use]
    pub fn new(plan: Plan) -> Arc<Self> {
        Arc::new(Self { plan, calls: AtomicU64::new(0), hang_while: None })
    }

    /// Has every call hang while a file is there.
    #[must_use]
    pub fn hang_while(file: PathBuf) -> Arc<Self> {
        Arc::new(Self { plan: Plan::Never, calls: AtomicU64::new(0), hang_while: Some(file) })
    }

    /// Plan of the environment; none in a program without debug assertions.
    #[must_use]
    pub fn from_environment() -> Option<Arc<Self>> {
        let text = std::env::var(VARIABLE).ok().filter(|_| cfg!(debug_assertions))?;
        let number = |key: &str| {
            let pair = text.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            pair.and_then(|value| value.parse::<u64>().ok())
        };
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

    /// Number of calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Hangs for as long as a test says.
    pub fn hang(&self) {
        while self.hang_while.as_deref().is_some_and(Path::exists) {
            pause(LOOK);
        }
    }

    /// Counts a call and carries out its fault. `short` does a part of the call's work.
    ///
    /// # Errors
    /// The fault.
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

/// Panics on a test's plan: at the place of this name, while a file is there, which is removed first.
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
