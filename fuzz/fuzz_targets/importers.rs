//! Importers of public traces; the first byte picks format and options. An error, or columns of one length
//! that combine to a trace. Parquet is left out: its crate asserts what a damaged file may break, which the
//! importer catches and a fuzzer cannot.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modm::trace::import::{Format, Options, Selection, combine, read};
use modm::trace::{self, TraceFiles, write_requests};
use modm_fuzz::file_of;

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, content)) = bytes.split_first() else { return };
    let format = Format::ALL.get(usize::from(choice & 15)).copied();
    let bit = |place: u8| choice >> place & 1 == 1;
    let options = Options {
        sort: bit(4),
        keep_unfinished: bit(5),
        keep_image_to_image: bit(6),
        ..Options::default()
    };
    let file = file_of(content, if bit(7) { "source.json" } else { "source.txt" });
    let Ok((_, source)) = read(&file, format, &options, &|_| ()) else { return };
    assert!(!source.is_empty());
    for column in [&source.prompts, &source.tenants, &source.request_ids].into_iter().flatten() {
        assert_eq!(column.len(), source.len());
    }
    if let Ok(combined) = combine((&file, &source), None, &Selection::default()) {
        assert!(combined.trace.len() <= source.len() && combined.trace.arrivals().is_sorted());
        let mut written = Vec::new();
        write_requests(&mut written, &combined.trace).expect("memory takes all");
        let requests = file_of(&written, "requests.csv");
        let again = trace::read(&TraceFiles { requests, ..TraceFiles::default() }).expect("our own CSV is good");
        assert_eq!(again.arrivals(), combined.trace.arrivals());
    }
});
