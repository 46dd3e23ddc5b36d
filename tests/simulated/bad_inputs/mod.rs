//! Bad inputs through the binary: each gives exit code 2, one message that names file, line or key, the
//! value found and what is accepted, and leaves nothing behind. `folder` has what all tables share.

mod arguments;
mod extremes;
mod files;
mod folder;
mod importers;
mod npy;
mod profile;
mod requests;
mod scenario;
mod scenario_values;
