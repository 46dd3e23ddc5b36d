//! Measures of a run: a pure fold over the records of the journal, by the formulas of docs/semantics.md, section 7. The
//! module `report` formats and draws the measures.

mod aggregate;
mod beside;
pub mod bound;
mod cache;
mod cluster;
pub mod fidelity;
mod fold;
mod measures;
pub mod network;
pub mod percentile;
pub mod profile_range;
pub mod quality;
pub mod real_time;
pub mod retrieval;
mod rows;
mod steady;
pub mod summary;
#[cfg(test)]
mod tests;
pub mod timeline;
pub mod warnings;
mod windows;

pub use cache::{AGE_BOUNDS_S, CacheRow, CacheTimeline, HitCriteria};
pub use cluster::{AbsenceRow, WorkerRow, WorkerState};
pub use fold::{Metrics, Settings, TickRow};
pub use measures::Results;
pub use rows::{Keep, RequestEnd, RequestRow, RowsInOrder};
