//! Journals: an error, or records that read back as they are written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modm::journal::{Journal, Record, What, Writer, read};
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Ok((header, lines)) = read::<Value>(bytes) else { return };
    let mut writer = Writer::new(Vec::new(), &header).expect("memory takes all");
    for line in &lines {
        let record = match &line.what {
            What::Event(event) => Record::Event(event),
            What::Action(action) => Record::Action(action),
        };
        writer.record(line.time, record);
    }
    let written = writer.finish().expect("memory takes all");
    assert_eq!(read::<Value>(&written[..]).expect("our own journal is good").1, lines);
});
