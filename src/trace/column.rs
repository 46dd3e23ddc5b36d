//! Columns of text, stored compactly: one string with the end of each row, or one number for each row where few values
//! repeat. A column offers only what a trace needs and is no data frame.

use std::collections::BTreeMap;

use crate::request::TenantId;

/// Column with one text for each row, in one string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextColumn {
    text: String,
    ends: Vec<usize>,
}

impl TextColumn {
    /// Appends a row.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the text of a row.
    ///
    /// # Panics
    /// Panics if there is no such row.
    pub fn get(&self, row: usize) -> &str {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.text[start..self.ends[row]]
    }

    /// Returns all rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|row| self.get(row))
    }

    /// Returns the first row whose text an earlier row has too, as (earlier row, row).
    pub(super) fn first_repeat(&self) -> Option<(usize, usize)> {
        // Sorted numbers of rows take 8 bytes a row. A set of the texts would take several times that.
        let mut rows: Vec<usize> = (0..self.len()).collect();
        rows.sort_by_key(|&row| self.get(row)); // a stable sort: equal texts stay in order of rows
        let repeats = rows.windows(2).filter(|pair| self.get(pair[0]) == self.get(pair[1]));
        repeats.map(|pair| (pair[0], pair[1])).min_by_key(|&(_, row)| row)
    }
}

impl<T: AsRef<str>> FromIterator<T> for TextColumn {
    fn from_iter<I: IntoIterator<Item = T>>(rows: I) -> Self {
        let mut column = Self::default();
        rows.into_iter().for_each(|row| column.push(row.as_ref()));
        column
    }
}

/// Column with the tenant of each row. Tenants have numbers in order of first appearance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantColumn {
    names: Vec<String>,
    known: BTreeMap<String, TenantId>,
    rows: Vec<TenantId>,
}

impl TenantColumn {
    /// Appends a row.
    pub fn push(&mut self, name: &str) {
        let tenant = self.known.get(name).copied().unwrap_or_else(|| {
            let tenant = TenantId(self.names.len() as u32); // there are no more tenants than rows, whose number fits
            self.names.push(name.to_owned());
            self.known.insert(name.to_owned(), tenant);
            tenant
        });
        self.rows.push(tenant);
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the tenant of a row.
    ///
    /// # Panics
    /// Panics if there is no such row.
    pub fn get(&self, row: usize) -> TenantId {
        self.rows[row]
    }

    /// Returns these rows in this order. All tenants keep their numbers, also those that have no row any more.
    #[must_use]
    pub fn select(&self, rows: &[u32]) -> Self {
        Self { rows: rows.iter().map(|&row| self.get(row as usize)).collect(), ..self.clone() }
    }

    /// Returns the names of the tenants in order of first appearance. A tenant's number is the index of its name.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl<T: AsRef<str>> FromIterator<T> for TenantColumn {
    fn from_iter<I: IntoIterator<Item = T>>(rows: I) -> Self {
        let mut column = Self::default();
        rows.into_iter().for_each(|row| column.push(row.as_ref()));
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_repeats() {
        let column: TextColumn = ["b", "", "a", "b", "a"].into_iter().collect();
        assert_eq!(column.iter().collect::<Vec<_>>(), ["b", "", "a", "b", "a"]);
        assert_eq!(column.first_repeat(), Some((0, 3)));
        assert_eq!(["a", "b"].into_iter().collect::<TextColumn>().first_repeat(), None);
    }

    #[test]
    fn tenants_are_numbered_as_they_appear() {
        let column: TenantColumn = ["x", "a", "x"].into_iter().collect();
        assert_eq!(column.names(), ["x", "a"]);
        assert_eq!((0..3).map(|row| column.get(row).0).collect::<Vec<_>>(), [0, 1, 0]);
    }
}
