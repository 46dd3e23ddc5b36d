//! Figures of the jobs and loads of each worker in a window of time, one figure for each variant.

use super::Figure;
use super::axis::Axis;
use super::over_time::{MOST_STACKED, file_name};
use super::spans::{self, Spans};
use crate::report::read::SpanKind;
use crate::report::{Comparison, Run};

/// Largest number of rows in a figure: more are not readable.
const MOST_ROWS: u16 = 48;

/// Makes one figure for each of the first [`MOST_STACKED`] variants whose first seed has spans of its workers.
pub(super) fn figures(comparison: &Comparison) -> Vec<Figure> {
    let variants = comparison.variants().into_iter().take(MOST_STACKED);
    variants.filter_map(|variant| of_run(comparison, comparison.runs_of(variant).next()?)).collect()
}

fn of_run(comparison: &Comparison, run: &Run) -> Option<Figure> {
    let (from, to) = run.window.filter(|_| !run.spans.is_empty())?;
    let workers = run.spans.iter().map(|span| span.worker).max()? + 1;
    // Kinds have the colours of the figure of workers by model: models first, then the spans without a model.
    let models = &run.timeline.models;
    let kinds: Vec<String> = models.iter().cloned().chain(["loading", "down"].map(str::to_owned)).collect();
    let kind = |span: &crate::report::read::Span| match span.kind {
        SpanKind::Loading => models.len(),
        SpanKind::Down => models.len() + 1,
        SpanKind::Miss | SpanKind::Hit => models.iter().position(|model| *model == span.model).unwrap_or(0),
    };
    let drawn = run.spans.iter().filter(|span| span.worker < MOST_ROWS).map(|span| spans::Span {
        row: usize::from(span.worker),
        kind: kind(span),
        pale: span.kind == SpanKind::Hit,
        from: span.start_s,
        to: span.end_s,
        what: what(span),
    });
    let drawn: Vec<spans::Span> = drawn.collect();
    let has = |place: usize| drawn.iter().any(|span| span.kind == place);
    let last = (0..kinds.len()).rev().find(|place| has(*place)).unwrap_or(0);
    let mut x = Axis::between("seconds", from, to, 8.0);
    // The axis ends with the window instead of at the next round values.
    (x.low, x.high) = (from, to);
    x.ticks.retain(|(value, _)| (from..=to).contains(value));
    let rows = if workers > MOST_ROWS { format!(" The first {MOST_ROWS} of {workers}.") } else { String::new() };
    let several = comparison.variants().len() > 1;
    let name = if several { format!("gantt-{}", file_name(&run.variant)) } else { "gantt".to_owned() };
    Some(Figure::spans(
        &name,
        format!("What each worker of {} did from second {from:.1} to {to:.1}.", run.variant),
        Spans {
            title: format!("What workers did: {}", run.variant),
            subtitle: format!(
                "Jobs by model, hits paler, and loads, of seed {}.{rows}\n{}",
                run.seed,
                comparison.origin()
            ),
            x,
            rows: (0..workers.min(MOST_ROWS)).map(|worker| format!("worker {worker}")).collect(),
            kinds: kinds.into_iter().take(models.len().max(last + 1)).collect(),
            bars: drawn,
        },
    ))
}

/// Formats a span: "hit on sdxl", "2 misses on sd3.5-large", "loading sdxl", "down".
fn what(span: &crate::report::read::Span) -> String {
    let word = span.kind.word();
    match (span.kind, span.requests) {
        (SpanKind::Down, _) => word.to_owned(),
        (SpanKind::Loading, _) => format!("{word} {}", span.model),
        (SpanKind::Miss | SpanKind::Hit, 0 | 1) => format!("{word} on {}", span.model),
        (SpanKind::Miss, requests) => format!("{requests} misses on {}", span.model),
        (SpanKind::Hit, requests) => format!("{requests} hits on {}", span.model),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::Look;
    use crate::report::read::Span;
    use crate::report::sample;

    #[test]
    fn workers_have_rows_and_models_their_colours() {
        let mut comparison = sample::comparison();
        let span = |worker, kind, start_s| Span {
            worker,
            kind,
            model: "large".into(),
            requests: 1,
            start_s,
            end_s: start_s + 30.0,
        };
        comparison.runs[1].window = Some((100.0, 200.0));
        comparison.runs[1].spans = vec![span(0, SpanKind::Hit, 90.0), span(60, SpanKind::Loading, 150.0)];
        let figures = figures(&comparison);
        assert_eq!(figures.len(), 1, "the baseline says nothing");
        let text = figures[0].csv();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines, ["row,kind,from,to,what", "worker 0,large,90,120,hit on large"]);
        let svg = figures[0].svg(Look::default()).expect("a figure");
        assert!(figures[0].name == "gantt-modm-sdxl" && svg.contains("The first 48 of 61."), "{svg}");
    }
}
