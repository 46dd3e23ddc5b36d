//! Timeline of a run: one row for each window, as `timeline.csv` has them. A window is 60 s long unless
//! `metrics.window_s` says otherwise.

use alloc::string::String;
use alloc::vec::Vec;

/// Rows of a run and the names that its columns need.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// Model names, in the order of [`TimelineRow::workers_by_model`].
    pub models: Vec<String>,
    /// SLO multiples, in the order of [`TimelineRow::slo_attainment`].
    pub slo_multiples: Vec<f64>,
    /// Length of a window, in seconds.
    pub window_s: f64,
    /// Rows in the order of time. Windows without an event are left out: until the next row, the counts stay as they
    /// are.
    pub rows: Vec<TimelineRow>,
}

/// Window of the timeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimelineRow {
    /// Start of the window, in seconds.
    pub time_s: f64,
    /// Number of requests that arrived in the window.
    pub arrivals: u64,
    /// Number of requests that completed in the window.
    pub completions: u64,
    /// Number of misses that wait at the end of the window.
    pub queued_misses: u64,
    /// Number of hits that wait at the end of the window.
    pub queued_hits: u64,
    /// Mean number of workers that denoise.
    pub workers_busy: f64,
    /// Mean number of workers that load a model.
    pub workers_loading: f64,
    /// Mean number of idle workers.
    pub workers_idle: f64,
    /// Mean number of workers that are down.
    pub workers_down: f64,
    /// Mean number of workers that hold each model; a model that is being loaded is not held.
    pub workers_by_model: Vec<f64>,
    /// Hits divided by requests routed in the window; `None` if no request was routed.
    pub hit_rate: Option<f64>,
    /// Share of the requests ended in the window that met each multiple; `None` if no request ended.
    pub slo_attainment: Vec<Option<f64>>,
}
