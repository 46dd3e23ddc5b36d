//! Functions that the page calls. Settings are numbers in memory at [`settings`], in the order of the description's
//! controls. An answer is JSON in memory at [`text`], as long as the function returned; an object with `error` says
//! what is wrong.

use std::cell::{Cell, RefCell};

use crate::json;
use crate::session::{self, Session};
use crate::settings::{CONTROLS, Settings};

thread_local! {
    static NUMBERS: [Cell<f64>; CONTROLS.len()] = const { [const { Cell::new(0.0) }; CONTROLS.len()] };
    static SESSION: RefCell<Session> = RefCell::default();
    static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Stores an answer and returns its length in bytes.
fn answer(answer: impl FnOnce(&Settings) -> Result<String, String>) -> usize {
    let numbers = NUMBERS.with(|numbers| std::array::from_fn(|at| numbers[at].get()));
    let text = Settings::from_numbers(numbers).and_then(|settings| answer(&settings));
    say(text.unwrap_or_else(|error| json::object([("error", json::text(&error))])))
}

fn say(text: String) -> usize {
    let length = text.len();
    TEXT.with(|held| *held.borrow_mut() = text);
    length
}

/// Returns the place of the settings.
#[expect(unsafe_code, reason = "a name that is called from outside; nothing else has it")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn settings() -> *const f64 {
    NUMBERS.with(|numbers| numbers.as_ptr().cast())
}

/// Returns the place of the last answer.
#[expect(unsafe_code, reason = "a name that is called from outside; nothing else has it")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn text() -> *const u8 {
    TEXT.with(|held| held.borrow().as_ptr())
}

/// Describes controls and presets.
#[expect(unsafe_code, reason = "a name that is called from outside; nothing else has it")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn describe() -> usize {
    say(session::description())
}

/// Makes the prompts of the settings and compares them, so that a run need not.
#[expect(unsafe_code, reason = "a name that is called from outside; nothing else has it")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn prepare() -> usize {
    answer(|settings| SESSION.with(|session| session.borrow_mut().searched(settings)).map(|_| "{}".to_owned()))
}

/// Runs both systems.
#[expect(unsafe_code, reason = "a name that is called from outside; nothing else has it")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn run() -> usize {
    answer(|settings| SESSION.with(|session| session.borrow_mut().run(settings)))
}

/// Goes on with the search of the capacities.
#[expect(unsafe_code, reason = "a name that is called from outside; nothing else has it")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn capacity() -> usize {
    answer(|settings| SESSION.with(|session| session.borrow_mut().capacity(settings)))
}

/// Writes the files for the program.
#[expect(unsafe_code, reason = "a name that is called from outside; nothing else has it")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn files() -> usize {
    answer(|settings| Ok(session::files(settings)))
}
