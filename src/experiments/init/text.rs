//! Text of a first scenario, with the facts that its values come from as comments.

use std::fmt::Write as _;

use super::{Answers, Demand, Means, USUAL_MULTIPLE, as_word, name, span};
use crate::profile::catalogue::KnownModel;
use crate::scheduler::routing::System;

/// Number of requests of the synthetic trace that stands in for a log.
pub(super) const SYNTHETIC_REQUESTS: usize = 5000;

/// Steps that the default bounds are for.
const BOUNDS_STEPS: u32 = 50;

/// Returns the text of the scenario.
pub(super) fn scenario(answers: &Answers, demand: &Demand, means: &Means) -> String {
    let mut text = String::from(
        "#:schema schema.json\n\
         # Written by `modm init`. Every line may be changed; `modm scenario explain KEY` says what a key means,\n\
         # `modm scenario show` what else is in force. Run it with\n",
    );
    let file = as_word(&answers.out.join("scenario.toml"));
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "#   modm compare {file} --capacity --out {}\n#   modm plan {file} --out {}\nname = {}\n\n",
        as_word(&answers.out.join("results")),
        as_word(&answers.out.join("plan")),
        toml::Value::from(name(&answers.out)),
    );
    trace(&mut text, answers, demand);
    cluster(&mut text, means);
    models(&mut text, means);
    bounds(&mut text, demand, means);
    objective(&mut text, answers, means);
    allocation(&mut text, demand);
    variants(&mut text, demand);
    text
}

fn trace(text: &mut String, answers: &Answers, demand: &Demand) {
    let Demand { requests, rate_per_min, warm, .. } = *demand;
    text.push_str("[trace]\n");
    if answers.log.is_some() {
        let peak = demand.peak_per_min.map_or_else(String::new, |peak| format!(", {peak} in the busiest"));
        let span = span(demand.span_s);
        let _ = writeln!(text, "# {requests} requests over {span}: {rate_per_min:.1} a minute{peak}.");
        text.push_str("requests = \"trace/requests.csv\"\n");
    }
    if warm > 0 {
        let left = requests - warm;
        let _ = write!(
            text,
            "# A cache is empty at first, and that of a service which has run for weeks is not: the first {warm} requests\n\
             # fill it and are not replayed, so that results are those of the other {left}.\n\
             warm_requests = {warm}\n"
        );
    }
    if answers.log.is_none() {
        let _ = write!(
            text,
            "\n[trace.synthetic]      # no log was given: users who come back to topics, as the stand-ins have them\n\
             requests = {requests}\n\
             arrivals = {{ process = \"poisson\", rate_per_min = {rate_per_min} }}\n"
        );
    }
}

fn cluster(text: &mut String, means: &Means) {
    text.push_str("\n[cluster]\ngpus = [\n");
    for (name, count, price) in &means.gpus {
        let price = price.map_or_else(String::new, |price| format!(", usd_per_hour = {price}"));
        let _ = writeln!(text, "    {{ type = \"{name}\", count = {count}{price} }},");
    }
    text.push_str("]   # prices are the catalogue's, which move from week to week: state yours\n");
}

fn models(text: &mut String, means: &Means) {
    let times = |model: usize| {
        let on = |gpu: usize| {
            let entry = means.entry(gpu, model);
            format!("{:.2} s an image on {} ({})", entry.generation_s, entry.gpu, entry.kind)
        };
        (0..means.gpus.len()).map(on).collect::<Vec<_>>().join(", ")
    };
    text.push_str("\n[models]\nprofile = \"catalogue\"   # built in: `modm profiles`; or a file of your own times\n");
    let _ = writeln!(text, "large = \"{}\"   # {}", means.large.name, times(0));
    let small: Vec<String> = means.small.iter().map(|model| format!("\"{}\"", model.name)).collect();
    let _ = write!(text, "small = [{}]", small.join(", "));
    let each: Vec<String> = (1..=small.len()).map(times).collect();
    let _ = writeln!(text, "{}{}", if each.is_empty() { "" } else { "   # " }, each.join("; "));
    let all: Vec<&&KnownModel> = std::iter::once(&means.large).chain(&means.small).collect();
    if all.iter().all(|model| model.steps == means.large.steps) {
        let _ = writeln!(text, "steps = {}", means.large.steps);
    } else {
        let steps: Vec<String> = all.iter().map(|model| format!("\"{}\" = {}", model.name, model.steps)).collect();
        let _ = writeln!(text, "steps = {{ {} }}", steps.join(", "));
        let schedules = all.iter().map(|model| {
            let schedule = toml::Value::try_from(model.schedule);
            format!("\"{}\" = {}", model.name, schedule.map_or_else(|_| String::new(), |value| value.to_string()))
        });
        let _ = writeln!(text, "schedule = {{ {} }}   # noise by step", schedules.collect::<Vec<_>>().join(", "));
    }
}

/// Writes bounds where the large model has other steps than the default bounds are for.
fn bounds(text: &mut String, demand: &Demand, means: &Means) {
    let steps = means.large.steps;
    let usual = System::Modm.default_bounds().filter(|_| steps != BOUNDS_STEPS && demand.has_prompts);
    let Some(usual) = usual else { return };
    let mut rows: Vec<String> = Vec::new();
    for (bound, skipped) in usual {
        let skipped = (skipped * steps).div_ceil(BOUNDS_STEPS).min(steps - 1);
        rows.push(format!("[{bound}, {skipped}]"));
    }
    let _ = write!(
        text,
        "\n[system]\n# The paper's bounds for 50 steps, in proportion for {steps} (assumed); `modm calibrate` finds yours.\n\
         bounds = [{}]\n",
        rows.join(", ")
    );
}

fn objective(text: &mut String, answers: &Answers, means: &Means) {
    let full_s = means.full_s(0);
    let multiple = answers.slo_s.map_or(USUAL_MULTIPLE, |slo_s| slo_s / full_s);
    let slo_s = multiple * full_s;
    let gpu = means.gpus.first().map_or("", |(name, ..)| name);
    let _ = write!(
        text,
        "\n[slo]\n# {slo_s:.2} s, in full generations of {} on {gpu} ({full_s:.2} s).\nmultiples = [{multiple:.4}]\n\
         \n[queue]\ndeadline_multiple = {multiple:.4}   # the same, for policies that look at deadlines\n",
        means.large.name
    );
}

/// Writes the policy of the base. Without prompts nothing can be looked up.
fn allocation(text: &mut String, demand: &Demand) {
    text.push_str(if demand.has_prompts {
        "\n[allocation]\npolicy = \"what_if\"   # this project's, which looks at deadlines; \"modm\" is the paper's\n"
    } else {
        "\n[system]\npolicy = \"vanilla\"   # without prompts nothing can be looked up\n"
    });
}

fn variants(text: &mut String, demand: &Demand) {
    let mut variant = |name: &str, about: &str, set: Option<&str>| {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n[[variant]]\nname = \"{name}\"   # {about}\n");
        let _ = set.map_or(Ok(()), |set| writeln!(text, "set = {{ {set} }}"));
    };
    variant("vanilla", "the large model alone", Some("\"system.policy\" = \"vanilla\""));
    if demand.has_prompts {
        variant("modm", "final images refined by the small models: the settings above", None);
        variant("modm-paper", "the same with the paper's monitor", Some("\"allocation.policy\" = \"modm\""));
    }
}
