//! Suppression of the messages of panics that are expected and caught.

use std::cell::Cell;
use std::sync::Once;

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// Runs a function that catches its own panics, and suppresses the messages that these panics would print.
pub(crate) fn quietly<T>(what: impl FnOnce() -> T) -> T {
    // The hook is set once and looks at the thread's flag. A hook that was set for each call would hide the panics of
    // other threads.
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                usual(panic);
            }
        }));
    });
    // Calls may be nested.
    let before = IS_QUIET.replace(true);
    let value = what();
    IS_QUIET.set(before);
    value
}
