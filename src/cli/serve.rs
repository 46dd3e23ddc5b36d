//! `modm serve` and `modm key`: the live system with the network as its inbox. Connects the parts in `serve` and in
//! `live`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration as HostDuration;

use anyhow::bail;
use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

mod ending;

use super::arguments::LibraryArguments;
use super::progress::Lines;
use crate::calibration::audit;
use crate::embedding::Embedding;
use crate::experiments::live::{Cached, Equipment, Strangers, prepare};
use crate::image::ImageId;
use crate::input::InputError;
use crate::journal::{Journal, Record};
use crate::live::executor::{Intake, Live, Setting};
use crate::live::faults::Faults;
use crate::model::{GpuId, ModelId};
use crate::output::make_folder;
use crate::replay::{Executor, replay};
use crate::request::TenantId;
use crate::scenario::{Override, Scenario, Source, TraceInputs, initial_allocation};
use crate::scheduler::WarmImage;
use crate::scheduler::routing::System;
use crate::serve::api::{Server, Upkeep, Usage, answers, resume};
use crate::serve::audit::{Audits, Keep};
use crate::serve::clock::HostClock;
use crate::serve::desk::{Desk, Facts};
use crate::serve::ids::PictureIds;
use crate::serve::keys::{Keys, fresh};
use crate::serve::ledger::{Ledger, LedgerError, results};
use crate::serve::listen::listen;
use crate::serve::meter::Meter;
use crate::serve::recordings;
use crate::serve::settings::ServeSettings;
use crate::serve::traffic::Traffic;
use crate::simulation::Simulation;
use crate::time::{Duration, Time};
use crate::trace::{Columns, Trace};

/// Answer requests over HTTP
///
/// Offers OpenAI's image API (POST /v1/images/generations), asynchronous jobs with events, a page at / and counters at
/// /metrics; see docs/serve.md. Listens on this machine only, unless there are keys that say who may send requests.
/// SIGTERM or Ctrl-C ends the intake and finishes the requests that were accepted. The scenario's [live] section names
/// the models, the encoder and the devices to use, and [serve] says what is allowed; its trace is not used.
#[derive(Debug, Args)]
#[command(after_help = "\
  modm serve scenarios/live-shapes.toml --data results/server
  modm key alice >> keys.toml; modm serve ... --keys keys.toml --listen 0.0.0.0:8080
  modm simulate scenario.toml --set trace.requests=results/server/traffic/TIME/requests.csv ...   # what if")]
pub(super) struct Serve {
    /// Scenario file (TOML)
    #[arg(value_name = "SCENARIO", env = "MODM_SCENARIO")]
    scenario: PathBuf,
    /// Override a scenario key, e.g. cache.capacity=5000 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    library: LibraryArguments,
    /// Folder for the image cache, jobs, results and recorded traffic; the next start uses its contents again
    #[arg(long, value_name = "DIR", env = "MODM_DATA")]
    data: PathBuf,
    /// Address and port to listen on (`serve.listen`); port 0 takes any free port
    #[arg(long, value_name = "ADDRESS", env = "MODM_LISTEN")]
    listen: Option<SocketAddr>,
    /// File with the tenants' keys (`serve.keys`), as `modm key` prints them
    #[arg(long, value_name = "FILE", env = "MODM_KEYS")]
    keys: Option<PathBuf>,
    /// Images that each tenant may request in a minute (`serve.rate_per_min`)
    #[arg(long, value_name = "N", env = "MODM_RATE_PER_MIN")]
    rate_per_min: Option<u32>,
    /// Address of the server from outside, for addresses in answers, e.g. `https://images.example.org`
    #[arg(long, value_name = "URL", env = "MODM_ORIGIN")]
    origin: Option<String>,
    /// Write logs as JSON, one event a line; `RUST_LOG` says what is logged, e.g. `RUST_LOG=warn`
    #[arg(long, env = "MODM_LOG_JSON")]
    log_json: bool,
}

/// Make a key for a tenant
///
/// Prints a [[key]] for the file of keys on standard output, with the key's hash. Prints the key itself on standard
/// error; the key is stored nowhere.
#[derive(Debug, Args)]
pub(super) struct Key {
    /// Name of the tenant
    tenant: String,
    /// Make a key that sees the whole server: counters, status and cached pictures of all tenants; it draws only if the
    /// tenant has another key
    #[arg(long)]
    operator: bool,
}

pub(super) fn key(command: &Key) {
    let (key, sha256) = fresh();
    let mut table = toml::Table::from_iter([
        ("tenant".to_owned(), toml::Value::from(command.tenant.as_str())),
        ("sha256".to_owned(), toml::Value::from(sha256)),
    ]);
    if command.operator {
        table.insert("operator".to_owned(), toml::Value::from(true));
    }
    print!("[[key]]\n{table}\n");
    eprintln!("key of {}: {key}", command.tenant);
}

/// Time that the loop may take to end after it was told to, and that the network may take after the loop.
const LOOP_END: HostDuration = HostDuration::from_secs(10);

/// Parts of the scheduler's loop, for its thread.
struct Loop {
    /// Handle that ends the loop at once; set while the loop runs.
    abort: Arc<OnceLock<Intake>>,
    simulation: Simulation,
    equipment: Equipment,
    cached: Cached,
    desk: Desk,
}

pub(super) fn run(command: &Serve) -> anyhow::Result<()> {
    start_logs(command.log_json);
    let (source, sets) = (Source::read(&command.scenario)?, sets(command)?);
    let mut scenario = source.scenario(&sets)?;
    let mut settings = scenario.serve.clone();
    settings.listen = command.listen.unwrap_or(settings.listen);
    settings.rate_per_min = command.rate_per_min.unwrap_or(settings.rate_per_min);
    let keys =
        command.keys.clone().or_else(|| settings.keys.as_ref().map(|keys| Scenario::resolve(source.file(), keys)));
    settings.keys.clone_from(&keys);
    settings.check(source.file())?;
    let keys = keys.map(|file| Keys::read(&file)).transpose()?;
    let tenants = keys.as_ref().map(Keys::tenants).unwrap_or_default();
    if keys.is_some() {
        let set = scenario.queue.order.is_some();
        let order = toml::Value::try_from(scenario.order_between_tenants())?;
        let why = if set { "as the scenario sets it" } else { "since there are keys and the scenario sets none" };
        tracing::info!("queue.order = {order}, {why}");
    }
    let library = command.library.open()?;
    let trace = Arc::new(nobody(&tenants));
    let simulation = prepare(&source, &sets, scenario, Some(trace), false)?;
    let equipment =
        Equipment::find(&simulation.scenario, source.file(), &library, command.library.allow_cpu, &Lines::new(false))?;

    make_folder(&command.data)?;
    let (clock, faults) = (HostClock::new(), Faults::from_environment());
    let disk_limit = HostDuration::from_secs_f64(simulation.scenario.live.limits.disk_s);
    let ledger = open_ledger(&command.data, &clock, faults.clone())?.with_limit(disk_limit);
    if keys.is_some() {
        warn_of_strangers(&ledger, &tenants)?;
    }
    let results = results(&command.data);
    make_folder(&results)?;
    remove_strangers(&results, &ledger)?;
    let ids = PictureIds::open(&command.data)?;
    let strangers = if keys.is_some() { Strangers::WithoutKnownOwner } else { Strangers::OfOtherTenants };
    let cached = Cached::open(&simulation, &equipment, source.file(), &command.data.join("store"), strangers)?;
    for warning in &cached.warnings {
        tracing::warn!("{warning}");
    }
    let sources = cached.store.sources();
    cached.store.limit(settings.max_store_bytes);
    let traffic = traffic(command, &settings, &tenants, &cached.warm, faults.clone());
    let audits = audits(command, &settings, &simulation.scenario, source.file())?;
    let desk = Desk::new(facts(&simulation, &tenants, &settings), Meter::default(), traffic, audits);
    let (size, listen) = (equipment.palette.size, settings.listen);
    let public = simulation.scenario.tenants.public.clone();
    let work = Loop { abort: Arc::default(), simulation, equipment, cached, desk: desk.clone() };
    let usage = Usage::load(&settings, keys.as_ref(), &tenants, &ledger)?;
    let upkeep = Upkeep::new(command.data.clone(), clock, &settings, ledger.last_date(), faults);
    let server =
        |origin| Server { desk, sources, ledger, results, settings, keys, public, ids, size, origin, usage, upkeep };
    serve(command, listen, work, server)
}

fn sets(command: &Serve) -> Result<Vec<Override>, InputError> {
    command.sets.iter().map(|text| Override::parse(text)).collect()
}

/// Opens the ledger. A ledger that is damaged, in use or written by a newer program is an input that cannot be used. A
/// disk that fails is not an input error.
fn open_ledger(data: &Path, clock: &HostClock, faults: Option<Arc<Faults>>) -> anyhow::Result<Ledger> {
    let ledger = Ledger::open(data, clock, faults).map_err(|error| match error {
        error @ LedgerError::Disk { .. } => anyhow::Error::new(error),
        error => InputError::new(data, error.to_string()).into(),
    })?;
    for warning in ledger.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(ledger)
}

/// Removes pictures of results that the ledger does not know. The program was killed after it wrote their files and
/// before it committed their transaction.
fn remove_strangers(results: &Path, ledger: &Ledger) -> anyhow::Result<()> {
    let known: BTreeSet<String> = ledger.pictures()?.into_iter().collect();
    for entry in std::fs::read_dir(results)?.flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".png").or_else(|| name.strip_suffix(".png.partial")));
        if id.is_some_and(|id| !known.contains(id) && id.starts_with("img-"))
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!("{}: cannot be removed: {error}", entry.path().display());
        }
    }
    Ok(())
}

fn start_logs(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // In tests, another subscriber may be set already.
    let _ = if json { logs.json().try_init() } else { logs.with_ansi(false).try_init() };
}

/// Warns of ended jobs, results and quotas in the ledger whose tenant has no key, because no key leads to them.
fn warn_of_strangers(ledger: &Ledger, tenants: &[String]) -> anyhow::Result<()> {
    let [jobs, pictures, quotas] = ledger.strangers(tenants)?;
    if jobs + pictures + quotas > 0 {
        let what = format!("{jobs} ended jobs, {pictures} results and {quotas} quotas");
        tracing::warn!("{what} are of nobody who has a key: set aside, no key leads to them");
    }
    Ok(())
}

/// Returns a trace that is not replayed. It only names the tenants.
fn nobody(tenants: &[String]) -> TraceInputs {
    let rows = tenants.len().max(1);
    let columns = Columns {
        arrivals: vec![Time::ZERO; rows],
        prompts: Some((0..rows).map(|_| "").collect()),
        tenants: (!tenants.is_empty()).then(|| tenants.iter().map(String::as_str).collect()),
        ..Columns::default()
    };
    TraceInputs::from_trace(Trace::new(columns))
}

fn facts(simulation: &Simulation, tenants: &[String], settings: &ServeSettings) -> Facts {
    let scenario = &simulation.scenario;
    let full = simulation.inputs.profile.full_generation_s(GpuId(0), ModelId::LARGE, scenario.models.steps);
    let multiple = scenario.slo.multiples.first().copied().unwrap_or(2.0);
    let types = scenario.gpu_types();
    let number = |name: &String| tenants.iter().position(|tenant| tenant == name).map(|place| TenantId(place as u32));
    Facts {
        models: scenario.model_names().into_iter().map(Into::into).collect(),
        gpus: scenario.gpus().iter().map(|gpu| types[gpu.index()].clone()).collect(),
        initial: initial_allocation(scenario).targets,
        tenants: tenants.to_vec(),
        public: scenario.tenants.public.iter().filter_map(number).collect(),
        total_steps: scenario.models.steps,
        seed: scenario.seed,
        slo: Duration::from_seconds_saturating(multiple * full),
        disk_limit: HostDuration::from_secs_f64(scenario.live.limits.disk_s),
        max_queue: settings.max_queue as usize,
        max_queue_per_tenant: settings.queue_share(tenants.len()),
    }
}

/// Makes the recordings of earlier runs whole and begins a new one, if traffic is recorded. The server runs without a
/// recording if it cannot begin.
fn traffic(
    command: &Serve,
    settings: &ServeSettings,
    tenants: &[String],
    warm: &[WarmImage],
    faults: Option<Arc<Faults>>,
) -> Option<Traffic> {
    if !settings.record {
        return None;
    }
    let folder = recordings::folder(&command.data);
    for warning in recordings::prepare(&folder) {
        tracing::warn!("{warning}");
    }
    #[expect(clippy::disallowed_methods, reason = "the name of a folder")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
    let keys: Vec<Embedding> = warm.iter().map(|image| image.key.clone()).collect();
    let (place, most) = (folder.join(now.to_string()), settings.keep_traffic_bytes);
    let begun = Traffic::begin(&place, tenants, settings.record_prompts, &keys, most, faults);
    begun.inspect_err(|error| tracing::warn!("{}: nothing is recorded: {error}", place.display())).ok()
}

/// Opens the audits of hits, if hits are audited.
fn audits(
    command: &Serve,
    settings: &ServeSettings,
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
    // The server runs without audits if their file cannot be opened.
    let keep = Keep { bytes: settings.keep_audits_bytes, seconds: settings.keep_audits_s };
    let opened = Audits::open(&command.data.join(audit::FILE), settings.audit_share, scenario.seed, keep);
    Ok(opened.inspect_err(|error| tracing::warn!("no hit is audited: {error}")).ok())
}

/// Runs the loop and the network until both have ended.
fn serve(command: &Serve, listen: SocketAddr, work: Loop, server: impl FnOnce(String) -> Server) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind(listen)).map_err(|error| {
        InputError::new("the command line", format!("cannot be listened on: {error}")).value("--listen", listen)
    })?;
    tracing::info!("loading the models");
    let (desk, abort) = (work.desk.clone(), work.abort.clone());
    let (ready, opened) = oneshot::channel();
    let (over, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("loop".into()).spawn(move || {
        let result = work.run(ready);
        // The receiver may be gone already.
        let _ = over.send(());
        result
    })?;
    let answered = runtime.block_on(async {
        match opened.await {
            Ok(()) => network(command, listener, (desk.clone(), abort), server, ended).await,
            Err(_) => Ok(()), // The result of the loop says why.
        }
    });
    desk.drain();
    if answered.is_err() {
        // Work that hangs, or that can no longer be stored, is left. The program ends, and the next start begins the
        // jobs again that have not ended.
        runtime.shutdown_background();
    } else {
        // The wait has a limit, because threads may wait for a disk without end.
        runtime.shutdown_timeout(LOOP_END);
    }
    if let Some(Err(error)) = desk.close_files(LOOP_END) {
        tracing::warn!("recorded traffic is not whole: {error}");
    }
    answered?;
    thread.join().map_err(|_| anyhow::anyhow!("the scheduler's loop ended by a panic"))?
}

impl Loop {
    /// Runs the loop, from the loading of the models to the end of the last request.
    fn run(self, ready: oneshot::Sender<()>) -> anyhow::Result<()> {
        let Self { abort, simulation, equipment, cached: Cached { store, warm, numbers, .. }, mut desk } = self;
        let scenario = &simulation.scenario;
        let limits = equipment.limits(Some((&simulation.inputs.profile, &scenario.gpus())));
        let encoder = equipment.embed(&limits)?;
        let stepping = desk.clone();
        let setting = Setting {
            book: Box::new(desk.clone()),
            models: scenario.model_names(),
            paint: equipment.paint(&limits)?,
            stepped: Some(Arc::new(move |request, steps| stepping.stepped(request, steps))),
            warn: Box::new(|message| tracing::warn!("{message}")),
            away: Setting::AWAY,
            limits,
            isolated: equipment.is_isolated(),
        };
        let mut live = Live::start(setting, store, &initial_allocation(scenario).targets, encoder)?;
        let mut actions = Vec::new();
        let mut core = scenario.live_core(&simulation.inputs, warm, &mut actions);
        for (row, (number, owner)) in (0..).zip(numbers) {
            desk.adopted(ImageId::warm(row), number, owner);
        }
        for action in actions {
            desk.record(Time::ZERO, Record::Action(&action));
            live.submit(Time::ZERO, &action)?;
        }
        let intake = live.intake();
        let _ = abort.set(intake.clone());
        desk.opens(live.clock(), move || intake.wake());
        // The receiver is gone if the network has ended already.
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

/// Serves the network, until a signal comes or the loop ends.
async fn network(
    command: &Serve,
    listener: TcpListener,
    (desk, abort): (Desk, Arc<OnceLock<Intake>>),
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
    let mut looking = tokio::spawn(server.clone().look_after());
    let failure = Arc::new(OnceLock::new());
    let drain = HostDuration::from_secs_f64(server.settings.drain_s);
    let signal = ending::listen(drain)?;
    eprintln!("listening on http://{address}");
    let (told, late) = (server.clone(), Arc::new(AtomicBool::new(false)));
    let (too_late, why) = (late.clone(), failure.clone());
    let ends = async move {
        let fails = |looked: Result<String, tokio::task::JoinError>| {
            let _ =
                why.set(looked.unwrap_or_else(|error| format!("the task that looks after the server died: {error}")));
        };
        let signalled = tokio::select! {
            _ = signal => true,
            _ = &mut ended => false,
            looked = &mut looking => return fails(looked),
        };
        desk.drain();
        if signalled {
            tracing::info!("takes nothing more in");
            let drained = tokio::select! {
                drained = tokio::time::timeout(drain, &mut ended) => drained.is_ok(),
                looked = &mut looking => return fails(looked),
            };
            if !drained {
                too_late.store(true, Ordering::Relaxed);
                abort.get().into_iter().for_each(Intake::abort);
                let _ = tokio::time::timeout(LOOP_END, &mut ended).await;
            }
        }
        // Clients that still wait are told that nothing will come.
        desk.abandon();
        let settled = async {
            told.settled().await;
            told.keep_usage().await;
        };
        tokio::select! {
            settled = tokio::time::timeout(LOOP_END, settled) => {
                if settled.is_err() {
                    let _ = why.set("the ends of some jobs are not on disk: they are begun again by the next start".into());
                }
            }
            looked = &mut looking => fails(looked),
        }
    };
    let (connections, header) = (server.settings.max_connections, server.settings.read_timeout_s);
    listen(listener, answers(server), connections, HostDuration::from_secs_f64(header), ends).await;
    if let Some(why) = failure.get() {
        bail!("{why}");
    }
    let late = late.load(Ordering::Relaxed);
    anyhow::ensure!(
        !late,
        "not everything that was in had ended within serve.drain_s = {} s: jobs are begun again by the next start",
        drain.as_secs_f64()
    );
    Ok(())
}
