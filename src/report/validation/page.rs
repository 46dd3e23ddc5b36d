//! Report of a validation as one page, and as Markdown for a pull request.

use crate::output::escaped;
use std::fmt::{self, Write};

use super::html::{Drawn, Page};
use super::tables::{LoadTable, tables};
use super::{Validation, html};

/// Explanations of the columns, and of how to read a difference.
const READING: [(&str, &str); 7] = [
    ("live", "what was measured in real time; figures of several seeds stand side by side"),
    (
        "fed durations",
        "the error of a simulation that is fed with the durations of the live run itself: jobs, loads, embeddings, each from when it could begin. What is left is the model of the loop",
    ),
    (
        "from profile, error",
        "the mean of simulations fed with the profile alone, and how far that is off: relative for seconds and rates, in points for shares",
    ),
    (
        "90 % range",
        "from the 5th to the 95th percentile over simulations with jitter of their own, whose service times are as uncertain as the rounds of profiling say; ! where the live value lies outside",
    ),
    (
        "rescaled",
        "the same error with every service time times one factor, that by which the run's own work took longer than the profile says in the mean: what is left when the machine's speed of that minute is known",
    ),
    (
        "per 1 % service",
        "by how much the error changes if every service time is 1 % longer: near saturation a small error of the service time is a large one of the queue",
    ),
    (
        "same ...",
        "the share of requests, or of the monitor's ticks, that went the same way in both; same latency: within 1 % or 5 ms",
    ),
];

pub(super) fn write(page: &mut Page, validation: &Validation, figures: &[Drawn]) -> fmt::Result {
    let verdicts = validation.verdicts();
    let sentences: Vec<&str> = verdicts.iter().map(String::as_str).collect();
    page.begin(&format!("Validation: {}", validation.name), &sentences, &[])?;
    for table in tables(validation) {
        write_table(page, &table)?;
    }
    page.write_str("<p class=\"foot\">Every figure: <a href=\"validation.csv\">validation.csv</a>.</p>\n")?;
    html::write_figures(page, figures)?;
    html::write_grounds(page, &validation.grounds())?;
    html::write_definitions(page, "How to read it", &READING)
}

fn write_table(page: &mut Page, table: &LoadTable) -> fmt::Result {
    let title = escaped(&table.title);
    page.section(&table.title)?;
    write!(page, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\">\n<table>\n<thead><tr>")?;
    for name in table.header {
        write!(page, "<th scope=\"col\">{name}</th>")?;
    }
    page.write_str("</tr></thead>\n<tbody>\n")?;
    for [name, values @ ..] in &table.rows {
        write!(page, "<tr><th scope=\"row\">{}</th>", escaped(name))?;
        for value in values {
            write!(page, "<td>{}</td>", escaped(value))?;
        }
        page.write_str("</tr>\n")?;
    }
    page.write_str("</tbody>\n</table>\n</div>\n")
}

/// Returns the verdict, the tables and the grounds as Markdown.
pub(super) fn markdown(validation: &Validation) -> String {
    let mut page = String::new();
    write_markdown(&mut page, validation).expect("a string takes what is written to it");
    page
}

fn write_markdown(page: &mut String, validation: &Validation) -> fmt::Result {
    write!(page, "# Validation: {}\n\n", validation.name)?;
    for sentence in validation.verdicts() {
        write!(page, "{sentence}\n\n")?;
    }
    for table in tables(validation) {
        let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
        write!(page, "## {}\n\n{}\n", table.title, line(&table.header.map(str::to_owned)))?;
        page.push_str("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
        for row in &table.rows {
            writeln!(page, "{}", line(row))?;
        }
        page.push('\n');
    }
    page.write_str(&html::grounds_as_markdown(&validation.grounds()))
}
