//! Sources of single rows of a profile, where one source for the whole profile says too little: published, measured, or
//! assumed from another row.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{ProfileFile, Service};

/// Kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// Time that somebody published, with its settings.
    Published,
    /// Time that was measured here.
    Measured,
    /// Time that was made of another one by a rule.
    Assumed,
}

impl SourceKind {
    /// Kinds of sources, surest first.
    pub const ALL: [Self; 3] = [Self::Measured, Self::Published, Self::Assumed];

    /// Returns the word with which a source of this kind begins.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Measured => "measured",
            Self::Assumed => "assumed",
        }
    }

    /// Returns the kind of a source, by its first word; `None` if the word is another.
    #[must_use]
    pub fn of(source: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| {
            let rest = source.strip_prefix(kind.word());
            rest.is_some_and(|rest| !rest.starts_with(|letter: char| letter.is_alphanumeric()))
        })
    }
}

impl Service {
    /// Returns the kind of the row's own source; `None` if the row has none.
    #[must_use]
    pub fn source_kind(&self) -> Option<SourceKind> {
        SourceKind::of(self.source.as_deref()?)
    }
}

impl ProfileFile {
    /// Returns the source of some of its rows: that of the profile, then that of each row that has one.
    pub(super) fn source_of(&self, rows: &[Service]) -> String {
        let own = rows.iter().filter_map(|row| {
            let source = row.source.as_ref()?;
            Some(format!("{} with {}: {source}", row.gpu, row.model))
        });
        core::iter::once(self.source.clone()).chain(own).collect::<Vec<String>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_of_the_kind_that_it_begins_with() {
        assert_eq!(SourceKind::of("published: 2 s, https://example.org"), Some(SourceKind::Published));
        assert_eq!(SourceKind::of("assumed, from a b by 2"), Some(SourceKind::Assumed));
        assert_eq!(SourceKind::of("measured"), Some(SourceKind::Measured));
        assert_eq!((SourceKind::of("assumedly"), SourceKind::of("a guess"), SourceKind::of("")), (None, None, None));
    }
}
