//! `modm parity`: compares the pictures of a model with stored ones of the reference implementation.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;

use super::arguments::LibraryArguments;
use crate::input::InputError;
use crate::live::measure::parity::{Agreement, read};
use crate::live::pipeline::Pipeline;
use crate::live::settings::Device;
use crate::output::write_atomic;

/// Compare the pictures that a model draws with stored ones that diffusers drew from the same noise
///
/// The table has the greatest difference of the latents and of the picture of each case, as shares of the greatest
/// value there. The cases of tests/parity are for the tiny models beside them; scripts/parity shows how others are
/// made. Exit code 1 if a difference is above the tolerance.
#[derive(Debug, Args)]
pub(super) struct Parity {
    /// Folder of the model, as Optimum exports it
    model: PathBuf,
    /// File of the cases, for example tests/parity/sdxl/cases.json
    cases: PathBuf,
    /// Device to draw on
    #[arg(long, default_value = "cpu:0")]
    device: Device,
    /// Largest difference that is accepted: single precision stays below 1e-4, half below 6e-2
    #[arg(long, default_value_t = 1e-4)]
    tolerance: f32,
    /// Write the differences to this JSON file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    library: LibraryArguments,
}

/// Error that pictures differ: exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("{differ} of {all} cases differ by more than {tolerance:e}")]
struct Differs {
    differ: usize,
    all: usize,
    tolerance: f32,
}

/// Content of the JSON file.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a PathBuf,
    device: String,
    tolerance: f32,
    worst: f32,
    cases: &'a [Agreement],
}

pub(super) fn run(command: &Parity) -> anyhow::Result<()> {
    let cases = read(&command.cases)?;
    if !(command.tolerance >= 0.0 && command.tolerance.is_finite()) {
        return Err(InputError::new("--tolerance", "expected a number of at least 0")
            .value("T", command.tolerance)
            .into());
    }
    let mut pipeline = Pipeline::open(&command.library.open()?, &command.model, command.device)?;
    let agreements = cases.iter().map(|case| case.run(&mut pipeline)).collect::<Result<Vec<_>, _>>()?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(["case", "latents", "picture"]);
    for agreement in &agreements {
        let share = |difference: f32| format!("{difference:.1e}");
        table.add_row([agreement.case.clone(), share(agreement.latents), share(agreement.picture)]);
    }
    out!("{table}");
    if let Some(file) = &command.json {
        let worst = agreements.iter().map(Agreement::worst).fold(0.0, f32::max);
        let (model, device) = (&command.model, command.device.to_string());
        let report = Report { model, device, tolerance: command.tolerance, worst, cases: &agreements };
        write_atomic(file, |to| {
            serde_json::to_writer_pretty(&mut *to, &report)?;
            writeln!(to)
        })?;
    }
    let differ = agreements.iter().filter(|agreement| agreement.worst() > command.tolerance).count();
    if differ > 0 {
        return Err(Differs { differ, all: agreements.len(), tolerance: command.tolerance }.into());
    }
    Ok(())
}
