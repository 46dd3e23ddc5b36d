//! The `modm` program. Everything it does is in [`modm::cli`].

use std::process::ExitCode;

/// What one thread allocates of a request another frees: glibc's lock on its arenas was a quarter of the server's time
/// (docs/performance.md).
#[cfg(feature = "serve")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    modm::cli::main()
}
