//! `modm trace import` and `modm trace inspect` as a user runs them: exit codes, messages, files.

use std::fmt::Write;
use std::fs;

use modm::trace::{TraceFiles, npy, read};

use crate::program::{Folder, root};

#[test]
fn prompts_and_arrivals_become_a_trace() {
    let folder =
        Folder::new(&[("p.txt", "a cat\n\n\"a\" dog, red\nowl\n"), ("a.txt", "2000.0,2\n1000.0,0\n3000.0,3\n")]);
    let arguments =
        ["trace", "import", "--prompts", "p.txt", "--arrivals", "a.txt", "--rate-per-min", "30", "--out", "out"];
    let (code, out, err) = folder.run(&arguments).parts();
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("  1 blank lines dropped\n") && out.contains("wrote 3 requests over 6.0 s"), "{out}");
    let requests = folder.read("out/requests.csv");
    assert_eq!(requests, "arrival_s,prompt\n2.000000000,a cat\n4.000000000,\"\"\"a\"\" dog, red\"\n6.000000000,owl\n");
    let record = folder.read("out/trace.json");
    assert!(record.contains("\"format\": \"diffserve\"") && record.contains("sha256"), "{record}");

    let (code, _, err) = folder.run(&arguments).parts();
    assert_eq!(code, 2);
    assert!(err.contains("holds an earlier run (requests.csv)") && err.contains("--force"), "{err}");

    let (code, out, err) = folder.run(&["trace", "inspect", "out", "--out", "described"]).parts();
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("requests        3\n") && out.contains("30.000 requests/min"), "{out}");
    assert!(folder.read("described/inspect.json").contains("\"requests\": 3"));
}

#[test]
fn embeddings_follow_their_rows() {
    let folder = Folder::new(&[("r.csv", "arrival_s,prompt\n3,c\n1,a\n2,b\n")]);
    let mut bytes = Vec::new();
    npy::write(&mut bytes, 3, 2, [3.0, 4.0, 1.0, 0.0, 0.0, 2.0]).unwrap();
    folder.write("e.npy", bytes);
    let (code, _, err) = folder.run(&["trace", "import", "--prompts", "r.csv", "--out", "out"]).parts();
    assert_eq!(code, 2);
    assert!(err.contains("r.csv:3: arrival_s = \"1\"") && err.contains("modm trace import --sort"), "{err}");
    let sort = ["trace", "import", "--prompts", "r.csv", "--sort", "--prompt-embeddings", "e.npy", "--out", "out"];
    assert_eq!(folder.run(&sort).code, 0);
    let files = TraceFiles {
        requests: folder.path("out/requests.csv"),
        prompt_embeddings: Some(folder.path("out/prompt_embeddings.npy")),
        ..TraceFiles::default()
    };
    let sorted = read(&files).unwrap();
    assert_eq!((0..3).map(|row| sorted.prompt(row).unwrap()).collect::<String>(), "abc");
    assert_eq!(sorted.prompt_embeddings().unwrap().row(2), [3.0, 4.0], "as stored, not normalised");
}

#[test]
fn bad_usage_and_bad_input_exit_with_2() {
    let folder = Folder::new(&[("p.txt", "a\nb\n"), ("bad.csv", "arrival_s\nNaN\n"), ("x.csv", "x,y\n1,z\n")]);
    let cases: [(&[&str], &str); 8] = [
        (&["import", "--out", "o"], "<LOG>"),
        (&["import", "--prompts", "p.txt", "--out", "o"], "p.txt: has no arrival times"),
        (&["import", "--prompts", "none.txt", "--out", "o"], "none.txt: cannot be read"),
        (&["import", "--prompts", "x.csv", "--out", "o"], "no column looks like the time of arrival or the prompt"),
        (&["import", "--prompts", "p.txt", "--prompts-format", "word", "--out", "o"], "parti-prompts"),
        (&["import", "--prompts", "p.txt", "--rate-per-min", "0", "--out", "o"], "expected a number from 1e-9"),
        (&["import", "--prompts", "p.txt", "--from=-1", "--out", "o"], "expected seconds from 0"),
        (&["inspect", "bad.csv"], "bad.csv:2: arrival_s = \"NaN\": expected seconds from 0 to ten years"),
    ];
    for (arguments, message) in cases {
        let (code, out, err) = folder.run(&[&["trace"], arguments].concat()).parts();
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(message), "{arguments:?}: {err}");
        assert!(!folder.path("o/requests.csv").exists());
    }
}

#[test]
fn the_real_prompts_with_the_real_arrivals() {
    let data = root().join("../shared/data");
    let [prompts, arrivals] =
        ["prompts/diffusiondb_2m_first_5k.txt", "arrivals/azure_llm_code_2023.csv"].map(|name| data.join(name));
    if !prompts.exists() || !arrivals.exists() {
        println!("skipped: DiffusionDB prompts or Azure arrivals are not here");
        return;
    }
    let folder = Folder::new(&[]);
    let (prompts, arrivals) = (prompts.display().to_string(), arrivals.display().to_string());
    let import =
        ["trace", "import", "--prompts", &prompts, "--arrivals", &arrivals, "--rate-per-min", "20", "--out", "out"];
    assert_eq!(folder.run(&import).code, 0);
    let (code, out, _) = folder.run(&["trace", "inspect", "out"]).parts();
    assert_eq!(code, 0);
    assert!(out.contains("20.000 requests/min") && out.contains("13.1 % exact repeats"), "{out}");
    // As a second program counts them.
    assert!(out.contains("62.5 % have one at or above 0.5"), "{out}");
}

#[test]
fn ten_times_the_rows_cost_about_ten_times_as_much() {
    let folder = Folder::new(&[]);
    let file = |rows: u64| {
        let path = folder.path(&format!("{rows}.csv"));
        let mut text = String::from("request_id,arrival_s,prompt\n");
        for row in 0..rows {
            writeln!(text, "{row},{row}.25,a prompt of some words").unwrap();
        }
        fs::write(&path, text).unwrap();
        TraceFiles { requests: path, ..TraceFiles::default() }
    };
    #[expect(clippy::disallowed_methods, reason = "the cost itself is tested")]
    let seconds = |files: &TraceFiles| {
        let attempt = || {
            let start = std::time::Instant::now();
            assert!(!read(files).unwrap().is_empty());
            start.elapsed().as_secs_f64()
        };
        (0..3).map(|_| attempt()).fold(f64::INFINITY, f64::min)
    };
    let (small, large) = (seconds(&file(50_000)), seconds(&file(500_000)));
    // Ten times, and room for a machine that does other things; a hundred times would be quadratic.
    assert!(large < 40.0 * small, "{small} s for 50,000 rows, {large} s for ten times as many");
}
