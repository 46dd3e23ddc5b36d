//! Flags that several subcommands share.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::experiments::Search;
use crate::input::InputError;
#[cfg(feature = "live")]
use crate::live::library::{Library, LibraryOptions};
use crate::report::figures::{Look, Width};
use crate::scenario::{Override, Source};

/// Refusal of a flag's value. It says what the flag accepts.
#[derive(Debug, thiserror::Error)]
#[error("expected {0}")]
pub(super) struct Expected(pub(super) &'static str);

/// Parses a share above 0 and at most 1. A target share of 0 would always be held.
pub(super) fn share(text: &str) -> Result<f64, Expected> {
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= 1.0);
    number.ok_or(Expected("a share above 0, at most 1"))
}

/// Parses a count from 1 to 1000.
pub(super) fn count(text: &str) -> Result<NonZeroUsize, Expected> {
    let count = text.parse().ok().filter(|count: &NonZeroUsize| count.get() <= 1000);
    count.ok_or(Expected("a whole number from 1 to 1000"))
}

/// Parses a number above 0.
pub(super) fn positive(text: &str) -> Result<f64, Expected> {
    let number = text.parse().ok().filter(|number| (1e-6..=1e6).contains(number));
    number.ok_or(Expected("a number above 0, at most 1000000"))
}

/// Values of `--search`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum SearchWay {
    /// Ahead of the runs, if that takes less time in total
    #[default]
    Auto,
    /// One search for each trace, before its runs; stored beside the trace's requests for the next command
    Ahead,
    /// Request by request in each run
    Direct,
}

/// Way in which a command's runs look up similar images.
#[derive(Debug, Args)]
pub(super) struct SearchArguments {
    /// Way in which similar images are looked up; the results are the same
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    search: SearchWay,
}

impl SearchArguments {
    /// Returns the way that was asked for.
    pub(super) const fn search(&self) -> Search {
        match self.search {
            SearchWay::Auto => Search::Auto,
            SearchWay::Ahead => Search::Ahead,
            SearchWay::Direct => Search::Direct,
        }
    }
}

/// Flag that leaves out the runs with longer and shorter service times.
#[derive(Debug, Args)]
pub(super) struct RangeArguments {
    /// Leave out the runs with longer and shorter service times, and with them the ranges that the profile leaves open
    #[arg(long)]
    pub(super) no_range: bool,
}

/// Widths of a paper's figures.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PrintWidth {
    /// One column of two: 84 mm
    Column,
    /// The whole width of the text: 178 mm
    Page,
}

/// Look of a report's figures in their files.
#[derive(Debug, Args)]
pub(super) struct FigureArguments {
    /// Width of the figures' files in a paper; 760 pixels for a screen if absent. Figures within report.html stay as
    /// they are
    #[arg(long, value_name = "WIDTH", value_enum)]
    width: Option<PrintWidth>,
    /// Leave title, subtitle and origin out of the figures' files, for papers that have them in a caption
    #[arg(long)]
    no_title: bool,
}

impl FigureArguments {
    /// Returns the look that was asked for.
    pub(super) const fn look(&self) -> Look {
        let width = match self.width {
            None => Width::Screen,
            Some(PrintWidth::Column) => Width::Column,
            Some(PrintWidth::Page) => Width::Page,
        };
        Look { width, untitled: self.no_title }
    }
}

/// Arguments of commands that make many simulated runs and report them together.
#[derive(Debug, Args)]
pub(super) struct ExperimentArguments {
    #[command(flatten)]
    pub(super) common: ScenarioArguments,
    #[command(flatten)]
    pub(super) search: SearchArguments,
    #[command(flatten)]
    pub(super) figures: FigureArguments,
    #[command(flatten)]
    pub(super) range: RangeArguments,
}

/// Reads a scenario's text and parses the overrides from the command line.
pub(super) fn read(scenario: &Path, sets: &[String]) -> Result<(Source, Vec<Override>), InputError> {
    let overrides = sets.iter().map(|text| Override::parse(text)).collect::<Result<_, _>>()?;
    Ok((Source::read(scenario)?, overrides))
}

/// Returns the override that `--cluster` stands for.
#[cfg(feature = "cluster")]
pub(super) fn cluster_address(url: Option<&str>) -> Result<Option<Override>, InputError> {
    url.map(|url| Override::parse(&format!("live.cluster.url={}", toml::Value::from(url)))).transpose()
}

/// Scenario, overrides of its keys, and folder for the results.
#[derive(Debug, Args)]
pub(super) struct ScenarioArguments {
    /// Scenario file (TOML)
    pub(super) scenario: PathBuf,
    /// Folder for the results; must not hold an earlier run
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Override a scenario key, e.g. --set cache.capacity=5000 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) sets: Vec<String>,
    /// Overwrite an earlier run in --out
    #[arg(long)]
    pub(super) force: bool,
    /// Show no progress on standard error
    #[arg(long, short)]
    pub(super) quiet: bool,
    /// Print the measures as JSON in place of a table
    #[arg(long)]
    pub(super) json: bool,
}

impl ScenarioArguments {
    /// Reads the scenario's text and parses the overrides from the command line.
    pub(super) fn read(&self) -> Result<(Source, Vec<Override>), InputError> {
        read(&self.scenario, &self.sets)
    }

    /// Refuses an output folder whose `scenario.toml` is the scenario itself: the results would replace it, comments
    /// and variants included, also with `--force`.
    pub(super) fn keep_scenario(&self) -> Result<(), InputError> {
        let place = |path: &Path| path.canonicalize().ok();
        let replaced = place(&self.out.join("scenario.toml"));
        if replaced.is_some() && replaced == place(&self.scenario) {
            let message = "holds the scenario itself, which that of the results would replace: choose another folder";
            return Err(InputError::new(&self.out, message).key("--out"));
        }
        Ok(())
    }

    /// Makes the output folder. Refuses a folder that holds an earlier run, unless `--force` is given.
    pub(super) fn prepare_output(&self) -> Result<(), InputError> {
        crate::output::prepare(&self.out, &["run.json", "summary.json", "comparison.csv"], self.force)
    }
}

/// Place of ONNX Runtime, and permission to use the CPU in place of a GPU.
#[cfg(feature = "live")]
#[derive(Debug, Args)]
pub(super) struct LibraryArguments {
    /// Library of ONNX Runtime, or its folder; if absent, `ORT_DYLIB_PATH`, the library that
    /// `modm setup` installed, or the system's
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
    /// Run on the CPU if a CUDA device cannot start, in place of refusing
    #[arg(long)]
    pub(super) allow_cpu: bool,
}

#[cfg(feature = "live")]
impl LibraryArguments {
    /// Returns the options that were asked for.
    pub(super) fn options(&self) -> LibraryOptions {
        LibraryOptions { onnxruntime: self.onnxruntime.clone(), allow_cpu: self.allow_cpu }
    }

    /// Opens ONNX Runtime.
    pub(super) fn open(&self) -> Result<Library, InputError> {
        self.options().open()
    }
}
