//! Indexes of FAISS through a scenario: a run that uses one says how well it finds, and one that finds everything
//! changes nothing.

#![cfg(feature = "faiss")]
use serde_json::Value;

use crate::program::Folder;

/// Enough entries for inverted lists, and more requests than the cache holds images.
const SCENARIO: &str = r#"
name = "retrieval"
[trace.synthetic]
requests = 6000
arrivals = { process = "poisson", rate_per_min = 20.0 }
[cache]
capacity = 3000
[metrics]
warmup_s = 3600
"#;

/// Requests and summary of a run with these settings.
fn run(settings: &[&str]) -> (String, Value) {
    let folder = Folder::new(&[("scenario.toml", SCENARIO)]);
    let sets = settings.iter().flat_map(|setting| ["--set", *setting]);
    let simulate = ["simulate", "scenario.toml", "--out", "out", "--quiet"];
    folder.works(&simulate.into_iter().chain(sets).collect::<Vec<&str>>());
    (folder.read("out/requests.csv"), folder.json("out/summary.json"))
}

#[test]
fn a_run_with_an_approximate_index_says_how_well_it_finds() {
    for kind in ["faiss-ivf", "faiss-ivf-sq8", "faiss-hnsw"] {
        let (requests, summary) = run(&[&format!("retrieval.index={kind}")]);
        let quality = &summary["retrieval"];
        println!("{kind}: {quality}, hit rate {}", summary["hit_rate"]);
        assert_eq!(quality["searches"], summary["requests"], "{kind}: those of the warm-up are left out of both");
        let (recall, lost) = (quality["recall"].as_f64().unwrap(), quality["mean_similarity_lost"].as_f64().unwrap());
        // Of stand-ins, whose images have most of their length in random directions: the hardest there is.
        assert!((0.8..=1.0).contains(&recall) && (0.0..0.01).contains(&lost), "{kind}: {recall}, {lost}");
        let unchecked = run(&[&format!("retrieval.index={kind}"), "retrieval.measure_recall=false"]);
        assert_eq!(unchecked.0, requests, "{kind}: the check changes nothing, and equal runs are equal");
        assert_eq!(unchecked.1.get("retrieval"), None);
    }
}

#[test]
fn the_flat_index_decides_as_the_exact_one_does() {
    let (exact, flat) = (run(&[]), run(&["retrieval.index=faiss-flat"]));
    assert_eq!(exact.0, flat.0);
    assert_eq!(exact.1.get("retrieval"), None, "the exact index is not checked");
    assert_eq!(flat.1["retrieval"]["recall"].as_f64(), Some(1.0));
    assert_eq!(flat.1["retrieval"]["mean_similarity_lost"].as_f64(), Some(0.0));
}
