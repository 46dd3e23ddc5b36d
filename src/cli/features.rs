//! Features of this build, and the commands that come with those it lacks. Such commands exist in every build, so that
//! whoever tries one learns how to get it.

use std::sync::LazyLock;

use clap::{Arg, ArgMatches, Command};

/// Features of the program, each with whether this build has it.
const FEATURES: [(&str, bool); 5] = [
    ("cluster", cfg!(feature = "cluster")),
    ("faiss", cfg!(feature = "faiss")),
    ("live", cfg!(feature = "live")),
    ("parquet", cfg!(feature = "parquet")),
    ("serve", cfg!(feature = "serve")),
];

/// Commands that come with a feature: name, feature, purpose.
const COMMANDS: [(&str, &str, &str); 13] = [
    ("setup", "live", "Bring ONNX Runtime, which live runs and the server need"),
    ("doctor", "live", "Say what of live mode works on this machine, and what to do about the rest"),
    ("live", "live", "Replay a trace in real time on ONNX Runtime sessions"),
    ("validate", "live", "Measure how far simulations are from live runs"),
    ("profile", "live", "Measure the service times of models on this machine"),
    ("calibrate", "live", "Find the similarity bounds that keep a share of the large model's quality"),
    ("embed", "live", "Embed the prompts or pictures of a trace"),
    ("parity", "live", "Compare a model's pictures with those of the reference implementation"),
    ("serve", "serve", "Answer requests over HTTP"),
    ("key", "serve", "Make a key for a tenant of a server"),
    ("check", "serve", "Say whether the data folder of a server is whole"),
    ("repair", "serve", "Make the data folder of a server whole"),
    ("worker", "cluster", "Draw for a scheduler on another machine"),
];

/// Error about a command of another build.
#[derive(Debug, thiserror::Error)]
#[error(
    "`modm {command}` is not part of this build: it comes with the feature `{feature}`. Build it from the checkout with \
     `cargo install --path . --profile dist --features {feature}`, or with `--features full` for all that needs no C++ \
     compiler"
)]
pub(super) struct Lacking {
    command: &'static str,
    feature: &'static str,
}

/// Returns the version with the features of this build.
pub(super) fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let named = |wanted: bool| {
            let names: Vec<&str> =
                FEATURES.iter().filter(|(_, built)| *built == wanted).map(|(name, _)| *name).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        format!("{} (features: {}; not built: {})", env!("CARGO_PKG_VERSION"), named(true), named(false))
    });
    &VERSION
}

/// Returns the commands that a build with some of the features lacks.
fn lacking(
    is_built: impl Fn(&str) -> bool,
) -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str)> {
    COMMANDS.iter().filter(move |(_, feature, _)| !is_built(feature))
}

fn is_built(feature: &str) -> bool {
    FEATURES.iter().any(|(name, built)| *name == feature && *built)
}

/// Adds the commands that this build lacks.
pub(super) fn with_lacking(program: Command) -> Command {
    lacking(is_built).fold(program, |program, command| program.subcommand(stand_in(command)))
}

/// Refuses a command that this build lacks.
pub(super) fn refuse_lacking(matches: &ArgMatches) -> Result<(), Lacking> {
    refuse(matches, lacking(is_built))
}

/// Makes the command that stands for one of another build.
fn stand_in((name, feature, purpose): &(&'static str, &'static str, &'static str)) -> Command {
    // Whatever follows is taken, so that a whole command line is answered, not its first flag refused.
    let rest = Arg::new("rest").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true).hide(true);
    Command::new(*name).about(format!("{purpose} (feature `{feature}`, not in this build)")).arg(rest)
}

fn refuse(
    matches: &ArgMatches,
    mut lacking: impl Iterator<Item = &'static (&'static str, &'static str, &'static str)>,
) -> Result<(), Lacking> {
    let asked = matches.subcommand_name();
    let found = lacking.find(|(name, ..)| asked == Some(*name));
    found.map_or(Ok(()), |(command, feature, _)| Err(Lacking { command, feature }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_another_build_names_its_feature_whatever_follows() {
        let is_live = |feature: &str| feature == "live";
        let program =
            lacking(is_live).fold(Command::new("modm"), |program, command| program.subcommand(stand_in(command)));
        let names: Vec<&str> = program.get_subcommands().map(Command::get_name).collect();
        assert_eq!(names, ["serve", "key", "check", "repair", "worker"], "those of live are there");
        let line = ["modm", "serve", "scenario.toml", "--data", "x", "--log-json"];
        let matches = program.try_get_matches_from(line).expect("any arguments are taken");
        let said = refuse(&matches, lacking(is_live)).expect_err("not in this build").to_string();
        assert!(
            said.starts_with("`modm serve` is not part of this build: it comes with the feature `serve`"),
            "{said}"
        );
        assert!(said.contains("--features serve") && said.contains("--features full"), "{said}");
    }

    #[test]
    fn the_version_says_what_is_built() {
        let built = FEATURES.iter().filter(|(_, built)| *built).count();
        let text = version();
        assert!(text.starts_with(env!("CARGO_PKG_VERSION")), "{text}");
        let (with, without) = text.split_once("; not built: ").expect("two lists");
        let count = |names: &str| FEATURES.iter().filter(|(name, _)| names.contains(name)).count();
        assert_eq!((count(with), count(without)), (built, FEATURES.len() - built), "{text}");
    }
}
