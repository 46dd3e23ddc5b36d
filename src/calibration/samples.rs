//! File `samples.csv`: every image of a calibration with its origin and its quality. Scores of the same images by
//! another judge are read here as well. Both files are checked as strictly as any input.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use csv::StringRecord;

use super::{Graded, Grades, Half, Refined};
use crate::input::{self, InputError};

const COLUMNS: [&str; 9] =
    ["row", "half", "prompt", "similarity", "source_row", "model", "skipped_steps", "picture", "quality"];

/// Image of a calibration.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Row of the image's request, from 0.
    pub row: u32,
    /// Prompt of the image.
    pub prompt: String,
    /// Row whose image was refined, and the similarity of that image to the prompt; `None` for an image drawn in full.
    pub source: Option<(u32, f64)>,
    /// True if the large model drew the image.
    pub large: bool,
    /// Number of denoising steps that were skipped; 0 without a source.
    pub skipped_steps: u32,
    /// Name of the image's file, among the images of the calibration.
    pub picture: String,
    /// Quality of the image, from 0.
    pub quality: f64,
}

/// Writes samples; `models` holds the names of the large and the small model.
///
/// # Errors
/// The file cannot be written.
pub fn write(to: &mut impl Write, samples: &[Sample], models: &[String; 2]) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(to);
    csv.write_record(COLUMNS)?;
    for sample in samples {
        let (source, similarity) =
            sample.source.map(|(row, similarity)| (row.to_string(), similarity.to_string())).unzip();
        csv.write_record([
            sample.row.to_string().as_str(),
            Half::of_row(sample.row).word(),
            &sample.prompt,
            &similarity.unwrap_or_default(),
            &source.unwrap_or_default(),
            &models[usize::from(!sample.large)],
            &sample.skipped_steps.to_string(),
            &sample.picture,
            &sample.quality.to_string(),
        ])?;
    }
    csv.flush()
}

/// Row of a CSV file, with what an error needs to name the place.
struct SampleRow<'a> {
    file: &'a Path,
    record: StringRecord,
    columns: &'a [usize],
    names: &'a [&'static str],
}

impl SampleRow<'_> {
    fn text(&self, column: usize) -> &str {
        self.record.get(self.columns[column]).unwrap_or_default()
    }

    fn line(&self) -> usize {
        self.record.position().map_or(1, |position| position.line() as usize)
    }

    fn wrong(&self, column: usize, accepted: &str) -> InputError {
        let found = format!("{:?}", self.text(column));
        InputError::new(self.file, accepted).line(self.line()).value(self.names[column], found)
    }

    fn count(&self, column: usize) -> Result<u32, InputError> {
        self.text(column).trim().parse().map_err(|_| self.wrong(column, "expected a whole number from 0"))
    }

    /// Reads a finite number that is at least 0.
    fn number(&self, column: usize, accepted: &str) -> Result<f64, InputError> {
        let number = self.text(column).trim().parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0);
        number.ok_or_else(|| self.wrong(column, accepted))
    }
}

/// Calls `each` for every row of a CSV file. The file must have the columns `names`, in any order, and may have more.
fn rows(
    file: &Path,
    names: &[&'static str],
    mut each: impl FnMut(&SampleRow<'_>) -> Result<(), InputError>,
) -> Result<(), InputError> {
    let text = input::text(file)?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let broken = |error: &csv::Error| {
        let line = error.position().map_or(1, |position| position.line() as usize);
        // The text is UTF-8 by now, so a row of another length is the only error that the csv crate has left.
        InputError::new(file, "expected as many fields as the header has").line(line)
    };
    let header = reader.headers().map_err(|error| broken(&error))?.clone();
    let find = |name: &&str| {
        let message = format!("is missing: expected the columns {}", names.join(", "));
        let missing = || InputError::new(file, message).line(1).key(format!("column {name:?}"));
        header.iter().position(|column| column.trim() == *name).ok_or_else(missing)
    };
    let columns = names.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    for record in reader.into_records() {
        let record = record.map_err(|error| broken(&error))?;
        each(&SampleRow { file, record, columns: &columns, names })?;
    }
    Ok(())
}

const QUALITY: &str = "expected a finite number from 0: qualities are compared by their ratio";

/// Reads the samples of an earlier calibration with the same models and number of denoising steps.
///
/// # Errors
/// The file cannot be read, or a line is wrong: the error names the first such line.
pub fn read(file: &Path, models: &[String; 2], steps: u32) -> Result<Vec<Sample>, InputError> {
    let mut samples = Vec::new();
    rows(file, &COLUMNS, |row| {
        let skipped_steps = row.count(6)?;
        if skipped_steps >= steps {
            return Err(row.wrong(6, &format!("expected fewer than models.steps = {steps}")));
        }
        let Some(model) = models.iter().position(|name| name == row.text(5)) else {
            let message = format!("expected the scenario's models, {} or {}", models[0], models[1]);
            return Err(row.wrong(5, &message));
        };
        if model == 0 && skipped_steps > 0 {
            return Err(row.wrong(6, "expected 0 for the large model, which draws in full"));
        }
        let source = if skipped_steps > 0 {
            Some((row.count(4)?, row.number(3, "expected a similarity from 0")?))
        } else {
            None
        };
        let picture = row.text(7).to_owned();
        if picture.is_empty() {
            return Err(row.wrong(7, "expected the name of a picture"));
        }
        samples.push(Sample {
            row: row.count(0)?,
            prompt: row.text(2).to_owned(),
            source,
            large: model == 0,
            skipped_steps,
            picture,
            quality: row.number(8, QUALITY)?,
        });
        Ok(())
    })?;
    Ok(samples)
}

/// Replaces the qualities of the samples with the scores of a file (`picture,score`).
///
/// # Errors
/// A score is not a finite number from 0, belongs to no image of the samples, or is the second one of its image; or an
/// image has no score.
pub fn judge(samples: &mut [Sample], file: &Path) -> Result<(), InputError> {
    let known: BTreeMap<String, usize> =
        (0..).zip(&*samples).map(|(at, sample)| (sample.picture.clone(), at)).collect();
    let mut scores: Vec<Option<f64>> = vec![None; samples.len()];
    rows(file, &["picture", "score"], |row| {
        let score = row.number(1, QUALITY)?;
        let Some(at) = known.get(row.text(0)) else {
            return Err(row.wrong(0, "expected a picture of samples.csv"));
        };
        if scores[*at].replace(score).is_some() {
            return Err(row.wrong(0, "has a score already: expected one for each picture"));
        }
        Ok(())
    })?;
    if let Some(at) = scores.iter().position(Option::is_none) {
        let message = "has no score: expected one for every picture of samples.csv";
        return Err(InputError::new(file, message).value("picture", format_args!("{:?}", samples[at].picture)));
    }
    for (sample, score) in samples.iter_mut().zip(scores) {
        sample.quality = score.unwrap_or_default();
    }
    Ok(())
}

/// Returns the source of a request's refinements with its similarity; `None` without refinements. The bounds are fitted
/// to one similarity of each request, so refinements from several sources would count as what they are not.
fn one_source<'a>(drawn: impl Iterator<Item = &'a Sample>, file: &Path) -> Result<Option<(u32, f64)>, InputError> {
    let mut known = None;
    for sample in drawn {
        let Some(source) = sample.source else { continue };
        if *known.get_or_insert(source) != source {
            let message = "is refined from another source than other pictures of its request: expected the same \
                           source_row and similarity";
            return Err(InputError::new(file, message).value("picture", format_args!("{:?}", sample.picture)));
        }
    }
    Ok(known)
}

/// Groups the samples by request.
///
/// # Errors
/// `file` lacks an image of a request, has one twice, has refinements of one request from several sources, or has no
/// request with a source in one of the halves.
pub fn grades(samples: &[Sample], file: &Path) -> Result<Grades, InputError> {
    let mut by_row: BTreeMap<u32, BTreeMap<(bool, u32), &Sample>> = BTreeMap::new();
    for sample in samples {
        let (key, name) = ((sample.large, sample.skipped_steps), &sample.picture);
        if by_row.entry(sample.row).or_default().insert(key, sample).is_some() {
            let message = "is drawn like another picture of its request: expected each once";
            return Err(InputError::new(file, message).value("picture", format_args!("{name:?}")));
        }
    }
    let mut skips: Vec<u32> = samples.iter().map(|sample| sample.skipped_steps).filter(|k| *k > 0).collect();
    skips.sort_unstable();
    skips.dedup();
    let request = |(row, drawn): (&u32, &BTreeMap<(bool, u32), &Sample>)| {
        let of = |large: bool, k: u32| {
            let missing = || {
                let model = if large { "large" } else { "small" };
                let message = format!("has no picture of the {model} model with {k} steps skipped");
                InputError::new(file, message).value("row", row)
            };
            drawn.get(&(large, k)).copied().ok_or_else(missing)
        };
        let refined = one_source(drawn.values().copied(), file)?.map(|(_, similarity)| {
            let quality = skips.iter().map(|k| Ok(of(false, *k)?.quality)).collect::<Result<_, InputError>>()?;
            Ok(Refined { similarity, quality })
        });
        Ok(Graded {
            row: *row,
            large: of(true, 0)?.quality,
            small: of(false, 0)?.quality,
            refined: refined.transpose()?,
        })
    };
    let requests: Vec<Graded> = by_row.iter().map(request).collect::<Result<_, InputError>>()?;
    let grades = Grades { skips, requests };
    if let Some(half) = [Half::Fit, Half::Check].into_iter().find(|half| grades.with_source(*half).next().is_none()) {
        let message = format!("has no request with a source in the half `{}`", half.word());
        return Err(InputError::new(file, message));
    }
    Ok(grades)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> [String; 2] {
        ["big".to_owned(), "little".to_owned()]
    }

    fn samples() -> Vec<Sample> {
        let drawn = |row: u32, large: bool, skipped_steps: u32| Sample {
            row,
            prompt: "a \"red\" cat, asleep".to_owned(),
            source: (skipped_steps > 0).then_some((0, 0.1 + 0.2)),
            large,
            skipped_steps,
            picture: format!("{row}-{large}-{skipped_steps}.png"),
            quality: 1.0 / f64::from(row + skipped_steps + 1),
        };
        let of = |row: u32| {
            let refined = if row > 0 { vec![drawn(row, false, 5), drawn(row, false, 10)] } else { Vec::new() };
            [vec![drawn(row, true, 0), drawn(row, false, 0)], refined].concat()
        };
        (0..3).flat_map(of).collect()
    }

    fn written(samples: &[Sample]) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes, samples, &models()).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Reads a file with the content `text` and returns the error message.
    fn said(read: impl Fn(&Path) -> Result<(), InputError>, text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.csv");
        std::fs::write(&file, text).unwrap();
        let error = read(&file).expect_err("a refusal").to_string();
        error.replace(&file.display().to_string(), "a.csv")
    }

    #[test]
    fn samples_are_read_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("samples.csv");
        std::fs::write(&file, written(&samples())).unwrap();
        let again = read(&file, &models(), 20).unwrap();
        assert_eq!(again, samples());
        let grades = grades(&again, &file).unwrap();
        assert_eq!((grades.skips.as_slice(), grades.requests.len()), ([5, 10].as_slice(), 3));
        assert_eq!(grades.requests[0].refined, None);
        let refined = grades.requests[2].refined.as_ref().unwrap();
        assert_eq!(refined.quality, [1.0 / 8.0, 1.0 / 13.0]);
    }

    #[test]
    fn a_bad_line_of_samples_is_named() {
        let good = written(&samples());
        let with = |old: &str, new: &str| {
            let changed = good.replacen(old, new, 1);
            assert_ne!(changed, good, "{old}");
            said(|file| read(file, &models(), 20).and_then(|read| grades(&read, file)).map(drop), &changed)
        };
        for (old, new, message) in [
            (
                "picture",
                "name",
                "a.csv:1: column \"picture\": is missing: expected the columns row, half, prompt, simil",
            ),
            ("big", "huge", "a.csv:2: model = \"huge\": expected the scenario's models, big or little"),
            (",0,0-true", ",20,0-true", "a.csv:2: skipped_steps = \"20\": expected fewer than models.steps = 20"),
            (",0,0-true", ",2,0-true", "a.csv:2: skipped_steps = \"2\": expected 0 for the large model, which draws"),
            ("\n0,", "\nx,", "a.csv:2: row = \"x\": expected a whole number from 0"),
            ("0.30000000000000004", "nan", "a.csv:6: similarity = \"nan\": expected a similarity from 0"),
            ("png,1\n", "png,-1\n", "a.csv:2: quality = \"-1\": expected a finite number from 0"),
            ("png,1\n", "png\n", "a.csv:2: expected as many fields as the header has"),
            ("0-true-0.png", "", "a.csv:2: picture = \"\": expected the name of a picture"),
            (",5,1-false-5", ",10,1-false-5", "a.csv: picture = \"1-false-10.png\": is drawn like another picture"),
            (
                "4,0,little,10,2-",
                "4,1,little,10,2-",
                "a.csv: picture = \"2-false-10.png\": is refined from another source",
            ),
            (
                "0.30000000000000004,0,little,5,2-",
                "0.25,0,little,5,2-",
                "a.csv: picture = \"2-false-10.png\": is refined from another source",
            ),
            (",5,1-false-5", ",7,1-false-5", "a.csv: row = 1: has no picture of the small model with 5 steps skipped"),
        ] {
            assert!(with(old, new).starts_with(message), "{}", with(old, new));
        }
        let first = written(&samples()[..2]);
        let alone = said(|file| read(file, &models(), 20).and_then(|read| grades(&read, file)).map(drop), &first);
        assert_eq!(alone, "a.csv: has no request with a source in the half `fit`");
    }

    #[test]
    fn every_picture_has_one_score() {
        let one = &samples()[..2];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scores.csv");
        std::fs::write(&file, "score,picture\n0.5,0-false-0.png\n1,0-true-0.png\n").unwrap();
        let mut judged = one.to_vec();
        judge(&mut judged, &file).unwrap();
        assert_eq!(format!("{} {}", judged[0].quality, judged[1].quality), "1 0.5");
        for (text, message) in [
            ("picture,score\n", "a.csv: picture = \"0-true-0.png\": has no score: expected one for every picture of *"),
            ("picture,score\nx,1\n", "a.csv:2: picture = \"x\": expected a picture of samples.csv"),
            ("picture,score\n0-true-0.png,inf\n", "a.csv:2: score = \"inf\": expected a finite number from 0: *"),
            ("picture,score\n0-true-0.png,1\n0-true-0.png,1\n", "a.csv:3: picture = \"0-true-0.png\": has a score *"),
            ("picture\n", "a.csv:1: column \"score\": is missing: expected the columns picture, score"),
        ] {
            let found = said(|file| judge(&mut one.to_vec(), file), text);
            assert!(found.starts_with(message.trim_end_matches('*')), "{found}");
        }
    }
}
