//! Workers on other machines, over a NATS server. The scheduler's side is a painter behind the same trait as local ones
//! ([`RemotePainter`]); the worker's side runs a local painter for it ([`node`]). Orders and answers are small messages
//! ([`protocol`]), pictures go over connections of their own ([`pictures`]), and who is there is told by heartbeats in
//! a key-value bucket ([`Roster`]). All parts except the settings need the feature `cluster`.

pub mod settings;

#[cfg(feature = "cluster")]
mod connection;
#[cfg(feature = "cluster")]
pub mod diagnosis;
#[cfg(feature = "cluster")]
mod hub;
#[cfg(feature = "cluster")]
mod lease;
#[cfg(feature = "cluster")]
pub mod node;
#[cfg(feature = "cluster")]
mod painter;
#[cfg(feature = "cluster")]
pub mod pictures;
#[cfg(feature = "cluster")]
pub mod protocol;
#[cfg(feature = "cluster")]
mod roster;

#[cfg(feature = "cluster")]
pub use connection::{ClusterError, Connection};
#[cfg(feature = "cluster")]
pub use hub::Cluster;
#[cfg(feature = "cluster")]
pub use painter::RemotePainter;
#[cfg(feature = "cluster")]
pub use roster::{Roster, Seen};
