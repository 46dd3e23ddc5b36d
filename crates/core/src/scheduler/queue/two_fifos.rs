//! Two queues of the paper: misses before hits, each in order of routing, on the ready worker with the lowest number.
//! Deadlines and weights of tenants do not count; priorities of tenants do.

use super::Discipline;

/// Discipline that serves misses before hits, each in order of routing.
#[derive(Clone, Copy, Debug)]
pub(super) struct TwoFifos;

impl Discipline for TwoFifos {
    fn misses_first(&self) -> bool {
        true
    }

    fn by_time(&self) -> bool {
        false
    }
}
