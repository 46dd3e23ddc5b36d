//! Importer for arrivals of the Azure LLM inference traces: `TIMESTAMP,ContextTokens,GeneratedTokens`. Only the times
//! are used, because numbers of tokens mean nothing for images.

use crate::input::InputError;
use crate::trace::table::{Dialect, Table};

use super::{File, Note, Source, timestamp};

pub(super) fn read(file: &File<'_>) -> Result<Source, InputError> {
    let mut table = Table::open(file.path, file.bytes, Dialect::CSV, file.progress)?;
    let [place] = table.places(["TIMESTAMP"], "an Azure LLM inference trace")?;
    let mut times = Vec::new();
    while let Some(row) = table.next()? {
        let time = timestamp::parse(row.text(place, "TIMESTAMP")?);
        times.push(time.ok_or_else(|| row.error(place, "TIMESTAMP", timestamp::ACCEPTED))?);
    }
    let arrivals = timestamp::since_earliest(times, file.path)?;
    let notes = vec![Note::new("time zero is the first request")];
    Ok(Source { arrivals: Some(arrivals), notes, ..Source::default() })
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::super::tests::{import, real};

    #[test]
    fn reads_seven_decimals() {
        let text = b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:17:03.9799600,4808,10\r\n2023-11-16 18:17:04.0319600,3180,8";
        let source = import("a.csv", text, None, Options::default()).unwrap();
        let nanoseconds: Vec<u64> = source.arrivals.unwrap().iter().map(|time| time.nanoseconds()).collect();
        assert_eq!(nanoseconds, [0, 52_000_000]);
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |text: &str| import("a.csv", text.as_bytes(), None, Options::default()).err().unwrap();
        assert!(
            error("TIMESTAMP,ContextTokens\n2023-11-16,1\n")
                .starts_with("a.csv:2: TIMESTAMP = \"2023-11-16\": expected a time")
        );
        assert!(error("TIMESTAMP,ContextTokens\n1990-01-01 00:00:00,1\n2020-01-01 00:00:00,1\n").contains("ten years"));
    }

    #[test]
    fn reads_the_real_file() {
        let Some(source) = real("arrivals/azure_llm_code_2023.csv", Options::default()) else { return };
        let arrivals = source.arrivals.unwrap();
        assert_eq!(arrivals.len(), 8819);
        assert_eq!(arrivals.last().unwrap().nanoseconds(), 3_435_948_056_000);
    }
}
