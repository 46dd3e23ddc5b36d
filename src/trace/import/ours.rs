//! Importer for `requests.csv` in the format of this program, so that a trace can be sorted, sliced, scaled and merged
//! again.

use crate::input::InputError;
use crate::time::Time;
use crate::trace::read::{ArrivalOrder, read_requests};

use super::{File, Note, Source};

pub(super) fn read(file: &File<'_>, sort: bool) -> Result<Source, InputError> {
    let order = if sort { ArrivalOrder::Any } else { ArrivalOrder::Checked };
    let columns = read_requests(file.path, file.bytes, order, file.progress)?;
    let mut source = Source::default();
    if !columns.ignored.is_empty() {
        source.notes.push(Note::new(format!("columns left out: {}", columns.ignored.join(", "))));
    }
    source.tenants = columns.tenants.as_ref().map(|tenants| {
        let rows = 0..tenants.len();
        rows.map(|row| &tenants.names()[tenants.get(row).0 as usize]).collect()
    });
    source.deadlines = columns.deadlines.map(|deadlines| {
        let each = deadlines.iter().zip(&columns.arrivals);
        each.map(|(deadline, &arrival)| (*deadline != Time::MAX).then(|| deadline.since(arrival))).collect()
    });
    source.arrivals = Some(columns.arrivals);
    source.request_ids = columns.request_ids;
    source.prompts = columns.prompts;
    source.extra = columns.extra;
    Ok(source)
}
