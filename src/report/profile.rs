//! Measurements of a profile, and the built-in catalogue of profiles, as tables for a terminal.

use crate::profile::ProfileFile;
use crate::profile::catalogue::Entry;

const HEADER: [&str; 11] =
    ["gpu", "model", "others", "batch", "step ms", "cv", "alone", "overhead ms", "job cv", "load ms", "MB"];

const CATALOGUE: [&str; 7] = ["gpu", "$/h", "model", "steps", "s", "kind", "source"];

/// Returns the catalogue as a table, with a line for each pair of GPU type and model. Of a source, the table has the
/// rule or the first address.
#[must_use]
pub fn catalogue(entries: &[Entry], width: Option<u16>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY.row_separator(comfy_table::LineStyle::none()));
    if let Some(width) = width {
        table.set_width(width);
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    }
    table.set_header(CATALOGUE);
    let mut before = "";
    for entry in entries {
        let is_first = entry.gpu != before;
        before = entry.gpu;
        let price = entry.usd_per_hour.filter(|_| is_first);
        table.add_row([
            if is_first { entry.gpu.to_owned() } else { String::new() },
            price.map_or_else(String::new, |dollars| format!("{dollars:.2}")),
            entry.model.to_owned(),
            entry.steps.to_string(),
            format!("{:.2}", entry.generation_s),
            entry.kind.to_owned(),
            in_short(&entry.source).to_owned(),
        ]);
    }
    table.to_string()
}

/// Returns the first address of a source, or, if its kind is followed by a rule, the rule.
fn in_short(source: &str) -> &str {
    if let Some(rule) = source.strip_prefix("assumed, ") {
        return rule.split(':').next().unwrap_or(rule);
    }
    let end = |letter: char| letter.is_whitespace() || matches!(letter, ',' | ';' | ')');
    source.find("https://").map_or(source, |at| source[at..].split(end).next().unwrap_or(source))
}

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
