//! Description of a trace for a terminal, with bars of characters.

use super::calibration::percent;
use crate::trace::inspect::{Description, Locality, Quantiles, Scope};

/// Returns the description as lines of text. `scope` is the scope for which it was made.
#[must_use]
pub fn terminal(description: &Description, scope: Scope) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| lines.push(format!("{name:<16}{value}"));
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    line("requests", description.requests.to_string());
    line("span", format!("{:.1} s", description.span_s));
    line("mean rate", format!("{} requests/min", number(description.mean_rate_per_min)));
    let (minute, count) = description.peak_minute;
    line("peak minute", format!("{count} requests in minute {minute}"));
    line("gap CV", format!("{} (1 for Poisson arrivals)", number(description.gap_cv)));
    if let Some(gaps) = &description.gap_s {
        line("gaps", format!("{} s", quantiles(gaps)));
    }
    line("arrivals", sparkline(&description.arrivals_over_time));
    if let Some(prompts) = &description.prompts {
        let repeats = percent(prompts.exact_repeats);
        line("prompts", format!("{} different, {repeats} exact repeats of an earlier one", prompts.distinct));
        line("words", quantiles(&prompts.words));
    }
    if let Some(tenants) = &description.tenants {
        let (name, share) = (&tenants.busiest, percent(tenants.busiest_share));
        line("tenants", format!("{}, the busiest is {name} with {share} of the requests", tenants.count));
    }
    for (name, columns) in [("more columns", &description.extra_columns), ("not used", &description.ignored_columns)] {
        if !columns.is_empty() {
            line(name, columns.join(", "));
        }
    }
    description.locality.iter().for_each(|locality| lines.extend(locality_lines(locality, scope)));
    lines.push(String::new());
    lines.join("\n")
}

fn locality_lines(locality: &Locality, scope: Scope) -> Vec<String> {
    let Locality { measure, threshold, requests, .. } = locality;
    let mut lines = vec![
        String::new(),
        format!("Nearest of the {} requests before, by {measure}; first {requests} requests", scope.window),
        format!("  {} have one at or above {threshold}", percent(locality.share)),
    ];
    let distributions = [
        ("similarity", &locality.similarity, ""),
        ("age", &locality.age_requests, "requests"),
        ("age", &locality.age_s, "s"),
    ];
    for (name, distribution, unit) in distributions {
        if let Some(distribution) = distribution {
            lines.push(format!("  {name:<11}{} {unit}", quantiles(distribution)).trim_end().to_owned());
        }
    }
    let most = locality.by_age.iter().copied().max().unwrap_or(0);
    for (bin, &count) in locality.by_age.iter().enumerate() {
        let ages = format!("{}-{}", 1_u64 << bin, (2_u64 << bin) - 1);
        lines.push(format!("  {ages:>11} requests {:<40} {count}", bar(count, most, 40)));
    }
    lines
}

fn quantiles(of: &Quantiles) -> String {
    let Quantiles { min, p10, p50, p90, p99, max } = of;
    format!("min {min:.3}  p10 {p10:.3}  median {p50:.3}  p90 {p90:.3}  p99 {p99:.3}  max {max:.3}")
}

/// Returns a bar of at most `width` characters, in steps of an eighth of a character.
fn bar(value: u64, most: u64, width: u64) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (u128::from(value) * u128::from(width) * 8 / u128::from(most.max(1))) as usize;
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

/// Returns one character for each value, as high as the value's share of the largest value.
fn sparkline(values: &[u64]) -> String {
    const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    // Rounding up makes every value above 0 visible.
    values.iter().map(|&value| HEIGHTS[(u128::from(value) * 8).div_ceil(u128::from(most)) as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_sparklines() {
        assert_eq!(bar(5, 10, 3), "█▌");
        assert_eq!(bar(0, 0, 3), "");
        assert_eq!(sparkline(&[0, 1, 8, 16]), " ▁▄█");
    }
}
