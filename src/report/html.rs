//! Page `report.html`: one file that opens offline, in light or dark, on a phone and on paper. The verdict comes first,
//! then the table, the figures, and what the numbers rest on. One small script sorts tables and shows values; the page
//! is complete without the script. The page makes no network requests.

use std::fmt::{self, Write};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::columns::{legend, name_of};
use super::figures::{DrawError, Figure, Look};
use super::provenance::Provenance;
use super::table::{Column, Grid};
use super::verdict::Verdict;
use super::{Comparison, ReportFile, measures, profile_range};
use crate::output::escaped;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Returns the files of a report: the tables, `report.html`, `report.md` and the figures. `write` fills in the page;
/// `look` is the look of the figures' files.
///
/// # Errors
/// See [`DrawError`].
pub(super) fn files(
    name: &str,
    tables: Vec<ReportFile>,
    markdown: String,
    figures: &[Figure],
    look: Look,
    write: impl FnOnce(&mut Page, &[Drawn]) -> fmt::Result,
) -> Result<Vec<ReportFile>, DrawError> {
    let drawn = figures.par_iter().map(Drawn::draw).collect::<Result<Vec<_>, _>>()?;
    let rendered = figures.par_iter().map(|figure| figure.files(look)).collect::<Result<Vec<_>, _>>()?;
    let mut page = Page::new(name);
    write(&mut page, &drawn).expect("a string takes what is written to it");
    let mut files = tables;
    files.extend([ReportFile::new("report.html", page.finish()), ReportFile::new("report.md", markdown)]);
    files.extend(rendered.into_iter().flatten());
    Ok(files)
}

/// Page that is being written. The page records its sections, so that a list of them can stand above them.
pub(super) struct Page {
    text: String,
    /// Identifiers and titles of the sections.
    sections: Vec<(String, String)>,
    /// Position in the text at which the list of sections is inserted.
    contents_at: usize,
}

impl Write for Page {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.push_str(text);
        Ok(())
    }
}

impl Page {
    /// Makes a page with everything before the first heading.
    pub(super) fn new(name: &str) -> Self {
        let text = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{} – modm</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
            escaped(name)
        );
        Self { text, sections: Vec::new(), contents_at: 0 }
    }

    /// Writes the title, the sentences of the answer and the caveats. The list of sections will follow them.
    pub(super) fn begin(&mut self, title: &str, sentences: &[&str], caveats: &[String]) -> fmt::Result {
        writeln!(self, "<h1>{}</h1>", escaped(title))?;
        for sentence in sentences {
            writeln!(self, "<p class=\"verdict\">{}</p>", escaped(sentence))?;
        }
        write_list(self, "caveats", caveats)?;
        self.contents_at = self.text.len();
        Ok(())
    }

    /// Begins a section with its heading.
    pub(super) fn section(&mut self, title: &str) -> fmt::Result {
        let words: Vec<String> = title
            .split(|letter: char| !letter.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect();
        // The prefix keeps identifiers of sections apart from those of figures.
        let mut id = format!("section-{}", words.join("-"));
        while self.sections.iter().any(|(other, _)| *other == id) {
            id.push_str("-more");
        }
        writeln!(self, "<h2 id=\"{id}\">{}</h2>", escaped(title))?;
        self.sections.push((id, title.to_owned()));
        Ok(())
    }

    /// Returns the whole page.
    pub(super) fn finish(mut self) -> String {
        let entry = |(id, title): &(String, String)| format!("<li><a href=\"#{id}\">{}</a></li>\n", escaped(title));
        let entries: String = self.sections.iter().map(entry).collect();
        let contents = format!("<nav aria-label=\"Contents\">\n<ul>\n{entries}</ul>\n</nav>\n");
        self.text.insert_str(self.contents_at, &contents);
        self.text + &format!("</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n")
    }
}

/// Figure for a page: its SVG element, and its points with their values.
pub(super) struct Drawn {
    name: String,
    element: String,
    points: String,
}

impl Drawn {
    /// Draws a figure for a page.
    ///
    /// # Errors
    /// See [`DrawError`].
    fn draw(figure: &Figure) -> Result<Self, DrawError> {
        // An end tag is all that could end the script element early, so the data contain no `<`.
        let points = figure.points().to_string().replace('<', "\\u003c");
        Ok(Self { name: figure.name.clone(), element: figure.element()?, points })
    }
}

/// Writes the page of a comparison.
pub(super) fn write(page: &mut Page, comparison: &Comparison, verdict: &Verdict, figures: &[Drawn]) -> fmt::Result {
    page.begin(&format!("Comparison: {}", comparison.name), &[&verdict.sentence], &verdict.caveats)?;
    write_table(page, &Grid::new(comparison))?;
    if let Some(cells) = profile_range::cells(comparison) {
        write_table_of(page, profile_range::TITLE, &cells, profile_range::FOOTNOTE, profile_range::FILE)?;
    }
    write_figures(page, figures)?;
    write_grounds(page, &comparison.all_grounds())?;
    write_definitions(page, "What the measures mean", measures::DEFINITIONS)
}

/// Information that the numbers of a report rest on.
#[derive(Clone, Copy)]
pub(super) struct Grounds<'a> {
    pub(super) provenance: &'a Provenance,
    /// Stand-ins and assumptions, in words.
    pub(super) stand_ins: &'a [String],
    pub(super) notes: &'a [String],
    /// Names and values of versions: of the program, and of what else it ran with.
    pub(super) versions: &'a [(String, String)],
    pub(super) scenario_toml: &'a str,
}

/// Writes the section on what the numbers rest on, the same in every report, and the section with the scenario.
pub(super) fn write_grounds(page: &mut Page, grounds: &Grounds<'_>) -> fmt::Result {
    let Grounds { provenance, stand_ins, notes, versions, scenario_toml } = *grounds;
    page.section("What this rests on")?;
    let none =
        |page: &mut Page, title: &str, what: &str| writeln!(page, "<h3>{title}</h3>\n<p class=\"foot\">{what}</p>");
    write_pairs(page, "Policies", &provenance.policies)?;
    match &provenance.sets {
        Some(sets) if sets.is_empty() => {
            none(page, "Settings of the command line", "None: the scenario is as its file says.")?;
        }
        Some(sets) => write_pairs(page, "Settings of the command line", sets)?,
        None => {
            none(page, "Settings of the command line", "Not recorded apart: what was in force is in the scenario.")?;
        }
    }
    if provenance.inputs.is_empty() {
        none(page, "Inputs", "None but the scenario and what is built in.")?;
    }
    let inputs = provenance.inputs.iter().map(|(name, sha256)| (name.clone(), format!("SHA-256 {sha256}")));
    write_pairs(page, "Inputs", &inputs.collect::<Vec<_>>())?;
    let lists = [("Service times", &provenance.service_times[..]), ("Stand-ins and assumptions", stand_ins)];
    for (title, lines) in lists.into_iter().chain([("Notes", notes)]) {
        if !lines.is_empty() {
            writeln!(page, "<h3>{title}</h3>")?;
            write_list(page, "notes", lines)?;
        }
    }
    if stand_ins.is_empty() {
        none(page, "Stand-ins and assumptions", "None that the program knows of.")?;
    }
    write_pairs(page, "Versions", versions)?;
    page.section("Scenario")?;
    writeln!(page, "<pre tabindex=\"0\" aria-label=\"Scenario\">{}</pre>", escaped(scenario_toml))
}

/// Formats what the numbers rest on as a list in Markdown, without versions and scenario.
pub(super) fn grounds_as_markdown(grounds: &Grounds<'_>) -> String {
    let lines = grounds.provenance.lines().into_iter().chain(grounds.provenance.sources());
    let lines = lines.chain(grounds.stand_ins.iter().chain(grounds.notes).cloned());
    let mut text = String::new();
    for line in lines {
        text.extend(["- ", &line, "\n"]);
    }
    text
}

/// Writes the section of figures: SVG elements with their points, and links to the files. Without figures, nothing is
/// written.
pub(super) fn write_figures(page: &mut Page, figures: &[Drawn]) -> fmt::Result {
    if figures.is_empty() {
        return Ok(());
    }
    page.section("Figures")?;
    for Drawn { name, element, points } in figures {
        let name = escaped(name);
        // A scrolling region must be reachable by keyboard. Arrow keys move from point to point.
        write!(
            page,
            "<figure class=\"scroll\" tabindex=\"0\" data-points=\"points-{name}\" aria-labelledby=\"{name}-title\">\n{element}\
             <script type=\"application/json\" id=\"points-{name}\">{points}</script></figure>\n\
             <p class=\"foot\">Data: <a href=\"figures/{name}.csv\">{name}.csv</a>. Figure: \
             <a href=\"figures/{name}.svg\">SVG<span class=\"unseen\"> of {name}</span></a>, \
             <a href=\"figures/{name}.png\">PNG<span class=\"unseen\"> of {name}</span></a>, \
             <a href=\"figures/{name}.pdf\">PDF<span class=\"unseen\"> of {name}</span></a>.</p>\n"
        )?;
    }
    Ok(())
}

/// Writes a table of text that can be sorted, with a sentence below it.
pub(super) fn write_table_of(
    page: &mut Page,
    name: &str,
    (titles, rows): &(Vec<String>, Vec<Vec<String>>),
    footnote: &str,
    file: &str,
) -> fmt::Result {
    begin_table(page, name)?;
    for title in titles {
        write_title(page, title)?;
    }
    page.write_str("</tr></thead>\n<tbody>\n")?;
    for row in rows {
        page.write_str("<tr>")?;
        for cell in row {
            write!(page, "<td>{}</td>", escaped(cell))?;
        }
        page.write_str("</tr>\n")?;
    }
    write!(page, "</tbody>\n</table>\n</div>\n<p class=\"foot\">{}", escaped(footnote))?;
    writeln!(page, "All measures: <a href=\"{file}\">{file}</a>.</p>")
}

/// Writes the beginning of a table, up to its first title.
fn begin_table(page: &mut Page, name: &str) -> fmt::Result {
    page.section(name)?;
    write!(
        page,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{name}\">\n\
         <table class=\"sorts\">\n<thead><tr>"
    )
}

/// Writes the title of a column. Its full name shows while one points at it.
fn write_title(page: &mut Page, title: &str) -> fmt::Result {
    let name = name_of(title).map(|name| format!(" title=\"{}\"", escaped(name))).unwrap_or_default();
    write!(page, "<th scope=\"col\"{name}>{}</th>", escaped(title))
}

/// Writes terms with their definitions.
pub(super) fn write_definitions(page: &mut Page, title: &str, definitions: &[(&str, &str)]) -> fmt::Result {
    page.section(title)?;
    writeln!(page, "<dl>")?;
    for (term, meaning) in definitions {
        writeln!(page, "<dt>{}</dt><dd>{}</dd>", escaped(term), escaped(meaning))?;
    }
    page.write_str("</dl>\n")
}

fn write_list(page: &mut Page, class: &str, items: &[String]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(page, "<ul class=\"{class}\">")?;
    for item in items {
        writeln!(page, "<li>{}</li>", escaped(item))?;
    }
    page.write_str("</ul>\n")
}

fn write_table(page: &mut Page, grid: &Grid) -> fmt::Result {
    begin_table(page, "Variants")?;
    page.write_str("<th scope=\"col\">variant</th>")?;
    for column in &grid.columns {
        write_title(page, &column.title)?;
    }
    page.write_str("</tr></thead>\n<tbody>\n")?;
    for (row, variant) in grid.variants.iter().enumerate() {
        write!(page, "<tr><th scope=\"row\">{}</th>", escaped(variant))?;
        for column in &grid.columns {
            write_cell(page, grid, column, row)?;
        }
        page.write_str("</tr>\n")?;
    }
    page.write_str("</tbody>\n</table>\n</div>\n")?;
    write!(page, "<p class=\"foot\">")?;
    if let [baseline, _, ..] = grid.variants.as_slice() {
        write!(page, "x: ratio to {}. ", escaped(baseline))?;
    }
    let titles: Vec<String> = grid.columns.iter().map(|column| column.title.clone()).collect();
    write!(page, "{} {}", escaped(&legend(&titles)), escaped(&grid.footnote()))?;
    page.write_str("All measures by variant and seed: <a href=\"comparison.csv\">comparison.csv</a>.</p>\n")
}

fn write_cell(page: &mut Page, grid: &Grid, column: &Column, row: usize) -> fmt::Result {
    write!(page, "<td>{}", escaped(&grid.value(column, row)))?;
    let cell = &column.cells[row];
    for small in cell.plus_minus.iter().chain(&cell.ratio) {
        write!(page, "<small>{}</small>", escaped(small))?;
    }
    page.write_str("</td>")
}

/// Writes names and values as a table with a title. Without pairs, nothing is written.
fn write_pairs(page: &mut Page, title: &str, pairs: &[(String, String)]) -> fmt::Result {
    if pairs.is_empty() {
        return Ok(());
    }
    writeln!(page, "<h3>{title}</h3>")?;
    write_pair_rows(page, pairs)
}

/// Writes names and values as a table without a title.
pub(super) fn write_pair_rows(page: &mut Page, pairs: &[(String, String)]) -> fmt::Result {
    page.write_str("<table class=\"versions\">\n<tbody>\n")?;
    for (name, value) in pairs {
        writeln!(page, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escaped(name), escaped(value))?;
    }
    page.write_str("</tbody>\n</table>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::time::Duration;

    fn page_of(comparison: &Comparison) -> String {
        let files = crate::report::files(comparison, Look::default()).expect("figures are drawn");
        let page = files.into_iter().find(|file| file.path == "report.html").expect("a page");
        String::from_utf8(page.bytes).expect("text")
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
        let page = page_of(&comparison);
        assert!(!page.contains("<script>alert"));
        assert!(page.matches("&lt;script&gt;alert(&quot;x&quot;)").count() > 8);
        assert_eq!(page.matches("</script>").count(), page.matches("<script").count(), "none ends early");
    }

    #[test]
    fn asks_nothing_of_the_network() {
        let page = page_of(&sample::comparison());
        let foreign = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!foreign.contains("http") && !foreign.contains("src=") && !foreign.contains("@import"));
        let (content, _) = page.split_once("<script>").expect("our script");
        assert!(!content.contains("NaN") && !content.contains("inf "));
        assert!(page.contains("scope=\"col\"") && page.contains("scope=\"row\"") && page.contains("<desc"));
    }

    #[test]
    fn titles_have_their_names_on_hover_and_below() {
        let page = page_of(&sample::comparison());
        let title = "<th scope=\"col\" title=\"completed requests per minute while requests arrive\">steady/min</th>";
        assert!(page.contains(title), "{page}");
        assert!(page.contains("steady/min: completed requests per minute while requests arrive. "));
        assert!(page.contains("loads: models loaded onto workers after the start."));
    }

    #[test]
    fn a_million_latencies_stay_small() {
        let mut comparison = sample::comparison();
        comparison.runs[0].latencies = (0..1_000_000_u64).map(|n| Duration::from_nanoseconds(n * 1_000_000)).collect();
        assert!(page_of(&comparison).len() < 300_000);
    }

    #[test]
    fn nothing_makes_a_page() {
        let page = page_of(&Comparison::default());
        assert!(page.contains("Nothing was run.") && page.contains("Not recorded apart"), "{page}");
    }
}
