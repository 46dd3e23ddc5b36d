//! Entry point of the `modm` program. The commands are in [`modm::cli`].

use std::process::ExitCode;

/// Allocator of the server. One thread frees what another has allocated for a request. With glibc's allocator, the
/// locks on its arenas took a quarter of the server's time (docs/performance.md).
#[cfg(feature = "serve")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    modm::cli::main()
}
