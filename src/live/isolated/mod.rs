//! Sessions in processes of their own: the program starts itself again as `modm worker-process` for each worker and for
//! the encoder. A native call that hangs cannot be ended within its process; a process can. Both ends of the pipe are
//! here; what runs in the child is [`super::painter::Painter`] and [`super::encoder::DualEncoder`].

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
pub use process::Launch;

/// How long a device may take to start.
const DEVICE_START: Duration = Duration::from_secs(120);

/// Whether sessions run on a device at all. Asked in a process of its own: a device that was used keeps memory for whoever
/// used it, and one that hangs must not hang the program.
///
/// # Errors
/// It cannot start: why.
pub fn probe(library: &Library, device: Device) -> Result<(), String> {
    let role = wire::Order::Probe { library: library.file.clone(), device };
    let launch = Launch::own().map_err(|error| error.to_string())?;
    process::Process::start(&launch, &role, DEVICE_START).map(drop).map_err(|gone| gone.told())
}
