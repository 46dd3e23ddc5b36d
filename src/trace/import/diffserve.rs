//! Importer for arrival files of the `DiffServe` artifact: `milliseconds,prompt number`, without a header. The numbers
//! count from 0 and select prompts where a prompt list is given with the file.

use crate::input::InputError;
use crate::time::{MAX_INPUT_S, Time};
use crate::trace::table::{Dialect, Table};

use super::{File, Source};

pub(super) fn read(file: &File<'_>) -> Result<Source, InputError> {
    let mut table = Table::open(file.path, file.bytes, Dialect::CSV_WITHOUT_HEADER, file.progress)?;
    let mut arrivals = Vec::new();
    let mut numbers = Vec::new();
    while let Some(row) = table.next()? {
        if row.len() != 2 {
            return Err(row.error(0, "first field", "expected two fields: milliseconds, prompt number"));
        }
        let range = 0.0..=MAX_INPUT_S * 1e3;
        let milliseconds = row.number(0, "arrival", range, "expected milliseconds from 0 to ten years")?;
        arrivals.push(Time::from_seconds(milliseconds / 1e3).expect("at most ten years"));
        let number = row.text(1, "prompt number")?.trim().parse();
        numbers.push(number.map_err(|_| row.error(1, "prompt number", "expected a whole number from 0"))?);
    }
    Ok(Source { arrivals: Some(arrivals), prompt_numbers: Some(numbers), ..Source::default() })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{import, real};
    use super::super::{Format, Options};

    #[test]
    fn reads_milliseconds_and_numbers() {
        let source = import("a.txt", b"\xEF\xBB\xBF368.0,1236\n685.5,0\n", None, Options::default()).unwrap();
        let nanoseconds: Vec<u64> = source.arrivals.unwrap().iter().map(|time| time.nanoseconds()).collect();
        assert_eq!(nanoseconds, [368_000_000, 685_500_000]);
        assert_eq!(source.prompt_numbers, Some(vec![1236, 0]));
    }

    #[test]
    fn says_what_is_wrong() {
        let error =
            |text: &str| import("a.txt", text.as_bytes(), Some(Format::DiffServe), Options::default()).err().unwrap();
        assert_eq!(error("1,2\n-3,4\n"), "a.txt:2: arrival = \"-3\": expected milliseconds from 0 to ten years");
        assert_eq!(error("1,2\n3,4.5\n"), "a.txt:2: prompt number = \"4.5\": expected a whole number from 0");
        assert_eq!(error("1,2\n3\n"), "a.txt:2: fields = 1: expected 2, as in the first line; is the row cut off?");
        assert!(error("1\n3\n").starts_with("a.txt:1: first field = \"1\": expected two fields"));
    }

    #[test]
    fn reads_the_real_file() {
        let Some(source) = real("arrivals/azure_functions_shape_4to32qps.txt", Options::default()) else { return };
        assert_eq!((source.len(), source.prompt_numbers.unwrap()[0]), (6680, 1236));
    }
}
