//! The way in: scenarios checked, shown and explained without a run, and the policies to choose from.

use crate::program::{Answer, Folder, modm};

const SCENARIO: &str = "\
name = \"mine\"
trace.synthetic.requests = 50
[cache]
capacity = 70
[[variant]]
name = \"vanilla\"
set = { \"system.policy\" = \"vanilla\" }
[[variant]]
name = \"what-if\"
set = { \"allocation.policy\" = \"what_if\" }
";

#[test]
fn check_reads_everything_and_runs_nothing() {
    let folder = Folder::new(&[("mine.toml", SCENARIO)]);
    let text = folder.run(&["scenario", "check", "mine.toml"]).succeeded().out;
    assert!(text.contains("mine.toml: ok"), "{text}");
    assert!(text.contains("vanilla: vanilla with sd3.5-large on 16 GPUs; 50 requests over"), "{text}");
    assert!(text.contains("what-if: modm with sd3.5-large, sdxl on 16 GPUs"), "{text}");

    folder.write("bad.toml", SCENARIO.replace("what_if", "what-if"));
    let (code, _, said) = folder.run(&["scenario", "check", "mine.toml", "bad.toml"]).parts();
    assert_eq!(code, 2, "a variant counts");
    assert!(said.contains("allocation.policy") && said.contains("variant \"what-if\""), "{said}");

    let gone = folder.run(&["scenario", "check", "mine.toml", "--set", "models.profile=gone.toml"]);
    assert_eq!(gone.code, 2, "files that it names count");
}

#[test]
fn show_says_where_each_value_comes_from() {
    let folder = Folder::new(&[("mine.toml", SCENARIO)]);
    let shown = folder.run(&["scenario", "show", "mine.toml", "--variant", "what-if", "--set", "seed=7"]);
    let text = shown.succeeded().out;
    let origin = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{key} = ")));
        line.and_then(|line| line.split_once("  # "))
            .map(|(value, origin)| (value.trim().to_owned(), origin.to_owned()))
    };
    let both = |value: &str, origin: &str| Some((value.to_owned(), origin.to_owned()));
    assert_eq!(origin("cache.capacity"), both("cache.capacity = 70", "line 4"));
    assert_eq!(origin("seed"), both("seed = 7", "--set"));
    assert_eq!(origin("allocation.policy"), both("allocation.policy = \"what_if\"", "variant \"what-if\""));
    assert_eq!(origin("cache.eviction"), both("cache.eviction = \"fifo\"", "default"));
    assert_eq!(origin("queue.order"), both("queue.order = \"slack\"", "follows from other settings"));
    assert_eq!(origin("queue.ease"), both("queue.ease = false", "default"), "results leave such keys out");

    let (code, _, said) = folder.run(&["scenario", "show", "mine.toml", "--variant", "nirvana"]).parts();
    assert_eq!(code, 2);
    assert!(said.contains("expected one of vanilla, what-if"), "{said}");
}

#[test]
fn explain_has_meaning_default_and_limits_of_the_checks() {
    let explained = |key: &str| Answer::to(&mut modm(&["scenario", "explain", key])).succeeded().out;
    let text = explained("retrieval.latency_s");
    assert!(text.contains("default: 0.0") && text.contains("accepts: seconds from 0 to ten years"), "{text}");
    let text = explained("cluster.gpus.3.count");
    assert!(text.starts_with("cluster.gpus.N.count") && text.contains("must be set"), "{text}");
    let text = explained("queue");
    assert!(text.contains("queue.order") && !text.contains("cache."), "a section lists its keys: {text}");
    let text = explained("queue.order");
    assert!(text.contains("misses_first") && text.contains("Not for deadlines"), "{text}");

    let (code, _, said) = Answer::to(&mut modm(&["scenario", "explain", "cache.capacty"])).parts();
    assert_eq!(code, 2);
    assert!(said.contains("near to it: cache.capacity"), "{said}");
}

#[test]
fn policies_are_listed_with_what_they_are_not_for() {
    let listed = Answer::to(&mut modm(&["policies", "--json"])).succeeded().json();
    let lists = listed.as_object().map_or(0, serde_json::Map::len);
    assert_eq!(lists, 8);
    for (key, choices) in listed.as_object().into_iter().flatten() {
        for (value, about) in choices.as_object().into_iter().flatten() {
            let about = about.as_str().unwrap_or_default();
            assert!(about.contains(" Not ") || about.contains("not for"), "{key} = {value}: {about}");
        }
    }
    assert_eq!(listed["system.policy"].as_object().map_or(0, serde_json::Map::len), 5);
}
