//! `report.html`: one file that opens offline, light or dark, on a phone and on paper. Verdict first,
//! then the table, the figures, and what they rest on. One small script sorts tables and shows values; without it the page
//! is whole. No requests to anywhere.

use std::fmt::{self, Write};

use super::figures::{DrawError, Figure};
use super::table::{Column, Grid};
use super::verdict::Verdict;
use super::{Comparison, measures};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page of a comparison.
pub(super) fn page(comparison: &Comparison, verdict: &Verdict, figures: &[Figure]) -> Result<String, DrawError> {
    let elements = figures.iter().map(Drawn::of).collect::<Result<Vec<_>, _>>()?;
    let mut page = String::new();
    write(&mut page, comparison, verdict, &elements).expect("a string takes what is written to it");
    Ok(page)
}

/// A figure for a page: its element and what stands where.
pub(super) struct Drawn {
    name: String,
    element: String,
    points: String,
}

impl Drawn {
    /// # Errors
    /// See [`DrawError`].
    pub(super) fn of(figure: &Figure) -> Result<Self, DrawError> {
        // Within a script element only this could end it.
        let points = figure.points().to_string().replace('<', "\\u003c");
        Ok(Self { name: figure.name.clone(), element: figure.element()?, points })
    }
}

fn write(page: &mut String, comparison: &Comparison, verdict: &Verdict, figures: &[Drawn]) -> fmt::Result {
    write_head(page, &comparison.name)?;
    write!(
        page,
        "<h1>Comparison: {}</h1>\n<p class=\"verdict\">{}</p>\n",
        escaped(&comparison.name),
        escaped(&verdict.sentence)
    )?;
    write_list(page, "caveats", &verdict.caveats)?;
    write_table(page, &Grid::new(comparison))?;
    page.push_str("<h2>Figures</h2>\n");
    write_figures(page, figures)?;
    let grounds: Vec<String> = comparison.grounds().cloned().collect();
    if !grounds.is_empty() {
        page.push_str("<h2>What this rests on</h2>\n");
        write_list(page, "notes", &grounds)?;
    }
    write_scenario(page, &comparison.scenario_toml)?;
    write_versions(page, &comparison.versions)?;
    write_definitions(page, "What the measures mean", measures::DEFINITIONS)?;
    write_end(page)
}

/// Closes what [`write_head`] opens.
pub(super) fn write_end(page: &mut String) -> fmt::Result {
    write!(page, "</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n")
}

/// Everything before the first heading.
pub(super) fn write_head(page: &mut String, name: &str) -> fmt::Result {
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{} – modm</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escaped(name)
    )
}

/// SVG elements, with their points, and their files.
pub(super) fn write_figures(page: &mut String, figures: &[Drawn]) -> fmt::Result {
    for Drawn { name, element, points } in figures {
        let name = escaped(name);
        // A region that scrolls must be reachable by keyboard; arrow keys go from point to point.
        write!(
            page,
            "<figure class=\"scroll\" tabindex=\"0\" data-points=\"points-{name}\" aria-labelledby=\"{name}-title\">\n{element}\
             <script type=\"application/json\" id=\"points-{name}\">{points}</script></figure>\n\
             <p class=\"foot\">Data: <a href=\"figures/{name}.csv\">{name}.csv</a>. Figure: \
             <a href=\"figures/{name}.svg\">SVG<span class=\"unseen\"> of {name}</span></a>, \
             <a href=\"figures/{name}.png\">PNG<span class=\"unseen\"> of {name}</span></a>.</p>\n"
        )?;
    }
    Ok(())
}

/// A table of text that sorts, with a sentence below it.
pub(super) fn write_table_of(
    page: &mut String,
    name: &str,
    (titles, rows): &(Vec<String>, Vec<Vec<String>>),
    footnote: &str,
    file: &str,
) -> fmt::Result {
    begin_table(page, name)?;
    for title in titles {
        write!(page, "<th scope=\"col\">{}</th>", escaped(title))?;
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        page.push_str("<tr>");
        for cell in row {
            write!(page, "<td>{}</td>", escaped(cell))?;
        }
        page.push_str("</tr>\n");
    }
    write!(page, "</tbody>\n</table>\n</div>\n<p class=\"foot\">{}", escaped(footnote))?;
    writeln!(page, "All measures: <a href=\"{file}\">{file}</a>.</p>")
}

/// Up to its first title.
fn begin_table(page: &mut String, name: &str) -> fmt::Result {
    write!(
        page,
        "<h2>{name}</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{name}\">\n\
         <table class=\"sorts\">\n<thead><tr>"
    )
}

pub(super) fn write_scenario(page: &mut String, toml: &str) -> fmt::Result {
    writeln!(page, "<h2>Scenario</h2>\n<pre tabindex=\"0\" aria-label=\"Scenario as resolved\">{}</pre>", escaped(toml))
}

/// Terms and what they mean.
pub(super) fn write_definitions(page: &mut String, title: &str, definitions: &[(&str, &str)]) -> fmt::Result {
    writeln!(page, "<h2>{title}</h2>\n<dl>")?;
    for (term, meaning) in definitions {
        writeln!(page, "<dt>{}</dt><dd>{}</dd>", escaped(term), escaped(meaning))?;
    }
    page.write_str("</dl>\n")
}

pub(super) fn write_list(page: &mut String, class: &str, items: &[String]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(page, "<ul class=\"{class}\">")?;
    for item in items {
        writeln!(page, "<li>{}</li>", escaped(item))?;
    }
    page.write_str("</ul>\n")
}

fn write_table(page: &mut String, grid: &Grid) -> fmt::Result {
    begin_table(page, "Variants")?;
    page.push_str("<th scope=\"col\">variant</th>");
    for column in &grid.columns {
        write!(page, "<th scope=\"col\">{}</th>", escaped(&column.title))?;
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for (row, variant) in grid.variants.iter().enumerate() {
        write!(page, "<tr><th scope=\"row\">{}</th>", escaped(variant))?;
        for column in &grid.columns {
            write_cell(page, grid, column, row)?;
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n</div>\n");
    write!(page, "<p class=\"foot\">")?;
    if let [baseline, _, ..] = grid.variants.as_slice() {
        write!(page, "x: ratio to {}. ", escaped(baseline))?;
    }
    page.push_str(&escaped(&grid.footnote()));
    page.push_str("All measures by variant and seed: <a href=\"comparison.csv\">comparison.csv</a>.</p>\n");
    Ok(())
}

fn write_cell(page: &mut String, grid: &Grid, column: &Column, row: usize) -> fmt::Result {
    write!(page, "<td>{}", escaped(&grid.value(column, row)))?;
    let cell = &column.cells[row];
    for small in cell.plus_minus.iter().chain(&cell.ratio) {
        write!(page, "<small>{}</small>", escaped(small))?;
    }
    page.write_str("</td>")
}

pub(super) fn write_versions(page: &mut String, versions: &[(String, String)]) -> fmt::Result {
    write_pairs(page, "Versions and inputs", versions)
}

/// Names and values, as a table; nothing of nothing.
pub(super) fn write_pairs(page: &mut String, title: &str, pairs: &[(String, String)]) -> fmt::Result {
    if pairs.is_empty() {
        return Ok(());
    }
    writeln!(page, "<h2>{title}</h2>\n<table class=\"versions\">\n<tbody>")?;
    for (name, value) in pairs {
        writeln!(page, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escaped(name), escaped(value))?;
    }
    page.write_str("</tbody>\n</table>\n")
}

/// Text made safe within an element or an attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::figures;
    use crate::report::{sample, verdict};
    use crate::time::Duration;

    fn of(comparison: &Comparison) -> String {
        page(comparison, &verdict(comparison), &figures(comparison)).expect("a page")
    }

    #[test]
    fn everything_foreign_is_escaped() {
        let mut comparison = sample::comparison();
        let evil = "<script>alert(\"x\")</script>&'";
        comparison.name = evil.into();
        comparison.runs[0].variant = evil.into();
        comparison.notes = vec![evil.into()];
        comparison.scenario_toml = evil.into();
        comparison.versions = vec![(evil.into(), evil.into())];
        let page = of(&comparison);
        assert!(!page.contains("<script>alert"));
        assert!(page.matches("&lt;script&gt;alert(&quot;x&quot;)").count() > 8);
        assert_eq!(page.matches("</script>").count(), page.matches("<script").count(), "none ends early");
    }

    #[test]
    fn asks_nothing_of_the_network() {
        let page = of(&sample::comparison());
        let foreign = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!foreign.contains("http") && !foreign.contains("src=") && !foreign.contains("@import"));
        let (content, _) = page.split_once("<script>").expect("our script");
        assert!(!content.contains("NaN") && !content.contains("inf "));
        assert!(page.contains("scope=\"col\"") && page.contains("scope=\"row\"") && page.contains("<desc"));
    }

    #[test]
    fn a_million_latencies_stay_small() {
        let mut comparison = sample::comparison();
        comparison.runs[0].latencies = (0..1_000_000_u64).map(|n| Duration::from_nanoseconds(n * 1_000_000)).collect();
        assert!(of(&comparison).len() < 300_000);
    }

    #[test]
    fn nothing_makes_a_page() {
        assert!(of(&Comparison::default()).contains("Nothing was run."));
    }
}
