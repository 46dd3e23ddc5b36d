//! Inverted index of recent texts, which finds the nearest of them by words in common.

use std::collections::{BTreeMap, VecDeque};

/// Recent texts by their words. The similarity is Jaccard's: words in common over words in either text, each counted
/// once. Words are in lower case and are split at white space and commas.
#[derive(Debug)]
pub(super) struct Index {
    window: usize,
    rows: usize,
    words: BTreeMap<String, VecDeque<usize>>,
    /// Number of words of each recent text, by row modulo the window.
    sizes: Vec<u32>,
    /// Number of words that each recent text shares with the query, by row modulo the window.
    common: Vec<u32>,
}

impl Index {
    /// Makes an index that remembers the last `window` texts.
    ///
    /// # Panics
    /// Panics if `window` is 0.
    pub(super) fn new(window: usize) -> Self {
        assert!(window > 0);
        Self { window, rows: 0, words: BTreeMap::new(), sizes: vec![0; window], common: vec![0; window] }
    }

    /// Returns the similarity and the row of the nearest text, the youngest of equals, or `None` if no recent text
    /// shares a word. Then remembers this text as the next row.
    pub(super) fn nearest_then_insert(&mut self, text: &str) -> Option<(f64, usize)> {
        let text = text.to_lowercase();
        let mut words: Vec<&str> = text.split([' ', ',', '\t', '\n', '\r']).filter(|word| !word.is_empty()).collect();
        words.sort_unstable();
        words.dedup();
        let row = self.rows;
        let oldest = row.saturating_sub(self.window);
        self.common.fill(0);
        for &word in &words {
            if let Some(rows) = self.words.get_mut(word) {
                // Rows that left the window are dropped when their word is seen again, which costs no walk over all
                // words.
                while rows.front().is_some_and(|&row| row < oldest) {
                    rows.pop_front();
                }
                for &row in rows.iter() {
                    self.common[row % self.window] += 1;
                }
                rows.push_back(row);
            } else {
                self.words.insert(word.to_owned(), VecDeque::from([row]));
            }
        }
        let similarity = |earlier: usize| {
            let common = self.common[earlier % self.window];
            f64::from(common) / f64::from((words.len() as u32 + self.sizes[earlier % self.window] - common).max(1))
        };
        let each = (oldest..row).map(|earlier| (similarity(earlier), earlier));
        let nearest = each.filter(|&(similarity, _)| similarity > 0.0).max_by(|a, b| a.0.total_cmp(&b.0));
        // This row takes the place of the oldest row of the window, which was still compared above.
        self.sizes[row % self.window] = words.len() as u32;
        self.rows += 1;
        nearest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_youngest_of_the_nearest() {
        let mut index = Index::new(3);
        assert_eq!(index.nearest_then_insert("a red cat"), None);
        assert_eq!(index.nearest_then_insert("A, red, dog"), Some((0.5, 0)));
        assert_eq!(index.nearest_then_insert("a red bird"), Some((0.5, 1)));
        assert_eq!(index.nearest_then_insert("cat red a"), Some((1.0, 0)));
        assert_eq!(index.nearest_then_insert("dog dog red a"), Some((1.0, 1)));
        assert_eq!(index.nearest_then_insert("bird"), Some((1.0 / 3.0, 2)));
        assert_eq!(index.nearest_then_insert("fish"), None);
        assert_eq!(index.nearest_then_insert("a red bird"), Some((0.5, 4)), "the first bird is too old");
    }
}
