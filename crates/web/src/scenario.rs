//! Settings of the page as files of the program, so that a user can go on with `modm compare`.

use std::fmt::Write;

use modm_core::scheduler::allocation::Mode;

use crate::presets::PRESETS;
use crate::run::profile_file;
use crate::settings::{Gaps, REQUESTS, Settings, WARM};

/// Name of the profile's file.
pub const PROFILE: &str = "page-profile.toml";

/// Returns whether the times are those of the preset.
fn has_own_times(settings: &Settings) -> bool {
    let own = settings.preset();
    let times = [settings.large_s, settings.small_s, settings.load_s];
    let of_preset = [own.large.full_s, own.small.full_s, own.load_s];
    of_preset.iter().zip(times).all(|(own, time)| own.total_cmp(&time).is_eq())
}

/// Returns whether the program's built-in profile has the times of the settings.
fn is_built_in(settings: &Settings) -> bool {
    settings.preset().built_in && has_own_times(settings)
}

/// Returns the scenario.
#[must_use]
pub fn scenario(settings: &Settings) -> String {
    let (preset, prompts) = (settings.preset(), settings.prompts());
    let rate = settings.rate_per_min;
    let arrivals = match settings.gaps {
        Gaps::Poisson => format!("{{ process = \"poisson\", rate_per_min = {rate:?} }}"),
        Gaps::Bursty => format!("{{ process = \"gamma\", rate_per_min = {rate:?}, cv = 3.0 }}"),
        Gaps::Even => format!("{{ process = \"constant\", rate_per_min = {rate:?} }}"),
    };
    let mut text = format!(
        "# From the page that simulates in a browser. Run it with\n#   modm compare page.toml --capacity --out results/page\n\
         name = \"page\"\nseed = {}\n\n[trace]\nwarm_requests = {WARM}\n\n[trace.synthetic]\nrequests = {REQUESTS}\n\
         arrivals = {arrivals}\n\n[trace.synthetic.prompts]\ntopics = {}\ntopic_exponent = {:?}\nnew_topics_per_1000 = {:?}\n\
         sessions = {}\nsession_requests = {:?}\nrepeats = {:?}\nvariation = {:?}\nword_exponent = {:?}\nown_words = {}\n\n\
         [cluster]\ngpus = [{{ type = \"{}\", count = {} }}]\n\n[models]\n",
        settings.seed,
        prompts.topics,
        prompts.topic_exponent,
        prompts.new_topics_per_1000,
        prompts.sessions,
        prompts.session_requests,
        prompts.repeats,
        prompts.variation,
        prompts.word_exponent,
        prompts.own_words,
        preset.gpu,
        settings.gpus,
    );
    let mut line = |line: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    };
    if !is_built_in(settings) {
        line(format_args!("profile = \"{PROFILE}\""));
    }
    line(format_args!("large = \"{}\"\nsmall = [\"{}\"]", preset.large.name, preset.small.name));
    if preset.steps != PRESETS[0].steps {
        line(format_args!("steps = {}", preset.steps));
    }
    if settings.bounds() != Settings::default().bounds() {
        let rows: Vec<String> = settings.bounds().iter().map(|(bound, k)| format!("[{bound:?}, {k}]")).collect();
        line(format_args!("\n[system]\nbounds = [{}]", rows.join(", ")));
    }
    line(format_args!("\n[slo]\nmultiples = [{:?}, {:?}]", settings.slo, 2.0 * settings.slo));
    line(format_args!("\n[[variant]]\nname = \"vanilla\"\nset = {{ \"system.policy\" = \"vanilla\" }}"));
    let mut set = vec![format!("\"cache.capacity\" = {}", settings.cache)];
    if settings.mode == Mode::Throughput {
        set.push("\"allocation.mode\" = \"throughput\"".to_owned());
    }
    line(format_args!("\n[[variant]]\nname = \"modm\"\nset = {{ {} }}", set.join(", ")));
    text
}

/// Returns the profile; `None` if the program's built-in profile has the same times.
#[must_use]
pub fn profile(settings: &Settings) -> Option<String> {
    if is_built_in(settings) {
        return None;
    }
    let file = profile_file(settings);
    let changed = if has_own_times(settings) { "" } else { "chosen on the page in place of: " };
    let mut text = format!("source = \"{changed}{}\"\n", file.source);
    for row in &file.service {
        let watts = |watts: Option<f64>| watts.unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[[service]]\ngpu = \"{}\"\nmodel = \"{}\"\nstep_s = {:?}\nload_s = {:?}\nactive_w = {:?}\nload_w = {:?}\nidle_w = {:?}\n",
            row.gpu,
            row.model,
            row.step_s,
            row.load_s,
            watts(row.active_w),
            watts(row.load_w),
            watts(row.idle_w),
        );
    }
    for row in &file.own_quality {
        let _ = write!(
            text,
            "\n[[own_quality]]\nmodel = \"{}\"\nmeasure = \"{}\"\nvalue = {:?}\nsource = \"{}\"\n",
            row.model, row.measure, row.value, row.source
        );
    }
    Some(text)
}
