//! Description of a sweep in its folder, so that another sweep does not mix with it.

use std::path::Path;

use serde_json::json;

use super::Vary;
use crate::experiments::ExperimentError;
use crate::input::InputError;
use crate::output::write_atomic;
use crate::scenario::Source;

/// Name of the file that describes the sweep in a folder.
const DESCRIPTION: &str = "sweep.json";

/// Describes the sweep in the folder `out`. `sets` are the settings of the command line, as they were written. Refuses
/// a folder that holds another sweep, unless `force` is true.
///
/// # Errors
/// Returns an error if the folder holds another sweep, or if the description cannot be written.
pub fn prepare_output(
    out: &Path,
    source: &Source,
    sets: &[String],
    varied: &[Vary],
    force: bool,
) -> Result<(), ExperimentError> {
    let description = json!({
        "scenario": source.text(),
        "sets": sets,
        "vary": varied.iter().map(|vary| json!({ "key": vary.key, "values": vary.values })).collect::<Vec<_>>(),
    });
    let file = out.join(DESCRIPTION);
    let text = format!("{description:#}\n");
    let there = std::fs::read_to_string(&file).ok();
    if there.as_ref() == Some(&text) {
        return Ok(());
    }
    if there.is_some() && !force {
        let message =
            "holds another sweep, of other keys, values or scenario: choose another folder, or use it with --force";
        return Err(InputError::new(out, message).key("--out").into());
    }
    let written = write_atomic(&file, |to| std::io::Write::write_all(to, text.as_bytes()));
    // Another shard may have written the file first.
    let is_there = std::fs::read_to_string(&file).ok().as_ref() == Some(&text);
    if is_there { Ok(()) } else { Ok(written?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_sweep_is_refused_unless_it_may_be_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = Source::new(Path::new("a.toml"), "name = \"a\"\n".to_owned()).expect("TOML");
        let prepare = |vary: &str, force: bool| {
            let varied = [Vary::parse(vary).expect("a key with values")];
            prepare_output(folder.path(), &source, &["seed=1".to_owned()], &varied, force)
        };
        prepare("cache.capacity=1,2", false).expect("an empty folder");
        prepare("cache.capacity=1,2", false).expect("the same sweep");
        let refused = prepare("cache.capacity=1,3", false).expect_err("another sweep");
        assert!(refused.is_of_input() && refused.to_string().contains("--out"), "{refused}");
        prepare("cache.capacity=1,3", true).expect("with --force");
        prepare("cache.capacity=1,2", false).expect_err("the sweep that was replaced");
    }
}
