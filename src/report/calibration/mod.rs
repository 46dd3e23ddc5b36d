//! Results of a calibration for readers: `calibration.csv` and a table. The figure is in `figures`.

use crate::calibration::check::{Check, Checked, Verdict, Worth};
use crate::calibration::fit::Fit;

mod results;

pub use results::{CalibrationReport, PICTURES, SCENARIO, WriteError, prepare_output};

/// Returns the content of `calibration.csv`: one row for each number of skipped steps, then one row for all hits.
///
/// # Panics
/// Never panics: writing to memory does not fail.
#[must_use]
pub fn csv(fits: &[Fit], check: &Check, alpha: f64) -> String {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let header = [
        "skipped_steps",
        "bound",
        "kept",
        "pairs",
        "pairs_above",
        "hits",
        "quality",
        "large_quality",
        "ratio",
        "low",
        "high",
        "holds",
    ];
    let rows = fits.iter().map(|fit| {
        let bound = fit.bound.map_or_else(String::new, |bound| bound.to_string());
        let kept = if fit.kept { "yes" } else { "no" };
        let fitted = [
            fit.skipped_steps.to_string(),
            bound,
            kept.to_owned(),
            fit.pairs.len().to_string(),
            fit.pairs_above().to_string(),
        ];
        (fitted, checked_at(check, fit.skipped_steps))
    });
    let all = (["all".to_owned(), String::new(), String::new(), String::new(), String::new()], Some(&check.all));
    std::iter::once(header.map(str::to_owned))
        .chain(rows.chain([all]).map(|([k, bound, kept, pairs, above], checked)| {
            let [hits, quality, large, ratio, low, high, holds] = found(checked, alpha);
            [k, bound, kept, pairs, above, hits, quality, large, ratio, low, high, holds]
        }))
        .for_each(|row| csv.write_record(row).expect("rows of one width, in memory"));
    String::from_utf8(csv.into_inner().expect("in memory")).expect("text")
}

fn checked_at(check: &Check, k: u32) -> Option<&Checked> {
    check.by_bound.iter().find(|checked| checked.skipped_steps == Some(k))
}

/// Returns the cells for checked hits: number of hits, quality, the large model's quality, ratio, the two ends of its
/// interval and the verdict. A cell without a value is empty.
fn found(checked: Option<&Checked>, alpha: f64) -> [String; 7] {
    let Some(checked) = checked else { return Default::default() };
    let number = |of: fn(&Worth) -> f64| checked.worth.as_ref().map_or_else(String::new, |worth| of(worth).to_string());
    [
        checked.hits.to_string(),
        number(|worth| worth.quality),
        number(|worth| worth.large),
        number(|worth| worth.ratio),
        number(|worth| worth.interval.0),
        number(|worth| worth.interval.1),
        checked.verdict(alpha).map_or("", Verdict::word).to_owned(),
    ]
}

/// Returns the same results as a table for a terminal.
#[must_use]
pub fn terminal(fits: &[Fit], check: &Check, alpha: f64) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    let holds = format!("holds {}", percent(alpha));
    table.set_header([
        "skipped",
        "bound",
        "pairs above",
        "held-out hits",
        "quality",
        "large",
        "of the large",
        "95 %",
        &holds,
    ]);
    for fit in fits {
        let checked = checked_at(check, fit.skipped_steps).filter(|_| fit.kept);
        let bound = match fit.bound {
            None => "none".to_owned(),
            Some(bound) if fit.kept => format!("{bound:.4}"),
            Some(bound) => format!("{bound:.4}, of no use"),
        };
        table.add_row(line(
            fit.skipped_steps.to_string(),
            bound,
            format!("{} of {}", fit.pairs_above(), fit.pairs.len()),
            checked,
            alpha,
        ));
    }
    table.add_row(line("all".to_owned(), String::new(), String::new(), Some(&check.all), alpha));
    table.to_string()
}

fn line(k: String, bound: String, pairs: String, checked: Option<&Checked>, alpha: f64) -> Vec<String> {
    let worth = checked.and_then(|checked| checked.worth.as_ref());
    let shown = |text: fn(&Worth) -> String| worth.map_or_else(String::new, text);
    vec![
        k,
        bound,
        pairs,
        checked.map_or_else(String::new, |checked| checked.hits.to_string()),
        shown(|worth| format!("{:.3}", worth.quality)),
        shown(|worth| format!("{:.3}", worth.large)),
        shown(|worth| percent(worth.ratio)),
        shown(|worth| format!("{} to {}", percent(worth.interval.0), percent(worth.interval.1))),
        checked.and_then(|checked| checked.verdict(alpha)).map_or("", Verdict::word).to_owned(),
    ]
}

/// Formats a share in per cent, with one decimal.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> (Vec<Fit>, Check) {
        let pairs = vec![(0.7, 0.5), (0.8, 0.9), (0.9, 1.0)];
        let fit = |skipped_steps, bound, kept| Fit {
            skipped_steps,
            pairs: pairs.clone(),
            steps: Vec::new(),
            target: 0.9,
            bound,
            kept,
        };
        let worth = Worth { quality: 0.9, large: 1.0, ratio: 0.9, interval: (0.8, 0.92) };
        let checked = |skipped_steps, hits, worth| Checked { skipped_steps, hits, worth };
        let fits =
            vec![fit(5, Some(0.8), false), fit(10, Some(0.8), true), fit(20, Some(0.95), true), fit(30, None, false)];
        let check = Check {
            requests: 9,
            models: [1.0, 0.8],
            by_bound: vec![checked(Some(10), 4, Some(worth)), checked(Some(20), 0, None)],
            all: checked(None, 80, Some(worth)),
        };
        (fits, check)
    }

    #[test]
    fn what_there_is_not_stays_empty() {
        let (fits, check) = found();
        let expected = "skipped_steps,bound,kept,pairs,pairs_above,hits,quality,large_quality,ratio,low,high,holds\n\
                        5,0.8,no,3,2,,,,,,,\n10,0.8,yes,3,2,4,0.9,1,0.9,0.8,0.92,too few\n20,0.95,yes,3,0,0,,,,,,\n30,,no,3,0,,,,,,,\n\
                        all,,,,,80,0.9,1,0.9,0.8,0.92,no\n";
        assert_eq!(csv(&fits, &check, 0.95), expected);
    }

    #[test]
    fn people_read_the_same() {
        let (fits, check) = found();
        let text = terminal(&fits, &check, 0.95);
        for words in ["holds 95.0 %", "0.8000, of no use", "2 of 3", "90.0 %", "80.0 % to 92.0 %", "none"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
