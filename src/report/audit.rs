//! Report on a server's audits: the share of the large model's quality that hits keep, by skipped steps and tenant.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::calibration::audit::{Kept, LEAST};
use crate::calibration::check::DRAWS;

const HEADER: [&str; 7] =
    ["skipped steps", "tenant", "audited hits", "score of the hits", "of the large model", "kept", "95 % interval"];

/// Returns the cells of a row.
fn cells(kept: &Kept) -> [String; 7] {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let score = |score: Option<f64>| score.map_or_else(String::new, |score| format!("{score:.4}"));
    let interval = kept.interval().map(|(low, high)| format!("{} to {}", percent(low), percent(high)));
    [
        kept.skipped_steps.map_or_else(|| "all".to_owned(), |skipped| skipped.to_string()),
        kept.tenant.clone().unwrap_or_else(|| "all".to_owned()),
        kept.audited.to_string(),
        score(kept.worth.map(|worth| worth.quality)),
        score(kept.worth.map(|worth| worth.large)),
        kept.worth.map_or_else(String::new, |worth| percent(worth.ratio)),
        interval.unwrap_or_else(|| format!("fewer than {LEAST}")),
    ]
}

/// Formats a number with a comma before each three digits from the right.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let comma_before = |at: usize| at > 0 && (digits.len() - at).is_multiple_of(3);
    let pieces = (0..digits.len()).map(|at| [if comma_before(at) { "," } else { "" }, &digits[at..=at]]);
    pieces.flatten().collect()
}

/// Returns the content of `audit.md`.
#[must_use]
pub fn markdown(kept: &[Kept]) -> String {
    let mut text = format!(
        "# What hits keep of quality\n\nThe large model drew these hits' prompts as well; scores are the encoder's \
         similarity of prompt and picture, and what is kept is the ratio of their means, with the interval of \
         {} draws of the hits.\n\n",
        grouped(DRAWS)
    );
    // Writing to a string never fails.
    let _ = writeln!(text, "| {} |\n|{}", HEADER.join(" | "), " ---: |".repeat(HEADER.len()));
    for row in kept {
        // A tenant's name may contain any character, also the one that separates cells.
        let _ = writeln!(text, "| {} |", cells(row).map(|cell| cell.replace('|', "\\|")).join(" | "));
    }
    text
}

/// Returns the table for a terminal.
#[must_use]
pub fn terminal(kept: &[Kept]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(HEADER);
    for row in kept {
        table.add_row(cells(row));
    }
    table.to_string()
}

/// Returns the rows as JSON.
#[must_use]
pub fn json(kept: &[Kept]) -> Value {
    let row = |kept: &Kept| {
        json!({
            "tenant": kept.tenant,
            "skipped_steps": kept.skipped_steps,
            "audited": kept.audited,
            "hit_score": kept.worth.map(|worth| worth.quality),
            "large_score": kept.worth.map(|worth| worth.large),
            "kept": kept.worth.map(|worth| worth.ratio),
            "low": kept.interval().map(|(low, _)| low),
            "high": kept.interval().map(|(_, high)| high),
        })
    };
    kept.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_draws_is_that_of_the_check() {
        assert_eq!([12, 999, 1_000, 1_234_567].map(grouped), ["12", "999", "1,000", "1,234,567"]);
        let said = format!("the interval of {} draws of the hits.", grouped(DRAWS));
        assert!(markdown(&[]).contains(&said), "{}", markdown(&[]));
    }

    #[test]
    fn a_tenant_s_name_breaks_no_table() {
        let kept = Kept::new(Some("a|b".to_owned()), Some(20), &[(0.5, 1.0); 12], 12, 1);
        let text = markdown(&[kept]);
        assert!(text.ends_with("| 20 | a\\|b | 12 | 0.5000 | 1.0000 | 50.0 % | 50.0 % to 50.0 % |\n"), "{text}");
    }
}
