//! Reads a trace in the format of this program: `requests.csv` as a stream over the mapped file, and `.npy` files. All
//! errors in these files are found here, before a run starts.

use std::path::{Path, PathBuf};

use crate::embedding::EmbeddingMatrix;
use crate::input::{self, InputError};
use crate::time::{Duration, MAX_INPUT_S, Time};

use super::table::{Dialect, Table, TableRow};
use super::{
    Columns, EXTRA_COLUMNS, Embeddings, IMAGE_EMBEDDINGS, PROMPT_EMBEDDINGS, REQUESTS, TenantColumn, TextColumn, Trace,
    npy,
};

const SECONDS: &str = "expected seconds from 0 to ten years (315360000)";
const ARRIVAL: &str = "expected seconds from 0 to ten years (315360000); \
                       `modm trace import LOG` reads dates and times since 1970 too";
const OUT_OF_ORDER: &str = "the request above arrives later; requests are in order of arrival: \
                            `modm trace import --sort` sorts them";

/// Paths of the files of a trace.
#[derive(Clone, Debug, Default)]
pub struct TraceFiles {
    /// File of the requests, CSV.
    pub requests: PathBuf,
    /// File of the embedding of each request's prompt, `.npy`.
    pub prompt_embeddings: Option<PathBuf>,
    /// File of the embedding of the image that each request would produce, `.npy`.
    pub image_embeddings: Option<PathBuf>,
    /// File of the embeddings that are cached before the first request, `.npy`.
    pub warm_images: Option<PathBuf>,
}

impl TraceFiles {
    /// Returns the files of the trace at `place`: a file of requests by itself, or a folder with `requests.csv` and the
    /// embeddings that it holds.
    #[must_use]
    pub fn find(place: &Path) -> Self {
        if !place.is_dir() {
            return Self { requests: place.to_owned(), ..Self::default() };
        }
        let found = |name: &str| Some(place.join(name)).filter(|file| file.exists());
        Self {
            requests: place.join(REQUESTS),
            prompt_embeddings: found(PROMPT_EMBEDDINGS),
            image_embeddings: found(IMAGE_EMBEDDINGS),
            warm_images: None,
        }
    }
}

/// Reads and checks a trace.
///
/// # Errors
/// Returns an error with the first thing that is wrong: file, line, column, value found and what is accepted.
pub fn read(files: &TraceFiles) -> Result<Trace, InputError> {
    let map = input::map(&files.requests)?;
    let columns = read_requests(&files.requests, &map, ArrivalOrder::Checked, &|_| ())?;
    let embeddings = read_embeddings(files, columns.arrivals.len())?;
    Ok(Trace::new(columns).with_embeddings(embeddings))
}

fn read_embeddings(files: &TraceFiles, requests: usize) -> Result<Embeddings, InputError> {
    let mut first: Option<(&Path, usize)> = None;
    let mut matrices = [const { None::<EmbeddingMatrix> }; 3];
    let sources = [&files.prompt_embeddings, &files.image_embeddings, &files.warm_images];
    for (index, (source, slot)) in sources.into_iter().zip(&mut matrices).enumerate() {
        let Some(file) = source else { continue };
        let matrix = npy::read(file)?;
        // Warm images belong to no request, so their number is free.
        if index < 2 && matrix.rows() != requests {
            let message = format!("expected {requests}, one for each request of {}", files.requests.display());
            return Err(InputError::new(file, message).value("rows", matrix.rows()));
        }
        let (other, dimension) = *first.get_or_insert((file, matrix.dimension()));
        if dimension != matrix.dimension() {
            let message = format!("expected {dimension}, as in {}", other.display());
            return Err(InputError::new(file, message).value("dimension", matrix.dimension()));
        }
        *slot = Some(matrix);
    }
    let [prompts, images, warm] = matrices;
    Ok(Embeddings { prompts, texts: None, images, warm })
}

/// Order in which the rows of a file must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArrivalOrder {
    /// Order of arrival: a row out of order is an error.
    Checked,
    /// Any order: the caller sorts the rows.
    Any,
}

/// Places in a row of the columns that are used.
#[derive(Default)]
struct Places {
    arrival: usize,
    request_id: Option<usize>,
    prompt: Option<usize>,
    tenant: Option<usize>,
    deadline: Option<usize>,
    extra: Vec<usize>,
}

/// Finds the places of the columns, and makes empty columns for the optional ones that the file has.
fn places(header: &[String], file: &Path, columns: &mut Columns) -> Result<Places, InputError> {
    let mut places = Places::default();
    for (place, name) in header.iter().enumerate() {
        match name.as_str() {
            "arrival_s" => {}
            "request_id" => places.request_id = Some(place),
            "prompt" => (places.prompt, columns.prompts) = (Some(place), Some(TextColumn::default())),
            "tenant" => (places.tenant, columns.tenants) = (Some(place), Some(TenantColumn::default())),
            "deadline_s" => (places.deadline, columns.deadlines) = (Some(place), Some(Vec::new())),
            name if EXTRA_COLUMNS.contains(&name) => {
                places.extra.push(place);
                columns.extra.push((name.to_owned(), TextColumn::default()));
            }
            _ => columns.ignored.push(name.clone()),
        }
    }
    places.arrival = header.iter().position(|name| name == "arrival_s").ok_or_else(|| {
        let message = "expected a column arrival_s, and optionally request_id, prompt, tenant, deadline_s; \
                       `modm trace import LOG` makes this format of logs and of public traces";
        InputError::new(file, message).line(1).value("header", header.join(","))
    })?;
    Ok(places)
}

/// Reads only the CSV file, whose content is `bytes`. `progress` receives the number of bytes that were read.
pub(super) fn read_requests(
    file: &Path,
    bytes: &[u8],
    order: ArrivalOrder,
    progress: &dyn Fn(u64),
) -> Result<Columns, InputError> {
    let mut table = Table::open(file, bytes, Dialect::CSV, progress)?;
    let mut columns = Columns::default();
    let places = places(&table.header()?, file, &mut columns)?;
    while let Some(row) = table.next()? {
        push(&mut columns, &places, &row, order)?;
    }
    if columns.arrivals.is_empty() {
        return Err(InputError::new(file, "expected at least one request below the header"));
    }
    if let Some((earlier, row)) = columns.request_ids.as_ref().and_then(TextColumn::first_repeat) {
        let id = columns.request_ids.as_ref().map_or("", |ids| ids.get(row));
        let message =
            format!("row {} (from 1, below the header) has row {}'s id; ids are unique", row + 1, earlier + 1);
        return Err(InputError::new(file, message).value("request_id", id));
    }
    // The column lives as long as the trace, in which a request without other columns takes 8 bytes.
    columns.arrivals.shrink_to_fit();
    Ok(columns)
}

/// Checks one row and appends it.
fn push(columns: &mut Columns, places: &Places, row: &TableRow<'_>, order: ArrivalOrder) -> Result<(), InputError> {
    let seconds = |place: usize, column: &str, accepted| row.number(place, column, 0.0..=MAX_INPUT_S, accepted);
    let arrival = Time::from_seconds(seconds(places.arrival, "arrival_s", ARRIVAL)?).expect("at most ten years");
    if order == ArrivalOrder::Checked && columns.arrivals.last().is_some_and(|&last| last > arrival) {
        return Err(row.error(places.arrival, "arrival_s", OUT_OF_ORDER));
    }
    let number = columns.arrivals.len();
    columns.arrivals.push(arrival);
    if let Some(place) = places.request_id {
        let id = row.text(place, "request_id")?;
        if id.is_empty() {
            return Err(row.error(place, "request_id", "expected a unique text in every row"));
        }
        push_id(&mut columns.request_ids, number, id);
    }
    if let (Some(place), Some(prompts)) = (places.prompt, &mut columns.prompts) {
        prompts.push(row.text(place, "prompt")?);
    }
    if let (Some(place), Some(tenants)) = (places.tenant, &mut columns.tenants) {
        tenants.push(row.text(place, "tenant")?);
    }
    if let (Some(place), Some(deadlines)) = (places.deadline, &mut columns.deadlines) {
        let deadline = if row.field(place).trim_ascii().is_empty() {
            Time::MAX
        } else {
            arrival + Duration::from_seconds(seconds(place, "deadline_s", SECONDS)?).expect("at most ten years")
        };
        deadlines.push(deadline);
    }
    for (&place, (name, column)) in places.extra.iter().zip(&mut columns.extra) {
        column.push(row.text(place, name)?);
    }
    Ok(())
}

/// Appends an id. A column is made only at the first id that is not the number of its row, because many tools write
/// these numbers as ids.
fn push_id(ids: &mut Option<TextColumn>, row: usize, id: &str) {
    if ids.is_none() && !is_number(id, row) {
        *ids = Some((0..row).map(|row| row.to_string()).collect());
    }
    if let Some(ids) = ids {
        ids.push(id);
    }
}

/// Returns whether a text is this number in plain decimal digits.
fn is_number(text: &str, number: usize) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    plain && text.parse() == Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    fn parse(bytes: &[u8], order: ArrivalOrder) -> Result<Columns, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.csv");
        std::fs::write(&path, bytes).unwrap();
        read_requests(&path, bytes, order, &|_| ())
            .map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    fn error(text: &str) -> String {
        parse(text.as_bytes(), ArrivalOrder::Checked).err().unwrap()
    }

    #[test]
    fn reads_every_column() {
        let text = "\u{feff}tenant,request_id,arrival_s,prompt,deadline_s,steps,colour\r\n\
                    b,r1,0.5,\"a \"\"cat\"\", red\",10,30,x\r\na,r2,0.5,,,40,y\r\n";
        let trace = Trace::new(parse(text.as_bytes(), ArrivalOrder::Checked).unwrap());
        assert_eq!(trace.len(), 2);
        assert_eq!((trace.label(0), trace.label(1)), ("r1".into(), "r2".into()));
        assert_eq!((trace.prompt(0), trace.prompt(1)), (Some("a \"cat\", red"), Some("")));
        assert_eq!(trace.request(0).deadline, Time::from_seconds(10.5));
        assert_eq!(trace.request(1).deadline, None);
        assert_eq!((trace.tenant(1).0, trace.tenant_name(trace.tenant(1))), (1, Some("a")));
        assert_eq!(trace.columns().extra[0].1.get(1), "40");
        assert_eq!(trace.columns().ignored, ["colour"]);
    }

    #[test]
    fn ids_that_number_the_rows_take_no_memory() {
        let columns = parse(b"request_id,arrival_s\n0,1\n1,2\n", ArrivalOrder::Checked).unwrap();
        assert_eq!(columns.request_ids, None);
        let columns = parse(b"request_id,arrival_s\n0,1\n01,2\n", ArrivalOrder::Checked).unwrap();
        assert_eq!(columns.request_ids.unwrap().iter().collect::<Vec<_>>(), ["0", "01"]);
    }

    #[test]
    fn says_what_is_wrong() {
        let seconds = |value: &str| format!("r.csv:2: arrival_s = \"{value}\": {ARRIVAL}");
        for value in ["", "x", "NaN", "-1", "inf", "315360000.1", "1e300", "0x1"] {
            assert_eq!(error(&format!("arrival_s,prompt\n{value},p\n")), seconds(value));
        }
        assert_eq!(error("arrival_s\n2\n\n1\n"), format!("r.csv:4: arrival_s = \"1\": {OUT_OF_ORDER}"));
        assert_eq!(error("arrival_s,prompt\n2,\"a\nb\"\n1,c\n"), format!("r.csv:4: arrival_s = \"1\": {OUT_OF_ORDER}"));
        assert_eq!(error("arrival_s,a\r\n2,\r\n\r\n1,\r\n"), format!("r.csv:4: arrival_s = \"1\": {OUT_OF_ORDER}"));
        assert!(parse(b"arrival_s\n2\n1\n", ArrivalOrder::Any).is_ok());
        assert!(
            error("arrival,prompt\n1,p\n").starts_with("r.csv:1: header = arrival,prompt: expected a column arrival_s")
        );
        assert!(error("").starts_with("r.csv:1: header = : expected a column arrival_s"));
        assert_eq!(error("arrival_s\n"), "r.csv: expected at least one request below the header");
        assert_eq!(error("arrival_s,arrival_s\n1,1\n"), "r.csv:1: column = arrival_s: expected each column once");
        assert_eq!(
            error("arrival_s,prompt\n1,p\n2\n"),
            "r.csv:3: fields = 1: expected 2, as in the first line; is the row cut off?"
        );
        assert_eq!(
            error("arrival_s,prompt\n1,p\n2,\"ab\n3,c\n"),
            "r.csv: row 2, the last, opens a quote that never closes; is the file cut off?"
        );
        assert_eq!(
            error("arrival_s,request_id\n1,a\n2,b\n3,a\n"),
            "r.csv: request_id = a: row 3 (from 1, below the header) has row 1's id; ids are unique"
        );
        assert!(error("arrival_s,request_id\n1,\n").starts_with("r.csv:2: request_id = \"\": expected a unique text"));
        assert_eq!(error("arrival_s,deadline_s\n1,-3\n"), format!("r.csv:2: deadline_s = \"-3\": {SECONDS}"));
        let bytes = parse(b"arrival_s,prompt\n1,\xff\n", ArrivalOrder::Checked).err().unwrap();
        assert_eq!(bytes, "r.csv:2: prompt = \"\u{fffd}\": expected UTF-8 text");
        assert!(read(&TraceFiles::default()).err().unwrap().to_string().contains("cannot be read"));
    }

    #[test]
    fn damaged_files_never_panic() {
        let good = b"request_id,arrival_s,prompt,tenant,deadline_s\na,1,\"x, y\",t,3\nb,2.5,z,t,\n";
        for seed in 0..500 {
            let mut generator = crate::draw::stream(seed, crate::draw::Purpose::Test, 1);
            let mut bytes = good.to_vec();
            for _ in 0..generator.random_range(1..8) {
                let at = generator.random_range(0..bytes.len());
                bytes[at] =
                    if generator.random() { generator.random() } else { b"\",\n\r-.0"[generator.random_range(0..7)] };
            }
            bytes.truncate(generator.random_range(0..=bytes.len()));
            let _ = parse(&bytes, ArrivalOrder::Checked);
        }
    }

    #[test]
    fn embeddings_must_match() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("r.csv"), "arrival_s\n1\n2\n").unwrap();
        let save = |name: &str, rows: usize, dimension: usize| {
            let mut bytes = Vec::new();
            npy::write(&mut bytes, rows, dimension, vec![1.0; rows * dimension]).unwrap();
            std::fs::write(path(name), bytes).unwrap();
        };
        save("two.npy", 2, 4);
        save("three.npy", 3, 4);
        save("wide.npy", 2, 5);
        let attempt = |prompts: &str, images: &str, warm: &str| {
            let file = |name: &str| (!name.is_empty()).then(|| path(name));
            let (prompts, images, warm) = (file(prompts), file(images), file(warm));
            let files = TraceFiles {
                requests: path("r.csv"),
                prompt_embeddings: prompts,
                image_embeddings: images,
                warm_images: warm,
            };
            read(&files).map(|trace| trace.len()).map_err(|error| error.to_string())
        };
        assert_eq!(attempt("two.npy", "two.npy", "three.npy"), Ok(2));
        assert!(attempt("three.npy", "", "").unwrap_err().contains("rows = 3: expected 2, one for each request of "));
        assert!(
            attempt("two.npy", "wide.npy", "").unwrap_err().contains("wide.npy: dimension = 5: expected 4, as in ")
        );
        assert!(attempt("", "two.npy", "wide.npy").unwrap_err().contains("dimension = 5: expected 4"));
    }

    #[test]
    fn reads_the_golden_workload() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden/workload");
        if !folder.exists() {
            println!("skipped: {} is not here", folder.display());
            return;
        }
        let files = TraceFiles {
            requests: folder.join("requests.csv"),
            prompt_embeddings: Some(folder.join("prompt_embeddings.npy")),
            image_embeddings: Some(folder.join("image_embeddings.npy")),
            warm_images: None,
        };
        let trace = read(&files).unwrap();
        assert_eq!((trace.len(), trace.arrivals()[0]), (400, Time::from_nanoseconds(5_921_631_000)));
        assert_eq!(trace.image_embeddings().map(EmbeddingMatrix::dimension), Some(48));
    }
}
