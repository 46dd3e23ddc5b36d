//! Results of several folders together: merged into one, or held against each other.

use std::path::Path;

use super::{WindowS, comparison};
use crate::input::InputError;
use crate::metrics::summary::Definitions;
use crate::report::against::{self, Difference};
use crate::report::{Comparison, Run};

/// Returns the measures of the result in `here` that differ from those of the result in `there` by more than `bound`, a
/// share of the value there.
///
/// # Errors
/// Returns an error if a result cannot be read, or if the two follow different versions of the definitions of measures.
pub fn differences(here: &Path, there: &Path, bound: f64) -> Result<Vec<Difference>, InputError> {
    let (mine, theirs) = (comparison(here, None)?, comparison(there, None)?);
    let mut definitions = None;
    same_definitions(&mut definitions, here, &mine)?;
    same_definitions(&mut definitions, there, &theirs)?;
    Ok(against::differences(&mine, &theirs, bound))
}

/// Checks that a result follows the same version of the definitions of measures as the results before it.
///
/// # Errors
/// Returns an error if the versions differ, because measures with the same name then differ in meaning.
fn same_definitions<'a>(
    before: &mut Option<(&'a Path, Definitions)>,
    folder: &'a Path,
    comparison: &Comparison,
) -> Result<(), InputError> {
    for own in comparison.runs.iter().map(|run| run.summary.definitions) {
        let (first, version) = *before.get_or_insert((folder, own));
        if own != version {
            let message = format!(
                "follows version {own} of the definitions of measures, {} version {version}: steady throughput is not the \
                 same measure in them; run the older one again",
                first.display()
            );
            return Err(InputError::new(folder, message));
        }
    }
    Ok(())
}

/// Merges several results into one, with variants named after their folders.
///
/// # Errors
/// Returns an error if a result cannot be read, if two folders have one name, or if results follow different versions
/// of the definitions of measures.
pub fn merged(folders: &[impl AsRef<Path>], window: Option<WindowS>) -> Result<Comparison, InputError> {
    let mut all = Comparison::default();
    let mut names: Vec<String> = Vec::new();
    let mut definitions: Option<(&Path, Definitions)> = None;
    for folder in folders.iter().map(AsRef::as_ref) {
        let name = folder.file_name().map_or_else(|| "results".to_owned(), |name| name.to_string_lossy().into_owned());
        if names.contains(&name) {
            let message = format!("another folder is called {name:?} too: variants are named after their folders");
            return Err(InputError::new(folder, message));
        }
        let one = comparison(folder, window)?;
        same_definitions(&mut definitions, folder, &one)?;
        let single = one.variants().len() == 1 && one.variants()[0] == one.name;
        let renamed = |variant: &str| if single { name.clone() } else { format!("{name}: {variant}") };
        // Published ratios are over the first variant of their own comparison, so only those of the first folder are
        // kept.
        if all.runs.is_empty() {
            all.published = one.published.iter().map(|(variant, what)| (renamed(variant), *what)).collect();
        }
        all.provenance.merge(&name, one.provenance);
        all.notes.extend(one.notes.iter().map(|note| format!("{name}: {note}")));
        all.stand_ins
            .extend(one.stand_ins.iter().filter(|text| !all.stand_ins.contains(text)).cloned().collect::<Vec<_>>());
        all.versions.extend(one.versions.into_iter().map(|(key, value)| (format!("{name}: {key}"), value)));
        all.scenario_toml.extend(["# ", &name, "\n", &one.scenario_toml, "\n"]);
        all.runs.extend(one.runs.into_iter().map(|run| Run { variant: renamed(&run.variant), ..run }));
        names.push(name);
    }
    all.name = names.join(" and ");
    Ok(all)
}
