//! Figures of a sweep. A figure shows a measure against the varied key that has the most numbers as values, with one
//! curve for each combination of the other keys, averaged over seeds. If no key has numbers, there is one bar for each
//! combination. A point with a queue that was still growing has a ring, such a bar has a star.

use std::collections::{BTreeMap, BTreeSet};

use super::Figure;
use super::axis::Axis;
use super::bars::{Bar, Bars, highest};
use super::lines::{Curve, Dots, Lines};
use crate::metrics::summary::Summary;
use crate::report::{SweepRow, steady};

/// Measure of a run.
type Measure = fn(&Summary) -> Option<f64>;

/// Names of the figures with their titles, the units on the axis, and the measures.
const MEASURES: [(&str, &str, &str, Measure); 8] = [
    ("throughput", "Steady throughput", "completed requests per minute while requests arrive", steady),
    ("violations", "Violations of the first SLO", "per cent of all requests", |summary| {
        Some(100.0 * summary.slo.first()?.violation_rate)
    }),
    ("p99", "99th percentile of latency", "seconds", |summary| Some(summary.latency_s?.p99)),
    ("hit-rate", "Hit rate", "per cent of the routed requests", |summary| Some(100.0 * summary.hit_rate?)),
    ("quality", "Mean quality of the images", "points of CLIPScore", |summary| summary.quality.clip()),
    ("gpu-seconds", "GPU time of an image", "GPU seconds per completed image", |summary| {
        summary.serving_gpu_s_per_request
    }),
    ("energy", "Energy of an image", "kJ per completed image", |summary| Some(summary.energy_j_per_image? / 1000.0)),
    ("cost", "Cost of a thousand images", "dollars per thousand completed images", |summary| {
        Some(1000.0 * summary.cost_usd_per_image?)
    }),
];

/// Maximum number of curves in a figure: more would hide each other.
const MOST_CURVES: usize = 16;
/// Maximum number of bars in a figure: more are not readable.
const MOST_BARS: usize = 30;

/// Sweep and the keys that tell its curves or bars apart.
struct Swept<'a> {
    origin: &'a str,
    keys: &'a [String],
    rows: &'a [SweepRow],
    /// Indices of the keys that tell curves or bars apart: all but the key on the axis and the seed.
    others: Vec<usize>,
}

/// Makes the figures of a sweep. `origin` says where the numbers come from.
#[must_use]
pub fn swept(origin: &str, keys: &[String], rows: &[SweepRow]) -> Vec<Figure> {
    let across = axis_key(keys, rows);
    let others = (0..keys.len()).filter(|key| Some(*key) != across && keys[*key] != "seed").collect();
    let swept = Swept { origin, keys, rows, others };
    let figure = |measure| across.map_or_else(|| swept.bars(measure), |across| swept.curves(across, measure));
    MEASURES.iter().filter_map(figure).collect()
}

/// Returns the index of the key for the axis; `None` if no key is suitable. All values of a suitable key are numbers,
/// and different ones. Of several such keys, the one with the most values is taken. Seeds are never the axis.
fn axis_key(keys: &[String], rows: &[SweepRow]) -> Option<usize> {
    let distinct = |key: usize| {
        let values: BTreeSet<&str> = rows.iter().map(|row| row.values[key].as_str()).collect();
        let numbers: Option<BTreeSet<u64>> = values.iter().map(|value| number(value).map(ordered)).collect();
        // Texts such as 1 and 1.0 are two values at one place, which an axis would not tell apart.
        let apart = numbers.is_some_and(|numbers| numbers.len() == values.len());
        if apart && keys[key] != "seed" { values.len() } else { 0 }
    };
    // `max_by_key` takes the last of equals. The second part of the key makes it take the first.
    let best = (0..keys.len()).max_by_key(|key| (distinct(*key), usize::MAX - key))?;
    (distinct(best) > 1).then_some(best)
}

/// Returns the place of a value on an axis: a number itself, or the number of GPUs of a list of groups of GPUs.
fn number(value: &str) -> Option<f64> {
    if let Ok(number) = value.parse::<f64>() {
        return Some(number).filter(|number| number.is_finite());
    }
    let table = toml::from_str::<toml::Table>(&format!("groups = {value}")).ok()?;
    let groups = table.get("groups")?.as_array()?;
    let counts: Option<Vec<i64>> = groups.iter().map(|group| group.get("count")?.as_integer()).collect();
    counts.filter(|counts| !counts.is_empty()).map(|counts| counts.iter().sum::<i64>() as f64)
}

/// Place on the axis and mean over seeds, by series and place.
type Means = BTreeMap<(usize, u64), (f64, Mean)>;

/// Mean of values: their sum, their count, and whether the queue of any of the runs was still growing.
#[derive(Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: f64,
    growing: bool,
}

impl Mean {
    fn add(&mut self, value: f64, growing: bool) {
        self.sum += value;
        self.count += 1.0;
        self.growing |= growing;
    }

    fn value(self) -> f64 {
        self.sum / self.count
    }
}

impl Swept<'_> {
    fn series(&self, row: &SweepRow) -> String {
        self.others.iter().map(|key| row.values[*key].as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Returns the names of the keys that tell curves and bars apart.
    fn other_keys(&self) -> String {
        self.others.iter().map(|key| self.keys[*key].as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Returns the label of a key's axis: the last part of the key, which has the unit, then the whole key. Groups of
    /// GPUs are shown as a number of GPUs.
    fn axis_label(&self, across: usize) -> String {
        let key = self.keys[across].as_str();
        let groups = self.rows.iter().any(|row| row.values[across].parse::<f64>().is_err());
        if groups {
            return format!("GPUs ({key})");
        }
        key.rsplit_once('.').map_or_else(|| key.to_owned(), |(_, last)| format!("{last} ({key})"))
    }

    /// Returns the names of the series in the order of rows, and the means over seeds by series and place on the axis.
    fn means(&self, across: usize, measure: Measure) -> (Vec<String>, Means) {
        let (mut names, mut means) = (Vec::new(), BTreeMap::new());
        for row in self.rows {
            let Some((x, value)) = number(&row.values[across]).zip(measure(&row.summary)) else { continue };
            let place = position(&mut names, self.series(row));
            let mean = &mut means.entry((place, ordered(x))).or_insert((x, Mean::default())).1;
            mean.add(value, row.growing);
        }
        (names, means)
    }

    fn curves(&self, across: usize, &(stem, title, unit, measure): &(&str, &str, &str, Measure)) -> Option<Figure> {
        let (names, means) = self.means(across, measure);
        let curve = |(place, own): (usize, String)| {
            let mine = || means.iter().filter(|((curve, _), _)| *curve == place).map(|(_, mean)| *mean);
            Curve {
                name: if own.is_empty() { title.to_lowercase() } else { own },
                points: mine().map(|(x, mean)| (x, mean.value())).collect(),
                dots: mine().filter(|(_, mean)| mean.growing).map(|(x, mean)| (x, mean.value())).collect(),
            }
        };
        let curves: Vec<Curve> = names.into_iter().enumerate().take(MOST_CURVES).map(curve).collect();
        let points = || curves.iter().flat_map(|curve| &curve.points);
        if points().count() < 2 {
            return None;
        }
        let (left, right) = points().fold((f64::MAX, f64::MIN), |(low, high), (x, _)| (low.min(*x), high.max(*x)));
        let top = points().map(|(_, y)| *y).fold(0.0, f64::max);
        let growing = if curves.iter().any(|curve| !curve.dots.is_empty()) {
            " Rings: the queue was still growing, so that the value depends on how long the trace is."
        } else {
            ""
        };
        let over =
            if self.others.is_empty() { String::new() } else { format!(", a line for each {}", self.other_keys()) };
        let (key, label, origin) = (&self.keys[across], self.axis_label(across), self.origin);
        Some(Figure::lines(
            stem,
            format!("{title}, {unit}, against {key}{over}."),
            Lines {
                title: title.to_owned(),
                subtitle: format!("Against {key}{over}; means over seeds.{growing}\n{origin}"),
                x: across_axis(&label, left, right),
                y: Axis::from_zero(unit, top, 5.0),
                curves,
                dots: Dots::Ringed,
                if_empty: "Nothing was measured.",
                ..Lines::default()
            },
        ))
    }

    /// Makes the figure with one bar for each combination; `None` for fewer than two bars.
    fn bars(&self, &(stem, title, unit, measure): &(&str, &str, &str, Measure)) -> Option<Figure> {
        let (mut names, mut means) = (Vec::new(), Vec::<Mean>::new());
        for row in self.rows {
            let Some(value) = measure(&row.summary) else { continue };
            let place = position(&mut names, self.series(row));
            means.resize(names.len(), Mean::default());
            means[place].add(value, row.growing);
        }
        let bar = |(name, mean): (String, Mean)| Bar {
            name,
            value: Some(mean.value()),
            label: format!("{:.2}{}", mean.value(), if mean.growing { "*" } else { "" }),
            ..Bar::default()
        };
        let growing = means.iter().take(MOST_BARS).any(|mean| mean.growing);
        let rows: Vec<Bar> = names.into_iter().zip(means).take(MOST_BARS).map(bar).collect();
        let star = if growing { " * The queue was still growing at the last arrival." } else { "" };
        let said = rows.iter().map(|bar| format!("{}: {}", bar.name, bar.label)).collect::<Vec<_>>().join("; ");
        let chart = Bars {
            title: title.to_owned(),
            subtitle: format!("A bar for each {}; means over seeds.{star}\n{}", self.other_keys(), self.origin),
            axis: Axis::from_zero(unit, highest(&rows), 5.0),
            rows,
            ..Bars::default()
        };
        (chart.rows.len() > 1).then(|| Figure::bars(stem, format!("{title}, {unit}. {said}."), chart))
    }
}

/// Returns the position of a name, and adds the name if it is new.
fn position(names: &mut Vec<String>, name: String) -> usize {
    names.iter().position(|other| *other == name).unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    })
}

/// Makes an axis that starts at zero, unless that would leave too much of the axis empty.
fn across_axis(label: &str, left: f64, right: f64) -> Axis {
    /// Largest share of an axis from zero that may be empty.
    const EMPTY: f64 = 0.4;
    if left >= 0.0 && left <= EMPTY * right {
        Axis::from_zero(label, right, 6.0)
    } else {
        Axis::between(label, left, right, 6.0)
    }
}

/// Maps a finite number to an integer with the same order, so that numbers can be keys of a map.
fn ordered(x: f64) -> u64 {
    let bits = x.to_bits();
    // The bits of positive numbers rise with their values, those of negative numbers fall: a flipped sign bit puts the
    // positive ones above, and flipping all bits turns the order of the negative ones round.
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::Look;
    use crate::report::sample;

    fn row<const KEYS: usize>(values: [&str; KEYS], growing: bool, violations: f64) -> SweepRow {
        let mut summary = sample::modm().summary;
        summary.slo[0].violation_rate = violations;
        SweepRow { values: values.map(str::to_owned).to_vec(), summary, folder: String::new(), growing }
    }

    fn violations(keys: &[&str], rows: &[SweepRow]) -> Figure {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        swept("s", &keys, rows).into_iter().find(|figure| figure.name == "violations").expect("a figure")
    }

    #[test]
    fn seeds_are_averaged_and_numbers_are_the_axis() {
        let rows = [
            row(["fifo", "10", "1"], false, 0.1),
            row(["fifo", "10", "2"], false, 0.3),
            row(["fifo", "9.5", "1"], false, 0.0),
            row(["lru", "10", "1"], true, 0.4),
        ];
        let violations = violations(&["policy", "rate", "seed"], &rows);
        let text = violations.csv();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1..], ["fifo,curve,9.5,0", "fifo,curve,10,20", "lru,curve,10,40", "lru,dot,10,40"]);
        let svg = violations.svg(Look::default()).expect("a figure");
        assert!(svg.contains("still growing") && svg.contains("rate (axis starts at 9.5)"), "{svg}");
        assert!(swept("s", &["policy".to_owned()], &[]).is_empty());
    }

    #[test]
    fn clusters_are_an_axis_of_their_gpus() {
        let four = "[{ type = \"mi210\", count = 4 }]";
        let eight = "[{ type = \"mi210\", count = 6 }, { type = \"a40\", count = 2 }]";
        let rows = [
            row(["vanilla", eight], false, 0.2),
            row(["vanilla", four], false, 0.4),
            row(["modm", four], false, 0.1),
            row(["modm", eight], false, 0.0),
        ];
        let drawn = violations(&["variant", "cluster.gpus"], &rows);
        let text = drawn.csv();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(lines, ["vanilla,curve,4,40", "vanilla,curve,8,20", "modm,curve,4,10", "modm,curve,8,0"]);
        assert!(drawn.svg(Look::default()).expect("a figure").contains("GPUs (cluster.gpus)"));
        // Two clusters with the same number of GPUs cannot be told apart on an axis, so each has a bar.
        let other = "[{ type = \"a40\", count = 4 }]";
        let rows = [row(["modm", four], false, 0.4), row(["modm", other], true, 0.2)];
        let text = violations(&["variant", "cluster.gpus"], &rows).csv();
        assert!(text.starts_with("series,value,ci95_low,ci95_high\n") && text.contains(",40,,\n"), "{text}");
    }

    #[test]
    fn throughput_is_the_steady_one_of_the_table() {
        let mut rows = [row(["a", "1"], false, 0.0), row(["a", "2"], false, 0.0)];
        for row in &mut rows {
            (row.summary.throughput_per_min, row.summary.throughput_steady_per_min) = (Some(11.0), Some(17.25));
        }
        let keys = ["policy", "rate"].map(str::to_owned);
        let throughput = swept("s", &keys, &rows).into_iter().find(|figure| figure.name == "throughput");
        assert!(throughput.expect("a figure").csv().contains("a,curve,1,17.25"));
        let (titles, cells) = crate::report::table::sweep_cells(&keys, &rows);
        let column = titles.iter().position(|title| title == "steady/min").expect("the same measure");
        assert_eq!(cells[0][column], "17.25");
        assert!(!titles.iter().any(|title| title == "req/min"));
    }
}
