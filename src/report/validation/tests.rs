//! Tests of the report on made-up runs: its content, and that the page escapes text from outside.

use super::*;

fn run(load: Option<f64>, seed: u64, level: Level, error: f64) -> ValidatedRun {
    let row = |name: &str, unit, live: f64, simulated: f64| Compared::new(name, unit, live, simulated);
    let mut rows = vec![
        row("hit_rate", Unit::Share, 0.8, 0.8 + error / 10.0),
        row("latency_mean", Unit::Seconds, 0.5, 0.5 * (1.0 + error)),
        row("latency_p95", Unit::Seconds, 1.0, 1.0 + 2.0 * error),
        row("throughput", Unit::PerMinute, 400.0, 400.0),
        row("service_per_request", Unit::Seconds, 0.2, 0.2 * (1.0 + error / 2.0)),
        row("model_loads", Unit::Count, 3.0, 4.0),
        row("same_source", Unit::Share, 1.0, 1.0 - error.abs()),
        row("same_allocation", Unit::Share, 1.0, 1.0),
        row("same_latency", Unit::Share, 1.0, 1.0 - error.abs()),
    ];
    if level != Level::Measured {
        rows[1].per_percent = Some(0.018);
        rows[1].spread = Some(0.02);
        rows[1].range = Some((0.49, 0.53));
        rows[2].range = Some((1.01, 1.1));
    }
    let latencies: Vec<Duration> = (1..=40).map(|tenths| Duration::from_nanoseconds(tenths * 100_000_000)).collect();
    let live = Summary { requests: 40, completed: 40, ..Summary::default() };
    let twice = latencies.iter().chain(&latencies).copied().collect();
    ValidatedRun {
        load,
        seed,
        level,
        rows,
        greatest_difference_s: error.abs(),
        latencies: twice,
        live_latencies: latencies,
        live,
    }
}

fn validation(name: &str) -> Validation {
    let levels = [(Level::Measured, 0.0), (Level::Profile, 0.04), (Level::Rescaled(1.02), -0.01)];
    let of = |load, seed| levels.map(|(level, error)| run(load, seed, level, error));
    let runs = [of(Some(0.6), 1), of(Some(0.6), 2), of(Some(1.2), 1)].concat();
    Validation { name: name.to_owned(), runs, notes: vec![name.to_owned()], ..Validation::default() }
}

#[test]
fn a_row_a_measure_of_every_run_and_level() {
    let text = csv(&validation("a"));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 9 * 9);
    assert_eq!(lines[0], "measure,unit,live,simulated,error,level,load,seed,factor,spread,per_percent,low,high,inside");
    assert_eq!(lines[2], "latency_mean,s,0.500000000,0.500000000,0.000000000,measured,0.6,1,,,,,,");
    assert_eq!(
        lines[11],
        "latency_mean,s,0.500000000,0.520000000,0.040000000,profile,0.6,1,,0.020000000,0.018000000,0.490000000,0.530000000,true"
    );
    assert_eq!(lines[10], "hit_rate,share,0.800000000,0.804000000,0.400000000,profile,0.6,1,,,,,,");
    assert!(lines[20].starts_with("latency_mean,s,0.500000000,0.495000000,-0.010000000,rescaled,0.6,1,1.020000000,"));
    let rows = json(&validation("a"));
    assert_eq!((rows.as_array().map(Vec::len), rows[2]["factor"].as_f64()), (Some(9), Some(1.02)));
}

#[test]
fn seeds_stand_side_by_side_in_a_table_a_load() {
    let text = terminal(&validation("a"), None);
    assert!(text.contains("At 60 % load (seed 1 / 2; rescaled: service times x 1.020 / 1.020)"), "{text}");
    assert!(text.contains("At 120 % load (seed 1; rescaled"), "{text}");
    assert!(
        text.contains("+4.0 % / +4.0 %") && text.contains("0.500 s / 0.500 s") && text.contains("+1.8 %"),
        "{text}"
    );
    assert!(
        text.contains("From the profile, at 60 % load: service time off by +2.0 %, +2.0 %, mean latency by +4.0 %")
    );
    assert!(text.contains("1.010 to 1.100 s !"), "{text}");
    let said = "Live values within the predicted 90 % range: 3 of 6 (50 %): mean latency 3 of 3 (median width 8.0 %), p95 0 of 3";
    assert!(text.contains(said), "{text}");
    assert!(text.contains("100.0 % of the decisions") && text.contains("difference is 0.000 ms"), "{text}");
}

#[test]
fn files_are_whole_and_nothing_foreign_is_in_the_page() {
    let evil = "<script>alert(1)</script>";
    let files = files(&validation(evil)).expect("figures are drawn");
    let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names[..3], ["validation.csv", "report.html", "report.md"]);
    assert!(names.contains(&"figures/latency-0.6.svg") && names.contains(&"figures/latency-1.2.png"));
    let page = String::from_utf8(files[1].bytes.clone()).expect("text");
    assert!(
        !page.contains("<script>alert")
            && page.contains("&lt;script&gt;")
            && !page.split_once("<script>").unwrap().0.contains("NaN")
    );
    assert!(page.contains("id=\"latency-0.6-title\"") && page.contains("scope=\"row\">hit rate"));
    let report = String::from_utf8(files[2].bytes.clone()).expect("text");
    assert!(
        report.contains("| latency mean | 0.500 s / 0.500 s | +0.0 % / +0.0 % | 0.520 s / 0.520 s | +4.0 % / +4.0 % | 0.490 to 0.530 s / 0.490 to 0.530 s |")
    );
}

#[test]
fn without_runs_there_is_little_to_say() {
    let empty = Validation { name: "nothing".into(), ..Validation::default() };
    assert_eq!(csv(&empty).lines().count(), 1);
    assert!(files(&empty).is_ok());
}
