//! Recorded traffic, as a trace that `simulate`, `compare` and `plan` read unchanged: `requests.csv` and the embeddings
//! of prompts and images. It has a row for each request whose image was generated, in the order of arrival. A separate
//! thread writes the rows while the server runs, so that a crash loses only requests that had not ended, and a disk
//! that hangs blocks no request.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration as HostDuration;

use super::desk::Ask;
use super::recordings;
use super::scribe::Scribe;
use crate::embedding::Embedding;
use crate::live::faults::Faults;
use crate::request::{Request, RequestId};
use crate::scheduler::Event;
use crate::time::{Duration, Time};
use crate::trace::npy::Rows;

pub(super) const REQUESTS: &str = "requests.csv";
/// Columns of what requests ask for beside their prompts.
const WISHES: [&str; 5] = ["width", "height", "steps", "checkpoint", "guidance"];
const NEGATIVE_PROMPT: &str = "negative_prompt";
pub(super) const EMBEDDINGS: [&str; 2] = ["prompt_embeddings.npy", "image_embeddings.npy"];

/// Request whose row is not written yet.
#[derive(Debug)]
struct Pending {
    arrival: Time,
    deadline: Option<Duration>,
    tenant: u32,
    /// True if the request may be a hit.
    look_up: bool,
    /// Text of the prompt; empty if it is not recorded.
    prompt: Arc<str>,
    /// Fields of the columns of wishes.
    wishes: Vec<String>,
    prompt_embedding: Option<Embedding>,
    image_embedding: Option<Embedding>,
    drawn: bool,
    settled: bool,
}

/// Row of the trace.
#[derive(Debug)]
struct TrafficRow {
    record: Vec<String>,
    embeddings: [Embedding; 2],
}

/// Files of a trace.
struct Files {
    folder: PathBuf,
    requests: csv::Writer<File>,
    embeddings: Option<[Rows; 2]>,
}

impl Files {
    fn write(&mut self, TrafficRow { record, embeddings }: &TrafficRow) -> io::Result<()> {
        if self.embeddings.is_none() {
            let begin = |name: &str, row: &Embedding| Rows::create(&self.folder.join(name), row.as_slice().len());
            let [prompt, image] = embeddings;
            self.embeddings = Some([begin(EMBEDDINGS[0], prompt)?, begin(EMBEDDINGS[1], image)?]);
        }
        for (rows, row) in self.embeddings.iter_mut().flatten().zip(embeddings) {
            rows.push(row.as_slice())?;
        }
        // The row of the request comes last: after a kill, no row is without its embeddings.
        self.requests.write_record(record)?;
        self.requests.flush()
    }
}

/// Trace that is being recorded.
#[derive(Debug)]
pub struct Traffic {
    folder: PathBuf,
    tenants: Vec<String>,
    checkpoints: Vec<String>,
    prompts: bool,
    rows: Scribe<TrafficRow>,
    pending: BTreeMap<RequestId, Pending>,
    /// Number of bytes written so far; `most_bytes` is their limit.
    bytes: u64,
    most_bytes: u64,
    /// True if the trace has reached its limit of bytes: nothing more is written then.
    is_full: bool,
    /// Number of requests that are not in the trace, because no image was generated for them or they must not be kept.
    left_out: u64,
    /// Number of requests of the trace that must not hit: a trace cannot express that.
    no_hit: u64,
}

impl Traffic {
    /// Begins a trace in a new folder. `names` has the tenants and the checkpoints, `warm` the embeddings of the images
    /// that are cached at the start. The trace ends when it has `most_bytes` bytes.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn begin(
        folder: &Path,
        (tenants, checkpoints): (&[String], &[String]),
        prompts: bool,
        warm: &[Embedding],
        most_bytes: u64,
        faults: Option<Arc<Faults>>,
    ) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        recordings::mark(folder)?;
        let mut requests = csv::WriterBuilder::new().has_headers(false).from_path(folder.join(REQUESTS))?;
        let tenant = (!tenants.is_empty()).then_some("tenant");
        let columns = ["request_id", "arrival_s", "deadline_s"].into_iter().chain(tenant);
        let columns = columns.chain(prompts.then_some("prompt")).chain(WISHES);
        requests.write_record(columns.chain(prompts.then_some(NEGATIVE_PROMPT)))?;
        requests.flush()?;
        if let Some(first) = warm.first() {
            let mut rows = Rows::create(&folder.join("warm_images.npy"), first.as_slice().len())?;
            warm.iter().try_for_each(|row| rows.push(row.as_slice()))?;
        }
        let mut files = Files { folder: folder.to_owned(), requests, embeddings: None };
        let rows = Scribe::start(folder.display().to_string(), move |row| {
            if let Some(faults) = &faults {
                faults.hang();
            }
            files.write(&row)
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            tenants: tenants.to_vec(),
            checkpoints: checkpoints.to_vec(),
            prompts,
            rows,
            pending: BTreeMap::new(),
            bytes: 0,
            most_bytes,
            is_full: false,
            left_out: 0,
            no_hit: 0,
        })
    }

    /// Returns the folder of the trace while it is being written.
    pub(super) fn folder(&self) -> Option<&Path> {
        (!self.has_ended()).then_some(&self.folder)
    }

    /// Returns whether nothing more is written.
    fn has_ended(&self) -> bool {
        self.is_full || self.rows.has_ended()
    }

    pub(super) fn arrived(&mut self, request: &Request, ask: &Ask) {
        if self.has_ended() {
            self.pending.clear();
            return;
        }
        let pending = Pending {
            arrival: request.arrival,
            deadline: ask.deadline,
            tenant: request.tenant.0,
            look_up: request.reuse.look_up,
            // A request that must not be kept gets no row, so that its prompt is not held here either.
            prompt: if self.prompts && request.reuse.keep { ask.prompt.clone() } else { "".into() },
            wishes: self.wishes(request, ask),
            prompt_embedding: None,
            image_embedding: None,
            drawn: false,
            settled: false,
        };
        self.pending.insert(request.id, pending);
    }

    /// Returns the fields of the columns of wishes. What is usual is empty.
    fn wishes(&self, request: &Request, Ask { wishes, details, .. }: &Ask) -> Vec<String> {
        let number = |number: u32| if number == 0 { String::new() } else { number.to_string() };
        let mut fields = vec![
            number(wishes.size.width.into()),
            number(wishes.size.height.into()),
            number(wishes.steps),
            details.checkpoint_name(&self.checkpoints).to_owned(),
            details.guidance.map_or_else(String::new, |guidance| guidance.to_string()),
        ];
        if self.prompts {
            let kept = details.negative_prompt.as_str();
            fields.push(if request.reuse.keep { kept } else { "" }.to_owned());
        }
        fields
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Encoded { request, embedding } => {
                if let Some(pending) = self.pending.get_mut(request) {
                    pending.prompt_embedding.clone_from(embedding);
                }
            }
            Event::ImageEncoded { request, embedding } => {
                if let Some(pending) = self.pending.get_mut(request) {
                    pending.image_embedding.clone_from(embedding);
                }
            }
            _ => {}
        }
    }

    pub(super) fn ended(&mut self, request: RequestId, drawn: bool) {
        if let Some(pending) = self.pending.get_mut(&request) {
            pending.drawn = drawn;
        }
    }

    /// Notes that nothing more will follow for a request. Writes the rows of all requests up to the first one that is
    /// not settled, so that rows are in the order of arrival.
    pub(super) fn settled(&mut self, request: RequestId) {
        if let Some(pending) = self.pending.get_mut(&request) {
            pending.settled = true;
        }
        while let Some(first) = self.pending.first_entry().filter(|first| first.get().settled) {
            let (id, pending) = first.remove_entry();
            self.write(id, pending);
        }
    }

    fn write(&mut self, id: RequestId, pending: Pending) {
        let Pending { prompt_embedding: Some(prompt), image_embedding: Some(image), drawn: true, .. } = pending else {
            self.left_out += 1;
            return;
        };
        // 64 bytes stand for the other fields of the row.
        let texts = pending.prompt.len() + pending.wishes.iter().map(String::len).sum::<usize>();
        self.bytes += 4 * (prompt.as_slice().len() + image.as_slice().len()) as u64 + texts as u64 + 64;
        if self.bytes > self.most_bytes {
            // The server goes on without the recording.
            let why = format!("it has the {} bytes of serve.keep_traffic_bytes", self.most_bytes);
            tracing::warn!("{}: nothing more is recorded: {why}", self.folder.display());
            self.is_full = true;
            self.pending.clear();
            return;
        }
        let deadline = pending.deadline.map_or_else(String::new, |deadline| deadline.to_string());
        let tenant = self.tenants.get(pending.tenant as usize);
        let mut record = vec![format!("live-{}", id.0), pending.arrival.to_string(), deadline];
        record.extend(tenant.cloned());
        record.extend(self.prompts.then(|| pending.prompt.to_string()));
        record.extend(pending.wishes);
        self.no_hit += u64::from(!pending.look_up);
        self.rows.write(TrafficRow { record, embeddings: [prompt, image] });
    }

    /// Ends the trace once all its rows are on disk. A trace that broke off, or whose disk does not answer within
    /// `patience`, is repaired at the next start.
    ///
    /// # Errors
    /// The file that ends the trace cannot be written.
    pub fn close(mut self, patience: HostDuration) -> io::Result<()> {
        let is_full = self.is_full;
        if !self.rows.close(patience) || is_full {
            return Ok(());
        }
        recordings::finish(
            &self.folder,
            serde_json::json!({ "left_out": self.left_out, "no_hit": self.no_hit, "still_open": self.pending.len() }),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::live::details::Details;
    use crate::request::{self, Reuse, TenantId};
    use crate::trace::asks::KeyRule;
    use crate::trace::{TraceFiles, read};

    const PATIENCE: HostDuration = HostDuration::from_secs(10);

    fn request(id: u32, seconds: f64) -> Request {
        let arrival = Time::from_seconds(seconds).expect("a time");
        Request::new(RequestId(id), arrival, TenantId(1))
    }

    fn ask(prompt: &str) -> Ask {
        Ask {
            prompt: prompt.into(),
            tenant: TenantId(1),
            seed: None,
            deadline: None,
            reuse: Reuse::ALL,
            wishes: request::Ask { steps: 9, ..request::Ask::default() },
            details: Details::default(),
            source: None,
            progress: None,
        }
    }

    fn embedding(turn: f32) -> Option<Embedding> {
        Embedding::normalised(&[1.0, turn]).ok()
    }

    fn read_back(folder: &Path) -> crate::trace::Trace {
        let files = TraceFiles {
            requests: folder.join(REQUESTS),
            prompt_embeddings: Some(folder.join(EMBEDDINGS[0])),
            image_embeddings: Some(folder.join(EMBEDDINGS[1])),
            warm_images: Some(folder.join("warm_images.npy")),
        };
        read(&files).expect("a trace")
    }

    #[test]
    fn what_was_drawn_is_a_trace_in_the_order_of_arrival() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("one");
        let tenants = ["a, b".to_owned(), "c".to_owned()];
        let warm = [embedding(0.3).expect("an embedding")];
        let mut traffic =
            Traffic::begin(&place, (&tenants, &["x".to_owned()]), true, &warm, u64::MAX, None).expect("begun");
        for id in 0..4 {
            let details = Details { checkpoint: id % 2, guidance: Some(2.5), ..Details::default() };
            traffic.arrived(&request(id, f64::from(id)), &Ask { details, ..ask("two, \"words\"") });
            traffic.event(&Event::Encoded { request: RequestId(id), embedding: embedding(0.1) });
        }
        // The requests end in another order. One has no image, and one is still open.
        for id in [2, 0, 1] {
            traffic.event(&Event::ImageEncoded { request: RequestId(id), embedding: embedding(id as f32) });
            traffic.ended(RequestId(id), id != 1);
            traffic.settled(RequestId(id));
        }
        // The recording breaks off here, with one row of embeddings too many.
        let last = place.join(EMBEDDINGS[0]);
        assert!(traffic.rows.close(PATIENCE), "all is written");
        let mut file = File::options().append(true).open(last).expect("begun");
        file.write_all(&[0; 8]).expect("written");
        assert_eq!(recordings::prepare(folder.path()), Vec::<String>::new());
        let trace = read_back(&place);
        assert_eq!(trace.len(), 2);
        assert_eq!((trace.label(1).as_ref(), trace.prompt(1)), ("live-2", Some("two, \"words\"")));
        assert_eq!(trace.tenant_name(trace.tenant(0)), Some("c"));
        let wishes = [0, 1].map(|row| (trace.wishes(row).checkpoint, trace.wishes(row).guidance));
        assert_eq!(wishes, [("", Some(2.5)); 2], "the request with a checkpoint has no image");
        let asked = trace.clone().with_asks(&KeyRule::default(), Path::new(REQUESTS)).expect("asks");
        assert_eq!(asked.ask(1).steps, 9);
        assert!(trace.image_embeddings().is_some_and(|rows| rows.rows() == 2) && trace.warm_images().is_some());
    }

    #[test]
    fn a_trace_that_cannot_be_written_ends_and_nothing_else_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("1");
        let mut traffic = Traffic::begin(&place, (&[], &[]), true, &[], 150, None).expect("begun");
        for id in 0..3 {
            traffic.arrived(&request(id, f64::from(id)), &ask("x"));
            traffic.event(&Event::Encoded { request: RequestId(id), embedding: embedding(0.1) });
            traffic.event(&Event::ImageEncoded { request: RequestId(id), embedding: embedding(0.2) });
            traffic.ended(RequestId(id), true);
            traffic.settled(RequestId(id));
            assert_eq!(traffic.folder().is_some(), id == 0, "{id}: each has 81 bytes");
        }
        traffic.close(PATIENCE).expect("nothing to do");
        assert_eq!(recordings::prepare(folder.path()), Vec::<String>::new());
        assert_eq!(fs::read_to_string(place.join(REQUESTS)).expect("read").lines().count(), 2);
    }
}
