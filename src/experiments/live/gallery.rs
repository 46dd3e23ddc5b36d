//! Pictures of a live run for people to look at: a page with every picture and its decision, and a sheet of hits, each
//! beside the picture from which it was refined.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::names::{file_names, picture_name};
use crate::experiments::ExperimentError;
use crate::image::ImageId;
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

const STYLE: &str = include_str!("gallery.css");
const SCRIPT: &str = include_str!("gallery.js");

/// Part of the page before the pictures. The script shows the form and fills in the choices.
const FORM: &str = "<form hidden>\
<input type=\"search\" placeholder=\"words of the prompt\" aria-label=\"Words of the prompt\">\
<select name=\"decision\" aria-label=\"Decision\"><option value=\"\">hits and misses</option></select>\
<select name=\"model\" aria-label=\"Model\"><option value=\"\">all models</option></select>\
<select name=\"tenant\" aria-label=\"Tenant\"><option value=\"\">all tenants</option></select>\
<output></output></form>\n<main>\n";

/// Writes `pictures.html` and, if there were hits on this run's own pictures, `hits.png`.
pub(super) fn write(
    folder: &Path,
    trace: &Trace,
    rows: &[RequestRow],
    models: &[String],
    format: ImageFormat,
) -> Result<(), ExperimentError> {
    let names = file_names(trace);
    let page = page(trace, rows, models, &|row| format!("images/{}", picture_name(&names[row], format)));
    write_atomic(&folder.join("pictures.html"), |to| to.write_all(page.as_bytes()))?;
    let read = |row: usize| {
        let bytes = std::fs::read(folder.join("images").join(picture_name(&names[row], format))).ok()?;
        Picture::decode(&bytes).ok()
    };
    let hits = rows.iter().filter(|row| row.completed()).filter_map(|row| {
        let decision = row.decision.filter(|decision| decision.kind == DecisionKind::Hit)?;
        Some([decision.source?.request()?.row(), row.id.row()])
    });
    let pairs: Vec<[Picture; 2]> =
        hits.take(PAIRS).filter_map(|[source, own]| Some([read(source)?, read(own)?])).collect();
    if !pairs.is_empty() {
        let bytes = sheet(&pairs, ACROSS).encode(ImageFormat::Png)?;
        write_atomic(&folder.join("hits.png"), |to| to.write_all(&bytes))?;
    }
    Ok(())
}

/// Returns the page with every picture that was made. `place` is the place of a row's picture.
fn page(trace: &Trace, rows: &[RequestRow], models: &[String], place: &dyn Fn(usize) -> String) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Pictures – modm</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>Pictures</h1>\n\
         <p>Each picture, and beside a hit the cached one that it was made from.</p>\n{FORM}"
    );
    for row in rows.iter().filter(|row| row.completed()) {
        let Some(decision) = row.decision else { continue };
        let (index, kind) = (row.id.row(), decision.kind.word());
        let model = row.run.map_or("returned as it is", |run| &models[run.model.index()]);
        let prompt = escaped(trace.prompt(index).unwrap_or_default());
        let tenant = trace.columns().tenants.is_some().then(|| trace.tenant_name(trace.tenant(index))).flatten();
        let of_tenant = tenant.map(|name| format!(" data-tenant=\"{}\"", escaped(name))).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "<figure data-decision=\"{kind}\" data-model=\"{}\"{of_tenant}><div class=\"pair\">\
             <img loading=\"lazy\" src=\"{}\" alt=\"{prompt}\">",
            escaped(model),
            escaped(&place(index))
        );
        // A source that was cached before the run has no request, and no picture in this folder.
        if let Some(source) = decision.source.and_then(ImageId::request) {
            let _ = write!(
                page,
                "<span>from</span><img class=\"source\" loading=\"lazy\" src=\"{}\" alt=\"the cached picture\">",
                escaped(&place(source.row()))
            );
        }
        let _ = write!(page, "</div><figcaption>{prompt}<small>{kind}, {}", escaped(model));
        if decision.kind == DecisionKind::Hit {
            let _ = write!(page, ", {} steps skipped", decision.skipped_steps);
        }
        if let Some(similarity) = decision.similarity {
            let _ = write!(page, ", nearest {similarity:.3}");
        }
        if let Some(similarity) = row.similarity_to_prompt {
            let _ = write!(page, ", fits its prompt {similarity:.3}");
        }
        if let Some(tenant) = tenant {
            let _ = write!(page, ", {}", escaped(tenant));
        }
        page.push_str("</small></figcaption></figure>\n");
    }
    page + &format!("</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n")
}
