//! Recordings of earlier runs. A recording that was cut off is repaired, one that cannot be repaired is set aside, and
//! recordings that are old or too many are removed. No fault of a recording keeps the server from starting.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::traffic::{EMBEDDINGS, REQUESTS};
use crate::output::write_atomic;
use crate::trace::npy::Rows;

/// File that is written at the beginning of a recording.
const MARK: &str = "recording.json";
/// File that is written at the end of a recording. If the other files have the lengths that it states, the recording is
/// whole and is not read again.
const END: &str = "traffic.json";
/// Version of the files. Recordings without a mark have version 1.
const VERSION: u32 = 1;
/// Extension of the folder's name of a recording that was set aside.
const ASIDE: &str = "damaged";

#[derive(Serialize, Deserialize)]
struct Mark {
    version: u32,
}

/// Returns the folder of the recordings in a data folder.
#[must_use]
pub fn folder(data: &Path) -> PathBuf {
    data.join("traffic")
}

/// Writes the mark of a new recording.
pub(super) fn mark(folder: &Path) -> io::Result<()> {
    fs::write(folder.join(MARK), format!("{}\n", serde_json::to_string(&Mark { version: VERSION })?))
}

/// Returns the number of bytes of each of a recording's files, by name. Missing files are left out.
fn lengths(recording: &Path) -> BTreeMap<String, u64> {
    let names = EMBEDDINGS.into_iter().chain([REQUESTS]);
    names.filter_map(|name| Some((name.to_owned(), fs::metadata(recording.join(name)).ok()?.len()))).collect()
}

/// Writes the file that ends a recording: a description of the recording, and the lengths of its other files.
pub(super) fn finish(folder: &Path, mut said: serde_json::Value) -> io::Result<()> {
    said["bytes"] = serde_json::json!(lengths(folder));
    write_atomic(&folder.join(END), |to| io::Write::write_all(to, format!("{said:#}\n").as_bytes()))
        .map_err(io::Error::other)
}

/// State of the file that ends a recording.
#[derive(PartialEq, Eq)]
enum End {
    /// Missing file: the run that wrote the recording was killed.
    Missing,
    /// File with the lengths that the recording's files have now.
    Fits,
    /// File with other lengths, or that cannot be parsed.
    Differs,
}

fn end(recording: &Path) -> End {
    let Ok(text) = fs::read(recording.join(END)) else { return End::Missing };
    let Ok(said) = serde_json::from_slice::<serde_json::Value>(&text) else { return End::Differs };
    // Earlier versions of the program wrote no lengths.
    let fits = said.get("bytes").is_none_or(|bytes| *bytes == serde_json::json!(lengths(recording)));
    if fits { End::Fits } else { End::Differs }
}

/// Condition of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Whole recording: its number of rows.
    Whole(usize),
    /// Recording that was cut off: the number of rows that can be saved.
    Cut(usize),
    /// Recording of a newer program: its version.
    Newer(u32),
    /// Recording of which nothing can be saved: the reason.
    Damaged(String),
}

/// Returns the recordings of a folder, oldest first. Recordings that were set aside are left out.
///
/// # Errors
/// The folder cannot be read. A missing folder is no error: it has no recordings.
pub fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && path.extension().is_none_or(|extension| extension != ASIDE) {
            found.push(path);
        }
    }
    found.sort_by_key(|path| (began(path), path.clone()));
    Ok(found)
}

/// Returns the date at which a recording began, in milliseconds since 1970, as its folder's name states it.
fn began(recording: &Path) -> u64 {
    recording.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0)
}

/// Checks a recording and changes nothing.
#[must_use]
pub fn inspect(recording: &Path) -> Condition {
    match fs::read(recording.join(MARK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Condition::Damaged(error.to_string()),
        Ok(text) => match serde_json::from_slice::<Mark>(&text) {
            Ok(Mark { version }) if version > VERSION => return Condition::Newer(version),
            // A mark that cannot be parsed is ignored: a power cut may have left an empty mark, and the rows tell
            // whether the recording is whole.
            _ => {}
        },
    }
    let text = match fs::read(recording.join(REQUESTS)) {
        Ok(text) => text,
        Err(error) => return Condition::Damaged(format!("{REQUESTS}: {error}")),
    };
    let (length, rows) = whole(&text);
    if length == 0 {
        return Condition::Damaged(format!("{REQUESTS}: has no header"));
    }
    let mut saved = rows;
    let mut is_cut = length < text.len();
    for name in EMBEDDINGS {
        let file = recording.join(name);
        let found = match Rows::whole(&file) {
            Ok(found) => found,
            // The file is begun with the first row, so that a recording without rows has none.
            Err(_) if rows == 0 && fs::metadata(&file).map_or(0, |file| file.len()) == 0 => 0,
            Err(error) => return Condition::Damaged(error.to_string()),
        };
        is_cut |= found != rows;
        saved = saved.min(found);
    }
    if is_cut { Condition::Cut(saved) } else { Condition::Whole(rows) }
}

/// Returns the number of bytes up to the end of the last whole record, and the number of records after the header. A
/// line break within quotes does not end a record. The text ends at the first zero byte, because a power cut can leave
/// zeros in place of text.
fn whole(text: &[u8]) -> (usize, usize) {
    let (mut is_quoted, mut length, mut records) = (false, 0, 0);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            // A quote within quotes is doubled: it changes the state twice, and so not at all.
            b'"' => is_quoted = !is_quoted,
            b'\n' if !is_quoted => (length, records) = (at + 1, records + 1),
            0 => break,
            _ => {}
        }
    }
    (length, records.max(1) - 1)
}

/// Returns the number of bytes of the header and the first `rows` records.
fn length(text: &[u8], rows: usize) -> usize {
    let (mut is_quoted, mut left) = (false, rows + 1);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\n' if !is_quoted => left -= 1,
            _ => {}
        }
        if left == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// Cuts a recording after its first `rows` rows.
///
/// # Errors
/// A file cannot be read, written or removed.
pub fn cut(recording: &Path, rows: usize) -> io::Result<()> {
    let file = recording.join(REQUESTS);
    let text = fs::read(&file)?;
    File::options().write(true).open(&file)?.set_len(length(&text, rows) as u64)?;
    for name in EMBEDDINGS.map(|name| recording.join(name)) {
        if rows == 0 {
            // A trace has no file of embeddings without rows.
            let _ = fs::remove_file(&name);
        } else {
            Rows::cut(&name, rows)?;
        }
    }
    // The end comes last. Until it fits the other files, the next start cuts the recording again.
    finish(recording, serde_json::json!({ "cut_to_rows": rows }))
}

/// Repairs the recordings that have no valid end, and sets aside those that cannot be repaired. Returns warnings.
#[must_use]
pub fn prepare(folder: &Path) -> Vec<String> {
    let recordings = match list(folder) {
        Ok(recordings) => recordings,
        Err(error) => return vec![format!("{}: {error}", folder.display())],
    };
    let mut warnings = Vec::new();
    for recording in recordings {
        let end = end(&recording);
        if end == End::Fits {
            // The recording was whole when it ended, so that it need not be read at each start.
            continue;
        }
        let cut = match inspect(&recording) {
            Condition::Newer(_) => continue,
            Condition::Whole(rows) | Condition::Cut(rows) => cut(&recording, rows).map_err(|error| error.to_string()),
            Condition::Damaged(why) => Err(why),
        };
        if cut.is_ok() && end == End::Differs {
            warnings.push(format!("{}: is not as it was when it ended: made whole", recording.display()));
        }
        if let Err(why) = cut {
            let aside = recording.with_extension(ASIDE);
            let done = match fs::rename(&recording, &aside) {
                Ok(()) => format!("set aside as {}", aside.display()),
                Err(error) => format!("cannot be set aside: {error}"),
            };
            warnings.push(format!("{}: is damaged: {why}: {done}", recording.display()));
        }
    }
    warnings
}

/// Removes the recordings that began before a date, in seconds since 1970, and the oldest recordings while all of them
/// have more than `most_bytes` bytes. The current recording stays. Returns a warning for each recording that cannot be
/// removed.
#[must_use]
pub fn forget(folder: &Path, current: Option<&Path>, before: u64, most_bytes: u64) -> Vec<String> {
    let Ok(recordings) = list(folder) else { return Vec::new() };
    let sizes: Vec<u64> = recordings.iter().map(|recording| bytes(recording)).collect();
    let mut total: u64 = sizes.iter().sum();
    let mut warnings = Vec::new();
    for (recording, size) in recordings.iter().zip(sizes) {
        let is_old = began(recording) / 1000 < before;
        if current == Some(recording) || !(is_old || total > most_bytes) {
            continue;
        }
        match fs::remove_dir_all(recording) {
            Ok(()) => total -= size,
            Err(error) => warnings.push(format!("{}: cannot be removed: {error}", recording.display())),
        }
    }
    warnings
}

fn bytes(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

#[cfg(test)]
pub(in crate::serve) mod tests {
    use super::*;

    pub(in crate::serve) const CSV: &str =
        "request_id,arrival_s,deadline_s,prompt\nlive-0,0,,\"a\nb\"\nlive-1,1,,\"c\nd \"\"e\"\"\"\n";

    pub(in crate::serve) fn recording(folder: &Path, csv: &[u8], rows: [usize; 2]) {
        fs::create_dir_all(folder).expect("a folder");
        mark(folder).expect("a mark");
        fs::write(folder.join(REQUESTS), csv).expect("a file");
        for (name, rows) in EMBEDDINGS.iter().zip(rows) {
            let mut file = Rows::create(&folder.join(name), 3).expect("a file");
            (0..rows).for_each(|_| file.push(&[0.0, 1.0, 0.0]).expect("a row"));
        }
    }

    #[test]
    fn what_was_cut_off_within_a_quoted_prompt_is_cut_after_the_last_whole_record() {
        let folder = tempfile::tempdir().expect("a folder");
        let whole = CSV.find("live-1").expect("a record");
        for at in 0..=CSV.len() {
            let place = folder.path().join(at.to_string());
            recording(&place, &CSV.as_bytes()[..at], [2, 2]);
            let warnings = prepare(folder.path());
            if at < CSV.find("live-0").expect("a record") {
                assert!(warnings[0].contains("has no header") && !place.exists(), "{at}: {warnings:?}");
                continue;
            }
            assert_eq!(warnings, Vec::<String>::new());
            let rows = usize::from(at >= whole) + usize::from(at == CSV.len());
            let text = fs::read_to_string(place.join(REQUESTS)).expect("read");
            assert_eq!(csv::Reader::from_reader(text.as_bytes()).records().flatten().count(), rows, "{at}");
            let kept = EMBEDDINGS.map(|name| Rows::whole(&place.join(name)).unwrap_or(0));
            assert_eq!((kept, inspect(&place)), ([rows, rows], Condition::Whole(rows)), "{at}");
        }
    }

    #[test]
    fn rows_are_as_many_as_the_shortest_file_has_and_what_is_no_recording_is_set_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        recording(&folder.path().join("1"), CSV.as_bytes(), [2, 1]);
        recording(&folder.path().join("2"), CSV.as_bytes(), [2, 2]);
        File::create(folder.path().join("2").join(EMBEDDINGS[0])).expect("an empty file");
        recording(&folder.path().join("3"), CSV.as_bytes(), [2, 2]);
        fs::write(folder.path().join("3").join(MARK), r#"{"version":7}"#).expect("a mark");
        let text = [CSV.as_bytes(), &[0; 512]].concat();
        recording(&folder.path().join("4"), &text, [2, 3]);
        let warnings = prepare(folder.path());
        assert!(warnings.len() == 1 && warnings[0].contains("no header of a file of rows"), "{warnings:?}");
        assert_eq!(inspect(&folder.path().join("1")), Condition::Whole(1));
        assert!(folder.path().join("2.damaged").is_dir());
        assert_eq!(inspect(&folder.path().join("3")), Condition::Newer(7));
        assert_eq!(inspect(&folder.path().join("4")), Condition::Whole(2));
        assert_eq!(prepare(folder.path()), Vec::<String>::new(), "nothing is read again");
    }

    #[test]
    fn what_is_damaged_after_its_end_is_made_whole_or_set_aside_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = |name: &str| folder.path().join(name);
        for name in ["1", "2", "3", "4"] {
            recording(&place(name), CSV.as_bytes(), [2, 2]);
        }
        assert_eq!(prepare(folder.path()), Vec::<String>::new());
        assert_eq!(prepare(folder.path()), Vec::<String>::new(), "all have their ends");
        let open = |name: &str, file: &str| File::options().write(true).open(place(name).join(file)).expect("a file");
        open("1", REQUESTS).set_len(CSV.len() as u64 - 3).expect("cut within a prompt");
        open("2", EMBEDDINGS[1]).set_len(0).expect("emptied");
        open("3", END).set_len(5).expect("cut");
        let mut warnings = prepare(folder.path());
        warnings.sort();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert_eq!(inspect(&place("1")), Condition::Whole(1));
        assert!(place("2.damaged").is_dir() && warnings[1].contains("is damaged"), "{warnings:?}");
        assert_eq!(inspect(&place("3")), Condition::Whole(2));
        assert_eq!(prepare(folder.path()), Vec::<String>::new());
    }

    #[test]
    fn the_oldest_go_first_and_never_the_current_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let places = [1000, 2000, 3000, 4000].map(|name| folder.path().join(name.to_string()));
        for place in &places {
            recording(place, CSV.as_bytes(), [2, 2]);
        }
        let size = bytes(&places[0]);
        assert!(forget(folder.path(), Some(&places[0]), 3, u64::MAX).is_empty());
        assert_eq!(places.each_ref().map(|place| place.exists()), [true, false, true, true]);
        assert!(forget(folder.path(), Some(&places[0]), 0, 2 * size).is_empty());
        assert_eq!(places.each_ref().map(|place| place.exists()), [true, false, false, true]);
        assert!(forget(folder.path(), Some(&places[0]), 0, 0).is_empty());
        assert_eq!(list(folder.path()).expect("read"), [places[0].clone()]);
    }
}
