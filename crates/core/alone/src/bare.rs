//! Parts that WebAssembly lacks: an allocator, an answer to panics, and the run as a function that can be called.

use dlmalloc::GlobalDlmalloc;

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

/// Returns [`crate::digest`].
#[expect(unsafe_code, reason = "a name that is called from outside; nothing else has it")]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn digest(requests: u32, seed: u64) -> u64 {
    crate::digest(requests, seed)
}
