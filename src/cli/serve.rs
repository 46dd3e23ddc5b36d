//! `modm serve` and `modm key`: the live system with the network for an inbox. Puts together what `serve` and `live` have.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration as HostDuration;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::live::{Cached, Equipment, LibraryArguments, prepare};
use super::make_folder;
use super::run::Prepared;
use crate::calibration::audit;
use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::input::InputError;
use crate::journal::{Journal, Record};
use crate::live::encoder::DualEncoder;
use crate::live::executor::{Book, Live, Setting};
use crate::model::{GpuId, ModelId};
use crate::replay::{Executor, replay};
use crate::scenario::{Override, Scenario, Source, TraceInputs, initial_allocation};
use crate::scheduler::WarmImage;
use crate::scheduler::routing::System;
use crate::serve::api::{Server, Usage, answers, resume};
use crate::serve::audit::Audits;
use crate::serve::desk::{Desk, Facts};
use crate::serve::keys::{Keys, fresh};
use crate::serve::ledger::Ledger;
use crate::serve::listen::listen;
use crate::serve::meter::Meter;
use crate::serve::traffic::{Traffic, repair};
use crate::time::{Duration, Time};
use crate::trace::{Columns, Trace};

/// How often results that are too old are looked for, and what tenants have used of their quotas is put on disk.
const UPKEEP: HostDuration = HostDuration::from_secs(60);

/// Answer requests over HTTP
///
/// OpenAI's image API (POST /v1/images/generations), asynchronous jobs with events, a page at /, counters at /metrics;
/// docs/serve.md. Listens on this machine only, unless keys say who may ask. SIGTERM or Ctrl-C takes nothing more in and
/// finishes what is in. The scenario's [live] section says which models, encoder and devices to use, [serve] what is allowed;
/// its trace is not used.
#[derive(Debug, Args)]
#[command(after_help = "\
  modm serve scenarios/live-shapes.toml --data results/server
  modm key alice >> keys.toml; modm serve ... --keys keys.toml --listen 0.0.0.0:8080
  modm simulate scenario.toml --set trace.requests=results/server/traffic/TIME/requests.csv ...   # what if")]
pub(super) struct Serve {
    /// Scenario, a TOML file
    #[arg(value_name = "SCENARIO", env = "MODM_SCENARIO")]
    scenario: PathBuf,
    /// Override a scenario key, e.g. cache.capacity=5000 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    library: LibraryArguments,
    /// Folder for the image cache, jobs, results and recorded traffic; what it has is used again
    #[arg(long, value_name = "DIR", env = "MODM_DATA")]
    data: PathBuf,
    /// Address and port (`serve.listen`); port 0 is any that is free
    #[arg(long, value_name = "ADDRESS", env = "MODM_LISTEN")]
    listen: Option<SocketAddr>,
    /// File with the tenants' keys (`serve.keys`), as `modm key` writes them
    #[arg(long, value_name = "FILE", env = "MODM_KEYS")]
    keys: Option<PathBuf>,
    /// Images a minute and tenant (`serve.rate_per_min`)
    #[arg(long, value_name = "N", env = "MODM_RATE_PER_MIN")]
    rate_per_min: Option<u32>,
    /// How the server is called from outside, for addresses in answers, e.g. `https://images.example.org`
    #[arg(long, value_name = "URL", env = "MODM_ORIGIN")]
    origin: Option<String>,
    /// Logs as JSON, a line an event; `RUST_LOG` says what is logged, e.g. `RUST_LOG=warn`
    #[arg(long, env = "MODM_LOG_JSON")]
    log_json: bool,
}

/// Make a key for a tenant
///
/// Prints a [[key]] for the file of keys on standard output, with the key's hash; the key itself, which is kept nowhere, on
/// standard error.
#[derive(Debug, Args)]
pub(super) struct Key {
    /// The tenant's name
    tenant: String,
}

pub(super) fn key(command: &Key) {
    let (key, sha256) = fresh();
    let table = toml::Table::from_iter([
        ("tenant".to_owned(), toml::Value::from(command.tenant.as_str())),
        ("sha256".to_owned(), toml::Value::from(sha256)),
    ]);
    print!("[[key]]\n{table}\n");
    eprintln!("key of {}: {key}", command.tenant);
}

/// What the loop's thread is made of.
struct Loop {
    prepared: Prepared,
    equipment: Equipment,
    cached: Cached,
    desk: Desk,
}

pub(super) fn run(command: &Serve) -> anyhow::Result<()> {
    start_logs(command.log_json);
    let (source, sets) = (Source::read(&command.scenario)?, sets(command)?);
    let scenario = source.scenario(&sets)?;
    let mut settings = scenario.serve.clone();
    settings.listen = command.listen.unwrap_or(settings.listen);
    settings.rate_per_min = command.rate_per_min.unwrap_or(settings.rate_per_min);
    let keys =
        command.keys.clone().or_else(|| settings.keys.as_ref().map(|keys| Scenario::resolve(source.file(), keys)));
    settings.keys.clone_from(&keys);
    settings.check(source.file())?;
    let keys = keys.map(|file| Keys::read(&file)).transpose()?;
    let tenants = tenants(keys.as_ref());
    let library = command.library.open()?;
    let trace = Arc::new(nobody(&tenants));
    let prepared = prepare(&source, &sets, scenario, Some(trace), false)?;
    let equipment = Equipment::of(&prepared.scenario, source.file(), &library, &command.library)?;

    make_folder(&command.data)?;
    let ledger = Ledger::open(&command.data).map_err(|error| InputError::new(&command.data, error.to_string()))?;
    let results = command.data.join("results");
    make_folder(&results)?;
    let cached = Cached::open(&prepared, &equipment, source.file(), &command.data.join("store"))?;
    for warning in &cached.warnings {
        tracing::warn!("{warning}");
    }
    let sources = cached.store.sources();
    let traffic = traffic(command, &settings, &tenants, &cached.warm)?;
    let audits = audits(command, &settings, &prepared.scenario, source.file())?;
    let desk = Desk::new(facts(&prepared, &tenants, settings.max_queue as usize), Meter::default(), traffic, audits);
    let (size, scope, listen) = (equipment.palette.size, prepared.scenario.tenants.scope, settings.listen);
    let public = prepared.scenario.tenants.public.clone();
    let work = Loop { prepared, equipment, cached, desk: desk.clone() };
    let usage = Usage::of(&settings, keys.as_ref(), &tenants, &ledger)?;
    let server = |origin| Server { desk, sources, ledger, results, settings, keys, scope, public, size, origin, usage };
    serve(command, listen, work, server)
}

fn sets(command: &Serve) -> Result<Vec<Override>, InputError> {
    command.sets.iter().map(|text| Override::parse(text)).collect()
}

fn start_logs(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Somebody may listen already, in tests.
    let _ = if json { logs.json().try_init() } else { logs.with_ansi(false).try_init() };
}

/// Names of tenants, each once.
fn tenants(keys: Option<&Keys>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for tenant in keys.into_iter().flat_map(Keys::tenants) {
        if !names.contains(&tenant.tenant) {
            names.push(tenant.tenant.clone());
        }
    }
    names
}

/// A trace that nobody replays: it says who the tenants are.
fn nobody(tenants: &[String]) -> TraceInputs {
    let rows = tenants.len().max(1);
    let columns = Columns {
        arrivals: vec![Time::ZERO; rows],
        prompts: Some((0..rows).map(|_| "").collect()),
        tenants: (!tenants.is_empty()).then(|| tenants.iter().map(String::as_str).collect()),
        ..Columns::default()
    };
    TraceInputs::of(Trace::new(columns))
}

fn facts(prepared: &Prepared, tenants: &[String], max_queue: usize) -> Facts {
    let scenario = &prepared.scenario;
    let full = prepared.inputs.profile.full_generation_s(GpuId(0), ModelId::LARGE, scenario.models.steps);
    let multiple = scenario.slo.multiples.first().copied().unwrap_or(2.0);
    let types = scenario.gpu_types();
    Facts {
        models: scenario.model_names().into_iter().map(Into::into).collect(),
        gpus: scenario.gpus().iter().map(|gpu| types[gpu.index()].clone()).collect(),
        initial: initial_allocation(scenario).targets,
        tenants: tenants.to_vec(),
        total_steps: scenario.models.steps,
        seed: scenario.seed,
        slo: Duration::from_seconds_saturating(multiple * full),
        max_queue,
    }
}

/// A new trace of what comes in, if it is recorded; those of earlier runs made whole.
fn traffic(
    command: &Serve,
    settings: &crate::serve::settings::ServeSettings,
    tenants: &[String],
    warm: &[WarmImage],
) -> anyhow::Result<Option<Traffic>> {
    if !settings.record {
        return Ok(None);
    }
    let folder = command.data.join("traffic");
    let wrong = || format!("{}: recorded traffic cannot be written", folder.display());
    repair(&folder).with_context(wrong)?;
    #[expect(clippy::disallowed_methods, reason = "the name of a folder")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
    let keys: Vec<Embedding> = warm.iter().map(|image| image.key.clone()).collect();
    let begun = Traffic::begin(&folder.join(now.to_string()), tenants, settings.record_prompts, &keys);
    Ok(Some(begun.with_context(wrong)?))
}

/// Opens the audits of hits, if hits are audited.
fn audits(
    command: &Serve,
    settings: &crate::serve::settings::ServeSettings,
    scenario: &Scenario,
    file: &Path,
) -> Result<Option<Audits>, InputError> {
    if settings.audit_share == 0.0 {
        return Ok(None);
    }
    if scenario.system.policy != System::Modm {
        let message = "audits hits that a model refined: expected system.policy = \"modm\", or 0";
        return Err(InputError::new(file, message).value("serve.audit_share", settings.audit_share));
    }
    Audits::open(&command.data.join(audit::FILE), settings.audit_share, scenario.seed).map(Some)
}

/// Runs loop and network until both have ended.
fn serve(command: &Serve, listen: SocketAddr, work: Loop, server: impl FnOnce(String) -> Server) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind(listen)).map_err(|error| {
        InputError::new("the command line", format!("cannot be listened on: {error}")).value("--listen", listen)
    })?;
    tracing::info!("loading the models");
    let desk = work.desk.clone();
    let (ready, opened) = oneshot::channel();
    let (over, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("loop".into()).spawn(move || {
        let result = work.run(ready);
        // Nobody may listen any more.
        let _ = over.send(());
        result
    })?;
    let answered = runtime.block_on(async {
        match opened.await {
            Ok(()) => network(command, listener, desk.clone(), server, ended).await,
            Err(_) => Ok(()), // The loop says why.
        }
    });
    desk.drain();
    let looped = thread.join().map_err(|_| anyhow::anyhow!("the loop died"))?;
    drop(runtime);
    if let Some(Err(error)) = desk.close_traffic() {
        tracing::warn!("recorded traffic is not whole: {error}");
    }
    looped.and(answered)
}

impl Loop {
    /// The loop, from the loading of models to the end of the last request.
    fn run(self, ready: oneshot::Sender<()>) -> anyhow::Result<()> {
        let Self { prepared, equipment, cached: Cached { store, warm, numbers, .. }, mut desk } = self;
        let scenario = &prepared.scenario;
        let encoder = DualEncoder::open(&equipment.library, &equipment.encoder, equipment.encoder_device)?;
        let stepping = desk.clone();
        let setting = Setting {
            book: Box::new(desk.clone()),
            models: scenario.model_names(),
            paint: equipment.paint(),
            stepped: Some(Arc::new(move |request, steps| stepping.stepped(request, steps))),
            warn: Box::new(|message| tracing::warn!("{message}")),
            away: Setting::AWAY,
        };
        let mut live = Live::start(setting, store, &initial_allocation(scenario).targets, Box::new(encoder))?;
        let mut actions = Vec::new();
        let mut core = scenario.live_core(&prepared.inputs, warm, &mut actions);
        for (row, number) in (0..).zip(numbers) {
            desk.kept(ImageId::warm(row), number);
        }
        for action in actions {
            desk.record(Time::ZERO, Record::Action(&action));
            let Ok(()) = live.submit(Time::ZERO, action);
        }
        let intake = live.intake();
        desk.opens(live.clock(), move || intake.wake());
        // Nobody waits for it if the network is gone already.
        let _ = ready.send(());
        let (mut inbox, mut journal) = (desk.arrivals(), desk);
        let ended = replay(&mut core, &mut live, &mut inbox, &mut journal);
        let (failures, _) = live.finish();
        for failure in failures {
            tracing::warn!("{failure}");
        }
        Ok(ended?)
    }
}

/// The network, until a signal or the end of the loop.
async fn network(
    command: &Serve,
    listener: TcpListener,
    desk: Desk,
    server: impl FnOnce(String) -> Server,
    mut ended: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let origin = command
        .origin
        .as_deref()
        .map_or_else(|| format!("http://{address}"), |origin| origin.trim_end_matches('/').to_owned());
    let server = Arc::new(server(origin));
    let again = resume(&server)?;
    if again > 0 {
        tracing::info!(jobs = again, "begun again: they had not ended");
    }
    tokio::spawn(upkeep(server.clone()));
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    eprintln!("listening on http://{address}");
    let told = server.clone();
    let ends = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
            _ = &mut ended => return,
        }
        tracing::info!("takes nothing more in");
        desk.drain();
        tokio::spawn(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        });
        let _ = ended.await;
        told.settled().await;
        told.keep_usage().await;
    };
    let (connections, header) = (server.settings.max_connections, server.settings.read_timeout_s);
    listen(listener, answers(server), connections, HostDuration::from_secs_f64(header), ends).await;
    Ok(())
}

/// What has to be done from time to time.
async fn upkeep(server: Arc<Server>) {
    loop {
        server.forget_old().await;
        tokio::time::sleep(UPKEEP).await;
        server.keep_usage().await;
    }
}
