//! The catalogue's file: every pair is there, every row says where it comes from, and every assumed row is what its
//! rule makes of the row that it names.

use super::*;

/// Greatest relative difference between a value in the file, which has six digits, and the rule's.
const DIGITS: f64 = 2e-5;

fn file() -> ProfileFile {
    profile().expect("the catalogue can be read")
}

/// Parses "assumed, from GPU MODEL by FACTOR[ a step]: reason".
fn rule(source: &str) -> Option<(&str, &str, f64, bool)> {
    let (rule, reason) = source.strip_prefix("assumed, from ")?.split_once(": ")?;
    let mut words = rule.split(' ');
    let (gpu, model, by, factor) = (words.next()?, words.next()?, words.next()?, words.next()?.parse().ok()?);
    let rest: Vec<&str> = words.collect();
    let is_whole = rest.is_empty() || rest == ["a", "step"];
    (by == "by" && is_whole && !reason.is_empty()).then_some((gpu, model, factor, !rest.is_empty()))
}

#[test]
fn every_pair_is_there_once_and_nothing_else() {
    let file = file();
    assert_eq!((file.service.len(), file.gpu.len(), entries().len()), (48, GPUS.len(), 48));
    for gpu in &GPUS {
        assert!(file.gpu.iter().any(|facts| facts.r#type == gpu.name), "{}", gpu.name);
        for model in &MODELS {
            assert!(row(&file, gpu.name, model.name).is_some(), "{} {}", gpu.name, model.name);
        }
    }
}

#[test]
fn every_row_is_published_with_an_address_and_a_date_or_follows_its_rule() {
    let file = file();
    let mut counts = (0, 0);
    for service in &file.service {
        let name = format!("{} {}", service.gpu, service.model);
        let source = service.source.as_deref().expect("a source");
        match service.source_kind() {
            Some(SourceKind::Published) => {
                counts.0 += 1;
                assert!(source.contains("https://") && source.contains("seen 20"), "{name}: {source}");
                assert!(source.contains(" s ") && source.contains("step"), "{name}: no figure: {source}");
            }
            Some(SourceKind::Assumed) => {
                counts.1 += 1;
                let (gpu, model, factor, is_step) = rule(source).unwrap_or_else(|| panic!("{name}: {source}"));
                let from = row(&file, gpu, model).unwrap_or_else(|| panic!("{name}: no row {gpu} {model}"));
                let beside = if is_step { 1.0 } else { factor };
                let pairs = [
                    (service.step_s, from.step_s * factor),
                    (service.overhead_s, from.overhead_s * beside),
                    (service.text_s, from.text_s * beside),
                    (service.decode_s, from.decode_s * beside),
                ];
                for (is, follows) in pairs {
                    assert!((is - follows).abs() <= DIGITS * follows, "{name}: {is} in place of {follows}");
                }
                assert!(service.spread > Some(0.1), "{name}: assumed times are less sure than published ones");
            }
            kind => panic!("{name}: {kind:?}"),
        }
    }
    // docs/profiles.md states both numbers.
    assert_eq!(counts, (15, 33));
}

#[test]
fn assumed_rows_lead_to_published_ones() {
    let file = file();
    for service in &file.service {
        let (mut at, mut steps) = (service, 0);
        while let Some((gpu, model, ..)) = rule(at.source.as_deref().unwrap_or_default()) {
            at = row(&file, gpu, model).expect("its row is there");
            steps += 1;
            assert!(steps < 5, "{} {}: a rule that leads in a circle", service.gpu, service.model);
        }
        assert_eq!(at.source_kind(), Some(SourceKind::Published), "{} {}", service.gpu, service.model);
    }
}

#[test]
fn prices_have_a_source_and_models_fit() {
    let file = file();
    for facts in &file.gpu {
        assert_eq!(facts.usd_per_hour.is_some(), facts.source.is_some(), "{}", facts.r#type);
        let source = facts.source.as_deref().unwrap_or("published https:// seen 20");
        assert!(source.contains("https://") && source.contains("seen 20"), "{source}");
        for service in file.service.iter().filter(|row| row.gpu == facts.r#type) {
            assert!(service.memory_gb.is_some_and(|memory| memory <= facts.memory_gb), "{service:?}");
        }
    }
}

#[test]
fn newer_gpus_are_not_slower_and_distilled_models_not_dearer() {
    let entries = entries();
    let time = |gpu: &str, model: &str| {
        let entry = entries.iter().find(|entry| entry.gpu == gpu && entry.model == model);
        entry.map(|entry| entry.generation_s).expect("an entry")
    };
    for model in &MODELS {
        for (faster, slower) in [
            ("h200", "h100"),
            ("h100", "a100"),
            ("a100", "a40"),
            ("l40s", "a40"),
            ("mi300x", "mi210"),
            ("h100", "rtx4090"),
        ] {
            assert!(time(faster, model.name) <= time(slower, model.name), "{}: {faster} {slower}", model.name);
        }
    }
    for gpu in &GPUS {
        assert!(time(gpu.name, "flux-schnell") < time(gpu.name, "flux-dev"));
        assert!(time(gpu.name, "sd3.5-turbo") < time(gpu.name, "sd3.5-large"));
        assert!(
            time(gpu.name, "sana-1.6b") < time(gpu.name, "sdxl")
                && time(gpu.name, "sdxl") < time(gpu.name, "sd3.5-large")
        );
    }
}

#[test]
fn the_papers_published_times_are_those_of_its_own_profile() {
    let paper = include_str!("../../../scenarios/profiles/paper.toml");
    let paper = parse(paper, "paper.toml".as_ref()).expect("the paper's profile");
    let catalogue = file();
    for (gpu, name) in [("mi210", "sd3.5-large"), ("mi210", "sdxl"), ("mi210", "sana-1.6b"), ("a40", "sd3.5-large")] {
        let seconds = |file: &ProfileFile| generation_s(row(file, gpu, name).expect("a row"), 50);
        assert!((seconds(&paper) - seconds(&catalogue)).abs() < 1e-3, "{gpu} {name}");
    }
}

#[test]
fn other_names_are_known_and_unknown_ones_get_the_nearest_first() {
    let names = |text: &str| (gpu(text).map(|gpu| gpu.name), model(text).map(|model| model.name));
    for (text, name) in
        [("H100", "h100"), ("NVIDIA H100 80GB HBM3", "h100"), ("b200", ""), ("A100-SXM4", "a100"), ("4090", "rtx4090")]
    {
        assert_eq!(names(text).0.unwrap_or_default(), name, "{text}");
    }
    let models = [
        ("FLUX.1-dev", "flux-dev"),
        ("black-forest-labs/FLUX.1-schnell", "flux-schnell"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "sdxl"),
        ("sdxl-base", "sdxl"),
        ("SANA", "sana-1.6b"),
        ("stabilityai/stable-diffusion-3.5-large-turbo", "sd3.5-turbo"),
    ];
    for (text, name) in models {
        assert_eq!(names(text).1, Some(name), "{text}");
    }
    let unknown = cover(&["h100", "h20"], &["flux-dev", "sdxl"]).expect_err("no such GPU");
    assert!(unknown.known.starts_with("h200, h100"), "{unknown}");
    assert!(unknown.to_string().ends_with("modm profiles --starter h20 flux-dev sdxl"), "{unknown}");
    let unknown = cover(&["h100"], &["flux-pro"]).expect_err("no such model");
    assert!((unknown.what, unknown.known.starts_with("flux-dev")) == ("model", true), "{unknown}");
    let covered = cover(&["H100", "a40"], &["FLUX.1-dev", "schnell"]).expect("both are known");
    let kinds: Vec<_> = covered.iter().map(|entry| (entry.gpu, entry.model, entry.kind)).collect();
    let (published, assumed) = ("published", "assumed");
    assert_eq!(
        kinds,
        [
            ("h100", "flux-dev", published),
            ("h100", "flux-schnell", published),
            ("a40", "flux-dev", assumed),
            ("a40", "flux-schnell", assumed)
        ]
    );
}
