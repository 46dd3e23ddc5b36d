//! Folder of a synthetic trace: its requests, and the settings and the seed from which they can be made again.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::Synthetic;
use crate::output::{prepare, write_atomic};
use crate::trace::{MakeError, RECORD, REQUESTS, Trace, write_requests};

/// Content of `trace.json`.
#[derive(Serialize)]
struct Record<'a> {
    modm: &'static str,
    seed: u64,
    synthetic: &'a Synthetic,
}

impl Synthetic {
    /// Makes the trace and writes it to the folder `out`, with `trace.json`, which states the settings and the seed.
    /// `file` and `section` name the settings in errors. Overwrites an earlier trace only if `force` is true.
    ///
    /// # Errors
    /// Returns an error if a setting cannot be used, if the folder holds an earlier trace and `force` is false, or if a
    /// file cannot be written.
    pub fn write(
        &self,
        seed: u64,
        (file, section): (&Path, &str),
        out: &Path,
        force: bool,
    ) -> Result<Trace, MakeError> {
        let trace = Trace::new(self.generate(seed, file, section)?.columns());
        prepare(out, &[REQUESTS], force)?;
        write_atomic(&out.join(REQUESTS), |to| write_requests(to, &trace))?;
        let record = Record { modm: env!("CARGO_PKG_VERSION"), seed, synthetic: self };
        write_atomic(&out.join(RECORD), |to| {
            serde_json::to_writer_pretty(&mut *to, &record)?;
            to.write_all(b"\n")
        })?;
        Ok(trace)
    }
}
