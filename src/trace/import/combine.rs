//! Combination of the prompts of one source with the arrivals of another, which are sorted, sliced, shuffled and
//! scaled. Every step that changes or drops rows leaves a note. Sorts are stable: rows with equal times keep the order
//! of their file.

use std::collections::BTreeMap;
use std::path::Path;

use rand::RngExt;

use crate::draw::{Purpose, stream};
use crate::input::InputError;
use crate::time::{Duration, MAX_INPUT_S, Time};
use crate::trace::{Columns, TenantColumn, TextColumn, Trace};

use super::{Note, Source};

/// Changes to the sources, in the order in which they are made.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Time of the source before which requests are left out. It becomes time zero.
    pub from: Option<Time>,
    /// Time of the source from which requests are left out, up to the end.
    pub until: Option<Time>,
    /// Number of requests that are kept, from the first.
    pub first: Option<usize>,
    /// True if the requests of a tenant get prompts that follow each other in the list, tenant by tenant, instead of
    /// prompts in order of arrival: users come back to their own prompts.
    pub by_tenant: bool,
    /// Seed with which the prompts are permuted. The same prompts and arrivals remain, without locality.
    pub shuffle: Option<u64>,
    /// Pace at which requests arrive.
    pub pace: Option<Pace>,
}

/// Pace at which requests arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Number of requests a minute from the first to the last. All gaps are stretched alike.
    PerMinute(f64),
    /// Factor that multiplies every arrival time.
    Scale(f64),
}

/// Trace made from sources.
#[derive(Clone, Debug)]
pub struct Combined {
    /// Requests of the result, without embeddings.
    pub trace: Trace,
    /// Row of the prompts' source for each request, to select rows of its embeddings.
    pub prompt_rows: Vec<u32>,
    /// Notes on what was done.
    pub notes: Vec<Note>,
}

/// Request of the result: its arrival, and its rows in the source of arrivals and in the source of prompts.
#[derive(Clone, Copy)]
struct Pick {
    arrival: Time,
    timing: u32,
    prompt: u32,
}

/// Takes arrivals from `timing`, and prompts from `list` or, without a list, from `timing` too. Each other column comes
/// from `timing` if it has the column, and otherwise from `list`.
///
/// # Errors
/// Returns an error if a source lacks what is needed of it, if no request is left, or if the pace is not possible.
pub fn combine(
    timing: (&Path, &Source),
    list: Option<(&Path, &Source)>,
    selection: &Selection,
) -> Result<Combined, InputError> {
    let (file, source) = timing;
    let mut notes = Vec::new();
    let mut picks = slice(file, source, selection, &mut notes)?;
    if let Some((list_file, list)) = list {
        if list.prompts.is_none() {
            let message = list.missing.prompts.as_deref().unwrap_or("has no prompts");
            return Err(InputError::new(list_file, message).key("--prompts"));
        }
        pair(&mut picks, source, list, &mut notes);
        if selection.by_tenant {
            deal_by_tenant(&mut picks, source, file, &mut notes)?;
        }
    }
    if selection.by_tenant && list.is_none() {
        let message = "deals the prompts of another file than that of the times: name one with --prompts or --arrivals";
        return Err(InputError::new(file, message).key("--prompts-by-tenant"));
    }
    if let Some(first) = selection.first {
        dropped(picks.len().saturating_sub(first), format!("requests after the first {first} dropped"), &mut notes);
        picks.truncate(first);
    }
    if picks.is_empty() {
        return Err(InputError::new(file, format!("no request is left of {}", source.len())));
    }
    if let Some(seed) = selection.shuffle {
        shuffle(&mut picks, seed);
        notes
            .push(Note::new(format!("prompts shuffled with seed {seed}: arrivals and prompts as before, no locality")));
    }
    if let Some(pace) = selection.pace {
        scale(&mut picks, pace, file, &mut notes)?;
    }
    let prompts_of = list.map_or(source, |(_, list)| list);
    if prompts_of.prompts.is_none() {
        notes.push(Note::new(
            "there are no prompts: policies that look at prompts need them, or embeddings beside this trace; \
             `--prompts FILE` adds them",
        ));
    }
    let columns = gather(&picks, source, list.map(|(_, list)| list), &mut notes);
    let prompt_rows = picks.iter().map(|pick| pick.prompt).collect();
    Ok(Combined { trace: Trace::new(columns), prompt_rows, notes })
}

fn dropped(count: usize, what: impl Into<String>, notes: &mut Vec<Note>) {
    if count > 0 {
        notes.push(Note::counted(count, what));
    }
}

/// Returns the rows in order of arrival. Rows of a source without arrivals keep the order of its file.
fn ordered(source: &Source, notes: &mut Vec<Note>) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..source.len() as u32).collect();
    if let Some(arrivals) = &source.arrivals
        && !arrivals.is_sorted()
    {
        let early = arrivals.windows(2).filter(|pair| pair[1] < pair[0]).count();
        notes.push(Note::counted(
            early,
            "rows arrive before the row above them: sorted, equal times in the order of the file",
        ));
        rows.sort_by_key(|&row| arrivals[row as usize]); // a stable sort
    }
    rows
}

/// Returns the requests within the slice of time, in order of arrival.
fn slice(file: &Path, source: &Source, selection: &Selection, notes: &mut Vec<Note>) -> Result<Vec<Pick>, InputError> {
    let arrivals = source.arrivals.as_ref().ok_or_else(|| {
        let general = "has no arrival times: name a file that has them with --arrivals";
        InputError::new(file, source.missing.times.as_deref().unwrap_or(general))
    })?;
    let from = selection.from.unwrap_or(Time::ZERO);
    let until = selection.until.unwrap_or(Time::MAX);
    let mut picks = Vec::with_capacity(arrivals.len());
    for row in ordered(source, notes) {
        let time = arrivals[row as usize];
        if (from..until).contains(&time) {
            // Without `from` the source's own zero stays, also if the first request arrives later.
            let arrival = Time::from_nanoseconds(time.since(from).nanoseconds());
            picks.push(Pick { arrival, timing: row, prompt: row });
        }
    }
    dropped(arrivals.len() - picks.len(), "requests outside the slice of time dropped", notes);
    Ok(picks)
}

/// Gives each request a prompt of the list: the prompt that the request asks for by number, or else the next one.
fn pair(picks: &mut Vec<Pick>, source: &Source, list: &Source, notes: &mut Vec<Note>) {
    let before = picks.len();
    // Numbers refer to a list of prompts. A source with arrivals of its own is a trace, whose prompts are taken in
    // order of arrival.
    if let (Some(wanted), None) = (&source.prompt_numbers, &list.arrivals) {
        picks.retain_mut(|pick| {
            let number = wanted[pick.timing as usize];
            let row = match &list.numbers {
                // A list without some of its lines keeps the numbers of the lines that are left, which rise.
                Some(numbers) => numbers.binary_search(&number).ok(),
                None => Some(number as usize).filter(|&row| row < list.len()),
            };
            // A request without a prompt is dropped by the next line, so its row is of no account.
            pick.prompt = row.unwrap_or_default() as u32;
            row.is_some()
        });
        notes.push(Note::new("requests ask for prompts of the list by number"));
        dropped(before - picks.len(), "requests dropped that ask for a prompt the list does not have", notes);
        return;
    }
    let rows = ordered(list, notes);
    picks.truncate(rows.len());
    for (pick, &row) in picks.iter_mut().zip(&rows) {
        pick.prompt = row;
    }
    dropped(before - picks.len(), "arrivals dropped for want of prompts", notes);
    dropped(rows.len() - picks.len(), "prompts dropped for want of arrivals", notes);
}

/// Deals the prompts anew: in their order to the requests of the tenant that came first, then to those of the next.
fn deal_by_tenant(picks: &mut [Pick], source: &Source, file: &Path, notes: &mut Vec<Note>) -> Result<(), InputError> {
    let Some(tenants) = &source.tenants else {
        return Err(InputError::new(file, "names no tenants").key("--prompts-by-tenant"));
    };
    let prompts: Vec<u32> = picks.iter().map(|pick| pick.prompt).collect();
    let mut rows: BTreeMap<&str, (usize, Vec<usize>)> = BTreeMap::new();
    for (at, pick) in picks.iter().enumerate() {
        rows.entry(tenants.get(pick.timing as usize)).or_insert((at, Vec::new())).1.push(at);
    }
    let mut in_turn: Vec<(usize, Vec<usize>)> = rows.into_values().collect();
    in_turn.sort_unstable();
    for (at, prompt) in in_turn.into_iter().flat_map(|(_, rows)| rows).zip(prompts) {
        picks[at].prompt = prompt;
    }
    notes.push(Note::new("prompts dealt tenant by tenant: each has prompts that follow each other in the list"));
    Ok(())
}

/// Permutes the prompts with the algorithm of Fisher and Yates.
fn shuffle(picks: &mut [Pick], seed: u64) {
    let mut generator = stream(seed, Purpose::Shuffle, 0);
    for last in (1..picks.len()).rev() {
        let other = generator.random_range(0..=last as u32) as usize; // a draw of u32 is the same on every machine
        let prompt = picks[last].prompt;
        picks[last].prompt = std::mem::replace(&mut picks[other].prompt, prompt);
    }
}

fn scale(picks: &mut [Pick], pace: Pace, file: &Path, notes: &mut Vec<Note>) -> Result<(), InputError> {
    let span = picks[picks.len() - 1].arrival.since(picks[0].arrival);
    // The gaps are counted as in `Trace::mean_rate_per_min`, so that this rate is the one that `trace inspect` shows.
    let (factor, key) = match pace {
        Pace::Scale(factor) => (factor, "--time-scale"),
        Pace::PerMinute(_) if span == Duration::ZERO => {
            let message = "all requests arrive at one instant: there is no rate to scale";
            return Err(InputError::new(file, message).key("--rate-per-min"));
        }
        Pace::PerMinute(rate) => ((picks.len() - 1) as f64 * 60.0 / rate / span.seconds(), "--rate-per-min"),
    };
    for pick in picks {
        let seconds = pick.arrival.seconds() * factor;
        let scaled = Time::from_seconds(seconds).filter(|_| seconds <= MAX_INPUT_S);
        pick.arrival = scaled.ok_or_else(|| {
            InputError::new(file, "expected a pace at which the trace lasts at most ten years").value(key, factor)
        })?;
    }
    notes.push(Note::new(format!("arrival times multiplied by {factor}")));
    Ok(())
}

fn gather(picks: &[Pick], timing: &Source, list: Option<&Source>, notes: &mut Vec<Note>) -> Columns {
    let texts = |column: &dyn Fn(&Source) -> Option<&TextColumn>| -> Option<TextColumn> {
        if let Some(column) = column(timing) {
            return Some(picks.iter().map(|pick| column.get(pick.timing as usize)).collect());
        }
        let column = column(list?)?;
        Some(picks.iter().map(|pick| column.get(pick.prompt as usize)).collect())
    };
    let mut request_ids = texts(&|source| source.request_ids.as_ref());
    // Ids that come from a list repeat where several requests ask for one prompt.
    if request_ids.as_ref().is_some_and(|ids| ids.first_repeat().is_some()) {
        notes.push(Note::new("request ids left out, since prompts occur more than once: rows are numbered instead"));
        request_ids = None;
    }
    let prompts = list.unwrap_or(timing).prompts.as_ref();
    let deadlines = timing.deadlines.as_ref().map(|deadlines| {
        let each = picks.iter().map(|pick| (pick.arrival, deadlines[pick.timing as usize]));
        // Deadlines are times after arrival in a source, so scaling the arrivals does not scale them.
        each.map(|(arrival, deadline)| deadline.map_or(Time::MAX, |after| arrival + after)).collect()
    });
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in timing.extra.iter().chain(list.into_iter().flat_map(|list| &list.extra)) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let named = |source: &'_ Source, wanted: &str| source.extra.iter().position(|(name, _)| name == wanted);
    let extra = names.iter().filter_map(|&name| {
        let column = texts(&|source| Some(&source.extra[named(source, name)?].1))?;
        Some((name.to_owned(), column))
    });
    Columns {
        arrivals: picks.iter().map(|pick| pick.arrival).collect(),
        request_ids,
        prompts: prompts.map(|prompts| picks.iter().map(|pick| prompts.get(pick.prompt as usize)).collect()),
        tenants: texts(&|source| source.tenants.as_ref()).map(|tenants| tenants.iter().collect::<TenantColumn>()),
        deadlines,
        extra: extra.collect(),
        ..Columns::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::import::merge;

    fn timing(arrivals_s: &[f64]) -> Source {
        let arrivals = arrivals_s.iter().map(|&seconds| Time::from_seconds(seconds).unwrap()).collect();
        Source { arrivals: Some(arrivals), ..Source::default() }
    }

    fn list(prompts: &[&str]) -> Source {
        Source { prompts: Some(prompts.iter().collect()), ..Source::default() }
    }

    fn run(timing: &Source, list: Option<&Source>, selection: &Selection) -> Result<Combined, String> {
        let list = list.map(|list| (Path::new("p"), list));
        combine((Path::new("a"), timing), list, selection).map_err(|error| error.to_string())
    }

    fn shown(trace: &Trace) -> Vec<(f64, &str)> {
        (0..trace.len()).map(|row| (trace.arrivals()[row].seconds(), trace.prompt(row).unwrap_or("-"))).collect()
    }

    fn notes(notes: &[Note]) -> Vec<String> {
        notes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn prompts_may_be_dealt_tenant_by_tenant() {
        let tenants = Some(["a", "b", "a", "c", "b", "a"].into_iter().collect());
        let source = Source { tenants, ..timing(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) };
        let prompts = list(&["0", "1", "2", "3", "4", "5"]);
        let selection = Selection { by_tenant: true, ..Selection::default() };
        let (timing_file, list_file) = (Path::new("t.csv"), Path::new("p.txt"));
        let dealt = combine((timing_file, &source), Some((list_file, &prompts)), &selection).unwrap();
        let dealt: Vec<_> = (0..6).filter_map(|row| dealt.trace.prompt(row).map(str::to_owned)).collect();
        assert_eq!(dealt, ["0", "3", "1", "5", "4", "2"]);
        let nobody = combine((timing_file, &timing(&[1.0])), Some((list_file, &prompts)), &selection);
        assert_eq!(nobody.err().unwrap().to_string(), "t.csv: --prompts-by-tenant: names no tenants");
    }

    #[test]
    fn the_shorter_source_decides() {
        let combined = run(&timing(&[1.0, 2.0, 3.0]), Some(&list(&["x", "y"])), &Selection::default()).unwrap();
        assert_eq!(shown(&combined.trace), [(1.0, "x"), (2.0, "y")]);
        assert_eq!(notes(&combined.notes), ["1 arrivals dropped for want of prompts"]);
        let combined = run(&timing(&[1.0]), Some(&list(&["x", "y"])), &Selection::default()).unwrap();
        assert_eq!(notes(&combined.notes), ["1 prompts dropped for want of arrivals"]);
    }

    #[test]
    fn sorts_are_stable_and_counted() {
        let both = Source { prompts: list(&["x", "y", "z", "w"]).prompts, ..timing(&[2.0, 1.0, 2.0, 1.0]) };
        let combined = run(&both, None, &Selection::default()).unwrap();
        assert_eq!(shown(&combined.trace), [(1.0, "y"), (1.0, "w"), (2.0, "x"), (2.0, "z")]);
        assert_eq!(combined.prompt_rows, [1, 3, 0, 2]);
        assert!(notes(&combined.notes)[0].starts_with("2 rows arrive before the row above them: sorted"));
    }

    #[test]
    fn numbers_select_prompts() {
        let asking = Source { prompt_numbers: Some(vec![2, 0, 1, 7]), ..timing(&[1.0, 2.0, 3.0, 4.0]) };
        let gap = Source { numbers: Some(vec![0, 2]), ..list(&["x", "z"]) };
        let combined = run(&asking, Some(&gap), &Selection::default()).unwrap();
        assert_eq!(shown(&combined.trace), [(1.0, "z"), (2.0, "x")]);
        let dropped = "2 requests dropped that ask for a prompt the list does not have";
        assert_eq!(notes(&combined.notes), ["requests ask for prompts of the list by number", dropped]);
    }

    #[test]
    fn slices_then_scales() {
        let seconds = |from: f64| Time::from_seconds(from);
        let slice = Selection { from: seconds(2.0), until: seconds(5.0), ..Selection::default() };
        let source = timing(&[1.0, 2.0, 3.0, 4.5, 5.0]);
        assert_eq!(shown(&run(&source, None, &slice).unwrap().trace), [(0.0, "-"), (1.0, "-"), (2.5, "-")]);
        let paced = |pace| run(&source, None, &Selection { pace: Some(pace), ..slice.clone() });
        assert_eq!(shown(&paced(Pace::Scale(2.0)).unwrap().trace)[2], (5.0, "-"));
        // Two gaps at 12 a minute last 10 s.
        assert_eq!(shown(&paced(Pace::PerMinute(12.0)).unwrap().trace)[2], (10.0, "-"));
        assert!(paced(Pace::Scale(1e9)).unwrap_err().contains("--time-scale = 1000000000: expected a pace"));
        let first = Selection { first: Some(1), pace: Some(Pace::PerMinute(1.0)), ..Selection::default() };
        assert!(run(&source, None, &first).unwrap_err().contains("--rate-per-min: all requests arrive at one instant"));
    }

    #[test]
    fn says_what_is_missing() {
        let nothing = Selection { from: Time::from_seconds(9.0), ..Selection::default() };
        assert_eq!(run(&timing(&[1.0]), None, &nothing).unwrap_err(), "a: no request is left of 1");
        assert!(run(&list(&["x"]), None, &Selection::default()).unwrap_err().starts_with("a: has no arrival times"));
        let other = timing(&[1.0]);
        assert_eq!(run(&other, Some(&other), &Selection::default()).unwrap_err(), "p: --prompts: has no prompts");
    }

    #[test]
    fn a_shuffle_moves_prompts_and_nothing_else() {
        let prompts: Vec<String> = (0..50).map(|row| row.to_string()).collect();
        let times: Vec<f64> = (0..50).map(f64::from).collect();
        let list = list(&prompts.iter().map(String::as_str).collect::<Vec<_>>());
        let shuffled = |seed| {
            let selection = Selection { shuffle: Some(seed), ..Selection::default() };
            let combined = run(&timing(&times), Some(&list), &selection).unwrap();
            assert_eq!(combined.trace.arrivals().len(), 50);
            (0..50).map(|row| combined.trace.prompt(row).unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (one, two) = (shuffled(1), shuffled(2));
        assert_eq!(one, shuffled(1));
        assert!(one != two && one != prompts);
        let mut sorted = one;
        sorted.sort_by_key(|prompt| prompt.parse::<u32>().unwrap());
        assert_eq!(sorted, prompts);
    }

    #[test]
    fn deadlines_and_tenants_follow_their_request() {
        let both = Source {
            deadlines: Some(vec![None, Duration::from_seconds(5.0)]),
            tenants: Some(["t", "u"].iter().collect()),
            request_ids: Some(["i", "j"].iter().collect()),
            extra: vec![("steps".to_owned(), ["30", "40"].iter().collect())],
            ..timing(&[2.0, 1.0])
        };
        let selection = Selection { pace: Some(Pace::Scale(10.0)), ..Selection::default() };
        let combined = run(&both, Some(&list(&["x", "y"])), &selection).unwrap();
        let trace = &combined.trace;
        assert_eq!(trace.request(0).deadline, Time::from_seconds(15.0));
        assert_eq!((trace.request(1).deadline, trace.label(0)), (None, "j".into()));
        assert_eq!((trace.tenant_name(trace.tenant(0)), trace.prompt(0)), (Some("u"), Some("x")));
        let mut bytes = Vec::new();
        crate::trace::write_requests(&mut bytes, trace).unwrap();
        let written = "request_id,arrival_s,prompt,tenant,deadline_s,steps\nj,10.000000000,x,u,5.000000000,40\ni,20.000000000,y,t,,30\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), written);
    }

    #[test]
    fn merges_by_time() {
        let trace = |times: &[f64], prompts: &[&str], tenants: bool| {
            let tenants = tenants.then(|| prompts.iter().collect());
            run(&Source { tenants, ..timing(times) }, Some(&list(prompts)), &Selection::default()).unwrap().trace
        };
        let (a, b) = (trace(&[1.0, 3.0], &["x", "y"], false), trace(&[1.0, 2.0], &["z", "w"], true));
        let (merged, notes) = merge(&[(Path::new("a"), &a), (Path::new("b"), &b)]).unwrap();
        assert_eq!(shown(&merged), [(1.0, "x"), (1.0, "z"), (2.0, "w"), (3.0, "y")]);
        assert_eq!(merged.tenant_name(merged.tenant(0)), Some(""));
        assert_eq!(merged.tenant_name(merged.tenant(1)), Some("z"));
        assert_eq!(notes[1], Note::counted(2, "requests of b"));
        let bare = run(&timing(&[1.0]), None, &Selection::default()).unwrap().trace;
        let error = merge(&[(Path::new("a"), &a), (Path::new("c"), &bare)]).unwrap_err();
        assert_eq!(error.to_string(), "c: --merge: expected prompts in all traces or in none; a differs");
    }
}
