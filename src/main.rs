//! The `modm` program. Everything it does is in [`modm::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    modm::cli::main()
}
