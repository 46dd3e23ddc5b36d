//! Checked request traces: reading ours, importing public ones, making synthetic ones.

pub mod synthetic;
