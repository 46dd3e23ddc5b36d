//! Page that simulates in a browser against the program: the same settings give the same numbers.

use std::fs;

use modm::experiments::Search;
use modm::experiments::capacity::{Question, search_all};
use modm::experiments::variants::plan;
use modm::metrics::summary::Summary;
use modm::profile::ProfileFile;
use modm::scenario::Source;
use modm::simulation::Simulation;
use modm_web::presets::{PRESETS, named};
use modm_web::run::{Ran, arrivals, profile_file};
use modm_web::settings::{CONTROLS, Gaps};
use modm_web::{Session, Settings, Setup, System, scenario};

use crate::program::root;

const SYSTEMS: [(&str, System); 2] = [("vanilla", System::Vanilla), ("modm", System::Modm)];

fn ran(session: &mut Session, settings: &Settings, system: System) -> Ran {
    let searched = session.searched(settings).unwrap();
    let arrivals = arrivals(settings, settings.rate_per_min).unwrap();
    Setup::new(settings, searched, system).run(&arrivals, 100).unwrap()
}

/// Returns the measures of a variant of a scenario by the program.
fn by_the_program(source: &Source, variant: &str) -> Summary {
    let base = source.scenario(&[]).unwrap();
    let variant = base.variant.iter().find(|own| own.name == variant).unwrap();
    let simulation = Simulation::load(source, &Source::variant_overrides(variant)).unwrap();
    simulation.run_once(()).unwrap().summary
}

/// Writes the files that the page shows, and reads the scenario.
fn written(settings: &Settings, folder: &tempfile::TempDir) -> Source {
    let file = folder.path().join("page.toml");
    fs::write(&file, scenario::scenario(settings)).unwrap();
    if let Some(profile) = scenario::profile(settings) {
        fs::write(folder.path().join(scenario::PROFILE), profile).unwrap();
    }
    Source::read(&file).unwrap()
}

#[test]
fn the_page_begins_with_the_quickstart() {
    let quickstart = Source::read(&root().join("scenarios/quickstart.toml")).unwrap();
    let mut session = Session::default();
    for (variant, system) in [("vanilla", System::Vanilla), ("modm-sdxl", System::Modm)] {
        let own = ran(&mut session, &Settings::default(), system).results.summary;
        assert_eq!(own, by_the_program(&quickstart, variant), "{variant}");
    }
}

/// Settings that differ from the default in every control.
fn others() -> [Settings; 2] {
    let preset = |name: &str| Settings::of_preset(named(name).unwrap());
    let sana = Settings {
        rate_per_min: 31.5,
        gpus: 12,
        load_s: 5.0,
        cache: 400,
        shift: -0.03,
        gaps: Gaps::Bursty,
        mode: modm::scheduler::allocation::Mode::Throughput,
        seed: 7,
        ..preset("mi210-sana")
    };
    let flux = Settings {
        small_s: 2.2,
        cache: 1500,
        shift: 0.011,
        gaps: Gaps::Even,
        repeats: 0.7,
        topics: 900,
        slo: 3.3,
        ..preset("h100-flux")
    };
    [sana, flux]
}

#[test]
fn the_files_of_the_page_give_the_numbers_of_the_page() {
    for settings in others() {
        let (folder, mut session) = (tempfile::tempdir().unwrap(), Session::default());
        let source = written(&settings, &folder);
        for (variant, system) in SYSTEMS {
            let own = ran(&mut session, &settings, system).results.summary;
            assert_eq!(own, by_the_program(&source, variant), "{variant} with {settings:?}");
        }
    }
}

#[test]
fn the_page_finds_the_capacities_of_the_program() {
    let settings = Settings { cache: 600, topics: 700, ..Settings::default() };
    let at_nominal = Settings { rate_per_min: settings.nominal_rate_per_min(), ..settings.clone() };
    let folder = tempfile::tempdir().unwrap();
    let source = written(&at_nominal, &folder);
    let base = source.scenario(&[]).unwrap();
    let runs = plan(std::num::NonZeroUsize::MIN, &source, &[], &base.variant).unwrap();
    let question = Question::of_scenario(&base);
    let found = search_all(&runs, question, &source, Search::Auto, 2, false, &()).unwrap();
    let mut session = Session::default();
    let mut page = String::new();
    while !page.ends_with("\"done\":true}") {
        page = session.capacity(&settings).unwrap();
    }
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    for (row, (name, _)) in found.rows.iter().zip(SYSTEMS) {
        let own = page[name]["per_min"].as_f64().unwrap();
        assert!((own / row.rate_per_min.unwrap() - 1.0).abs() < 1e-12, "{name}: {own}, {:?}", row.rate_per_min);
        assert!(page[name]["points"].as_array().unwrap().len() > 8, "{name}: a curve");
    }
    // The rate is no part of the question.
    let other = session.capacity(&Settings { rate_per_min: 3.0, ..settings }).unwrap();
    assert!(other.ends_with("\"done\":true}"), "{other}");
}

#[test]
fn runs_of_the_page_agree_with_closed_forms_and_move_as_they_must() {
    let mut session = Session::default();
    let settings = |rate_per_min: f64| Settings { rate_per_min, gaps: Gaps::Even, ..Settings::default() };
    // At half of what the cluster carries nobody waits; at twice as much every GPU draws all the time.
    let calm = ran(&mut session, &settings(5.0), System::Vanilla);
    assert!(calm.completed.iter().all(|(_, latency)| (latency.seconds() - 91.5).abs() < 1e-6));
    let full = ran(&mut session, &settings(21.0), System::Vanilla).results.summary;
    let expected = settings(21.0).nominal_rate_per_min();
    assert!((full.throughput_steady_per_min.unwrap() / expected - 1.0).abs() < 0.01, "{full:?}");
    let mut hit_rate = |cache, shift| {
        let settings = Settings { cache, shift, ..Settings::default() };
        ran(&mut session, &settings, System::Modm).results.summary.hit_rate.unwrap()
    };
    let (usual, small, low, high) =
        (hit_rate(5000, 0.0), hit_rate(100, 0.0), hit_rate(5000, -0.03), hit_rate(5000, 0.03));
    assert!(small < usual && high < usual && usual < low, "{small} {high} {usual} {low}");
}

#[test]
fn presets_have_the_times_and_scores_of_the_profiles() {
    let profile = |file: &str| -> ProfileFile {
        toml::from_str(&fs::read_to_string(root().join("scenarios/profiles").join(file)).unwrap()).unwrap()
    };
    let (paper, flux, h100) = (profile("paper.toml"), profile("flux-derived.toml"), profile("flux-h100.toml"));
    for (place, preset) in PRESETS.iter().enumerate() {
        let own = profile_file(&Settings::of_preset(place));
        let of = if preset.large.name == "flux" { &flux } else { &paper };
        for row in own.service.iter().filter(|row| row.gpu != "h100") {
            let there = of.service.iter().find(|other| (&other.gpu, &other.model) == (&row.gpu, &row.model)).unwrap();
            assert!((row.step_s - there.step_s).abs() < 1e-12, "{}: {}", preset.name, row.model);
            assert_eq!(
                (row.load_s, row.active_w, row.load_w, row.idle_w),
                (there.load_s, there.active_w, there.load_w, there.idle_w)
            );
        }
        for score in &own.own_quality {
            let there = of.own_quality.iter().find(|other| other.model == score.model).unwrap();
            assert_eq!(score.value.to_bits(), there.value.to_bits(), "{}", preset.name);
        }
    }
    let preset = PRESETS[named("h100-flux").unwrap()];
    assert!(h100.source.contains(&format!("{} s for {} steps", preset.large.full_s, preset.steps)), "{}", h100.source);
    let as_much_faster = PRESETS[named("mi210-flux").unwrap()];
    let expected = preset.large.full_s * as_much_faster.small.full_s / as_much_faster.large.full_s;
    assert!((preset.small.full_s - expected).abs() < 0.005, "{expected}");
}

#[test]
fn numbers_that_cannot_be_used_are_named() {
    let good = Settings::default().numbers();
    assert_eq!(Settings::from_numbers(good), Ok(Settings::default()));
    for (at, control) in CONTROLS.iter().enumerate() {
        let mut inside = vec![control.low, control.high];
        let mut outside = vec![control.low - 1.0, control.high + 1.0, f64::NAN];
        let middle = f64::midpoint(control.low, control.high);
        if control.whole {
            outside.push(middle + 0.25);
        } else {
            inside.push(middle);
        }
        for (numbers, is_good) in [(inside, true), (outside, false)] {
            for number in numbers {
                let mut all = good;
                all[at] = number;
                let read = Settings::from_numbers(all);
                assert_eq!(read.is_ok(), is_good, "{} = {number}: {read:?}", control.name);
                assert!(read.is_ok_and(|read| read.numbers()[at].total_cmp(&number).is_eq()) || !is_good);
            }
        }
    }
    let mut none = good;
    none[2] = 2.5;
    assert_eq!(Settings::from_numbers(none), Err("gpus = 2.5: expected a whole number from 2 to 64".to_owned()));
}
