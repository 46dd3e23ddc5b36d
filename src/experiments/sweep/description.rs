//! Description of a sweep in its folder, so that another sweep, or the same sweep by another build, does not mix with
//! it.

use std::path::Path;

use serde_json::{Value, json};

use super::{Parts, Shard, Vary};
use crate::experiments::ExperimentError;
use crate::input::InputError;
use crate::output::write_shared;
use crate::run_folder::Build;
use crate::scenario::Source;

/// Name of the file that describes the sweep in a folder.
const DESCRIPTION: &str = "sweep.json";

/// Scenario, settings of the command line and varied keys of a sweep.
#[derive(Clone, Debug)]
pub struct Description(Value);

impl Description {
    /// Describes a sweep. `sets` are the settings of the command line, as they were written.
    #[must_use]
    pub fn new(source: &Source, sets: &[String], varied: &[Vary]) -> Self {
        let vary: Vec<Value> = varied.iter().map(|vary| json!({ "key": vary.key, "values": vary.values })).collect();
        Self(json!({ "scenario": source.text(), "sets": sets, "vary": vary }))
    }

    /// Refuses a folder whose sweep would be mixed by a command that runs `parts`: the sweep, or one of its shards.
    ///
    /// # Errors
    /// Returns an error if the folder holds another sweep, or parts of another build, other inputs or other settings.
    pub fn check_run(&self, out: &Path, parts: &Parts<'_>, shard: Option<Shard>) -> Result<(), InputError> {
        let build = self.check_sweep(out)?;
        parts.check_alike()?;
        // A shard knows no parts but its own, so that thousands of shards do not each read the folders of all others.
        match build.filter(|build| shard.is_some() && *build != Build::current()) {
            Some(build) => {
                let message = format!(
                    "holds a sweep that was begun by {build}, and this is {}: run each shard with one build, choose \
                     another folder, or begin again with --force",
                    Build::current()
                );
                Err(InputError::new(out, message).key("--out"))
            }
            None => Ok(()),
        }
    }

    /// Refuses a folder whose parts are not one whole sweep. `parts` are those of all combinations.
    ///
    /// # Errors
    /// Returns an error if the folder holds another sweep, or if a part is missing, unfinished, or of another build,
    /// other inputs or other settings.
    pub fn check_merge(&self, out: &Path, parts: &Parts<'_>) -> Result<(), InputError> {
        self.check_sweep(out)?;
        parts.check_whole()
    }

    /// Writes the description to the folder `out`, in place of an earlier one.
    ///
    /// # Errors
    /// Returns an error if another sweep was begun in the folder at the same time, or if the file cannot be written.
    pub fn write(&self, out: &Path) -> Result<(), ExperimentError> {
        let file = out.join(DESCRIPTION);
        let build = Build::current();
        let mut description = self.0.clone();
        description["modm"] = json!(build.version);
        description["commit"] = json!(build.commit);
        let text = format!("{description:#}\n");
        if std::fs::read_to_string(&file).is_ok_and(|there| there == text) {
            return Ok(());
        }
        write_shared(&file, |to| std::io::Write::write_all(to, text.as_bytes()))?;
        // Shards that begin at the same time find no description and all write one.
        Ok(self.check_sweep(out).map(drop)?)
    }

    /// Refuses a folder that holds another sweep. Returns the build that the sweep was begun by.
    fn check_sweep(&self, out: &Path) -> Result<Option<Build>, InputError> {
        let Ok(text) = std::fs::read_to_string(out.join(DESCRIPTION)) else { return Ok(None) };
        let there: Value = serde_json::from_str(&text).unwrap_or_default();
        let same = ["scenario", "sets", "vary"].iter().all(|key| there[key] == self.0[key]);
        let message =
            "holds another sweep, of other keys, values or scenario: choose another folder, or use it with --force";
        if same { Ok(Some(Build::from_json(&there))) } else { Err(InputError::new(out, message).key("--out")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(vary: &str) -> Description {
        let source = Source::new(Path::new("a.toml"), "name = \"a\"\n".to_owned()).expect("TOML");
        Description::new(&source, &["seed=1".to_owned()], &[Vary::parse(vary).expect("a key with values")])
    }

    #[test]
    fn another_sweep_is_refused_until_it_is_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path();
        let (one, other) = (description("cache.capacity=1,2"), description("cache.capacity=1,3"));
        one.check_sweep(out).expect("an empty folder");
        one.write(out).expect("an empty folder");
        assert_eq!(one.check_sweep(out).expect("the same sweep"), Some(Build::current()));
        one.write(out).expect("the same sweep");
        let refused = other.check_sweep(out).expect_err("another sweep").to_string();
        assert!(refused.contains("--out"), "{refused}");
        other.write(out).expect("with --force");
        one.check_sweep(out).expect_err("the sweep that was replaced");
    }

    #[test]
    fn shards_may_describe_their_sweep_at_the_same_time() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let one = description("cache.capacity=1,2");
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    one.check_sweep(folder.path()).expect("no sweep yet, or this one");
                    one.write(folder.path()).expect("no sweep yet, or this one");
                });
            }
        });
        let names = std::fs::read_dir(folder.path()).expect("a folder");
        assert_eq!(names.count(), 1, "nothing but the description stays");
    }

    #[test]
    fn a_shard_goes_on_with_the_build_that_began() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path();
        let one = description("cache.capacity=1,2");
        one.write(out).expect("an empty folder");
        let text = std::fs::read_to_string(out.join(DESCRIPTION)).expect("a description");
        let mut there: Value = serde_json::from_str(&text).expect("JSON");
        there["commit"] = json!("before");
        std::fs::write(out.join(DESCRIPTION), there.to_string()).expect("a description");
        let none = Parts::read(out, &[]).expect("no parts");
        let shard = Some(Shard { number: 1, of: 2 });
        let refused = one.check_run(out, &none, shard).expect_err("another build").to_string();
        assert!(refused.contains("(commit before), and this is modm "), "{refused}");
        one.check_run(out, &none, None).expect("a whole sweep knows all of its parts, and there are none");
    }
}
