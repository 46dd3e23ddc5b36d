//! Table of variants: one grid of cells, shown in a terminal, as Markdown or as HTML.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::columns::{DRAWN_BY, OF_SWEEP, P99, QUALITY, STEADY, Unit, legend, measures, wrapped};
use super::statistics::tail_is_reliable;
use super::verdict::Verdict;
use super::{Comparison, SweepRow, capacity, html, profile_range, quality, saturation};
use crate::published::Published;

/// Cell of a measure for one variant.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cell {
    /// Value as text.
    pub(super) text: String,
    /// Half the width of the value's 95 % interval; `None` for a single seed.
    pub(super) plus_minus: Option<String>,
    /// Ratio of the value to the baseline's; `None` if the ratio is not meaningful.
    pub(super) ratio: Option<String>,
}

/// Column of a measure.
pub(super) struct Column {
    pub(super) title: String,
    /// Cells, one for each variant.
    pub(super) cells: Vec<Cell>,
    /// True if the value of a saturated run depends on the length of the trace.
    pub(super) of_waiting: bool,
    /// Title of the column that a plain table has for the ratios to the baseline.
    pub(super) ratios: Option<&'static str>,
}

/// Measures of all variants, as a grid of cells.
pub(super) struct Grid {
    pub(super) variants: Vec<String>,
    /// Flags by variant: true if the queue of the variant was still growing at the last arrival, in any of its runs.
    pub(super) saturated: Vec<bool>,
    pub(super) columns: Vec<Column>,
}

/// Sign of an interval that is not reliable.
const UNRELIABLE: &str = "~";

impl Grid {
    pub(super) fn new(comparison: &Comparison) -> Self {
        let variants = comparison.variants();
        let saturated: Vec<bool> =
            variants.iter().map(|v| comparison.runs_of(v).any(saturation::still_growing)).collect();
        let has_capacity = comparison.capacities.is_some();
        let columns = measures(comparison).into_iter().filter_map(|(title, unit, of_waiting, measure)| {
            let estimates: Vec<_> = variants.iter().map(|v| comparison.estimate(v, &measure)).collect();
            let widest = estimates.iter().flatten().map(|e| e.mean.abs()).max_by(f64::total_cmp)?;
            let decimals = unit.decimals(widest);
            let is_tail = title == P99;
            let cells = variants.iter().zip(&estimates).enumerate().map(|(row, (variant, estimate))| {
                // A ratio of waiting times that depend on the length of the trace is not meaningful.
                let means_something = row > 0 && !(of_waiting && (saturated[0] || saturated[row]));
                let ratio =
                    (unit == Unit::Number && means_something).then(|| comparison.ratio(variant, &measure)).flatten();
                let values = || comparison.runs_of(variant).filter_map(|run| measure(&run.summary));
                let sign = if is_tail && !tail_is_reliable(values()) { UNRELIABLE } else { "" };
                let plus_minus = |half: f64| format!("{}{sign}", unit.plus_minus(half, decimals));
                Cell {
                    text: estimate.map_or_else(|| "–".into(), |estimate| unit.show(estimate.mean, decimals)),
                    plus_minus: estimate.and_then(|e| e.half_width).map(plus_minus),
                    ratio: ratio.map(|ratio| format!("{:.2}x", ratio.mean)),
                }
            });
            let cells = cells.collect();
            let ratios = (title == "steady/min").then_some(if has_capacity { "steady ratio" } else { "ratio" });
            Some(Column { title, cells, of_waiting, ratios })
        });
        let mut columns: Vec<Column> = capacity_columns(comparison, &variants)
            .into_iter()
            .chain(columns)
            .chain(drawn_by(comparison, &variants))
            .collect();
        if let Some(at) = columns.iter().position(|column| column.title == QUALITY) {
            for (cell, variant) in columns[at].cells.iter_mut().zip(&variants) {
                cell.text
                    .extend(quality::kind_of(comparison, variant).map(|kind| format!(" {}", quality::short(kind))));
            }
            let known = published(comparison, "published", |known| known.quality.map(|value| format!("{value:.2}")));
            if let Some(column) = known {
                columns.insert(at + 1, column);
            }
        }
        Self { variants: variants.into_iter().map(str::to_owned).collect(), saturated, columns }
    }

    /// Returns the value of a cell. A star marks waiting times of a saturated run.
    pub(super) fn value(&self, column: &Column, row: usize) -> String {
        let cell = &column.cells[row];
        let mark = if column.of_waiting && self.saturated[row] && cell.text != "–" { "*" } else { "" };
        format!("{}{mark}", cell.text)
    }

    /// Returns titles and rows of a plain table, one row for each variant. Ratios of throughput have their own column.
    fn rows(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let mut titles = vec!["variant".to_owned()];
        let mut rows: Vec<Vec<String>> = self.variants.iter().map(|variant| vec![variant.clone()]).collect();
        for column in &self.columns {
            titles.push(column.title.clone());
            for (row, cells) in rows.iter_mut().enumerate() {
                let value = self.value(column, row);
                let plus_minus = column.cells[row].plus_minus.as_ref();
                cells.push(plus_minus.map_or_else(|| value.clone(), |half| format!("{value} {half}")));
            }
            if let Some(title) = column.ratios.filter(|_| self.variants.len() > 1) {
                titles.push(title.to_owned());
                for (row, (cells, cell)) in rows.iter_mut().zip(&column.cells).enumerate() {
                    let none = if row == 0 { "1" } else { "–" };
                    cells.push(cell.ratio.clone().unwrap_or_else(|| none.into()));
                }
            }
        }
        (titles, rows)
    }

    pub(super) fn footnote(&self) -> String {
        let quality = if self.columns.iter().any(|column| column.title == QUALITY) { quality::FOOTNOTE } else { "" };
        let cells = self.columns.iter().flat_map(|column| &column.cells);
        let tilde = cells.filter_map(|cell| cell.plus_minus.as_ref()).any(|text| text.ends_with(UNRELIABLE));
        let tail = if tilde { UNRELIABLE_FOOTNOTE } else { "" };
        format!("{}{tail}{quality}", growing_footnote(self.saturated.contains(&true)))
    }
}

/// Returns the columns of capacities, and of the published ratios.
fn capacity_columns(comparison: &Comparison, variants: &[&str]) -> Vec<Column> {
    let Some(capacities) = &comparison.capacities else { return Vec::new() };
    let cell = |(row, variant): (usize, &&str)| Cell {
        text: capacity::rate_cell(capacities, variant),
        plus_minus: capacity::rate(capacities, variant)
            .and_then(|rate| rate.half_width)
            .map(|half| Unit::Number.plus_minus(half, 2)),
        ratio: (row > 0).then(|| capacity::ratio_cell(capacities, variant)),
    };
    let cells = variants.iter().enumerate().map(cell).collect();
    let title = "capacity/min".to_owned();
    let ratio = |known: &Published| known.throughput_ratio.map(|ratio| format!("{ratio}x"));
    let own = Column { title, cells, of_waiting: false, ratios: Some("ratio") };
    std::iter::once(own).chain(published(comparison, "published ratio", ratio)).collect()
}

/// Makes a column of published values, to stand after the measured values; `None` if no value is published.
fn published(comparison: &Comparison, title: &str, value: impl Fn(&Published) -> Option<String>) -> Option<Column> {
    let cell = |variant: &&str| comparison.published.get(*variant).and_then(&value);
    let variants = comparison.variants();
    let cells: Vec<Option<String>> = variants.iter().map(cell).collect();
    let any = cells.iter().any(Option::is_some);
    let cell = |text: Option<String>| Cell { text: text.unwrap_or_else(|| "–".into()), ..Cell::default() };
    let title = title.to_owned();
    any.then(|| Column { title, cells: cells.into_iter().map(cell).collect(), of_waiting: false, ratios: None })
}

/// Makes the column of the models that drew the images; `None` if no run records them.
fn drawn_by(comparison: &Comparison, variants: &[&str]) -> Option<Column> {
    let drawn = |variant: &&str| quality::images_by_model(comparison.runs_of(variant).map(|run| &run.summary));
    let cell = |text: Option<String>| Cell { text: text.unwrap_or_else(|| "–".into()), ..Cell::default() };
    let drawn: Vec<Option<String>> = variants.iter().map(drawn).collect();
    let title = DRAWN_BY.to_owned();
    let any = drawn.iter().any(Option::is_some);
    any.then(|| Column { title, cells: drawn.into_iter().map(cell).collect(), of_waiting: false, ratios: None })
}

/// Explanation of the tilde.
const UNRELIABLE_FOOTNOTE: &str = "~ Do not rely on this interval: fewer than 5 seeds, or percentiles that differ too much \
                                   from seed to seed, as heavy tails do.\n";

/// Returns the explanation of the star, if any cell has one.
pub(super) const fn growing_footnote(any: bool) -> &'static str {
    if any {
        "* The queue was still growing at the last arrival: this value depends on how long the trace is.\n"
    } else {
        ""
    }
}

/// Returns the tables for a terminal: the measures, then the ranges that follow from the uncertainty of the profile.
#[must_use]
pub fn terminal(comparison: &Comparison, width: Option<u16>) -> String {
    let measures = measures_for_terminal(comparison, width);
    let ranges = profile_range::terminal(comparison, width);
    if ranges.is_empty() { measures } else { format!("{measures}\n{ranges}") }
}

/// Returns the table of measures. If the table is wider than `width` columns, measures become rows and variants become
/// columns, in as many tables as needed.
fn measures_for_terminal(comparison: &Comparison, width: Option<u16>) -> String {
    let grid = Grid::new(comparison);
    let (titles, rows) = grid.rows();
    let fits = |text: &str| width.is_none_or(|width| text.lines().all(|line| line.chars().count() <= width.into()));
    let wide = plain_table(&titles, &rows, None);
    let feet = format!("{}{}", wrapped(&legend(&titles), width), grid.footnote());
    if fits(&wide) {
        return format!("{wide}\n{feet}");
    }
    let mut text = String::new();
    let mut rows = rows.as_slice();
    while !rows.is_empty() {
        let tall = |variants: usize| {
            let (titles, rows) = transposed(&titles, &rows[..variants]);
            plain_table(&titles, &rows, None)
        };
        let most = (1..=rows.len()).rev().find(|&variants| fits(&tall(variants)));
        // If not even one variant fits, the cells of its table wrap.
        let table = most.map_or_else(
            || {
                let (titles, rows) = transposed(&titles, &rows[..1]);
                plain_table(&titles, &rows, width)
            },
            tall,
        );
        text.extend([&table, "\n"]);
        rows = &rows[most.unwrap_or(1)..];
    }
    text + &feet
}

/// Maximum number of rows of a sweep that a terminal shows.
const MOST_ROWS: usize = 60;

/// Returns the table of a sweep for a terminal: the varied keys and the most important measures.
#[must_use]
pub fn sweep_table(keys: &[String], rows: &[SweepRow], width: Option<u16>) -> String {
    let (titles, mut cells) = sweep_cells(keys, rows);
    cells.truncate(MOST_ROWS);
    let table = plain_table(&titles, &cells, width);
    let rest = rows.len().saturating_sub(MOST_ROWS);
    let rest = if rest > 0 { format!("and {rest} more, in the table's file\n") } else { String::new() };
    format!("{table}\n{rest}{}{}", wrapped(&legend(&titles), width), sweep_footnote(rows))
}

/// Returns the footnotes of a sweep's table.
pub(super) fn sweep_footnote(rows: &[SweepRow]) -> String {
    let quality = if rows.iter().any(|row| quality::kind(&row.summary).is_some()) { quality::FOOTNOTE } else { "" };
    format!("{}{quality}", growing_footnote(rows.iter().any(|row| row.growing)))
}

/// Formats footnotes as paragraphs of Markdown. A star at the start of a paragraph would make a list of it, and two
/// tildes would strike text out, so these are escaped.
pub(super) fn markdown_footnote(footnote: &str) -> String {
    let escape = |line: &str| if line.starts_with(['*', '~']) { "\\" } else { "" };
    footnote.lines().flat_map(|line| ["\n", escape(line), line, "\n"]).collect()
}

/// Returns titles and rows of a sweep's table. A star marks values that depend on the length of the trace.
pub(super) fn sweep_cells(keys: &[String], rows: &[SweepRow]) -> (Vec<String>, Vec<Vec<String>>) {
    let flat = rows.iter().map(|row| {
        let throughput = super::steady(&row.summary).map(|value| (STEADY.to_owned(), value));
        super::measures::flatten(&row.summary).into_iter().chain(throughput).collect()
    });
    let flat: Vec<BTreeMap<String, f64>> = flat.collect();
    let attainments = super::measures::columns(rows.iter().map(|row| &row.summary));
    let attainments = attainments.into_iter().filter_map(|name| {
        let multiple = name.strip_prefix("slo.")?.strip_suffix(".attainment")?.to_owned();
        Some((name, format!("≤ {multiple}"), Unit::Share))
    });
    let fixed = OF_SWEEP.iter().map(|&(name, title, unit)| (name.to_owned(), title.to_owned(), unit));
    let columns: Vec<_> =
        fixed.chain(attainments).filter(|(name, ..)| flat.iter().any(|values| values.contains_key(name))).collect();
    let widest = |name: &String| {
        flat.iter().filter_map(|values| values.get(name)).fold(0.0, |most: f64, value| most.max(value.abs()))
    };
    let drawn = rows.iter().map(|row| quality::images_by_model(std::iter::once(&row.summary)));
    let drawn: Vec<Option<String>> = drawn.collect();
    let has_drawn = drawn.iter().any(Option::is_some);
    let last = has_drawn.then(|| DRAWN_BY.to_owned());
    let titles = columns.iter().map(|(_, title, _)| title.clone());
    let titles: Vec<String> = keys.iter().cloned().chain(titles).chain(last).collect();
    let shown = rows.iter().zip(&flat).zip(drawn).map(|((row, values), drawn)| {
        let cells = columns.iter().map(|(name, _, unit)| {
            let star = if row.growing && (name.starts_with("latency_s") || name.starts_with("slo")) { "*" } else { "" };
            let kind = quality::kind(&row.summary).filter(|_| name == "quality.clip").map(quality::short);
            let kind = kind.map(|kind| format!(" {kind}")).unwrap_or_default();
            let shown = |value: &f64| format!("{}{star}{kind}", unit.show(*value, unit.decimals(widest(name))));
            values.get(name).map_or_else(|| "–".to_owned(), shown)
        });
        let drawn = has_drawn.then(|| drawn.unwrap_or_else(|| "–".to_owned()));
        row.values.iter().cloned().chain(cells).chain(drawn).collect()
    });
    let shown = shown.collect();
    (titles, shown)
}

/// Returns the table as Markdown, for a pull request.
#[must_use]
pub fn markdown(comparison: &Comparison) -> String {
    let grid = Grid::new(comparison);
    let (titles, rows) = grid.rows();
    let mut text = markdown_table(&titles, &rows);
    text.push_str(&markdown_footnote(&format!("{}\n{}", legend(&titles), grid.footnote())));
    text
}

/// Formats a table as Markdown, with numbers aligned to the right.
pub(super) fn markdown_table(titles: &[String], rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    let mut line = |cells: &[String]| {
        let cells: Vec<String> =
            cells.iter().map(|cell| cell.replace('|', "\\|").replace('*', "\\*").replace('~', "\\~")).collect();
        text.extend(["| ", &cells.join(" | "), " |\n"]);
    };
    line(titles);
    let rule: Vec<String> = (0..titles.len()).map(|column| if column == 0 { "---" } else { "---:" }.into()).collect();
    line(&rule);
    for row in rows {
        line(row);
    }
    text
}

/// Returns the content of `report.md`: the verdict, the table, and what the numbers rest on.
pub(super) fn page(comparison: &Comparison, verdict: &Verdict) -> String {
    let mut text = format!("{}\n\n{}", verdict.sentence, markdown(comparison));
    text.push('\n');
    if let Some((titles, rows)) = profile_range::cells(comparison) {
        let table = markdown_table(&titles, &rows);
        text.extend([profile_range::TITLE, ":\n\n", &table, "\n", profile_range::FOOTNOTE, "\n"]);
    }
    for caveat in &verdict.caveats {
        text.extend(["- ", caveat, "\n"]);
    }
    text + &html::grounds_as_markdown(&comparison.all_grounds())
}

/// Formats a table with columns aligned to the right. Cells wrap to fit `width` columns, if a width is given.
pub(super) fn plain_table(titles: &[String], rows: &[Vec<String>], width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(comfy_table::LineStyle::none()));
    match width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table.set_header(titles);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

fn transposed(titles: &[String], rows: &[Vec<String>]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut lines = titles.iter().enumerate().map(|(column, title)| {
        let mut line = vec![title.clone()];
        line.extend(rows.iter().map(|row| row[column].clone()));
        line
    });
    let header = lines.next().unwrap_or_default();
    (header, lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn terminal_table_fits_its_width() {
        let comparison = sample::comparison();
        let wide = terminal(&comparison, None);
        assert!(wide.contains("2.50x") && wide.contains("71.0%") && wide.contains("960.0*"), "{wide}");
        let tall = terminal(&comparison, Some(60));
        assert!(tall.lines().filter(|line| !line.starts_with('*')).all(|line| line.chars().count() <= 60), "{tall}");
        assert!(tall.lines().nth(1).is_some_and(|line| line.contains("modm-sdxl")), "{tall}");
        let split = terminal(&comparison, Some(32));
        assert_eq!(split.matches("req/min").count(), 3, "a table a variant, and the legend: {split}");
        assert!(split.lines().filter(|line| !line.starts_with('*')).all(|line| line.chars().count() <= 32), "{split}");
        assert!(terminal(&comparison, Some(8)).lines().count() > split.lines().count());
    }

    #[test]
    fn markdown_escapes_its_own_signs() {
        let mut comparison = sample::comparison();
        comparison.runs[0].variant = "a|b".into();
        let text = markdown(&comparison);
        assert!(text.lines().nth(2).is_some_and(|row| row.starts_with("| a\\|b | 10.00 |")), "{text}");
    }

    #[test]
    fn a_p99_over_few_seeds_carries_a_tilde() {
        let mut comparison = sample::comparison();
        assert!(!terminal(&comparison, None).contains('~'), "no interval, no sign");
        let first = comparison.runs.clone();
        for seed in 1..6_u64 {
            comparison.runs.extend(first.iter().cloned().map(|mut run| {
                let latency = run.summary.latency_s.as_mut().expect("a latency");
                // The baseline's p99 varies by a tenth of a per cent, the other variant's by a third.
                latency.p99 *=
                    if run.variant == "vanilla" { 1.0 + 0.001 * seed as f64 } else { 1.0 + 0.2 * seed as f64 };
                run.seed += seed;
                run
            }));
        }
        let text = markdown(&comparison);
        assert_eq!(text.matches("\\~").count(), 2, "a cell and the footnote: {text}");
        let row = text.lines().find(|line| line.contains("modm-sdxl")).expect("a row");
        assert!(row.contains("\\~ |"), "{row}");
        comparison.runs.retain(|run| run.seed < first[0].seed + 4);
        assert_eq!(markdown(&comparison).matches("\\~").count(), 3, "both, of four seeds");
    }

    #[test]
    fn nothing_and_one_variant_are_tables() {
        assert!(!terminal(&Comparison::default(), Some(80)).contains("NaN"));
        let one = Comparison { runs: vec![sample::modm()], ..Comparison::default() };
        assert!(!terminal(&one, None).contains(" ratio"));
    }
}
