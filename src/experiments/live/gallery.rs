//! Pictures of a live run for people to look at: a page with every picture and its decision, and a sheet of hits, each
//! beside the picture from which it was refined.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::names::{file_names, picture_name};
use crate::experiments::ExperimentError;
use crate::live::picture::{Picture, sheet};
use crate::live::settings::ImageFormat;
use crate::metrics::RequestRow;
use crate::output::{escaped, write_atomic};
use crate::scheduler::DecisionKind;
use crate::trace::Trace;

/// Largest number of pairs on a sheet.
const PAIRS: usize = 48;
/// Number of pairs side by side.
const ACROSS: usize = 8;

const STYLE: &str = "body{font:14px system-ui,sans-serif;margin:2rem;color-scheme:light dark}\
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:1rem}\
figure{margin:0;border:1px solid #8886;border-radius:6px;padding:.6rem}\
img{width:6.4rem;height:6.4rem;object-fit:contain;image-rendering:pixelated}\
figcaption{margin-top:.3rem}small{opacity:.75}";

/// Writes `pictures.html` and, if there were hits on this run's own pictures, `hits.png`.
pub(super) fn write(
    folder: &Path,
    trace: &Trace,
    rows: &[RequestRow],
    models: &[String],
    format: ImageFormat,
) -> Result<(), ExperimentError> {
    let names = file_names(trace);
    // A source that was cached before the run has no request, and no picture in this folder.
    let source = |row: &RequestRow| row.decision.and_then(|decision| decision.source?.request());
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Pictures</title><style>{STYLE}</style><h1>Pictures</h1><p>Each picture, and beside a hit the cached one it was made from.</p><main>"
    );
    let mut pairs = Vec::new();
    for row in rows.iter().filter(|row| row.completed()) {
        let (Some(decision), index) = (row.decision, row.id.row()) else { continue };
        let picture = |row: usize| format!("images/{}", picture_name(&names[row], format));
        let model = row.run.map_or("returned as it is", |run| &models[run.model.index()]);
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "<figure><img loading=lazy src=\"{}\" alt=\"{}\">",
            picture(index),
            escaped(trace.prompt(index).unwrap_or_default())
        );
        if let Some(source) = source(row) {
            let _ = write!(page, " <img loading=lazy src=\"{}\" alt=\"its source\">", picture(source.row()));
            if decision.kind == DecisionKind::Hit && pairs.len() < PAIRS {
                pairs.push([source.row(), index]);
            }
        }
        let prompt = escaped(trace.prompt(index).unwrap_or_default());
        let _ = write!(page, "<figcaption>{prompt}<br><small>{}, {model}", decision.kind.word());
        if decision.kind == DecisionKind::Hit {
            let _ = write!(page, ", {} steps skipped", decision.skipped_steps);
        }
        if let Some(similarity) = decision.similarity {
            let _ = write!(page, ", nearest {similarity:.3}");
        }
        if let Some(similarity) = row.similarity_to_prompt {
            let _ = write!(page, ", fits its prompt {similarity:.3}");
        }
        page.push_str("</small></figcaption></figure>");
    }
    page.push_str("</main></html>\n");
    write_atomic(&folder.join("pictures.html"), |to| to.write_all(page.as_bytes()))?;
    let read = |row: usize| {
        let bytes = std::fs::read(folder.join("images").join(picture_name(&names[row], format))).ok()?;
        Picture::decode(&bytes).ok()
    };
    let pairs: Vec<[Picture; 2]> =
        pairs.into_iter().filter_map(|[source, own]| Some([read(source)?, read(own)?])).collect();
    if !pairs.is_empty() {
        let bytes = sheet(&pairs, ACROSS).encode(ImageFormat::Png)?;
        write_atomic(&folder.join("hits.png"), |to| to.write_all(&bytes))?;
    }
    Ok(())
}
