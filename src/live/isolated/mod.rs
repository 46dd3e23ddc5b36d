//! Sessions in processes of their own: the program starts itself again as `modm worker-process` for each worker and for
//! the encoder. A native call that hangs cannot be ended within its process; a process can. Both ends of the pipe are
//! here; what runs in the child is [`super::painter::Painter`] and [`super::encoder::DualEncoder`].

mod child;
mod encoder;
mod painter;
mod process;
mod wire;

pub use child::run;
pub use encoder::IsolatedEncoder;
pub use painter::IsolatedPainter;
pub use process::Launch;
