//! Importer for Google's Parti prompts: TSV with a header, in which quotes are ordinary characters. Category and
//! challenge are carried along.

use crate::input::InputError;
use crate::trace::TextColumn;
use crate::trace::table::{Dialect, Table};

use super::{File, Source};

pub(super) fn read(file: &File<'_>) -> Result<Source, InputError> {
    let mut table = Table::open(file.path, file.bytes, Dialect::TSV, file.progress)?;
    let [prompt, category, challenge] = table.places(["Prompt", "Category", "Challenge"], "PartiPrompts")?;
    let (mut prompts, mut categories, mut challenges) =
        (TextColumn::default(), TextColumn::default(), TextColumn::default());
    while let Some(row) = table.next()? {
        prompts.push(row.text(prompt, "Prompt")?);
        categories.push(row.text(category, "Category")?);
        challenges.push(row.text(challenge, "Challenge")?);
    }
    let extra = vec![("category".to_owned(), categories), ("challenge".to_owned(), challenges)];
    Ok(Source { prompts: Some(prompts), extra, ..Source::default() })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{import, real};
    use super::super::{Format, Options};

    #[test]
    fn quotes_are_characters() {
        let text = b"Prompt\tCategory\tChallenge\tNote\n\"Hi\" on a \"wall\tArts\tBasic\t\n";
        let source = import("p.tsv", text, None, Options::default()).unwrap();
        assert_eq!(source.prompts.unwrap().get(0), "\"Hi\" on a \"wall");
        assert_eq!(source.extra[0].1.get(0), "Arts");
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |text: &str| {
            import("p.tsv", text.as_bytes(), Some(Format::PartiPrompts), Options::default()).err().unwrap()
        };
        assert_eq!(
            error("Prompt\tCategory\na\tb\n"),
            "p.tsv:1: header = Prompt,Category: expected a column Challenge: PartiPrompts has Prompt, Category, Challenge"
        );
        let short = error("Prompt\tCategory\tChallenge\tNote\na\tb\n");
        assert_eq!(short, "p.tsv:2: fields = 2: expected 4, as in the first line; is the row cut off?");
    }

    #[test]
    fn reads_the_real_file() {
        let Some(source) = real("prompts/PartiPrompts.tsv", Options::default()) else { return };
        assert_eq!(source.len(), 1632);
        assert_eq!(source.prompts.unwrap().get(0), "bond");
    }
}
