//! The documents against the repository: links lead somewhere, the README's table is the one that
//! `scripts/quickstart` wrote, and no path of a machine has slipped in. Lines of prose, in documents and in comments,
//! can be reviewed.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use modm::scenario::{Scenario, Setting, Source, keys};

use super::layering::every_source;
use crate::program::root;

fn documents() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in ["", "docs", "docs/decisions"] {
        for entry in fs::read_dir(root().join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    ensure!(found.len() > 30, "the documents are there");
    found.sort();
    Ok(found)
}

/// Returns the names of the headings of a document, as links name them.
fn anchors(text: &str) -> Vec<String> {
    let heading = |line: &str| line.starts_with('#').then(|| line.trim_start_matches('#').trim().to_lowercase());
    let kept = |letter: &char| letter.is_alphanumeric() || *letter == '-' || *letter == ' ' || *letter == '_';
    let headings = text.lines().filter_map(heading);
    headings.map(|heading| heading.chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// Returns what stands between `](` and `)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[test]
fn links_lead_somewhere() -> Result<()> {
    let mut checked = 0;
    for document in documents()? {
        let text = fs::read_to_string(&document)?;
        for link in links(&text).filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = document.parent().context("a folder")?.join(file);
            ensure!(target.exists(), "{}: {link} leads nowhere", document.display());
            if !anchor.is_empty() && target.extension().is_some_and(|extension| extension == "md") {
                let there = anchors(&fs::read_to_string(&target)?);
                ensure!(
                    there.iter().any(|heading| heading == anchor),
                    "{}: {link} names no heading",
                    document.display()
                );
            }
            checked += 1;
        }
    }
    ensure!(checked > 5, "the documents have links");
    Ok(())
}

#[test]
fn the_book_has_every_page_once() -> Result<()> {
    let docs = root().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md"))?;
    let mut listed: Vec<PathBuf> = links(&summary).map(|link| docs.join(link)).collect();
    listed.sort();
    let mut pages: Vec<PathBuf> = documents()?.into_iter().filter(|page| page.starts_with(&docs)).collect();
    pages.retain(|page| !page.ends_with("SUMMARY.md"));
    ensure!(listed == pages, "docs/SUMMARY.md lists {listed:?}, and there are {pages:?}");
    Ok(())
}

/// Columns of a line of prose, at most: what is longer is hard to review.
const WIDEST: usize = 120;

#[test]
fn lines_of_prose_can_be_reviewed() -> Result<()> {
    for document in documents()? {
        let text = fs::read_to_string(&document)?;
        // Its text is written by a program.
        if document.ends_with("docs/reproduction.md") {
            continue;
        }
        let mut is_code = false;
        for (number, line) in (1..).zip(text.lines()) {
            is_code ^= line.trim_start().starts_with("```");
            // Tables, commands and links cannot be broken; quotations are reports'.
            let of_report = ["quality: ", "capacity/min: "].iter().any(|begin| line.starts_with(begin));
            let whole = line.starts_with(['|', '>', '<', '!']) || line.contains("`modm ") || of_report;
            let short = line.chars().count() <= WIDEST || !line.trim().contains(' ') || line.starts_with('`');
            ensure!(is_code || whole || short, "{}:{number}: longer than {WIDEST} columns", document.display());
        }
    }
    Ok(())
}

#[test]
fn lines_of_comments_can_be_reviewed() -> Result<()> {
    let mut bad = Vec::new();
    for path in every_source() {
        let text = fs::read_to_string(&path)?;
        let comments = (1..).zip(text.lines()).filter(|(_, line)| line.trim_start().starts_with("//"));
        let wide = comments.filter(|(_, line)| line.chars().count() > WIDEST);
        bad.extend(wide.map(|(number, _)| format!("{}:{number}", path.display())));
    }
    ensure!(bad.is_empty(), "comments longer than {WIDEST} columns:\n{}", bad.join("\n"));
    Ok(())
}

#[test]
fn the_readme_shows_the_table_that_was_written() -> Result<()> {
    let table =
        |text: &str| -> Vec<String> { text.lines().filter(|line| line.starts_with('|')).map(str::to_owned).collect() };
    let readme = fs::read_to_string(root().join("README.md"))?;
    let (_, rest) = readme.split_once("<!-- quickstart").context("where the table begins")?;
    let (shown, _) = rest.split_once("<!-- end of quickstart").context("where it ends")?;
    let written = fs::read_to_string(root().join("results/reference/quickstart/report.md"))?;
    let (measures, _) = written.split_once("\nWhat the profile leaves open").context("the report's second table")?;
    ensure!(!table(measures).is_empty(), "the report has a table");
    ensure!(table(shown) == table(measures), "run scripts/quickstart");
    Ok(())
}

#[test]
fn no_document_or_scenario_names_a_path_of_a_machine() -> Result<()> {
    let here = format!("{}/", root().parent().context("a folder")?.display());
    for document in documents()? {
        let text = fs::read_to_string(&document)?;
        for mark in [here.as_str(), "/home/", "/Users/", "C:\\"] {
            ensure!(!text.contains(mark), "{}: {mark}", document.display());
        }
    }
    Ok(())
}

#[test]
fn the_citation_is_of_this_version_and_of_the_paper() -> Result<()> {
    let citation = fs::read_to_string(root().join("CITATION.cff"))?;
    let version = format!("\nversion: {}\n", env!("CARGO_PKG_VERSION"));
    ensure!(citation.starts_with("cff-version: 1.2.0\n") && citation.contains(&version), "CITATION.cff: {version}");
    let licences = env!("CARGO_PKG_LICENSE").split(" OR ");
    for licence in licences {
        ensure!(citation.contains(&format!("\n  - {licence}\n")), "CITATION.cff: {licence}");
    }
    ensure!(citation.contains("arXiv:2503.11972") && citation.contains("Mixture-of-Diffusion Models"), "the paper");
    Ok(())
}

#[test]
fn schema_and_table_of_keys_are_those_of_the_types() -> Result<()> {
    let root = root();
    let way_out = "run scripts/write_keys";
    let schema: serde_json::Value = serde_json::from_str(&fs::read_to_string(root.join("scenarios/schema.json"))?)?;
    assert!(schema == keys::schema(), "scenarios/schema.json is of other types: {way_out}");
    let text = fs::read_to_string(root.join("docs/interface.md"))?;
    let written =
        text.split_once("written by scripts/write_keys -->\n\n").and_then(|(_, rest)| rest.split_once("\n<!-- end"));
    let table = keys::markdown(|key| key.section() != "serve");
    assert!(written.is_some_and(|(written, _)| written == table), "docs/interface.md has other keys: {way_out}");
    Ok(())
}

#[test]
fn every_key_is_explained_and_every_scenario_has_known_keys() -> Result<()> {
    for key in keys::keys() {
        assert!(key.meaning.len() > 10, "{} has no comment", key.name);
        assert!(keys::find(&key.name).as_ref() == Ok(key), "{} is not found by its name", key.name);
    }
    let mut scenarios = Vec::new();
    for folder in ["scenarios", "scenarios/paper", "scenarios/policies/judging", "scenarios/policies/tuning"] {
        let files = fs::read_dir(root().join(folder))?.collect::<Result<Vec<_>, _>>()?;
        scenarios.extend(files.iter().map(fs::DirEntry::path).filter(|path| path.extension() == Some("toml".as_ref())));
    }
    // Settings of a trace alone are no scenario, and name no schema.
    scenarios.retain(|path| fs::read_to_string(path).is_ok_and(|text| text.starts_with("#:schema ")));
    assert!(scenarios.len() > 20, "{}", scenarios.len());
    for file in scenarios {
        let settings = Source::read(&file)?.settings(&[])?;
        let unknown = settings.iter().find(|setting| keys::find(&setting.key).is_err_and(|near| near.is_empty()));
        assert!(unknown.is_none(), "{}: {unknown:?}", file.display());
        // The text is a scenario again, with the same settings.
        let again = Source::new(&file, Scenario::shown(&settings))?.settings(&[])?;
        let values = |settings: &[Setting]| -> Vec<_> {
            settings.iter().map(|setting| (setting.key.clone(), setting.value.clone())).collect()
        };
        assert_eq!(values(&settings), values(&again), "{}", file.display());
    }
    Ok(())
}
