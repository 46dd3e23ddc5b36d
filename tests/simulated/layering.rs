//! The layers of the crates, checked on their source: each module uses only what stands below it, every
//! file says what it is, and none grows beyond what can be read in one go. That the core uses nothing outside it is for
//! the compiler to say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::program::root;

/// Modules that any other may use.
const VOCABULARY: &[&str] = &[
    "confidence",
    "denoising",
    "draw",
    "embedding",
    "image",
    "input",
    "locked",
    "model",
    "network",
    "output",
    "published",
    "request",
    "table",
    "time",
    "window",
];

/// Modules that each other top-level module may use beyond the vocabulary and itself. `sim` and `live` never see
/// each other, and `report` never sees the scheduler.
const LAYERS: &[(&str, &[&str])] = &[
    ("trace", &[]),
    ("profile", &[]),
    ("calibration", &[]),
    ("encoder", &[]),
    ("cache", &[]),
    ("retrieval", &["cache"]),
    ("scheduler", &["profile", "cache"]),
    ("journal", &["scheduler"]),
    ("replay", &["profile", "cache", "scheduler", "journal"]),
    ("sim", &["profile", "cache", "scheduler", "journal", "replay"]),
    ("live", &["trace", "profile", "encoder", "cache", "scheduler", "journal", "replay"]),
    ("serve", &["trace", "profile", "calibration", "encoder", "cache", "scheduler", "journal", "replay", "live"]),
    (
        "scenario",
        &[
            "trace",
            "profile",
            "encoder",
            "cache",
            "retrieval",
            "scheduler",
            "journal",
            "replay",
            "sim",
            "live",
            "serve",
        ],
    ),
    ("metrics", &["profile", "cache", "scheduler", "journal"]),
    (
        "simulation",
        &["trace", "profile", "cache", "retrieval", "scheduler", "journal", "replay", "sim", "scenario", "metrics"],
    ),
    ("run_folder", &["trace", "journal", "replay", "scenario", "metrics", "simulation"]),
    (
        "experiments",
        &[
            "trace",
            "profile",
            "calibration",
            "encoder",
            "cache",
            "scheduler",
            "journal",
            "replay",
            "sim",
            "live",
            "serve",
            "scenario",
            "metrics",
            "simulation",
            "run_folder",
        ],
    ),
    ("report", &["trace", "profile", "calibration", "scenario", "metrics", "experiments"]),
    (
        "cli",
        &[
            "trace",
            "profile",
            "calibration",
            "encoder",
            "cache",
            "retrieval",
            "scheduler",
            "journal",
            "replay",
            "sim",
            "live",
            "serve",
            "scenario",
            "metrics",
            "simulation",
            "run_folder",
            "experiments",
            "report",
        ],
    ),
];

const LONGEST_FILE: usize = 500;
const LONGEST_HEADER: usize = 8;

/// Adds the Rust files in a folder and below it.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder of sources").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Folders of sources: the program with its library, and the core.
fn roots() -> [PathBuf; 2] {
    ["src", "crates/core/src"].map(|folder| root().join(folder))
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for root in roots() {
        let before = found.len();
        sources(&root, &mut found);
        assert!(found.len() > before + 10, "the sources are there");
    }
    found
}

/// The top-level module of a file: `crates/core/src/cache/index/exact.rs` is of `cache`. `None` for lib.rs and main.rs.
fn module(path: &Path) -> Option<String> {
    let below = roots().iter().find_map(|root| path.strip_prefix(root).ok().map(Path::to_owned)).expect("below a root");
    let first = below.components().next().expect("a name");
    let name = first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
    (name != "lib" && name != "main").then_some(name)
}

fn is_identifier(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The source without comments: documentation may link wherever it likes.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// Top-level modules named by `crate::` paths, also those in `use crate::{a, b::c}`.
fn uses(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let longer = code[..at].chars().next_back().is_some_and(is_identifier);
        if longer || code[..at].ends_with('$') {
            continue; // another word, or a macro's own path
        }
        let path = &code[at + "crate::".len()..];
        match path.strip_prefix('{') {
            Some(group) => names.extend(first_names(group)),
            None => names.extend(first_name(path)),
        }
    }
    names
}

fn first_name(path: &str) -> Option<String> {
    let name: String = path.trim_start().chars().take_while(|&letter| is_identifier(letter)).collect();
    (!name.is_empty()).then_some(name)
}

/// The first names of a group's members, up to its closing brace.
fn first_names(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.extend(first_name(&group[start..at]));
                start = at + 1;
                if letter == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

#[test]
fn every_module_uses_only_what_stands_below_it() {
    let layers: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut broken = Vec::new();
    for path in all_sources() {
        let Some(module) = module(&path) else { continue };
        let below = if VOCABULARY.contains(&module.as_str()) {
            Some(&[] as &[&str])
        } else {
            layers.get(module.as_str()).copied()
        };
        let Some(below) = below else {
            broken.push(format!("{}: `{module}` has no layer; give it one in tests/layering.rs", path.display()));
            continue;
        };
        let text = fs::read_to_string(&path).expect("a source file");
        for used in uses(&code(&text)) {
            // Macros and items of lib.rs are no modules.
            let known = VOCABULARY.contains(&used.as_str()) || layers.contains_key(used.as_str());
            let allowed = used == module || VOCABULARY.contains(&used.as_str()) || below.contains(&used.as_str());
            if known && !allowed {
                broken.push(format!("{}: `{module}` must not use `{used}`", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "layers are broken:\n{}", broken.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_can_be_read_in_one_go() {
    let mut bad = Vec::new();
    for path in all_sources() {
        let text = fs::read_to_string(&path).expect("a source file");
        let header = text.lines().take_while(|line| line.starts_with("//!")).count();
        if header == 0 || header > LONGEST_HEADER {
            bad.push(format!("{}: begins with {header} lines of `//!`, not 1 to {LONGEST_HEADER}", path.display()));
        }
        let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
        if lines > LONGEST_FILE {
            bad.push(format!("{}: {lines} lines without tests, more than {LONGEST_FILE}", path.display()));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// Returns every Rust source of the repository, tests, examples and benchmarks included.
pub(super) fn every_source() -> Vec<PathBuf> {
    let mut found = vec![root().join("build.rs")];
    for folder in ["benches", "crates", "examples", "fuzz", "src", "tests"] {
        sources(&root().join(folder), &mut found);
    }
    // The output of builds is not ours.
    found.retain(|path| path.strip_prefix(root()).is_ok_and(|path| path.iter().all(|name| name != "target")));
    assert!(found.len() > 400, "the sources are there");
    found
}

/// Words that a doc comment does not begin with: it begins with a verb ("Returns ...") or with the noun itself ("Number
/// of ...").
const NO_FIRST_WORDS: &[&str] = &[
    "what", "whose", "of", "so", "by", "which", "whether", "who", "whom", "when", "where", "how", "why", "it", "its",
    "they", "likewise", "nothing",
];

#[test]
fn doc_comments_begin_with_a_verb_or_a_noun() {
    let mut bad = Vec::new();
    // Those of the command line are help, which people read as sentences.
    let is_help = |path: &Path| path.starts_with(root().join("src/cli"));
    for path in every_source().into_iter().filter(|path| !is_help(path)) {
        let text = fs::read_to_string(&path).expect("a source file");
        let mut before = "";
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            let opens = |mark: &str| line.starts_with(mark) && line[3..].starts_with(' ') && !before.starts_with(mark);
            if opens("///") || opens("//!") {
                let first: String = line[4..].chars().take_while(|&letter| is_identifier(letter)).collect();
                if NO_FIRST_WORDS.contains(&first.to_lowercase().as_str()) {
                    bad.push(format!("{}:{number}: {line}", path.display()));
                }
            }
            before = line;
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn paths_are_found_as_written() {
    let found = |code: &str| uses(code).into_iter().collect::<Vec<_>>();
    assert_eq!(found("use crate::time::Time;"), ["time"]);
    assert_eq!(
        found("use crate::{cache::{Index, sim}, journal, time::{Time, Duration}};"),
        ["cache", "journal", "time"]
    );
    assert_eq!(found("let x: Vec<crate::model::ModelId> = my_crate::sim();"), ["model"]);
    assert_eq!(found(&code("/// See [`crate::scheduler`].\nfn f() {} // crate::live")), Vec::<String>::new());
    assert_eq!(found("use crate::{\n    cache,\n    sim::heap::Heap,\n};"), ["cache", "sim"]);
}
