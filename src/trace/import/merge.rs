//! Merge of several traces into one by time.

use std::path::Path;

use crate::input::InputError;
use crate::time::Time;
use crate::trace::{Columns, TextColumn, Trace};

use super::Note;

/// Merges the requests of several traces by time. At equal times, requests of an earlier trace are first.
///
/// # Errors
/// Returns an error if some traces have prompts and others have none, or if there are too many requests.
pub fn merge(parts: &[(&Path, &Trace)]) -> Result<(Trace, Vec<Note>), InputError> {
    let has_prompts = |trace: &Trace| trace.columns().prompts.is_some();
    if let Some((file, _)) = parts.iter().find(|(_, trace)| has_prompts(trace) != has_prompts(parts[0].1)) {
        let message = format!("expected prompts in all traces or in none; {} differs", parts[0].0.display());
        return Err(InputError::new(file, message).key("--merge"));
    }
    let total: usize = parts.iter().map(|(_, trace)| trace.len()).sum();
    if u32::try_from(total).is_err() {
        return Err(
            InputError::new(parts[0].0, format!("expected at most {} requests in all", u32::MAX)).key("--merge")
        );
    }
    let mut rows = Vec::with_capacity(total);
    for (part, (_, trace)) in parts.iter().enumerate() {
        rows.extend(trace.arrivals().iter().enumerate().map(|(row, &arrival)| (arrival, part, row)));
    }
    rows.sort_unstable(); // no two rows are equal
    let each = || rows.iter().map(|&(_, part, row)| (parts[part].1, row));
    let any = |has: &dyn Fn(&Columns) -> bool| parts.iter().any(|(_, trace)| has(trace.columns()));
    let mut notes: Vec<Note> = parts
        .iter()
        .map(|(file, trace)| Note::counted(trace.len(), format!("requests of {}", file.display())))
        .collect();
    // Ids of some traces only would mix with the numbers of rows of the others, which may be the same texts.
    let mut request_ids: Option<TextColumn> = None;
    if parts.iter().all(|(_, trace)| trace.columns().request_ids.is_some()) {
        request_ids = Some(each().map(|(trace, row)| trace.label(row)).collect());
    }
    if request_ids.as_ref().is_none_or(|ids| ids.first_repeat().is_some()) && any(&|c| c.request_ids.is_some()) {
        notes.push(Note::new(
            "request ids left out, since not all traces have them or some repeat: rows are numbered instead",
        ));
        request_ids = None;
    }
    let tenant = |trace: &Trace, row: usize| trace.tenant_name(trace.tenant(row)).unwrap_or_default().to_owned();
    let mut extra: Vec<(String, TextColumn)> = Vec::new();
    for (name, _) in parts.iter().flat_map(|(_, trace)| &trace.columns().extra) {
        if extra.iter().all(|(known, _)| known != name) {
            let find = |trace: &Trace| trace.columns().extra.iter().position(|(column, _)| column == name);
            let cell = |(trace, row): (&Trace, usize)| {
                find(trace).map_or_else(String::new, |at| trace.columns().extra[at].1.get(row).to_owned())
            };
            extra.push((name.clone(), each().map(cell).collect()));
        }
    }
    let columns = Columns {
        arrivals: rows.iter().map(|&(arrival, _, _)| arrival).collect(),
        request_ids,
        prompts: has_prompts(parts[0].1)
            .then(|| each().map(|(trace, row)| trace.prompt(row).unwrap_or_default()).collect()),
        tenants: any(&|columns| columns.tenants.is_some())
            .then(|| each().map(|(trace, row)| tenant(trace, row)).collect()),
        deadlines: any(&|columns| columns.deadlines.is_some())
            .then(|| each().map(|(trace, row)| trace.request(row).deadline.unwrap_or(Time::MAX)).collect()),
        extra,
        ..Columns::default()
    };
    Ok((Trace::new(columns), notes))
}
