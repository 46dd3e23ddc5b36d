//! Wishes of the requests of a trace beside their prompts: size, steps, number of images, and what a hit may not cross.
//! Requests of several images become several rows, one after the other (docs/semantics.md, section 10).

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{TextColumn, Trace};
use crate::input::InputError;
use crate::model::Size;
use crate::request::{Ask, Place, Weights};

/// Names of the columns that say what requests ask for.
pub const ASK_COLUMNS: [&str; 8] =
    ["width", "height", "steps", "images", "checkpoint", "loras", "negative_prompt", "guidance"];

/// Largest number of images of a request.
pub const MOST_IMAGES: u16 = 64;

/// Largest number of denoising steps.
pub const MOST_STEPS: u32 = 100_000;

/// Property that a cached image and a request must have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyPart {
    /// Checkpoint in place of the model's own weights.
    Checkpoint,
    /// Set of LoRAs.
    Loras,
    /// Negative prompt.
    NegativePrompt,
    /// Guidance, to the nearest multiple of a tolerance.
    Guidance,
}

/// Rule by which keys are made. By default nothing counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct KeyRule {
    /// Properties that count.
    pub parts: Vec<KeyPart>,
    /// Distance of the values of guidance that are told apart.
    pub guidance_tolerance: f64,
}

/// Wishes of one request in words and numbers; nothing for what is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wishes<'a> {
    /// Checkpoint.
    pub checkpoint: &'a str,
    /// LoRAs, between semicolons.
    pub loras: &'a str,
    /// Negative prompt.
    pub negative_prompt: &'a str,
    /// Guidance.
    pub guidance: Option<f64>,
}

/// Numbers of keys, checkpoints and sets of LoRAs, in order of first appearance from 1; 0 stands for none.
#[derive(Clone, Debug, Default)]
pub struct Numbering {
    keys: BTreeMap<Key, u32>,
    checkpoints: BTreeMap<String, u32>,
    loras: BTreeMap<Vec<String>, u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    checkpoint: u32,
    loras: u32,
    negative_prompt: String,
    /// Guidance in units of the tolerance; `None` for the usual one.
    guidance: Option<i64>,
}

impl Numbering {
    /// Returns the key and the weights of a request.
    pub fn number(&mut self, wishes: &Wishes<'_>, rule: &KeyRule) -> (u32, Weights) {
        let mut set: Vec<String> =
            wishes.loras.split(';').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        set.sort_unstable();
        set.dedup();
        let weights = Weights {
            checkpoint: number(&mut self.checkpoints, wishes.checkpoint.to_owned()),
            loras: number(&mut self.loras, set),
        };
        let counts = |part| rule.parts.contains(&part);
        let guidance = wishes.guidance.filter(|_| counts(KeyPart::Guidance));
        let key = Key {
            checkpoint: if counts(KeyPart::Checkpoint) { weights.checkpoint } else { 0 },
            loras: if counts(KeyPart::Loras) { weights.loras } else { 0 },
            negative_prompt: if counts(KeyPart::NegativePrompt) { wishes.negative_prompt } else { "" }.to_owned(),
            guidance: guidance.map(|guidance| (guidance / rule.guidance_tolerance).round() as i64),
        };
        (number(&mut self.keys, key), weights)
    }

    /// Makes a numbering in which these checkpoints have the numbers from 1.
    #[must_use]
    pub fn of_checkpoints<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut numbering = Self::default();
        for name in names {
            number(&mut numbering.checkpoints, name.to_owned());
        }
        numbering
    }

    /// Returns the names of the checkpoints, in the order of their numbers from 1.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<&str> {
        let mut names: Vec<(&u32, &str)> =
            self.checkpoints.iter().map(|(name, number)| (number, name.as_str())).collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name).collect()
    }
}

/// Returns the number of a value, which is 0 for the default and the next free one for a new value.
fn number<T: Ord + Default>(known: &mut BTreeMap<T, u32>, value: T) -> u32 {
    if value == T::default() {
        return 0;
    }
    let next = known.len() as u32 + 1;
    *known.entry(value).or_insert(next)
}

/// Columns of a trace that say what requests ask for.
struct AskColumns<'a> {
    file: &'a Path,
    columns: [Option<&'a TextColumn>; ASK_COLUMNS.len()],
}

impl<'a> AskColumns<'a> {
    fn new(trace: &'a Trace, file: &'a Path) -> Self {
        let extra = &trace.columns().extra;
        let find = |name: &str| extra.iter().find(|(other, _)| other == name).map(|(_, column)| column);
        Self { file, columns: ASK_COLUMNS.map(find) }
    }

    fn is_empty(&self) -> bool {
        self.columns.iter().all(Option::is_none)
    }

    /// Returns the field of a row; nothing if the trace lacks the column.
    fn text(&self, row: usize, name: &str) -> &'a str {
        let at = ASK_COLUMNS.iter().position(|other| *other == name);
        at.and_then(|at| self.columns[at]).map_or("", |column| column.get(row).trim())
    }

    fn refused(&self, row: usize, name: &str, accepted: &str) -> InputError {
        let message = format!("row {} (from 1, below the header): {accepted}", row + 1);
        InputError::new(self.file, message).value(name, format_args!("{:?}", self.text(row, name)))
    }

    /// Returns a whole number from 1 to `most`; 0 for an empty field. Tools write whole numbers as `30.0` too.
    fn count(&self, row: usize, name: &str, most: u32) -> Result<u32, InputError> {
        let text = self.text(row, name);
        if text.is_empty() {
            return Ok(0);
        }
        let whole = text.strip_suffix(".0").unwrap_or(text);
        whole.parse().ok().filter(|count| (1..=most).contains(count)).ok_or_else(|| {
            self.refused(row, name, &format!("expected a whole number from 1 to {most}, or nothing for the usual one"))
        })
    }

    fn guidance(&self, row: usize) -> Result<Option<f64>, InputError> {
        let text = self.text(row, "guidance");
        if text.is_empty() {
            return Ok(None);
        }
        let number = text.parse().ok().filter(|guidance| (0.0..=1000.0).contains(guidance));
        let refused =
            || self.refused(row, "guidance", "expected a number from 0 to 1000, or nothing for the usual one");
        number.map(Some).ok_or_else(refused)
    }

    /// Returns what a request asks for, and its number of images.
    fn ask(&self, row: usize, rule: &KeyRule, numbering: &mut Numbering) -> Result<(Ask, u16), InputError> {
        let side = |name| self.count(row, name, u32::from(u16::MAX));
        let (width, height) = (side("width")?, side("height")?);
        if (width == 0) != (height == 0) {
            let name = if width == 0 { "width" } else { "height" };
            return Err(self.refused(row, name, "expected both width and height, or neither"));
        }
        let steps = self.count(row, "steps", MOST_STEPS)?;
        let images = self.count(row, "images", u32::from(MOST_IMAGES))?;
        let (key, weights) = numbering.number(
            &Wishes {
                checkpoint: self.text(row, "checkpoint"),
                loras: self.text(row, "loras"),
                negative_prompt: self.text(row, "negative_prompt"),
                guidance: self.guidance(row)?,
            },
            rule,
        );
        let size = Size { width: width as u16, height: height as u16 };
        Ok((Ask { size, steps, key, weights, skips: 0 }, images.max(1) as u16))
    }
}

impl Trace {
    /// Returns the wishes of a row in words, as its file has them.
    #[must_use]
    pub fn wishes(&self, row: usize) -> Wishes<'_> {
        let text = |name: &str| {
            let column = self.columns.extra.iter().find(|(other, _)| other == name);
            column.map_or("", |(_, column)| column.get(row).trim())
        };
        Wishes {
            checkpoint: text("checkpoint"),
            loras: text("loras"),
            negative_prompt: text("negative_prompt"),
            // `with_asks` has refused what is no number.
            guidance: text("guidance").parse().ok(),
        }
    }

    /// Returns the numbers that the requests have in [`Self::ask`].
    #[must_use]
    pub fn numbering(&self, rule: &KeyRule) -> Numbering {
        let mut numbering = Numbering::default();
        for row in 0..self.len() {
            numbering.number(&self.wishes(row), rule);
        }
        numbering
    }

    /// Returns the number of a row's request among the requests, from 0.
    #[must_use]
    pub fn request_at(&self, row: usize) -> usize {
        let Some(places) = &self.columns.places else { return row };
        places[..=row].iter().filter(|place| place.at == 0).count() - 1
    }

    /// Returns the trace with what its requests ask for, and with a row for each image of a request. `file` is the file
    /// of the requests, for errors.
    ///
    /// # Errors
    /// Returns an error if a column has a value that cannot be asked for, or if there are more images than rows can be
    /// numbered.
    pub fn with_asks(self, rule: &KeyRule, file: &Path) -> Result<Self, InputError> {
        let read = AskColumns::new(&self, file);
        if read.is_empty() {
            return Ok(self);
        }
        let mut numbering = Numbering::default();
        let asked: Vec<(Ask, u16)> =
            (0..self.len()).map(|row| read.ask(row, rule, &mut numbering)).collect::<Result<_, _>>()?;
        let pictures: u64 = asked.iter().map(|(_, images)| u64::from(*images)).sum();
        if pictures > u64::from(u32::MAX) {
            let message = format!("expected at most {} images in all", u32::MAX);
            return Err(InputError::new(file, message).value("images", pictures));
        }
        let several = asked.iter().any(|(_, images)| *images > 1);
        let all = |(row, (ask, images)): (usize, &(Ask, u16))| {
            let (ask, of) = (*ask, *images);
            (0..of).map(move |at| (row as u32, ask, Place { at, of }))
        };
        let rows: Vec<(u32, Ask, Place)> = asked.iter().enumerate().flat_map(all).collect();
        let mut trace = if several { self.in_pictures(&rows) } else { self };
        trace.columns.places = several.then(|| rows.iter().map(|(.., place)| *place).collect());
        let differ = rows.iter().any(|(_, ask, _)| !ask.is_usual());
        trace.columns.asks = differ.then(|| rows.iter().map(|(_, ask, _)| *ask).collect());
        Ok(trace)
    }

    /// Returns the trace with one row for each picture. Labels stay those of the requests.
    fn in_pictures(&self, rows: &[(u32, Ask, Place)]) -> Self {
        let from: Vec<u32> = rows.iter().map(|(row, ..)| *row).collect();
        let arrivals = from.iter().map(|row| self.arrivals()[*row as usize]).collect();
        let labels = from.iter().map(|row| self.label(*row as usize)).collect::<TextColumn>();
        let mut trace = self.select(&from, arrivals);
        trace.columns.request_ids = Some(labels);
        trace
    }

    /// Returns the number of rows of the first `requests` requests.
    pub fn rows_of(&self, requests: usize) -> usize {
        let Some(places) = &self.columns.places else { return requests };
        let firsts = places.iter().enumerate().filter(|(_, place)| place.at == 0);
        firsts.map(|(row, _)| row).nth(requests).unwrap_or(places.len())
    }

    /// Returns the number of requests; [`Self::len`] counts their images.
    pub fn requests(&self) -> usize {
        let Some(places) = &self.columns.places else { return self.len() };
        places.iter().filter(|place| place.at == 0).count()
    }

    /// Returns whether any request asks for something unusual.
    pub const fn differs(&self) -> bool {
        self.columns.asks.is_some() || self.columns.places.is_some()
    }

    /// Returns what the request of a row asks for.
    pub fn ask(&self, row: usize) -> Ask {
        self.columns.asks.as_ref().map_or_else(Ask::default, |asks| asks[row])
    }

    /// Returns the place of a row's picture among those of its request.
    pub fn place(&self, row: usize) -> Place {
        self.columns.places.as_ref().map_or(Place::ONLY, |places| places[row])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;
    use crate::trace::Columns;

    fn rule() -> KeyRule {
        KeyRule { parts: vec![KeyPart::Checkpoint, KeyPart::Loras], guidance_tolerance: 1.0 }
    }

    fn trace(columns: &[(&str, &[&str])]) -> Trace {
        let rows = columns[0].1.len();
        let arrivals = (0..rows).map(|row| Time::from_nanoseconds(row as u64)).collect();
        let extra = columns.iter().map(|(name, rows)| ((*name).to_owned(), rows.iter().collect())).collect();
        Trace::new(Columns { arrivals, extra, ..Columns::default() })
    }

    #[test]
    fn a_request_of_several_images_becomes_several_rows() {
        let columns: [(&str, &[&str]); 4] = [
            ("images", &["", "3", "1.0"]),
            ("steps", &["30", "", "8"]),
            ("width", &["", "512", ""]),
            ("height", &["", "768", ""]),
        ];
        let trace = trace(&columns).with_asks(&rule(), Path::new("r.csv")).unwrap();
        let labels: Vec<_> = (0..trace.len()).map(|row| trace.label(row).into_owned()).collect();
        assert_eq!(labels, ["0", "1", "1", "1", "2"]);
        let places: Vec<_> = (0..5).map(|row| (trace.place(row).at, trace.place(row).of)).collect();
        assert_eq!(places, [(0, 1), (0, 3), (1, 3), (2, 3), (0, 1)]);
        assert_eq!([0, 1, 3, 4].map(|row| trace.ask(row).steps), [30, 0, 0, 8]);
        assert_eq!(trace.request(2).ask.size, Size { width: 512, height: 768 });
        assert_eq!([0, 1, 2, 3].map(|requests| trace.rows_of(requests)), [0, 1, 4, 5]);
        assert_eq!((trace.requests(), trace.len()), (3, 5));
        let later = trace.after(4);
        assert_eq!((later.ask(0).steps, later.place(0)), (8, Place::ONLY));
    }

    #[test]
    fn keys_are_of_what_counts() {
        let columns: [(&str, &[&str]); 4] = [
            ("checkpoint", &["", "a", "b", "a", "a", "a"]),
            ("loras", &["", "x;y", "", " y ; x;", "x", "x"]),
            ("negative_prompt", &["", "", "", "", "", "blurry"]),
            ("guidance", &["", "7", "7", "7.4", "7.6", "8"]),
        ];
        let keys = |parts: &[KeyPart]| {
            let rule = KeyRule { parts: parts.to_vec(), ..rule() };
            let trace = trace(&columns).with_asks(&rule, Path::new("r.csv")).unwrap();
            (0..6).map(|row| trace.ask(row).key).collect::<Vec<_>>()
        };
        assert_eq!(keys(&[]), [0; 6]);
        assert_eq!(keys(&[KeyPart::Checkpoint]), [0, 1, 2, 1, 1, 1]);
        assert_eq!(keys(&[KeyPart::Checkpoint, KeyPart::Loras]), [0, 1, 2, 1, 3, 3]);
        assert_eq!(keys(&[KeyPart::NegativePrompt]), [0, 0, 0, 0, 0, 1]);
        assert_eq!(keys(&[KeyPart::Guidance]), [0, 1, 1, 1, 2, 2]);
    }

    #[test]
    fn says_what_cannot_be_asked_for() {
        let error = |name: &'static str, value: &'static str| {
            let error = trace(&[(name, &["", value])]).with_asks(&rule(), Path::new("r.csv"));
            error.err().unwrap().to_string()
        };
        for (name, value, says) in [
            (
                "steps",
                "0",
                "r.csv: steps = \"0\": row 2 (from 1, below the header): expected a whole number from 1 to 100000",
            ),
            ("images", "65", "r.csv: images = \"65\": row 2"),
            ("width", "512", "r.csv: height = \"\": row 2 (from 1, below the header): expected both width and height"),
            ("guidance", "NaN", "r.csv: guidance = \"NaN\": row 2"),
            ("steps", "2.5", "r.csv: steps = \"2.5\": row 2"),
        ] {
            assert!(error(name, value).starts_with(says), "{}", error(name, value));
        }
    }

    #[test]
    fn a_trace_without_columns_stays_as_it_is() {
        let trace = trace(&[("exec_s", &["1", "2"])]).with_asks(&rule(), Path::new("r.csv")).unwrap();
        assert!(!trace.differs() && trace.columns().request_ids.is_none());
    }
}
