//! The paper's two queues: misses before hits, each in order of routing, on the lowest worker that is ready. Nobody looks at
//! deadlines or tenants.

use super::Discipline;

/// The discipline.
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
