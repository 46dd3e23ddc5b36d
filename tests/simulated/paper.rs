//! The paper's set-ups (scenarios/paper): every scenario parses and checks, fitted prompts are the same
//! wherever they are repeated, and the throughput scenario keeps what it must show. The full runs are
//! `scripts/reproduce`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use modm::metrics::Keep;
use modm::metrics::summary::Summary;
use modm::scenario::{Inputs, Source, TraceInputs};
use modm::simulation::Simulation;
use modm::trace::{Columns, Trace};

use crate::library::overrides;
use crate::program::root;

fn folder() -> PathBuf {
    root().join("scenarios")
}

/// TOML files under a folder, in order of path.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn table(file: &Path) -> toml::Table {
    fs::read_to_string(file).unwrap().parse().unwrap()
}

/// Scenarios have a name; profiles and fragments have none.
fn scenarios() -> Vec<PathBuf> {
    files(&folder()).into_iter().filter(|file| table(file).contains_key("name")).collect()
}

#[test]
fn every_scenario_and_variant_checks() {
    assert!(scenarios().len() >= 9, "{:?}", scenarios());
    let no_trace = || {
        TraceInputs::from_trace(Trace::new(Columns {
            // Nothing of a trace but the tenant that a scenario names.
            arrivals: vec![modm::time::Time::ZERO],
            tenants: Some(["tenant-0"].into_iter().collect()),
            ..Columns::default()
        }))
    };
    for file in scenarios() {
        let source = Source::read(&file).unwrap();
        let base = source.scenario(&[]).unwrap();
        assert!(!base.variant.is_empty(), "{}: nothing to compare", file.display());
        for variant in &base.variant {
            let scenario = source.scenario(&Source::variant_overrides(variant)).unwrap();
            // Its profile has all it needs.
            Inputs::new(&scenario, source.file(), Arc::new(no_trace())).unwrap();
        }
    }
}

#[test]
fn fitted_prompts_are_repeated_as_they_are() {
    let of_file = |name: &str| table(&folder().join("paper").join(name));
    let synthetic = |name: &str| of_file(name)["trace"]["synthetic"].clone();
    let same = |fragment: &str, users: &[&str]| {
        for user in users {
            assert_eq!(synthetic(user)["prompts"], synthetic(fragment)["prompts"], "{user} and {fragment}");
            assert_eq!(of_file(user).get("image_model"), of_file(fragment).get("image_model"), "{user} and {fragment}");
        }
    };
    let saturated = [
        "throughput-mi210.toml",
        "throughput-a40.toml",
        "slo-mi210.toml",
        "slo-a40.toml",
        "rising-mi210.toml",
        "scaling-mi210.toml",
        "artifact.toml",
        "throughput-flux.toml",
        "cache-size.toml",
    ];
    same("prompts_saturated.toml", &saturated);
    same("prompts_window_100k.toml", &["locality.toml"]);
}

/// The paper does not print Pinecone's bound: the fitted one goes with the fitted embeddings, in every scenario.
#[test]
fn pinecone_has_its_fitted_bound() {
    for file in scenarios() {
        let source = Source::read(&file).unwrap();
        let Some(variant) = source.scenario(&[]).unwrap().variant.into_iter().find(|other| other.name == "pinecone")
        else {
            continue;
        };
        if file.starts_with(folder().join("paper")) {
            let scenario = source.scenario(&Source::variant_overrides(&variant)).unwrap();
            assert_eq!(*scenario.bounds(), [(0.789, 0)], "{}", file.display());
        }
    }
}

fn run(variant: &str, sets: &[&str]) -> Summary {
    let source = Source::read(&folder().join("paper/throughput-mi210.toml")).unwrap();
    let base = source.scenario(&[]).unwrap();
    let variant = base.variant.iter().find(|other| other.name == variant).unwrap();
    let mut overrides = overrides(sets);
    overrides.extend(Source::variant_overrides(variant));
    Simulation::load(&source, &overrides).unwrap().run_keeping(Keep::Nothing, ()).unwrap().summary
}

#[test]
fn vanilla_serves_what_its_service_time_allows() {
    let steady = run("vanilla", &[]).throughput_steady_per_min.unwrap();
    assert!((steady - 10.5).abs() <= 0.1, "{steady} requests a minute");
}

/// The scenario at three tenths of its size. A smaller cache finds less by chance, so that fewer topics give the same
/// hit rate.
#[test]
fn modm_comes_near_the_fluid_optimum() {
    let small = [
        "trace.synthetic.requests=6000",
        "trace.warm_requests=3000",
        "cache.capacity=3000",
        "trace.synthetic.prompts.topics=1000",
    ];
    for (variant, small_s) in [("modm-sdxl", 16.5), ("modm-sana", 6.5)] {
        let summary = run(variant, &small);
        let (hit_rate, refined) = (summary.hit_rate.unwrap(), summary.mean_refine_fraction.unwrap());
        assert!((0.6..0.85).contains(&hit_rate), "{variant}: hit rate {hit_rate}");
        let optimum = 960.0 / ((1.0 - hit_rate) * 91.5 + hit_rate * refined * small_s);
        let share = summary.throughput_steady_per_min.unwrap() / optimum;
        assert!(share >= 0.93, "{variant}: {share} of the fluid optimum");
    }
}
