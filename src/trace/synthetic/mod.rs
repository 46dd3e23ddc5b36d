//! Seeded synthetic traces: an arrival process and the prompts of users. The settings are the scenario section
//! `[trace.synthetic]` and the flags of `modm trace generate`.
//!
//! Equal settings and seed give equal bytes on every machine. The traces are no model of any one service. Settings that
//! were fitted to published figures say so.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::input::InputError;
use crate::time::{MAX_INPUT_S, Time};
use crate::trace::{Columns, TenantColumn, TextColumn};

mod arrivals;
mod complaint;
mod folder;
mod prompts;
mod vocabulary;

pub use arrivals::Arrivals;
use complaint::{Complaint, above_zero, within};
pub use prompts::Prompts;
pub use vocabulary::Vocabulary;

/// Largest number of requests, which are held in memory with their prompts.
const MOST_REQUESTS: u32 = 100_000_000;

/// Settings of a synthetic trace, as a scenario has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Synthetic {
    /// Number of requests; with `until_s` the largest number.
    pub requests: u32,
    /// Time after which no request arrives, in seconds; absent if the number of requests alone ends the trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_s: Option<f64>,
    /// Arrival process of the requests.
    pub arrivals: Arrivals,
    /// Settings of the prompts.
    pub prompts: Prompts,
    /// Factor on the rates of all arrival processes. The times at which rates change stay.
    pub rate_factor: f64,
    /// Further streams of requests, merged with the first by time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self {
            requests: 10_000,
            until_s: None,
            arrivals: Arrivals::default(),
            prompts: Prompts::default(),
            rate_factor: 1.0,
            parts: Vec::new(),
        }
    }
}

/// Further stream of a synthetic trace: its own arrivals and prompts for a part of the time. Streams together make what
/// one process cannot: crowds on one topic, shares of new topics that grow, tenants that leave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Time from which requests arrive, in seconds of the generated trace. The arrival process begins then.
    #[serde(default)]
    pub from_s: f64,
    /// Time after which no request arrives, in seconds of the generated trace; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_s: Option<f64>,
    /// Arrival process of the requests.
    pub arrivals: Arrivals,
    /// Settings of the prompts. Topics are the part's own.
    #[serde(default)]
    pub prompts: Prompts,
    /// True if the tenants of the part are its own, and not those of the other streams.
    #[serde(default)]
    pub own_tenants: bool,
}

/// Generated trace, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Arrival time of each request, never decreasing.
    pub arrivals: Vec<Time>,
    /// Prompt of each request.
    pub prompts: Vec<String>,
    /// Tenant of each request, numbered in order of first appearance; all 0 if there is one tenant.
    pub tenants: Vec<u32>,
}

impl Generated {
    /// Returns the columns of a trace. They include tenants only if there are several.
    #[must_use]
    pub fn columns(self) -> Columns {
        let prompts: TextColumn = self.prompts.iter().collect();
        // Tenants are numbered as they appear, so a single one has the number 0.
        let several = self.tenants.iter().any(|&tenant| tenant != 0);
        let name = |tenant: &u32| format!("tenant-{tenant}");
        let tenants = several.then(|| self.tenants.iter().map(name).collect::<TenantColumn>());
        Columns { arrivals: self.arrivals, prompts: Some(prompts), tenants, ..Columns::default() }
    }
}

impl Synthetic {
    /// Checks every value. `file` and `section` (`trace.synthetic`) name the values in errors.
    ///
    /// # Errors
    /// Returns an error with the first value that cannot be used and what is accepted.
    pub fn check(&self, file: &Path, section: &str) -> Result<(), InputError> {
        let requests = (!(1..=MOST_REQUESTS).contains(&self.requests))
            .then(|| Complaint::new("requests", self.requests, "expected a number from 1 to 100 million"));
        let complaint = requests
            .or_else(|| self.arrivals.complaint().map(|complaint| complaint.under("arrivals")))
            .or_else(|| self.prompts.complaint().map(|complaint| complaint.under("prompts")))
            .or_else(|| above_zero("until_s", self.until_s.unwrap_or(1.0), MAX_INPUT_S, "expected seconds above 0"))
            .or_else(|| above_zero("rate_factor", self.rate_factor, 1e6, "expected a factor above 0, at most 1e6"))
            .or_else(|| (self.parts.iter().enumerate()).find_map(|(index, part)| part.complaint(index)));
        complaint.map_or(Ok(()), |complaint| Err(complaint.under(section).into_error(file)))
    }

    /// Checks the settings and makes the trace.
    ///
    /// # Errors
    /// Returns an error if a value cannot be used or if the arrivals go on for more than ten years.
    pub fn generate(&self, seed: u64, file: &Path, section: &str) -> Result<Generated, InputError> {
        self.check(file, section)?;
        let fail = |accepted| Complaint::new("requests", self.requests, accepted).under(section).into_error(file);
        let first = self.arrivals.scaled(self.rate_factor);
        let first = match self.until_s {
            None => first.times(self.requests, seed).ok_or_else(|| {
                fail("the trace would last longer than ten years: expected fewer requests or a higher rate")
            })?,
            Some(until) => in_time(&first.times_until(self.requests, seed, until), 0.0),
        };
        // Pairs of time and stream. The sort is stable, so that requests of one time stay in the order of the streams.
        let mut merged: Vec<(Time, usize)> = first.into_iter().map(|time| (time, 0)).collect();
        for (stream, part) in (1..).zip(&self.parts) {
            // Without an end of its own the trace has its number of requests already, and later ones would be cut off.
            let end = self.until_s.or_else(|| merged.last().map(|(last, _)| last.seconds())).unwrap_or(0.0);
            let until = part.until_s.unwrap_or(MAX_INPUT_S).min(end) - part.from_s;
            let times = part.arrivals.scaled(self.rate_factor).times_until(self.requests, seed_of(seed, stream), until);
            merged.extend(in_time(&times, part.from_s).into_iter().map(|time| (time, stream)));
            merged.sort_by_key(|(time, _)| *time);
            merged.truncate(self.requests as usize);
        }
        if merged.is_empty() {
            return Err(fail("no request arrives before until_s: expected a later end or a higher rate"));
        }
        Ok(self.with_prompts(&merged, seed))
    }

    /// Adds the prompts of each stream to its arrivals.
    fn with_prompts(&self, merged: &[(Time, usize)], seed: u64) -> Generated {
        let settings = |stream: usize| if stream == 0 { &self.prompts } else { &self.parts[stream - 1].prompts };
        let mut streams = Vec::new();
        for stream in 0..=self.parts.len() {
            let count = merged.iter().filter(|(_, of)| *of == stream).count() as u32;
            let (prompts, tenants) = settings(stream).generate(count, seed_of(seed, stream));
            streams.push(prompts.into_iter().zip(tenants));
        }
        let mut generated = Generated { arrivals: Vec::new(), prompts: Vec::new(), tenants: Vec::new() };
        // Tenants are numbered again in the order of first appearance in the whole trace.
        let mut numbers: BTreeMap<(usize, u32), u32> = BTreeMap::new();
        for &(time, stream) in merged {
            let (prompt, tenant) = streams[stream].next().expect("each stream has as many prompts as arrivals");
            let owner = if stream > 0 && self.parts[stream - 1].own_tenants { stream } else { 0 };
            let next = numbers.len() as u32;
            generated.arrivals.push(time);
            generated.prompts.push(prompt);
            generated.tenants.push(*numbers.entry((owner, tenant)).or_insert(next));
        }
        generated
    }
}

impl Part {
    /// Returns the first value that cannot be used, under the key of the part.
    fn complaint(&self, index: usize) -> Option<Complaint> {
        const SECONDS: &str = "expected seconds from 0 to ten years";
        let until = self.until_s.unwrap_or(MAX_INPUT_S);
        within("from_s", self.from_s, 0.0..=MAX_INPUT_S, SECONDS)
            .or_else(|| within("until_s", until, 0.0..=MAX_INPUT_S, SECONDS))
            .or_else(|| {
                (until <= self.from_s).then(|| Complaint::new("until_s", until, "expected a time after from_s"))
            })
            .or_else(|| self.arrivals.complaint().map(|complaint| complaint.under("arrivals")))
            .or_else(|| self.prompts.complaint().map(|complaint| complaint.under("prompts")))
            .map(|complaint| complaint.under(&format!("parts.{index}")))
    }
}

/// Converts seconds after `from` to times. Each time is converted once.
fn in_time(seconds: &[f64], from: f64) -> Vec<Time> {
    seconds.iter().filter_map(|seconds| Time::from_seconds(from + seconds)).collect()
}

/// Returns the seed of a stream: the trace's own for the first, so that parts leave its requests as they are.
const fn seed_of(seed: u64, stream: usize) -> u64 {
    // Multiples of an odd number differ for all streams.
    seed.wrapping_add((stream as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generate(settings: &Synthetic, seed: u64) -> Generated {
        settings.generate(seed, Path::new("test"), "trace.synthetic").expect("good settings")
    }

    #[test]
    fn equal_seeds_give_equal_traces_and_others_differ() {
        let settings = Synthetic { requests: 500, ..Synthetic::default() };
        let trace = generate(&settings, 1);
        assert_eq!(trace, generate(&settings, 1));
        let other = generate(&settings, 2);
        assert_ne!(trace.arrivals, other.arrivals);
        assert_ne!(trace.prompts, other.prompts);
        assert_eq!((trace.arrivals.len(), trace.prompts.len(), trace.tenants.len()), (500, 500, 500));
    }

    #[test]
    fn prompts_do_not_depend_on_arrivals_and_a_longer_trace_starts_alike() {
        let short = Synthetic { requests: 300, ..Synthetic::default() };
        let long =
            Synthetic { requests: 400, arrivals: Arrivals::Constant { rate_per_min: 5.0 }, ..Synthetic::default() };
        assert_eq!(generate(&short, 9).prompts, generate(&long, 9).prompts[..300]);
    }

    #[test]
    fn settings_read_from_toml_with_defaults_and_refuse_unknown_keys() {
        let text = "requests = 7\narrivals = { process = \"gamma\", rate_per_min = 3 }\nprompts = { repeats = 0.5 }";
        let settings: Synthetic = toml::from_str(text).expect("good TOML");
        assert_eq!(settings.arrivals, Arrivals::Gamma { rate_per_min: 3.0, cv: 2.0 });
        assert_eq!(settings.prompts, Prompts { repeats: 0.5, ..Prompts::default() });
        let written = toml::to_string(&settings).expect("writes");
        assert_eq!(toml::from_str::<Synthetic>(&written).expect("reads back"), settings);
        for bad in ["request = 7", "arrivals = { process = \"poisson\", cv = 2 }", "prompts = { repeat = 0.5 }"] {
            assert!(toml::from_str::<Synthetic>(bad).is_err(), "{bad}");
        }
        let steps: Synthetic =
            toml::from_str("arrivals = { process = \"steps\", steps = [[60, 5], [120, 10.5]] }").expect("good TOML");
        assert_eq!(steps.arrivals, Arrivals::Steps { steps: vec![(60.0, 5.0), (120.0, 10.5)], even: false });
    }

    /// A calm stream and a crowd on one topic from 100 to 200 seconds.
    fn with_crowd() -> Synthetic {
        let crowd = "[[parts]]\nfrom_s = 100\nuntil_s = 200\narrivals = { process = \"poisson\", rate_per_min = 60 }\n\
                     prompts = { topics = 1 }";
        let first = "until_s = 600\narrivals = { process = \"poisson\", rate_per_min = 20 }\n";
        toml::from_str(&format!("{first}{crowd}")).expect("good TOML")
    }

    #[test]
    fn parts_come_between_the_requests_of_the_first_stream_and_leave_these_as_they_are() {
        let whole = generate(&with_crowd(), 3);
        let alone = generate(&Synthetic { parts: Vec::new(), ..with_crowd() }, 3);
        assert!(whole.arrivals.is_sorted() && whole.arrivals.last().expect("a row").seconds() <= 600.0);
        // What is left without the rows of the first stream is the crowd.
        let mut first = alone.arrivals.iter().zip(&alone.prompts).peekable();
        let rows = whole.arrivals.iter().zip(&whole.prompts);
        let crowd: Vec<_> = rows.filter(|row| first.next_if_eq(row).is_none()).collect();
        assert!(first.peek().is_none(), "every request of the first stream is there, in order");
        assert!((60..140).contains(&crowd.len()), "100 on average: {}", crowd.len());
        assert!(crowd.iter().all(|(time, _)| (100.0..=200.0).contains(&time.seconds())));
    }

    #[test]
    fn a_part_with_tenants_of_its_own_shares_none() {
        let tenants = |own_tenants: bool| {
            let mut settings = with_crowd();
            settings.prompts.tenants = 2;
            settings.parts[0].prompts.tenants = 3;
            settings.parts[0].own_tenants = own_tenants;
            generate(&settings, 3).tenants.iter().max().copied()
        };
        assert_eq!((tenants(false), tenants(true)), (Some(2), Some(4)));
    }

    #[test]
    fn a_rate_factor_gives_so_many_times_the_requests_in_the_same_time() {
        let count = |rate_factor| generate(&Synthetic { rate_factor, ..with_crowd() }, 3).arrivals.len();
        let times = count(10.0) as f64 / count(1.0) as f64;
        assert!((8.0..12.0).contains(&times), "{times}");
    }

    #[test]
    fn without_an_end_the_number_of_requests_ends_all_streams() {
        let settings = Synthetic { until_s: None, requests: 80, ..with_crowd() };
        let whole = generate(&settings, 3);
        assert_eq!((whole.arrivals.len(), whole.prompts.len(), whole.tenants.len()), (80, 80, 80));
        let alone = generate(&Synthetic { parts: Vec::new(), ..settings }, 3);
        assert!(whole.arrivals.last() < alone.arrivals.last(), "requests of the crowd count too");
    }

    #[test]
    fn bad_values_of_parts_are_named() {
        let error = |change: fn(&mut Synthetic)| {
            let mut settings = with_crowd();
            change(&mut settings);
            settings.generate(3, Path::new("a.toml"), "trace.synthetic").expect_err("bad").to_string()
        };
        let until = error(|settings| settings.parts[0].until_s = Some(50.0));
        assert_eq!(until, "a.toml: trace.synthetic.parts.0.until_s = 50: expected a time after from_s");
        let from = error(|settings| settings.parts[0].from_s = f64::NAN);
        assert!(from.contains("parts.0.from_s = NaN: expected seconds from 0"), "{from}");
        let rate = error(|settings| settings.parts[0].arrivals = Arrivals::Constant { rate_per_min: 0.0 });
        assert!(rate.contains("parts.0.arrivals.rate_per_min = 0"), "{rate}");
        let factor = error(|settings| settings.rate_factor = 0.0);
        assert!(factor.contains("rate_factor = 0: expected a factor above 0"), "{factor}");
        let never = error(|settings| (settings.until_s, settings.parts) = (Some(1e-9), Vec::new()));
        assert!(never.contains("no request arrives before until_s"), "{never}");
    }

    #[test]
    fn errors_name_file_key_value_and_what_is_accepted() {
        let settings = Synthetic { arrivals: Arrivals::Poisson { rate_per_min: -1.0 }, ..Synthetic::default() };
        let error = settings.check(Path::new("a.toml"), "trace.synthetic").expect_err("a negative rate");
        assert_eq!(
            error.to_string(),
            "a.toml: trace.synthetic.arrivals.rate_per_min = -1: expected requests per minute above 0, at most 1e9"
        );
        assert!(Synthetic { requests: 0, ..Synthetic::default() }.check(Path::new("a"), "").is_err());
        let slow = Synthetic { arrivals: Arrivals::Constant { rate_per_min: 1e-3 }, ..Synthetic::default() };
        assert!(slow.generate(0, Path::new("a"), "").expect_err("too long").to_string().contains("ten years"));
    }
}
