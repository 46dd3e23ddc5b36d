//! Writes a trace's requests in our own format. Embeddings are `npy`'s business.

use std::io::{self, Write};

use crate::time::Time;

use super::Trace;

/// Writes `requests.csv`: the columns the trace has, seconds with nine decimals.
///
/// # Errors
/// What the writer says.
pub fn write_requests(writer: impl Write, trace: &Trace) -> io::Result<()> {
    let columns = trace.columns();
    let mut writer = csv::Writer::from_writer(writer);
    let optional = [
        ("request_id", columns.request_ids.is_some()),
        ("arrival_s", true),
        ("prompt", columns.prompts.is_some()),
        ("tenant", columns.tenants.is_some()),
        ("deadline_s", columns.deadlines.is_some()),
    ];
    let names = optional.into_iter().filter(|&(_, there)| there).map(|(name, _)| name);
    writer.write_record(names.chain(columns.extra.iter().map(|(name, _)| name.as_str())))?;
    for row in 0..trace.len() {
        if let Some(ids) = &columns.request_ids {
            writer.write_field(ids.get(row))?;
        }
        let arrival = columns.arrivals[row];
        writer.write_field(arrival.to_string())?;
        if let Some(prompts) = &columns.prompts {
            writer.write_field(prompts.get(row))?;
        }
        if let Some(tenants) = &columns.tenants {
            writer.write_field(&tenants.names()[tenants.get(row).0 as usize])?;
        }
        if let Some(deadlines) = &columns.deadlines {
            let deadline = deadlines[row];
            let after = if deadline == Time::MAX { String::new() } else { deadline.since(arrival).to_string() };
            writer.write_field(after)?;
        }
        for (_, column) in &columns.extra {
            writer.write_field(column.get(row))?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.flush()
}
