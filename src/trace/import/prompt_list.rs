//! Importer for lists with one prompt a line. Blank lines are dropped and counted. The prompts keep the number of their
//! line, counted from 0, by which arrival files may ask for them.

use crate::input::InputError;
use crate::trace::TextColumn;

use super::guess::not_a_list;
use super::{File, Note, Source};

pub(super) fn read(file: &File<'_>) -> Result<Source, InputError> {
    if let Some(found) = not_a_list(file.bytes) {
        let message =
            format!("is {found}, and no list with one prompt a line: read it as `log`, or leave the format out");
        return Err(InputError::new(file.path, message));
    }
    let mut prompts = TextColumn::default();
    let mut numbers = Vec::new();
    let mut blank = 0;
    // The last line break ends a line and does not begin another.
    let text = file.bytes.strip_suffix(b"\n").unwrap_or(file.bytes);
    for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let prompt = str::from_utf8(line).map_err(|_| {
            let found = String::from_utf8_lossy(line);
            InputError::new(file.path, "expected UTF-8 text").line(number + 1).value("prompt", found)
        })?;
        let prompt = prompt.strip_suffix('\r').unwrap_or(prompt);
        if prompt.trim().is_empty() {
            blank += 1;
            continue;
        }
        prompts.push(prompt);
        numbers.push(u32::try_from(number).map_err(|_| InputError::new(file.path, "expected at most 2^32 lines"))?);
    }
    let mut source = Source { prompts: Some(prompts), ..Source::default() };
    if blank > 0 {
        source.notes.push(Note::counted(blank, "blank lines dropped"));
        source.numbers = Some(numbers);
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{import, notes, real};
    use super::super::{Format, Options};

    #[test]
    fn blank_lines_are_dropped_and_counted() {
        let source = import("p.txt", b"\xEF\xBB\xBFa cat\r\n \r\na dog, \"red\"\n", None, Options::default()).unwrap();
        assert_eq!(source.prompts.as_ref().unwrap().iter().collect::<Vec<_>>(), ["a cat", "a dog, \"red\""]);
        assert_eq!(source.numbers, Some(vec![0, 2]));
        assert_eq!(notes(&source), ["format list, guessed from the file's name and content", "1 blank lines dropped"]);
        let bad = import("p.txt", b"a\n\xff\n", Some(Format::PromptList), Options::default());
        assert_eq!(bad.err().unwrap(), "p.txt:2: prompt = \u{fffd}: expected UTF-8 text");
        let blank = import("p.txt", b"\n \n", Some(Format::PromptList), Options::default());
        assert_eq!(blank.err().unwrap(), "p.txt: expected at least one row that can be used");
    }

    #[test]
    fn reads_the_real_diffusiondb_prompts() {
        let Some(source) = real("prompts/diffusiondb_2m_first_5k.txt", Options::default()) else { return };
        assert_eq!(source.len(), 4999);
        assert_eq!(notes(&source)[1], "1 blank lines dropped");
    }
}
