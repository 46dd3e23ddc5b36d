//! `modm setup`: brings ONNX Runtime, without a checkout of the project. The work is that of
//! `scripts/install_onnxruntime`, which is part of the program.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context;
use clap::Args;

use crate::input::InputError;

/// Script that fetches and unpacks the library.
const SCRIPT: &str = include_str!("../../scripts/install_onnxruntime");

/// Names under which Python 3 is found.
const PYTHON: [&str; 2] = ["python3", "python"];

/// Bring ONNX Runtime, which live runs and the server need
///
/// Fetches its wheel from the Python package index by pip (34 MB; --gpu: 2 GB with NVIDIA's libraries), takes the
/// library out of it, and puts it where this program looks for it. Needs Python 3.8 or newer, and changes nothing else.
/// Tried on Linux; macOS and Windows take the same wheel and are untried.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  modm setup
  modm setup --gpu
  modm setup --to libraries; modm doctor --onnxruntime libraries")]
pub(super) struct Setup {
    /// Fetch the build for CUDA 13 and NVIDIA's libraries that it needs
    #[arg(long)]
    gpu: bool,
    /// Folder for the library; that of the user, which the program finds by itself, if absent
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

/// Error that the script ended with; the script has said why.
#[derive(Debug, thiserror::Error)]
#[error("ONNX Runtime was not installed; the reason is said above")]
struct Failed;

pub(super) fn run(command: &Setup) -> anyhow::Result<()> {
    let works = |name: &&&str| {
        let version = "import sys; sys.exit(sys.version_info < (3, 8))";
        let mut python = Command::new(name);
        python.args(["-c", version]).stdout(Stdio::null()).stderr(Stdio::null());
        python.status().is_ok_and(|status| status.success())
    };
    let Some(python) = PYTHON.iter().find(works) else {
        let way_out = "expected Python 3.8 or newer, which fetches the wheel; or fetch a library of ONNX Runtime yourself, \
                       and name it with --onnxruntime PATH or ORT_DYLIB_PATH";
        return Err(InputError::new("python3", way_out).into());
    };
    let mut script = Command::new(python);
    script.arg("-").env("MODM_SETUP", "modm setup").stdin(Stdio::piped());
    if command.gpu {
        script.arg("--gpu");
    }
    if let Some(to) = &command.to {
        script.arg("--to").arg(to);
    }
    let mut running = script.spawn().with_context(|| format!("{python} cannot be started"))?;
    let sent = running.stdin.take().map_or(Ok(()), |mut to| to.write_all(SCRIPT.as_bytes()));
    let status = running.wait().with_context(|| format!("{python} cannot be waited for"))?;
    sent.with_context(|| format!("{python} does not read the script"))?;
    if status.success() { Ok(()) } else { Err(Failed.into()) }
}
