//! Writes a trace's requests in the format of this program. `npy` writes embeddings.

use std::io::{self, Write};

use crate::time::Time;

use super::Trace;

/// Writes `requests.csv`: the columns that the trace has, with seconds in nine decimals.
///
/// # Errors
/// Returns the writer's error.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::time::{Duration, Time};
    use crate::trace::{Columns, TextColumn, Trace, TraceFiles, read, write_requests};

    fn column(rows: &[(u64, String, String, Option<u64>)]) -> Trace {
        let mut arrivals: Vec<Time> = rows.iter().map(|row| Time::from_nanoseconds(row.0)).collect();
        arrivals.sort_unstable();
        let deadline = |(row, &arrival): (&(u64, String, String, Option<u64>), &Time)| {
            row.3.map_or(Time::MAX, |after| arrival + Duration::from_nanoseconds(after))
        };
        Trace::new(Columns {
            deadlines: Some(rows.iter().zip(&arrivals).map(deadline).collect()),
            request_ids: Some((0..rows.len()).map(|row| format!("r{row}")).collect()),
            prompts: Some(rows.iter().map(|row| &row.1).collect()),
            tenants: Some(rows.iter().map(|row| &row.2).collect()),
            extra: vec![("steps".to_owned(), rows.iter().map(|row| &row.2).collect::<TextColumn>())],
            arrivals,
            ..Columns::default()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Times are up to 23 days. Beyond 2^51 ns, the rounding of f64 seconds may move a time by a nanosecond.
        #[test]
        fn reads_back_what_it_writes(rows in prop::collection::vec(
            (0..2_000_000_000_000_000_u64, ".*|[\",\r\n a]*", "[a-c\",\n]{0,2}", prop::option::of(0..1_000_000_000_000_u64)),
            1..20,
        )) {
            let trace = column(&rows);
            let folder = tempfile::tempdir().unwrap();
            let requests = folder.path().join("requests.csv");
            write_requests(std::fs::File::create(&requests).unwrap(), &trace).unwrap();
            let again = read(&TraceFiles { requests, ..TraceFiles::default() }).unwrap();
            prop_assert_eq!(trace.arrivals(), again.arrivals());
            prop_assert_eq!(&trace.columns().request_ids, &again.columns().request_ids);
            prop_assert_eq!(&trace.columns().prompts, &again.columns().prompts);
            prop_assert_eq!(&trace.columns().tenants, &again.columns().tenants);
            prop_assert_eq!(&trace.columns().deadlines, &again.columns().deadlines);
            prop_assert_eq!(&trace.columns().extra, &again.columns().extra);
        }
    }
}
