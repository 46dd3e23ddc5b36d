//! Keys of scenarios, as their types describe them: meaning, type, default, choices. `schema` has them as JSON Schema,
//! `flat` as a list, `table` as the table of `docs/interface.md`. Comments of fields are the texts that users read.

mod accepted;
mod flat;
mod schema;
mod table;

pub use accepted::accepted;
pub use flat::{Choice, Key, keys};
pub use schema::schema;
pub use table::markdown;

/// Returns the key of that name, or an error that lists what comes close.
///
/// # Errors
/// Returns the keys within the name, if it is a section, or the nearest names otherwise; none if nothing is near.
pub fn find(name: &str) -> Result<Key, Vec<Key>> {
    let all = keys();
    if let Some(key) = all.iter().find(|key| key.is_named(name)) {
        return Ok(key.clone());
    }
    let within: Vec<Key> = all.iter().filter(|key| key.is_within(name)).cloned().collect();
    if !within.is_empty() {
        return Err(within);
    }
    // A table by name is one key, whatever its entries are called.
    if let Some(table) = all.iter().rev().find(|key| key.kind.contains("table") && key.holds(name)) {
        return Ok(table.clone());
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    let mut near: Vec<(f64, Key)> = all
        .iter()
        .map(|key| {
            let own = key.name.rsplit('.').next().unwrap_or(&key.name);
            let whole = strsim::normalized_damerau_levenshtein(name, &key.name);
            (strsim::normalized_damerau_levenshtein(last, own).max(whole), key.clone())
        })
        .filter(|(alike, _)| *alike > 0.7)
        .collect();
    near.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    near.truncate(5);
    Err(near.into_iter().map(|(_, key)| key).collect())
}
