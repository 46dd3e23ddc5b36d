//! Sessions in processes of their own. The program starts itself again as `modm worker-process` for each worker and for
//! the encoder. A native call that hangs cannot be ended within its process, but a process can be ended. Both ends of
//! the pipe are here. The child runs [`super::painter::Painter`] or [`super::encoder::DualEncoder`].

use std::time::Duration;

use super::library::Library;
use super::settings::Device;

mod child;
mod encoder;
mod painter;
mod process;
mod wire;

pub use child::run;
pub use encoder::IsolatedEncoder;
pub use painter::IsolatedPainter;
pub use process::{Launch, LostProcess, ProcessFault};
pub use wire::Reported;

/// Time that a device may take to start.
const DEVICE_START: Duration = Duration::from_secs(120);

/// Checks that sessions run on a device. The check runs in a process of its own: a device keeps memory for the process
/// that used it, and a device that hangs must not hang the program.
///
/// # Errors
/// Returns an error if the device cannot start.
pub fn probe(library: &Library, device: Device) -> Result<(), LostProcess> {
    let role = wire::WireOrder::Probe { library: library.file.clone(), device };
    let launch = Launch::own().map_err(ProcessFault::NotStarted)?;
    process::Process::start(&launch, &role, DEVICE_START).map(drop)
}
