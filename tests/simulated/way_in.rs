//! The way in: scenarios checked, shown and explained without a run, and the policies to choose from.

use std::fs;

use crate::program::{Answer, Folder, modm, root};

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
        let mut plain = text.lines().map(|line| line.trim_start_matches("# "));
        let line = plain.rfind(|line| line.starts_with(&format!("{key} = ")));
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

/// Returns the lines of a document's blocks of code of a kind.
fn blocks(document: &str, kind: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in document.lines() {
        match line.strip_prefix("```") {
            Some(opened) => inside = !inside && opened == kind,
            None if inside => found.push(line.to_owned()),
            None => {}
        }
    }
    found
}

#[test]
fn the_first_hour_in_the_documents_is_what_happens() {
    let document = fs::read_to_string(root().join("docs/first-hour.md")).unwrap();
    let commands: Vec<String> = blocks(&document, "sh").into_iter().filter(|line| line.starts_with("modm ")).collect();
    let walk: Vec<&str> =
        commands.iter().take_while(|line| !line.starts_with("modm compare")).map(String::as_str).collect();
    assert_eq!(walk.len(), 4, "from a log to an answer in four commands: {walk:?}");

    let folder = Folder::new(&[]);
    fs::create_dir_all(folder.path("traces/example")).unwrap();
    fs::copy(root().join("traces/example/log.jsonl.gz"), folder.path("traces/example/log.jsonl.gz")).unwrap();
    let run = |line: &str| {
        let words: Vec<&str> = line.split("  #").next().unwrap_or_default().split_whitespace().skip(1).collect();
        folder.run(&words).succeeded().out
    };
    let (opened, asked) = walk.split_last().expect("four commands");
    let printed: String = asked.iter().map(|line| run(line)).collect();
    for line in blocks(&document, "text") {
        assert!(printed.lines().any(|real| real == line), "the document shows {line:?}; printed was\n{printed}");
    }
    let page = opened.split_whitespace().last().map(|place| folder.path(&format!("{place}/report.html")));
    assert!(page.is_some_and(|page| page.is_file()), "{opened} has a page to open");
    // What it goes on with is taken by the program too; the runs themselves are others' tests.
    assert!(run("modm scenario show mine/scenario.toml").contains("warm_requests = 1572"));
    assert!(run("modm scenario check mine/scenario.toml").contains("modm-paper"));
}

const LOG: &str = "\
ts,text,user_id
2026-03-02T08:00:00Z,a red fox in the snow,ann
2026-03-02T08:00:30Z,a red fox in deep snow,ben
2026-03-02T08:02:00Z,an old harbour at dusk,ann
";

#[test]
fn init_makes_a_scenario_that_runs_of_what_there_is() {
    let folder = Folder::new(&[("log.csv", LOG), ("times.csv", "timestamp\n1\n2\n5\n9\n")]);
    let init = |line: &str| folder.run(&line.split_whitespace().collect::<Vec<_>>());
    let out = init("init mine --log log.csv --gpus H100:2,l40s:1 --large FLUX.1-dev --small schnell --slo-s 20")
        .succeeded()
        .out;
    assert!(out.contains("prompt from `text`") && out.contains("3 requests over 2 minutes: 1.0 a minute"), "{out}");
    assert!(
        out.contains("too few requests (3) to say what a cache saves") && out.contains("assumed service times"),
        "{out}"
    );
    let text = folder.read("mine/scenario.toml");
    let lines = [
        "{ type = \"h100\", count = 2, usd_per_hour = 3.348 },",
        "large = \"flux-dev\"",
        "steps = { \"flux-dev\" = 50, \"flux-schnell\" = 4 }",
        "schedule = {",
    ];
    for line in lines {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("warm_requests"), "three requests warm nothing: {text}");
    init("compare mine/scenario.toml --no-range --quiet --out results").succeeded();

    let (code, _, said) = init("init mine --log log.csv --gpus h100:2").parts();
    assert!(code == 2 && said.contains("holds an earlier run (scenario.toml)"), "{said}");
    init("init mine --log log.csv --gpus h100:2 --force").succeeded();
    let out = init("init sana --log log.csv --gpus h100:2 --large sana --small flux-schnell").succeeded().out;
    assert!(out.contains("sana-1.6b"), "{out}");
    assert!(folder.read("sana/scenario.toml").contains("in proportion for 20 (assumed)"));
    init("scenario check sana/scenario.toml").succeeded();

    let (code, _, said) = init("simulate sana/scenario.toml --out sana --force --quiet").parts();
    assert!(code == 2 && said.contains("holds the scenario itself"), "{said}");
    let (code, _, said) = init("trace import mine/trace/requests.csv --out mine/trace --force").parts();
    assert!(code == 2 && said.contains("is what is read"), "{said}");

    let out = init("init arrivals --log times.csv --gpus h100:1").succeeded().out;
    assert!(out.contains("only `vanilla` can be simulated"), "{out}");
    init("compare arrivals/scenario.toml --no-range --quiet --out vanilla").succeeded();
    init("init none --gpus a40:4 --rate-per-min 3").succeeded();
    init("scenario check none/scenario.toml").succeeded();
}

#[test]
fn init_refuses_what_it_cannot_use_and_writes_nothing() {
    let folder = Folder::new(&[("log.csv", LOG)]);
    let refused = |line: &str, with: &[&str]| {
        let (code, _, said) = folder.run(&line.split_whitespace().collect::<Vec<_>>()).parts();
        assert!(code == 2 && with.iter().all(|part| said.contains(part)), "{line}: {code} {said}");
        assert!(!folder.path("mine").exists(), "{line} wrote something");
    };
    refused("init --log log.csv", &["--gpus", "h100:8", "rtx4090"]);
    refused("init --log log.csv --gpus b200:8", &["--gpus", "b200", "modm profiles --starter b200"]);
    refused("init --log log.csv --gpus h100:8 --large dall-e", &["--large", "dall-e", "sd3.5-large"]);
    refused("init --log log.csv --gpus h100:8 --small sdxl,SDXL", &["--small", "sdxl twice"]);
    refused("init --log log.csv --gpus h100:0", &["--gpus", "1 to 65535"]);
    refused("init --log log.csv --gpus h100:2,H100:3", &["--gpus", "h100 twice"]);
    refused("init --log log.csv --gpus h100,a40", &["--gpus", "a number for each"]);
    refused("init --log gone.csv --gpus h100", &["gone.csv"]);
    refused("init --log log.csv --column prompt=words --gpus h100", &["words", "text"]);
}

#[test]
fn init_counts_sizes_steps_and_images_and_prints_what_a_shell_takes() {
    let rows: Vec<String> = (0..60).map(|row| format!("{},a cat {row},2048x2048,25,2", 10 * row)).collect();
    let folder = Folder::new(&[("log.csv", &format!("timestamp,prompt,size,steps,n\n{}\n", rows.join("\n")))]);
    let out = folder.run(&["init", "my dir's", "--log", "log.csv", "--gpus", "h100", "--slo-s", "30"]).succeeded().out;
    // 4 times the pixels, half the steps, 2 images; 6.1 requests a minute of 11.61 s each time 4, at 70 %.
    assert!(out.contains("a request is 4.00 times the work of one image"), "{out}");
    assert!(out.contains("7 x h100"), "{out}");
    assert!(out.contains("  modm plan 'my dir'\\''s/scenario.toml' --out 'my dir'\\''s/plan'"), "{out}");
    let text = folder.read("my dir's/scenario.toml");
    assert!(text.contains("# 30.00 s, in full generations of sd3.5-large on h100 (11.61 s)."), "{text}");
    let planned =
        folder.run(&["plan", "my dir's/scenario.toml", "--no-range", "--seeds", "1", "--out", "p", "--quiet"]);
    assert!(planned.succeeded().out.contains("(30.0 s)"), "the objective is what was asked for");
}
