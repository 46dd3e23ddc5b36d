//! Cost of the server around its models. Measures requests a second with painters and an encoder that take no time, in
//! turns with a bare axum handler that returns the same bytes. Measures also the asynchronous path with its sync to
//! disk, and the memory of idle event streams. docs/performance.md quotes the results.
//!
//! ```text
//! cargo run --release --features serve --example bench_serve -- [SECONDS] [STREAMS]
//! ```

#![expect(clippy::disallowed_methods, reason = "a benchmark measures the host's time")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use axum::Router;
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use axum::routing::post;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use modm::embedding::Embedding;
use modm::live::embedder::{Embed, EmbedError};
use modm::live::executor::{Book, Clock, Live, Setting};
use modm::live::limits::{LimitSettings, Limits};
use modm::live::picture::Picture;
use modm::live::settings::ImageFormat;
use modm::live::store::{Opened, RealDisk, Store};
use modm::live::worker::{DrawError, LoadError, Paint, Painted, Task};
use modm::model::{GpuId, ModelId};
use modm::replay::{Executor, Step, replay};
use modm::request::RequestId;
use modm::scenario::{Inputs, Scenario, Source, TraceInputs, initial_allocation};
use modm::scheduler::{Action, Event, Output};
use modm::serve::api::{Edits, Server, Upkeep, Usage, answers};
use modm::serve::clock::HostClock;
use modm::serve::desk::{Desk, Facts};
use modm::serve::ids::PictureIds;
use modm::serve::ledger::Ledger;
use modm::serve::listen::listen;
use modm::serve::meter::Meter;
use modm::serve::offers::Offers;
use modm::time::{Duration as Length, Moment, Time};
use modm::trace::asks::KeyRule;
use modm::trace::{Columns, Trace};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Allocator of the program, so that the benchmark measures with the same one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Numbers of connections that send requests at the same time. With few, both servers wait for hand-overs between
/// threads. With many, they wait only for the processor.
const CONNECTIONS: [usize; 2] = [32, 128];
/// Number of turns. Each turn measures both servers one after the other, because the machine's speed changes from
/// second to second.
const TURNS: usize = 9;
const SIZE: u32 = 32;
const PROMPT: &str = "a small red circle at the top left on white";
const SCENARIO: &str = r#"
name = "instant"
[trace.synthetic]
requests = 1
arrivals = { process = "poisson", rate_per_min = 60 }
[cluster]
gpus = [{ type = "mi210", count = 2 }]
[cache]
capacity = 100
[serve]
rate_per_min = 1000000
burst = 1000000
max_queue = 1000000
"#;

/// Prompt of a request whose picture is never drawn.
const NEVER: &str = "never";

/// Painter that returns its picture at once.
struct Instantly(Picture);

impl Paint for Instantly {
    fn load(&mut self, _: ModelId) -> Result<(), LoadError> {
        Ok(())
    }

    fn draw(&mut self, task: &Task<'_>, keep_going: &dyn Fn() -> bool) -> Result<Painted, DrawError> {
        while task.prompt == NEVER && keep_going() {
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(self.0.clone().into())
    }
}

/// Executor that has every answer at once, without threads and without a disk.
struct AtOnce {
    desk: Desk,
    clock: Clock,
    /// True if `wait` has yielded since the executor last reached a deadline.
    idle: bool,
    answers: VecDeque<Event>,
    picture: Arc<Picture>,
    ended: Vec<RequestId>,
}

impl Executor for AtOnce {
    type Error = std::convert::Infallible;

    fn submit(&mut self, _: Time, action: &Action) -> Result<(), Self::Error> {
        let embedding = Embedding::normalised(&[1.0, 0.0]).ok();
        match *action {
            Action::Encode(request) => self.answers.push_back(Event::Encoded { request, embedding }),
            Action::EncodeImage(request) => self.answers.push_back(Event::ImageEncoded { request, embedding: None }),
            Action::Load { worker, .. } => self.answers.push_back(Event::ModelLoaded { worker }),
            Action::Start { job, worker, ref parts, .. } => {
                let outputs = parts.iter().map(|part| Output::new(part.request)).collect();
                self.answers.push_back(Event::JobCompleted { worker, job, outputs });
            }
            Action::Finish(ref ended) => {
                self.desk.ended(ended.request, &ended.outcome, Some(self.picture.clone()));
                self.ended.push(ended.request);
            }
            _ => {}
        }
        Ok(())
    }

    fn wait(&mut self, deadline: Option<Moment>) -> Result<Step, Self::Error> {
        for request in self.ended.drain(..) {
            self.desk.forget(request);
        }
        let now = self.clock.now();
        if deadline.is_some_and(|deadline| deadline.time <= now) {
            self.idle = false;
            return Ok(Step::DeadlineReached(now));
        }
        if let Some(event) = self.answers.pop_front() {
            return Ok(Step::Completed(now, event));
        }
        // Clients get a turn before the loop sleeps: waking the loop costs more than all its work for one of their
        // requests.
        if !std::mem::replace(&mut self.idle, true) {
            std::thread::yield_now();
            return Ok(Step::Woken);
        }
        match deadline {
            None => std::thread::park(),
            Some(deadline) => {
                std::thread::park_timeout(Duration::from_nanos(deadline.time.since(now).nanoseconds()));
            }
        }
        Ok(Step::Woken)
    }

    fn in_flight(&self) -> usize {
        self.answers.len()
    }
}

/// Encoder that gives the same embedding to all prompts, and another one to all pictures.
struct Alike;

impl Embed for Alike {
    fn prompt(&mut self, _: &str) -> Result<Embedding, EmbedError> {
        Ok(Embedding::normalised(&[1.0, 0.0]).expect("a direction"))
    }

    fn picture(&mut self, _: &Picture) -> Result<Embedding, EmbedError> {
        Ok(Embedding::normalised(&[0.0, 1.0]).expect("a direction"))
    }
}

fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut next = |usual| numbers.next().unwrap_or(Ok(usual));
    let (seconds, streams) = (next(1)?, next(10_000)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let time = Duration::from_secs(seconds);
    for executor in [start_at_once, start_live] {
        let folder = tempfile::tempdir()?;
        let desk = executor(folder.path())?;
        runtime.block_on(measure(&desk, folder.path(), time, streams as usize))?;
        desk.drain();
    }
    Ok(())
}

/// Returns a scenario, its inputs, and a desk for them.
fn prepared() -> anyhow::Result<(Scenario, Inputs, Desk)> {
    let file = Path::new("instant.toml");
    let scenario = Source::new(file, SCENARIO.to_owned())?.scenario(&[])?;
    let trace = Trace::new(Columns { arrivals: vec![Time::ZERO], ..Columns::default() });
    let inputs = Inputs::new(&scenario, file, Arc::new(TraceInputs::from_trace(trace)))?;
    let facts = Facts {
        models: scenario.model_names().into_iter().map(Into::into).collect(),
        gpus: vec!["none".to_owned(); 2],
        initial: initial_allocation(&scenario).targets,
        tenants: Vec::new(),
        total_steps: scenario.models.large_steps(),
        seed: 1,
        slo: Length::from_seconds_saturating(inputs.profile.full_generation_s(GpuId(0), ModelId::LARGE, 50)),
        public: Vec::new(),
        max_queue: 1_000_000,
        disk_limit: Duration::from_secs(30),
        max_queue_per_tenant: 1_000_000,
    };
    Ok((scenario, inputs, Desk::new(facts, Meter::default(), None, None)))
}

fn picture() -> Picture {
    Picture::new(SIZE, SIZE, vec![200; (3 * SIZE * SIZE) as usize])
}

/// Starts the loop on a thread of its own, with the executor that has every answer at once.
fn start_at_once(_: &Path) -> anyhow::Result<Desk> {
    println!("an executor with every answer at once:");
    let (scenario, inputs, desk) = prepared()?;
    let (own, clock) = (desk.clone(), Clock::start());
    let (ready, opened) = channel();
    std::thread::spawn(move || -> anyhow::Result<()> {
        let picture = Arc::new(picture());
        let mut executor =
            AtOnce { desk: own.clone(), clock, idle: false, answers: VecDeque::new(), picture, ended: Vec::new() };
        let mut actions = Vec::new();
        let mut core = scenario.live_core(&inputs, Vec::new(), &mut actions);
        let mut journal = own.clone();
        let this = std::thread::current();
        own.opens(clock, move || this.unpark());
        let _ = ready.send(());
        Ok(replay(&mut core, &mut executor, &mut own.arrivals(), &mut journal)?)
    });
    opened.recv().context("the loop did not begin")?;
    Ok(desk)
}

/// Starts the loop with the executor of live runs: it has the threads of workers and encoder, and the store on disk.
/// Only the painters and the encoder take no time.
fn start_live(folder: &Path) -> anyhow::Result<Desk> {
    println!("the executor of live runs, with painters that take no time:");
    let (scenario, inputs, desk) = prepared()?;
    let (own, store) = (desk.clone(), folder.join("store"));
    let (ready, opened) = channel();
    std::thread::spawn(move || -> anyhow::Result<()> {
        let Opened { store, .. } = Store::open(&store, ImageFormat::Png, "none", RealDisk)?;
        let setting = Setting {
            book: Box::new(own.clone()),
            models: scenario.model_names(),
            checkpoints: Vec::new(),
            size: [32, 32],
            paint: Box::new(move |_| Box::new(Instantly(picture()))),
            stepped: None,
            warn: Box::new(|message| eprintln!("{message}")),
            away: Setting::AWAY,
            limits: Limits::unmeasured(&LimitSettings::default(), scenario.workers(), scenario.model_names().len()),
            elsewhere: None,
            isolated: false,
        };
        let mut live = Live::start(setting, store, &initial_allocation(&scenario).targets, Box::new(Alike))?;
        let mut actions = Vec::new();
        let mut core = scenario.live_core(&inputs, Vec::new(), &mut actions);
        let intake = live.intake();
        own.opens(live.clock(), move || intake.wake());
        let _ = ready.send(());
        let mut journal = own.clone();
        Ok(replay(&mut core, &mut live, &mut own.arrivals(), &mut journal)?)
    });
    opened.recv().context("the loop did not begin")?;
    Ok(desk)
}

async fn measure(desk: &Desk, folder: &Path, time: Duration, streams: usize) -> anyhow::Result<()> {
    let scenario = Source::new(Path::new("instant.toml"), SCENARIO.to_owned())?.scenario(&[])?;
    let results = folder.join("results");
    std::fs::create_dir_all(&results)?;
    let clock = HostClock::new();
    let ledger = Ledger::open(folder, &clock, None)?;
    let usage = Usage::load(&scenario.serve, None, &[], &ledger)?;
    let server = Arc::new(Server {
        elsewhere: Arc::default(),
        desk: desk.clone(),
        sources: Store::open(&folder.join("other"), ImageFormat::Png, "none", RealDisk)?.store.sources(),
        ledger,
        results,
        settings: scenario.serve.clone(),
        keys: None,
        public: Vec::new(),
        ids: PictureIds::fresh(),
        offers: Offers::of_size([SIZE, SIZE], desk.facts().total_steps, KeyRule::default()),
        names: scenario.names_of_models().map_err(|wrong| anyhow::anyhow!(wrong.message))?,
        edits: Edits::new(Err("measured without them"), desk.facts().total_steps, 1),
        origin: "http://localhost".to_owned(),
        usage,
        upkeep: Upkeep::new(folder.to_owned(), clock, &scenario.serve, None, None),
    });
    let address = serve(answers(server)).await?;
    let ask = |path: &str, prompt: &str| {
        let body = format!(r#"{{"prompt": "{prompt}"}}"#);
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let answer = once(address, &ask("/v1/images/generations", PROMPT)).await?;
    let same = answer.clone();
    let bare = move || async move { ([(CONTENT_TYPE, "application/json")], same) };
    let bare = Router::new().route("/v1/images/generations", post(bare));
    let bare = serve(TowerToHyperService::new(bare)).await?;
    println!("{} bytes an answer, {} s a turn", answer.len(), time.as_secs());
    for connections in CONNECTIONS {
        let mut ratios = Vec::new();
        for turn in 1..=TURNS {
            let least = load(bare, &ask("/v1/images/generations", PROMPT), connections, time).await?;
            let own = load(address, &ask("/v1/images/generations", PROMPT), connections, time).await?;
            ratios.push(own / least);
            let ratio = own / least;
            println!(
                "{connections} connections, turn {turn}: bare handler {least:.0}/s, modm {own:.0}/s, ratio {ratio:.2}"
            );
        }
        ratios.sort_by(f64::total_cmp);
        println!(
            "{connections} connections: median ratio {:.2}, from {:.2} to {:.2}",
            ratios[TURNS / 2],
            ratios[0],
            ratios[TURNS - 1]
        );
    }
    let jobs = load(address, &ask("/v1/jobs", PROMPT), CONNECTIONS[0], time).await?;
    println!("asynchronous, each synced to disk before its answer: {jobs:.0}/s");
    idle_streams(address, &ask("/v1/jobs", NEVER), streams).await
}

async fn serve<S>(service: S) -> anyhow::Result<SocketAddr>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
    S::Future: 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(listen(listener, service, 20_000, Duration::from_secs(60), std::future::pending()));
    Ok(address)
}

/// Sends one request, and returns the body of the answer.
async fn once(address: SocketAddr, request: &str) -> anyhow::Result<String> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    stream.get_mut().write_all(request.as_bytes()).await?;
    let mut body = Vec::new();
    read(&mut stream, &mut body).await?;
    Ok(String::from_utf8(body)?)
}

/// Reads an answer that states its length, and puts its body into `body`.
async fn read(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> anyhow::Result<()> {
    let (mut line, mut length, mut first) = (String::new(), 0, true);
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line).await? > 0, "the connection was closed");
        ensure!(!first || line.contains(" 20"), "{line}");
        first = false;
        if line == "\r\n" {
            break;
        }
        let header = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if let Some((_, value)) = header {
            length = value.trim().parse()?;
        }
    }
    body.resize(length, 0);
    stream.read_exact(body).await?;
    Ok(())
}

/// Returns the number of answers a second over this many connections.
async fn load(address: SocketAddr, request: &str, connections: usize, time: Duration) -> anyhow::Result<f64> {
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..connections {
        let (over, count, request) = (over.clone(), count.clone(), request.to_owned());
        clients.push(tokio::spawn(async move {
            let mut stream = BufReader::new(TcpStream::connect(address).await?);
            let mut body = Vec::new();
            while !over.load(Ordering::Relaxed) {
                stream.get_mut().write_all(request.as_bytes()).await?;
                read(&mut stream, &mut body).await?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }));
    }
    tokio::time::sleep(time).await;
    let rate = count.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await??;
    }
    Ok(rate)
}

/// Opens event streams of a job that never ends, and prints the memory that they take, with both ends in this process.
async fn idle_streams(address: SocketAddr, ask: &str, streams: usize) -> anyhow::Result<()> {
    let job = once(address, ask).await?;
    let id = serde_json::from_str::<serde_json::Value>(&job)?["id"].as_str().unwrap_or_default().to_owned();
    let request = format!("GET /v1/jobs/{id}/events HTTP/1.1\r\nHost: x\r\n\r\n");
    let before = resident();
    let mut open = Vec::new();
    for _ in 0..streams {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        open.push(stream);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("{streams} event streams: {:.0} MiB, clients included", (resident() - before) / 1_048_576.0);
    Ok(())
}

fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or(0.0) * 4096.0
}
