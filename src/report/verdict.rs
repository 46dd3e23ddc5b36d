//! Verdict on a comparison: the result in a sentence or two, and the caveats without which the result would mislead.

use super::statistics::Estimate;
use super::{Comparison, attainment_at, capacity, quality, saturation, steady};
use crate::metrics::quality::ALPHA;
use crate::metrics::summary::{Definitions, Summary};

/// Verdict on a comparison, with sentences that qualify it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Result in one or two sentences.
    pub sentence: String,
    /// Caveats, such as growing queues, a single seed, requests without an image.
    pub caveats: Vec<String>,
}

/// Describes the result of a comparison in words.
#[must_use]
pub fn verdict(comparison: &Comparison) -> Verdict {
    let variants = comparison.variants();
    let saturated: Vec<&str> =
        variants.iter().copied().filter(|v| comparison.runs_of(v).any(saturation::still_growing)).collect();
    let sentence = match variants.as_slice() {
        [] => "Nothing was run.".to_owned(),
        _ if comparison.capacities.is_some() => by_capacity(comparison, &variants),
        [only] => alone(comparison, only),
        [baseline, others @ ..] if saturated.is_empty() => by_latency(comparison, baseline, others),
        [baseline, others @ ..] => {
            let keep_up: Vec<&str> = others.iter().copied().filter(|other| kept_up(comparison, other)).collect();
            let several = keep_up.len() > 1 && saturated.contains(baseline);
            several
                .then(|| several_keep_up(comparison, baseline, &keep_up))
                .flatten()
                .unwrap_or_else(|| by_throughput(comparison, baseline, others))
        }
    };
    Verdict { sentence, caveats: caveats(comparison, &variants, &saturated) }
}

/// Minimum share of the requests in time for a variant to keep up; the default of `modm capacity`.
const IN_TIME: f64 = 0.99;

/// Returns whether a variant kept up with the arrivals: its queue did not grow, and it met the first SLO.
fn kept_up(comparison: &Comparison, variant: &str) -> bool {
    let attainment = |summary: &Summary| Some(summary.slo.first()?.attainment);
    let met = comparison.estimate(variant, attainment).is_none_or(|attainment| attainment.mean >= IN_TIME);
    met && !comparison.runs_of(variant).any(saturation::still_growing)
}

/// Describes the capacities, and names the variants that kept up with the trace.
fn by_capacity(comparison: &Comparison, variants: &[&str]) -> String {
    let capacities = comparison.capacities.as_ref().map(|found| capacity::sentence::sentence(&comparison.name, found));
    let keep_up: Vec<&str> = variants.iter().copied().filter(|variant| kept_up(comparison, variant)).collect();
    let rate = comparison.capacities.iter().flat_map(|found| &found.rows).map(|row| row.trace_rate_per_min).next();
    let all =
        if keep_up.len() == variants.len() && variants.len() > 1 { "every variant".into() } else { listed(&keep_up) };
    let kept_up = rate.filter(|_| !keep_up.is_empty()).map_or_else(String::new, |rate| {
        format!(" At the trace's {rate:.1} requests per minute {all} kept up with the arrivals.")
    });
    format!("{}{kept_up}", capacities.unwrap_or_default())
}

/// Returns the share of the large model's quality that a variant's images keep, if it is known.
fn kept_quality(comparison: &Comparison, variant: &str) -> Option<f64> {
    Some(comparison.estimate(variant, |summary| summary.quality_kept)?.mean)
}

/// Formats the quality that is kept: "98.1 % of the large model's quality (estimated)".
fn quality_words(comparison: &Comparison, variant: &str) -> Option<String> {
    let (kept, kind) = (kept_quality(comparison, variant)?, quality::kind_of(comparison, variant)?);
    Some(format!("{:.1} % of the large model's quality ({})", 100.0 * kept, kind.word()))
}

fn p99(summary: &Summary) -> Option<f64> {
    Some(summary.latency_s?.p99)
}

fn alone(comparison: &Comparison, variant: &str) -> String {
    let Some(rate) = comparison.estimate(variant, steady) else { return completed_nothing(comparison, variant) };
    format!(
        "On {}, {variant} served {:.1} requests per minute{}.",
        comparison.name,
        rate.mean,
        shares(comparison, variant)
    )
}

fn completed_nothing(comparison: &Comparison, variant: &str) -> String {
    let requests: u64 = comparison.runs_of(variant).map(|run| run.summary.requests).sum();
    format!("On {}, {variant} completed none of its {requests} requests.", comparison.name)
}

/// Describes a comparison in which demand exceeded what some variant could serve: the result is the throughput.
fn by_throughput(comparison: &Comparison, baseline: &str, others: &[&str]) -> String {
    let ratios: Vec<(&str, Estimate)> =
        others.iter().filter_map(|other| Some((*other, comparison.ratio(other, steady)?))).collect();
    // A gain at the cost of quality is only the headline if no other variant has a gain with good quality.
    let good = |variant: &str| kept_quality(comparison, variant).is_none_or(|kept| kept >= ALPHA);
    let order =
        |a: &&(&str, Estimate), b: &&(&str, Estimate)| good(a.0).cmp(&good(b.0)).then(a.1.mean.total_cmp(&b.1.mean));
    let Some(&(best, ratio)) = ratios.iter().max_by(order) else {
        return completed_nothing(comparison, baseline);
    };
    let quality = |other: &str| {
        kept_quality(comparison, other).map_or_else(String::new, |kept| format!(" with {:.1} %", 100.0 * kept))
    };
    let rest: Vec<String> = ratios
        .iter()
        .filter(|(other, _)| *other != best)
        .map(|(other, ratio)| format!("{other} {}{}", times(*ratio), quality(other)))
        .collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let rest = if rest.is_empty() { String::new() } else { format!(" By the same measures: {}.", listed(&rest)) };
    let rates = match (comparison.estimate(best, steady), comparison.estimate(baseline, steady)) {
        (Some(best), Some(base)) => format!(" ({:.1} against {:.1} per minute)", best.mean, base.mean),
        _ => String::new(),
    };
    let kept_up = if kept_up(comparison, best) { " and kept up with the arrivals" } else { "" };
    format!(
        "On {}, {best} served {}{} the requests of {baseline}{rates}{kept_up}{}.{rest}",
        comparison.name,
        times(ratio),
        interval(ratio),
        shares(comparison, best)
    )
}

/// Describes a comparison in which several variants served all arrivals. Their throughputs differ only by noise, so
/// none is called the best.
fn several_keep_up(comparison: &Comparison, baseline: &str, keep_up: &[&str]) -> Option<String> {
    let ratios = keep_up.iter().filter_map(|variant| comparison.ratio(variant, steady));
    let ratio = ratios.min_by(|a, b| a.mean.total_cmp(&b.mean))?;
    let base = comparison.estimate(baseline, steady)?;
    let latencies: Vec<String> = keep_up
        .iter()
        .filter_map(|variant| Some(format!("{} with {variant}", seconds(comparison.estimate(variant, p99)?.mean))))
        .collect();
    let latencies: Vec<&str> = latencies.iter().map(String::as_str).collect();
    let words = |variant: &&str| Some(format!("{} with {variant}", quality_words(comparison, variant)?));
    let qualities: Vec<String> = keep_up.iter().filter_map(words).collect();
    let qualities: Vec<&str> = qualities.iter().map(String::as_str).collect();
    let qualities = if qualities.is_empty() { String::new() } else { format!(" Images keep {}.", listed(&qualities)) };
    Some(format!(
        "On {}, {} kept up with the arrivals: {}{} the requests of {baseline}, which served {:.1} per minute. 99 % of \
         requests finished within {}.{qualities}",
        comparison.name,
        listed(keep_up),
        times(ratio),
        interval(ratio),
        base.mean,
        listed(&latencies)
    ))
}

/// Describes a comparison in which no queue grew. Throughput is then the rate of the trace, so the result is the
/// latency.
fn by_latency(comparison: &Comparison, baseline: &str, others: &[&str]) -> String {
    let latencies = others.iter().filter_map(|other| Some((*other, comparison.estimate(other, p99)?)));
    let Some((best, latency)) = latencies.min_by(|a, b| a.1.mean.total_cmp(&b.1.mean)) else {
        return completed_nothing(comparison, others[0]);
    };
    let against = comparison
        .estimate(baseline, p99)
        .map_or_else(String::new, |base| format!(", against {} with {baseline}", seconds(base.mean)));
    let variants = comparison.variants();
    let keep_up = variants.iter().all(|variant| kept_up(comparison, variant));
    let keep_up = if keep_up { "every variant kept up with the arrivals" } else { "no queue grew" };
    format!(
        "On {}, {keep_up}. With {best} 99 % of requests finished within {}{against}{}.",
        comparison.name,
        seconds(latency.mean),
        shares(comparison, best)
    )
}

/// Formats the shares that apply: "; 98 % within 2x of a full generation; 71 % of requests were hits".
fn shares(comparison: &Comparison, variant: &str) -> String {
    let first_slo = comparison.runs_of(variant).find_map(|run| run.summary.slo.first());
    let met = first_slo.and_then(|slo| {
        let met = comparison.estimate(variant, |summary| attainment_at(summary, slo.multiple))?;
        Some(format!("; {} within {}x of a full generation", per_cent(met.mean), slo.multiple))
    });
    let hits = comparison.estimate(variant, |summary| summary.hit_rate);
    let hits = hits.map(|hits| format!("; {} of requests were hits", per_cent(hits.mean)));
    let quality = quality_words(comparison, variant).map(|words| format!("; its images keep {words}"));
    met.into_iter().chain(hits).chain(quality).collect()
}

fn caveats(comparison: &Comparison, variants: &[&str], saturated: &[&str]) -> Vec<String> {
    let mut caveats = Vec::new();
    if !saturated.is_empty() {
        let (queues, were) = if saturated.len() == 1 { ("queue", "was") } else { ("queues", "were") };
        caveats.push(format!(
            "The {queues} of {} {were} still growing at the last arrival: throughput is the steady one, and latency and \
             SLO attainment there depend on how long the trace is.",
            listed(saturated)
        ));
    }
    caveats.extend(comparison.capacities.iter().flat_map(capacity::ranges));
    caveats.extend(comparison.capacities.iter().flat_map(capacity::caveats));
    caveats.extend(old_definitions(comparison));
    caveats.extend(variants.iter().filter_map(|variant| returned(comparison, variant)));
    let lost: Vec<String> = variants.iter().filter_map(|variant| not_served(comparison, variant)).collect();
    caveats.extend(lost);
    match comparison.seeds() {
        0 => {}
        1 => caveats.push("One seed: nothing here says how much these numbers vary.".into()),
        few @ 2..5 => caveats.push(format!("Means over {few} seeds; so few give wide 95 % intervals.")),
        seeds => caveats.push(format!("Means over {seeds} seeds, with 95 % intervals.")),
    }
    caveats
}

/// Returns a caveat on requests answered with a cached image as it was; `None` if there are none.
fn returned(comparison: &Comparison, variant: &str) -> Option<String> {
    let sum = |count: fn(&Summary) -> u64| comparison.runs_of(variant).map(|run| count(&run.summary)).sum::<u64>();
    let (returned, completed) = (sum(|summary| summary.returned), sum(|summary| summary.completed));
    (returned > 0).then(|| {
        let share = per_cent(returned as f64 / completed as f64);
        let quality = quality_words(comparison, variant).map_or_else(
            || "no measure here says how well it fits".to_owned(),
            |words| format!("all its images together keep {words}"),
        );
        format!(
            "{variant} answered {share} of its requests with an image made for another prompt, as it was: {quality}."
        )
    })
}

/// Returns a caveat if results follow an older version of the definitions.
fn old_definitions(comparison: &Comparison) -> Option<String> {
    let oldest = comparison.runs.iter().map(|run| run.summary.definitions).min()?;
    (oldest != Definitions::default()).then(|| {
        format!(
            "These results follow version {oldest} of the definitions (now {}): their steady throughput counts what \
             finished while requests arrived. Run them again before comparing them with newer ones.",
            Definitions::default()
        )
    })
}

fn not_served(comparison: &Comparison, variant: &str) -> Option<String> {
    let sum = |count: fn(&Summary) -> u64| comparison.runs_of(variant).map(|run| count(&run.summary)).sum::<u64>();
    let kinds = [
        ("rejected", sum(|summary| summary.rejected)),
        ("failed", sum(|summary| summary.failed)),
        ("cancelled", sum(|summary| summary.cancelled)),
    ];
    let kinds: Vec<String> =
        kinds.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{count} {kind}")).collect();
    let requests = sum(|summary| summary.requests);
    let words: Vec<&str> = kinds.iter().map(String::as_str).collect();
    (!kinds.is_empty()).then(|| format!("Of {variant}'s {requests} requests: {}.", listed(&words)))
}

/// Joins words to a list: "a", "a and b", "a, b and c".
pub(super) fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

pub(super) fn times(ratio: Estimate) -> String {
    if ratio.mean < 10.0 { format!("{:.2}x", ratio.mean) } else { format!("{:.0}x", ratio.mean) }
}

pub(super) fn interval(ratio: Estimate) -> String {
    ratio.interval().map_or_else(String::new, |(low, high)| format!(" (95 % interval {low:.2} to {high:.2})"))
}

/// Formats a share in whole per cent. A share close to 100 % or 0 % gets two decimals, rounded down, instead of being
/// rounded to all or none.
pub(super) fn per_cent(share: f64) -> String {
    let whole = (share * 100.0).round();
    if (whole >= 100.0 && share < 1.0) || (whole <= 0.0 && share > 0.0) {
        let floored = (share * 1e4).floor() / 1e2;
        return if floored > 0.0 { format!("{floored:.2} %") } else { "less than 0.01 %".to_owned() };
    }
    format!("{whole} %")
}

fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_saturated_comparison_is_about_throughput() {
        let verdict = verdict(&sample::comparison());
        assert_eq!(
            verdict.sentence,
            "On sample, modm-sdxl served 2.50x the requests of vanilla (25.0 against 10.0 per minute); 98 % within 2x of a full generation; 71 % of requests were hits."
        );
        assert!(verdict.caveats[0].starts_with("The queue of vanilla was still growing"), "{:?}", verdict.caveats);
        assert!(verdict.caveats[1].starts_with("One seed"));
    }

    #[test]
    fn of_several_that_keep_up_none_is_the_best() {
        let mut comparison = sample::comparison();
        comparison.runs.push(crate::report::Run { variant: "modm-sana".into(), ..sample::modm() });
        assert!(!verdict(&comparison).sentence.contains("kept up"), "98 % in time is less than what is wanted");
        for run in &mut comparison.runs[1..] {
            run.summary.slo[0].attainment = 0.995;
        }
        assert_eq!(
            verdict(&comparison).sentence,
            "On sample, modm-sdxl and modm-sana kept up with the arrivals: 2.50x the requests of vanilla, which served \
             10.0 per minute. 99 % of requests finished within 190 s with modm-sdxl and 190 s with modm-sana."
        );
    }

    #[test]
    fn one_that_keeps_up_is_about_latency() {
        let mut comparison = sample::comparison();
        comparison.runs[0].timeline = comparison.runs[1].timeline.clone();
        assert!(verdict(&comparison).sentence.contains("no queue grew"));
        for run in &mut comparison.runs {
            run.summary.slo[0].attainment = 0.995;
        }
        let sentence = verdict(&comparison).sentence;
        assert!(
            sentence.contains("every variant kept up") && sentence.contains("within 190 s, against 960 s with vanilla")
        );
    }

    #[test]
    fn nothing_completed_is_said() {
        let mut comparison = sample::comparison();
        comparison.runs.truncate(1);
        comparison.runs[0].summary = Summary { requests: 10, rejected: 10, ..Summary::default() };
        let verdict = verdict(&comparison);
        assert_eq!(verdict.sentence, "On sample, vanilla completed none of its 10 requests.");
        assert!(verdict.caveats.contains(&"Of vanilla's 10 requests: 10 rejected.".to_owned()));
        assert_eq!(super::verdict(&Comparison::default()).sentence, "Nothing was run.");
    }

    #[test]
    fn shares_are_not_rounded_to_all() {
        assert_eq!(per_cent(1.0), "100 %");
        assert_eq!(per_cent(0.9999), "99.99 %");
        assert_eq!(per_cent(0.0), "0 %");
        assert_eq!(per_cent(0.714), "71 %");
    }
}
