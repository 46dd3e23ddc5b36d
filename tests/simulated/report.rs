//! Reports through the program: what they say is as it was (tests/snapshots; `MODM_UPDATE_SNAPSHOTS=1` writes them
//! anew), a report made again is the same, results are merged, and two results are held against each other. What a page
//! does in a browser is tests/browser.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::program::{self, Answer, Folder, Row, root};

const SCENARIO: &str = r#"
name = "small"
[trace.synthetic]
requests = 300
arrivals = { process = "poisson", rate_per_min = 8.0 }
[trace.synthetic.prompts]
topics = 40
[cluster]
gpus = [{ type = "mi210", count = 6, usd_per_hour = 2.0 }]
[metrics]
warmup_s = 120.0
[allocation]
mode = "throughput"
[[variant]]
name = "vanilla"
set = { "system.policy" = "vanilla" }
published = { throughput_per_min = 4.0 }
[[variant]]
name = "modm"
published = { throughput_ratio = 2.5 }
"#;

fn results() -> Folder {
    let folder = Folder::new(&[("scenario.toml", SCENARIO)]);
    folder.works(&["compare", "scenario.toml", "--seeds", "2", "--out", "results", "--quiet"]);
    folder
}

/// The report's own files.
fn report(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let own = ["report.html", "report.md", "comparison.csv"].map(|name| folder.join(name));
    let figures = fs::read_dir(folder.join("figures")).unwrap().map(|entry| entry.unwrap().path());
    own.into_iter().chain(figures).map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_report_made_again_is_the_same_byte_for_byte() {
    let folder = results();
    let place = folder.path("results");
    let before = report(&place);
    assert!(before.keys().any(|name| name.ends_with("workers-modm.csv")) && before.len() > 30, "{:?}", before.keys());
    fs::remove_dir_all(place.join("figures")).unwrap();
    fs::remove_file(place.join("report.html")).unwrap();
    let (code, out, err) = folder.run(&["report", "results"]).parts();
    assert!(code == 0 && out.contains("req/min"), "{err}");
    assert!(report(&place) == before);
}

/// Holds a result's tables and text, and the data of its figures, against a snapshot.
fn assert_as_it_was(result: &Path, snapshot: &str, tables: &[&str]) {
    let kept = root().join("tests/snapshots").join(snapshot);
    let figures = fs::read_dir(result.join("figures")).unwrap().map(|entry| entry.unwrap().path());
    let figures = figures.filter(|path| path.extension().is_some_and(|extension| extension == "csv"));
    let mut files: Vec<_> = tables.iter().map(|name| result.join(name)).chain(figures).collect();
    files.sort();
    let now: BTreeMap<String, String> = files
        .iter()
        .map(|file| (file.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(file).unwrap()))
        .collect();
    if std::env::var_os("MODM_UPDATE_SNAPSHOTS").is_some() {
        let _ = fs::remove_dir_all(&kept);
        fs::create_dir_all(&kept).unwrap();
        for (name, text) in &now {
            fs::write(kept.join(name), text).unwrap();
        }
    }
    let names = fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert_eq!(now.keys().cloned().collect::<Vec<_>>(), names, "{snapshot}: files");
    for (name, text) in &now {
        let before = fs::read_to_string(kept.join(name)).unwrap();
        let differs = text.lines().zip(before.lines()).find(|(now, before)| now != before);
        assert!(*text == before, "{snapshot}/{name}: {differs:?}");
    }
}

#[test]
fn what_reports_say_is_as_it_was() {
    let folder = results();
    assert_as_it_was(&folder.path("results"), "compare", &["comparison.csv", "report.md"]);
    let sweep = [
        "sweep",
        "scenario.toml",
        "--vary",
        "variant=vanilla,modm",
        "--vary",
        "trace.synthetic.arrivals.rate_per_min=2,8",
        "--out",
        "sweep",
        "--quiet",
    ];
    let (code, out, err) = folder.run(&sweep).parts();
    assert_eq!(code, 0, "{err}");
    assert!(out.lines().any(|line| line.trim_start().starts_with("modm ") && line.contains('%')), "{out}");
    assert_as_it_was(&folder.path("sweep"), "sweep", &["sweep.csv", "report.md"]);
    let plan = [
        "plan",
        "scenario.toml",
        "--attainment",
        "0.9",
        "--seeds",
        "2",
        "--max-gpus",
        "12",
        "--alternatives",
        "0",
        "--out",
        "plan",
        "--quiet",
    ];
    let (code, out, err) = folder.run(&plan).parts();
    assert!(code == 0 && out.contains("hold 90 % within 2x"), "{out}{err}");
    assert_as_it_was(&folder.path("plan"), "plan", &["plan.csv"]);
    let page = folder.read("plan/report.html");
    assert!(page.contains("hold 90 % within 2x") && page.contains("name = &quot;small&quot;"));
}

#[test]
fn the_quickstart_gives_what_is_kept_of_it() {
    let folder = Folder::new(&[]);
    let scenario = root().join("scenarios/quickstart.toml").display().to_string();
    let (code, _, err) = folder.run(&["compare", &scenario, "--capacity", "--out", "results", "--quiet"]).parts();
    assert_eq!(code, 0, "{err}");
    for file in ["comparison.csv", "capacity.csv", "profile_range.csv", "report.md"] {
        let now = folder.read(&format!("results/{file}"));
        let kept = fs::read_to_string(root().join("results/reference/quickstart").join(file)).unwrap();
        assert!(now == kept, "{file} is not that of results/reference: scripts/quickstart writes it anew");
    }
}

#[test]
fn workers_are_shown_in_the_window_that_is_asked_for() {
    let folder = results();
    let rows = |name: &str| -> Vec<csv::StringRecord> {
        let mut table = csv::Reader::from_path(folder.path("results/figures").join(name)).unwrap();
        table.records().map(Result::unwrap).collect()
    };
    let number = |row: &csv::StringRecord, at: usize| row[at].parse::<f64>().unwrap();
    assert!(rows("gantt-modm.csv").iter().any(|row| &row[1] == "loading"), "shown from the first load on");
    let (code, _, err) = folder.run(&["report", "results", "--window", "600..700.5"]).parts();
    assert_eq!(code, 0, "{err}");
    for variant in ["vanilla", "modm"] {
        let drawn = rows(&format!("gantt-{variant}.csv"));
        assert!(drawn.iter().all(|row| number(row, 2) < 700.5 && number(row, 3) > 600.0));
        // Every job of the first seed that touches the window is there, and no other.
        let requests = folder.rows(&format!("results/{variant}/seed-42/requests.csv"));
        let time = |row: &Row, column: &str| row[column].parse::<f64>().unwrap();
        let jobs = requests.iter().filter(|row| !row["start_s"].is_empty());
        let jobs = jobs.filter(|row| time(row, "start_s") < 700.5 && time(row, "finish_s") > 600.0).count();
        assert_eq!(drawn.iter().filter(|row| row[4].contains(" on ")).count(), jobs, "{variant}");
    }
    for bad in ["600", "700..600", "a..b", "-1..5"] {
        assert_eq!(folder.run(&["report", "results", &format!("--window={bad}")]).code, 2, "{bad}");
    }
}

#[test]
fn what_was_published_is_shown_beside() {
    let folder = results();
    let mut table = csv::Reader::from_path(folder.path("results/figures/throughput.csv")).unwrap();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    assert_eq!(table.headers().unwrap().iter().next_back(), Some("published"));
    let number = |row: usize, column: usize| rows[row][column].parse::<f64>().unwrap();
    assert!((number(0, 4) - 4.0).abs() < 1e-9);
    assert!((number(1, 4) - 2.5 * number(0, 1)).abs() < 1e-9, "a ratio, of what the first variant has here");
    let page = folder.read("results/report.html");
    assert!(page.contains("published 2.5x"));
}

#[test]
fn ranges_follow_from_how_well_the_profile_is_known() {
    let folder = results();
    let at = |ends: &serde_json::Value, end: &str, key: &str| -> f64 {
        ends.as_array().unwrap().iter().find(|at| at["end"] == end).unwrap()[key].as_f64().unwrap()
    };
    let summary = folder.json("results/vanilla/seed-42/summary.json");
    let (range, mean) = (&summary["profile_range"], summary["latency_s"]["mean"].as_f64().unwrap());
    assert!(range["spread"]["share"] == 0.05 && range["spread"]["kind"] == "assumed", "{range}");
    let means = ["all_shorter", "all_longer"].map(|end| at(&range["ends"], end, "latency_mean_s"));
    assert!(means[0] < mean && mean < means[1], "{means:?} around {mean}");
    assert!(
        folder.json("results/vanilla/seed-43/summary.json").get("profile_range").is_none(),
        "of the first seed alone"
    );
    let rows = folder.read("results/profile_range.csv");
    assert_eq!(rows.lines().count(), 11, "{rows}");
    // The end is a run with those service times by policies that go by the profile: vanilla has none to go wrong.
    let slower = "source = \"slower\"\n[[service]]\ngpu = \"mi210\"\nmodel = \"sd3.5-large\"\nstep_s = 1.9215\nload_s = 22.7\nspread = 0.0\n";
    let slower =
        format!("{slower}[[service]]\ngpu = \"mi210\"\nmodel = \"sdxl\"\nstep_s = 1.0\nload_s = 1\nspread = 0.0\n");
    folder.write("slower.toml", slower);
    let run = |more: &[&str], out: &str| {
        let (code, said, err) = folder
            .run(
                &[&["simulate", "scenario.toml", "--quiet", "--set", "system.policy=vanilla", "--out", out], more]
                    .concat(),
            )
            .parts();
        assert_eq!(code, 0, "{err}");
        (said, folder.json(&format!("{out}/summary.json")))
    };
    let (said, slow) = run(&["--set", "models.profile=slower.toml"], "slower");
    assert!((slow["latency_s"]["mean"].as_f64().unwrap() - means[1]).abs() < 1e-6, "{slow}");
    assert!(slow.get("profile_range").is_none() && !said.contains("What the profile leaves open"), "nothing is open");
    let (said, usual) = run(&[], "usual");
    assert!(said.contains("What the profile leaves open") && said.contains("± 5.0 % (assumed)"), "{said}");
    let (said, without) = run(&["--no-range"], "without");
    assert!(without.get("profile_range").is_none() && !said.contains("What the profile leaves open"), "{said}");
    assert_eq!(usual["latency_s"], without["latency_s"]);

    let (code, said, err) = folder.run(&["capacity", "scenario.toml", "--out", "capacity", "--quiet"]).parts();
    assert_eq!(code, 0, "{err}");
    assert!(said.contains("vanilla, service times ± 5.0 % (assumed): "), "{said}{err}");
    let found = folder.json("capacity/capacity.json");
    let rate = found["rows"][0]["rate_per_min"].as_f64().unwrap();
    let ends = &found["ranges"][0]["ends"];
    assert_eq!(found["ranges"].as_array().unwrap().len(), 2);
    assert!(at(ends, "all_longer", "rate_per_min") < rate && rate < at(ends, "all_shorter", "rate_per_min"), "{ends}");
    let plan = [
        "plan",
        "scenario.toml",
        "--attainment",
        "0.9",
        "--seeds",
        "1",
        "--max-gpus",
        "24",
        "--out",
        "plan",
        "--quiet",
    ];
    assert_eq!(folder.run(&plan).code, 0);
    let found = folder.json("plan/plan.json");
    let gpus = |choice: &serde_json::Value| choice["gpus"][0].as_u64().unwrap();
    let at_ends = [0, 1].map(|at| gpus(&found["at_ends"][at]["choice"]));
    assert!(at_ends[0] >= gpus(&found["choice"]) && gpus(&found["choice"]) >= at_ends[1], "{at_ends:?}");
}

#[test]
fn results_are_merged() {
    let folder = results();
    let set = ["simulate", "scenario.toml", "--set", "allocation.policy=what_if", "--out", "ours", "--quiet"];
    assert_eq!(folder.run(&set).code, 0);
    let (code, out, err) = folder.run(&["report", "results", "ours", "--out", "both"]).parts();
    assert_eq!(code, 0, "{err}");
    for variant in ["results: vanilla", "results: modm", "ours"] {
        assert!(out.contains(variant), "{variant} in {out}");
    }
    let table = folder.read("both/comparison.csv");
    assert_eq!(table.lines().count(), 6, "four runs, one run, a header");
    assert_eq!(folder.run(&["report", "results", "ours"]).code, 2, "where to?");
    assert_eq!(folder.run(&["report", "results", "./results/", "--out", "twice"]).code, 2, "names clash");
}

#[test]
fn a_difference_beyond_the_bound_ends_with_3() {
    let folder = results();
    let again = ["compare", "scenario.toml", "--seeds", "2", "--out", "again", "--quiet"];
    assert_eq!(folder.run(&again).code, 0);
    let (code, out, _) = folder.run(&["report", "again", "--against", "results", "--bound", "0"]).parts();
    assert_eq!((code, out.as_str()), (0, "no measure differs by more than 0 %\n"));
    let faster = [
        "compare",
        "scenario.toml",
        "--seeds",
        "2",
        "--set",
        "cache.capacity=30",
        "--out",
        "again",
        "--quiet",
        "--force",
    ];
    assert_eq!(folder.run(&faster).code, 0);
    let (code, out, err) = folder.run(&["report", "again", "--against", "results"]).parts();
    assert_eq!(code, 3, "{err}");
    assert!(out.contains("hit_rate") && !out.contains("vanilla"), "{out}");
    let (code, out, _) = folder.run(&["report", "again", "--against", "results", "--json"]).parts();
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(code == 3 && rows.as_array().unwrap().iter().all(|row| row["variant"] == "modm"), "{rows}");
    let (code, _, err) = folder.run(&["report", "nowhere"]).parts();
    assert!(code == 2 && err.contains("nowhere: holds no results"), "{err}");
    folder.write("again/modm/seed-42/timeline.csv", "time_s\n0\n");
    let (code, _, err) = folder.run(&["report", "again"]).parts();
    assert!(code == 2 && err.contains("timeline.csv: has no column \"arrivals\""), "{err}");
}

#[test]
fn a_comparison_whose_runs_are_being_replaced_is_none() {
    let folder = results();
    // No worker is left, so the comparison fails in its first run, as one that is killed ends early.
    let stuck = "faults.events=[{ at_s = 1, what = \"down\", workers = [0, 1, 2, 3, 4, 5] }]";
    let again = ["compare", "scenario.toml", "--set", stuck, "--out", "results", "--force", "--quiet"];
    assert_ne!(folder.run(&again).code, 0);
    assert!(!folder.path("results/run.json").exists(), "the runs may be those of two comparisons");
    let (code, _, err) = folder.run(&["report", "results"]).parts();
    assert!(code == 2 && err.contains("results: holds no results"), "{err}");
}

#[test]
fn colours_are_for_terminals() {
    let folder = results();
    let printed = |variables: &[(&str, &str)]| {
        let mut command = program::modm(&["report", "results"]);
        Answer::to(command.current_dir(folder.path("")).envs(variables.iter().copied())).out
    };
    let plain = printed(&[]);
    assert!(plain.contains("note:") && !plain.contains('\u{1b}'), "{plain}");
    assert!(printed(&[("CLICOLOR_FORCE", "1")]).contains('\u{1b}'), "as on a terminal");
    assert_eq!(printed(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), plain);
}

/// Runs every command that simulates and ends in a report, with a setting of the command line; returns their folders.
fn every_report(folder: &Folder) -> Vec<&'static str> {
    let runs: [(&str, &[&str]); 4] = [
        ("compare", &["--seeds", "2"]),
        ("sweep", &["--vary", "variant=vanilla,modm", "--vary", "allocation.period_s=30,60"]),
        ("plan", &["--attainment", "0.5", "--seeds", "1", "--max-gpus", "12", "--alternatives", "0"]),
        ("capacity", &["--attainment", "0.9", "--up-to", "2"]),
    ];
    for (command, more) in runs {
        let fixed = [command, "scenario.toml", "--set", "cache.capacity=77", "--out", command, "--quiet"];
        let (code, _, err) = folder.run(&[&fixed, more].concat()).parts();
        assert_eq!(code, 0, "{command}: {err}");
    }
    runs.map(|(command, _)| command).to_vec()
}

#[test]
fn every_report_says_what_it_rests_on_and_lists_its_sections() {
    // No variant of its own capacity: what the command line sets is in force.
    let folder = Folder::new(&[("scenario.toml", SCENARIO)]);
    let hash = modm::input::sha256_of(SCENARIO.as_bytes());
    for command in every_report(&folder) {
        let read = |name: &str| folder.read(&format!("{command}/{name}"));
        let (page, text) = (read("report.html"), read("report.md"));
        for said in [hash.as_str(), "system modm", "cache.capacity", "scenario.toml", "prompt embeddings: stand-in"] {
            assert!(page.contains(said) && text.contains(said), "{command}: {said}");
        }
        assert_eq!(page.contains("system vanilla"), command != "plan", "{command}: a policy for each variant");
        for said in [
            "<td>77</td>",
            "authors&#39; scripts",
            "scenarios/profiles/paper.toml (built in)",
            "<th scope=\"row\">commit</th>",
        ] {
            assert!(page.contains(said), "{command}: {said}");
        }
        assert!(
            text.contains("- service times: MoDM") && text.contains("set on the command line: cache.capacity = 77")
        );
        // Every section is in the list of contents, which stands before them and leads to them in their order.
        let (before, after) = page.split_once("<nav aria-label=\"Contents\">").unwrap();
        let (contents, rest) = after.split_once("</nav>").unwrap();
        let ends = |text: &str, from: &str| -> Vec<String> {
            text.split(from).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
        };
        assert!(!before.contains("<h2") && before.contains("class=\"verdict\""), "{command}: the answer comes first");
        let sections = ends(rest, "<h2 id=\"");
        assert!(sections.len() > 4 && sections.len() == rest.matches("<h2").count(), "{command}: {sections:?}");
        assert_eq!(ends(contents, "href=\"#"), sections, "{command}");
    }
}

#[test]
fn figures_are_made_for_columns_of_papers() {
    let folder = results();
    let place = folder.path("results/figures");
    let (before, data) = (fs::read(place.join("latency.svg")).unwrap(), fs::read(place.join("latency.csv")).unwrap());
    let remade = |out: &str, flags: &[&str]| {
        let (code, _, err) = folder.run(&[&["report", "results", "--out", out], flags].concat()).parts();
        assert_eq!(code, 0, "{err}");
        folder.path(out).join("figures")
    };
    let column = remade("column", &["--width", "column", "--no-title"]);
    let svg = fs::read_to_string(column.join("latency.svg")).unwrap();
    assert!(svg.contains("width=\"84.00mm\"") && !svg.contains("stand-in embeddings\n"), "{svg}");
    assert!(svg.contains("latency, seconds") && svg.contains("share of all requests"), "the axes keep their names");
    let pdf = fs::read(column.join("latency.pdf")).unwrap();
    assert!(pdf.starts_with(b"%PDF-") && String::from_utf8_lossy(&pdf).contains("/MediaBox [0 0 238.11"));
    let png = fs::read(column.join("latency.png")).unwrap();
    assert_eq!(u32::from_be_bytes(png[16..20].try_into().unwrap()), 2 * 396, "pixels");
    assert_eq!(fs::read(column.join("latency.csv")).unwrap(), data, "what is shown is the same");
    let page = remade("page", &["--width", "page"]);
    let svg = fs::read_to_string(page.join("latency.svg")).unwrap();
    assert!(svg.contains("width=\"178.00mm\"") && svg.contains("stand-in embeddings\n"));
    let html = |out: &str| folder.read(&format!("{out}/report.html"));
    assert!(html("column") == html("page") && html("page") == html("results"), "figures in the page stay as they are");
    let again = remade("column", &["--width", "column", "--no-title"]);
    assert_eq!(fs::read(again.join("latency.pdf")).unwrap(), pdf, "the same bytes");
    assert_eq!(fs::read(place.join("latency.svg")).unwrap(), before);
    assert_eq!(folder.run(&["report", "results", "--width", "narrow"]).code, 2);
}

#[test]
fn a_sweep_over_variants_and_clusters_is_drawn_with_the_throughput_of_its_table() {
    let folder = Folder::new(&[("scenario.toml", SCENARIO)]);
    let clusters = "cluster.gpus=[{type=\"mi210\",count=4}],[{type=\"mi210\",count=6}],[{type=\"mi210\",count=8}]";
    let sweep = ["sweep", "scenario.toml", "--vary", "variant=vanilla,modm", "--vary", clusters, "--out", "sweep"];
    let (code, out, err) = folder.run(&[&sweep[..], &["--quiet"]].concat()).parts();
    assert!(code == 0 && out.contains("steady/min") && !out.contains("req/min"), "{out}{err}");
    let drawn = folder.rows("sweep/figures/throughput.csv");
    let points = drawn.iter().filter(|row| row["kind"] == "curve");
    let points: Vec<[&str; 3]> = points.map(|row| ["series", "x", "y"].map(|name| row[name].as_str())).collect();
    let table = folder.rows("sweep/sweep.csv");
    let steady = table.iter().map(|row| row["throughput_steady_per_min"].as_str());
    assert_eq!(points.iter().map(|[.., y]| *y).collect::<Vec<_>>(), steady.collect::<Vec<_>>());
    let places: Vec<[&str; 2]> = points.iter().map(|[series, x, _]| [*series, *x]).collect();
    let expected = ["vanilla", "modm"].map(|variant| ["4", "6", "8"].map(|gpus| [variant, gpus])).concat();
    assert_eq!(places, expected, "a line for each variant");
    let svg = folder.read("sweep/figures/throughput.svg");
    assert!(svg.contains("GPUs (cluster.gpus)") && svg.contains("Steady throughput"), "{svg}");
}

#[test]
fn a_report_is_opened_or_its_path_is_printed() {
    let folder = results();
    // There is no browser in an empty path.
    let open = |arguments: &[&str]| {
        Answer::to(program::modm(&[&["open"], arguments].concat()).current_dir(folder.path("")).env("PATH", ""))
    };
    let (code, out, err) = open(&["results"]).parts();
    let page = folder.path("results/report.html").canonicalize().unwrap();
    assert_eq!((code, out.trim_end()), (0, page.to_str().unwrap()), "{err}");
    assert!(err.contains("no browser was found"), "{err}");
    assert_eq!(open(&["results/report.html"]).out, out);
    let refused = |arguments: &[&str], said: &str| {
        let (code, out, err) = open(arguments).parts();
        assert!(code == 2 && out.is_empty() && err.contains(said), "{arguments:?}: {err}");
    };
    refused(&["results", "--pictures"], "only `modm live` draws pictures");
    refused(&["none"], "none: cannot be read");
    fs::create_dir(folder.path("empty")).unwrap();
    refused(&["empty"], "expected the --out of compare");
    fs::remove_file(folder.path("results/report.html")).unwrap();
    refused(&["results"], "`modm report results` makes the report");
}
