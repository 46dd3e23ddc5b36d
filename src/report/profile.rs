//! Measurements of a profile as a table for a terminal.

use crate::profile::ProfileFile;

const HEADER: [&str; 11] =
    ["gpu", "model", "others", "batch", "step ms", "cv", "alone", "overhead ms", "job cv", "load ms", "MB"];

/// Returns the table, with a line for each measured point.
#[must_use]
pub fn terminal(profile: &ProfileFile) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(HEADER);
    for row in &profile.measurement {
        table.add_row([
            row.gpu.clone(),
            row.model.clone(),
            row.neighbours.word().to_owned(),
            row.batch.to_string(),
            format!("{:.3}", row.step_s * 1e3),
            format!("{:.1} %", row.step_cv * 1e2),
            format!("{:.3}", row.bare_step_s * 1e3),
            format!("{:.2}", row.overhead_s * 1e3),
            format!("{:.1} %", row.job_cv * 1e2),
            format!("{:.1}", row.load_s * 1e3),
            row.memory_mb.map_or_else(String::new, |mb| format!("{mb:.0}")),
        ]);
    }
    table.to_string()
}
