//! What happened when: one row a window of 60 s, as `timeline.csv` has them.

use alloc::string::String;
use alloc::vec::Vec;

/// The rows of a run and the names its columns need.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// Model names, in the order of [`Row::workers_by_model`].
    pub models: Vec<String>,
    /// SLO multiples, in the order of [`Row::slo_attainment`].
    pub slo_multiples: Vec<f64>,
    /// Seconds of a window.
    pub window_s: f64,
    /// Rows in order of time. Windows in which nothing arrived, ran or waited are left out.
    pub rows: Vec<Row>,
}

/// One window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Start of the window, seconds.
    pub time_s: f64,
    /// Requests that arrived in it.
    pub arrivals: u64,
    /// Requests completed in it.
    pub completions: u64,
    /// Misses waiting at its end.
    pub queued_misses: u64,
    /// Hits waiting at its end.
    pub queued_hits: u64,
    /// Mean number of workers denoising.
    pub workers_busy: f64,
    /// Mean number of workers loading a model.
    pub workers_loading: f64,
    /// Mean number of workers idle.
    pub workers_idle: f64,
    /// Mean number of workers down.
    pub workers_down: f64,
    /// Mean number of workers that hold (and are not loading) each model.
    pub workers_by_model: Vec<f64>,
    /// Hits / requests routed in it; none routed, none here.
    pub hit_rate: Option<f64>,
    /// Share of the requests that ended in it within each multiple; none ended, none here.
    pub slo_attainment: Vec<Option<f64>>,
}
