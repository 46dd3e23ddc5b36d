//! Importer for requests of Alibaba's text-to-image service (cluster-trace-v2026-GenAI). Creation times are to the
//! second. The group is the tenant. Steps, images, checkpoint, LoRAs and execution seconds are carried along. The file
//! has no prompts, and of LoRAs only their number: those of one group are taken to be the same.

use crate::input::InputError;
use crate::trace::TextColumn;
use crate::trace::asks::{MOST_IMAGES, MOST_STEPS};
use crate::trace::table::{Dialect, Table, TableRow};

use super::{File, Note, Options, Source, timestamp};

const COLUMNS: [&str; 7] = [
    "gmt_create",
    "predict_type",
    "predict_status",
    "exec_time_seconds",
    "groupId",
    "num_images_per_prompt",
    "num_inference_steps",
];

/// Columns that not every part of the trace has.
const CHECKPOINT: &str = "checkpoint_model_version_id";
const LORAS: &str = "num_lora";

pub(super) fn read(file: &File<'_>, options: &Options) -> Result<Source, InputError> {
    let mut table = Table::open(file.path, file.bytes, Dialect::CSV, file.progress)?;
    let [created, kind, status, executed, group, images, steps] = table.places(COLUMNS, "an Alibaba GenAI trace")?;
    let mut weights = Weights::new(&table.header()?);
    let mut times = Vec::new();
    let mut groups = TextColumn::default();
    let mut extra = ["steps", "images"].map(|name| (name.to_owned(), TextColumn::default()));
    let mut seconds = TextColumn::default();
    let mut unasked = 0;
    let (mut from_image, mut failed, mut pending) = (0, 0, 0); // one request may be counted in two of them
    while let Some(row) = table.next()? {
        let time = timestamp::parse(row.text(created, COLUMNS[0])?);
        let time = time.ok_or_else(|| row.error(created, COLUMNS[0], timestamp::ACCEPTED))?;
        let starts_from_image = match row.field(kind) {
            b"TXT_2_IMG" => false,
            b"IMG_2_IMG" | b"INPAINTING" => true,
            _ => return Err(row.error(kind, COLUMNS[1], "expected TXT_2_IMG, IMG_2_IMG or INPAINTING")),
        };
        let unfinished = match row.field(status) {
            b"SUCCEED" => None,
            b"FAILED" => Some(&mut failed),
            b"PENDING" => Some(&mut pending),
            _ => return Err(row.error(status, COLUMNS[2], "expected SUCCEED, FAILED or PENDING")),
        };
        let dropped =
            (unfinished.is_some() && !options.keep_unfinished) || (starts_from_image && !options.keep_image_to_image);
        // Rows are counted before any are dropped: a note says how many there were, and whether they were kept.
        from_image += usize::from(starts_from_image);
        if let Some(count) = unfinished {
            *count += 1;
        }
        if dropped {
            continue;
        }
        times.push(time);
        let of_group = row.text(group, COLUMNS[4])?;
        groups.push(of_group);
        weights.push(&row, of_group)?;
        for ((_, column), (place, name, most)) in
            extra.iter_mut().zip([(steps, COLUMNS[6], MOST_STEPS), (images, COLUMNS[5], u32::from(MOST_IMAGES))])
        {
            let text = plain(&row, place, name)?;
            let can_be_asked = text.is_empty() || text.parse().is_ok_and(|count: u32| (1..=most).contains(&count));
            unasked += usize::from(!can_be_asked);
            column.push(if can_be_asked { &text } else { "" });
        }
        seconds.push(&plain(&row, executed, COLUMNS[3])?);
    }
    let word = |keep: bool| if keep { "kept" } else { "dropped" };
    let mut notes = vec![
        Note::counted(failed, format!("requests that failed, {}", word(options.keep_unfinished))),
        Note::counted(pending, format!("requests still pending, {}", word(options.keep_unfinished))),
        Note::counted(from_image, format!("requests that start from an image, {}", word(options.keep_image_to_image))),
        Note::new("times are to the second; time zero is the first request kept"),
    ];
    let mut extra: Vec<(String, TextColumn)> = extra.into();
    extra.push(("exec_s".to_owned(), seconds));
    if unasked > 0 {
        notes.push(Note::counted(unasked, "numbers of steps or images that cannot be asked for, left out"));
    }
    notes.extend(weights.note());
    extra.extend(weights.columns());
    let arrivals = Some(timestamp::since_earliest(times, file.path)?);
    Ok(Source { arrivals, tenants: Some(groups), extra, notes, ..Source::default() })
}

/// Checkpoints and sets of LoRAs, as far as the file has them.
struct Weights {
    /// Places of the columns in the file.
    places: [Option<usize>; 2],
    checkpoints: TextColumn,
    loras: TextColumn,
}

impl Weights {
    fn new(header: &[String]) -> Self {
        let find = |name: &str| header.iter().position(|column| column == name);
        let places = [find(CHECKPOINT), find(LORAS)];
        Self { places, checkpoints: TextColumn::default(), loras: TextColumn::default() }
    }

    fn push(&mut self, row: &TableRow<'_>, group: &str) -> Result<(), InputError> {
        let [checkpoint, loras] = self.places;
        if let Some(place) = checkpoint {
            self.checkpoints.push(row.text(place, CHECKPOINT)?);
        }
        if let Some(place) = loras {
            let count = plain(row, place, LORAS)?;
            let none = ["", "0"].contains(&count.as_str());
            self.loras.push(&if none { String::new() } else { format!("{group}x{count}") });
        }
        Ok(())
    }

    fn note(&self) -> Option<Note> {
        let text = "LoRAs are known by number alone: those of one group are taken to be the same";
        self.places[1].map(|_| Note::new(text))
    }

    fn columns(self) -> impl Iterator<Item = (String, TextColumn)> {
        let all = [("checkpoint", self.checkpoints), ("loras", self.loras)];
        let there = self.places.into_iter().zip(all).filter(|(place, _)| place.is_some());
        there.map(|(_, (name, column))| (name.to_owned(), column))
    }
}

/// Returns a field in plain form: a number, or nothing. The file has whole numbers as `30.0` and leaves unknown values
/// empty.
fn plain(row: &TableRow<'_>, place: usize, name: &str) -> Result<String, InputError> {
    if row.field(place).is_empty() {
        return Ok(String::new());
    }
    row.number(place, name, 0.0..=1e9, "expected a number from 0 to 1e9, or nothing").map(|number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{import, notes, real};
    use super::super::{Options, Source};
    use super::{CHECKPOINT, LORAS};

    const HEADER: &str = "gmt_create,predict_type,predict_status,exec_time_seconds,groupId,prompt_length,num_images_per_prompt,num_inference_steps";

    fn sample(rows: &str, options: Options) -> Result<Source, String> {
        import("a.csv", format!("{HEADER}\n{rows}").as_bytes(), None, options)
    }

    const ROWS: &str = "2024-11-15 16:57:50,TXT_2_IMG,FAILED,32.0,G0,63.0,1.0,30.0\n\
                        2024-11-15 16:57:52,TXT_2_IMG,SUCCEED,43.0,G1,93.0,2.0,40.0\n\
                        2024-11-15 16:57:53,TXT_2_IMG,PENDING,0.0,G1,,,\n\
                        2024-11-15 16:57:55,INPAINTING,SUCCEED,9.5,G0,93.0,8.0,25.0\n";

    #[test]
    fn keeps_or_drops_and_counts() {
        let source = sample(ROWS, Options::default()).unwrap();
        assert_eq!(source.len(), 1);
        assert_eq!(notes(&source)[1], "1 requests that failed, dropped");
        let keep = Options { keep_unfinished: true, keep_image_to_image: true, ..Options::default() };
        let source = sample(ROWS, keep).unwrap();
        assert_eq!(source.arrivals.unwrap().last().unwrap().nanoseconds(), 5_000_000_000);
        assert_eq!(source.tenants.unwrap().iter().collect::<Vec<_>>(), ["G0", "G1", "G1", "G0"]);
        let rows: Vec<Vec<&str>> = source.extra.iter().map(|(_, column)| column.iter().collect()).collect();
        assert_eq!(rows, [["30", "40", "", "25"], ["1", "2", "", "8"], ["32", "43", "0", "9.5"]]);
    }

    #[test]
    fn checkpoints_and_loras_are_carried_along() {
        let more = ["M0001,0", "M0002,2", "M0002,", ",1"];
        let rows: Vec<String> = ROWS.lines().zip(more).map(|(row, more)| format!("{row},{more}\n")).collect();
        let text = format!("{HEADER},{CHECKPOINT},{LORAS}\n{}", rows.concat());
        let keep = Options { keep_unfinished: true, keep_image_to_image: true, ..Options::default() };
        let source = import("a.csv", text.as_bytes(), None, keep).unwrap();
        let named = |wanted: &str| {
            let (_, column) = source.extra.iter().find(|(name, _)| name == wanted).unwrap();
            column.iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(named("checkpoint"), ["M0001", "M0002", "M0002", ""]);
        assert_eq!(named("loras"), ["", "G1x2", "", "G0x1"]);
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |from: &str, to: &str| sample(&ROWS.replace(from, to), Options::default()).err().unwrap();
        assert_eq!(error("FAILED", "LOST"), "a.csv:2: predict_status = \"LOST\": expected SUCCEED, FAILED or PENDING");
        assert!(error("INPAINTING", "X").starts_with("a.csv:5: predict_type = \"X\": expected TXT_2_IMG"));
        assert!(error("40.0", "NaN").starts_with("a.csv:3: num_inference_steps = \"NaN\": expected a number"));
        assert!(error("2024-11-15 16:57:52", "soon").starts_with("a.csv:3: gmt_create = \"soon\": expected a time"));
    }

    #[test]
    fn reads_the_real_file() {
        let name = "production/alibaba_genai_requests_first60.csv";
        let Some(source) = real(name, Options::default()) else { return };
        assert_eq!(source.len(), 14_511);
        assert_eq!(
            notes(&source)[1..4],
            [
                "255 requests that failed, dropped",
                "15 requests still pending, dropped",
                "1333 requests that start from an image, dropped"
            ]
        );
        let keep = Options { keep_unfinished: true, keep_image_to_image: true, ..Options::default() };
        assert_eq!(real(name, keep).unwrap().len(), 16_093);
    }
}
