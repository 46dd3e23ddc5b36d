//! Server of a scenario: [`ReadyServer::open`] reads and checks everything that it needs, and [`ReadyServer::run`]
//! answers until it is told to end. Connects the parts in the modules `serve` and `live` of the library.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration as HostDuration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::experiments::live::{Cached, Equipment, Strangers, prepare};
use crate::experiments::{ExperimentError, Progress};
use crate::input::InputError;
use crate::live::faults::Faults;
use crate::live::library::LibraryOptions;
use crate::model::{GpuId, ModelId};
use crate::output::make_folder;
use crate::request::TenantId;
use crate::scenario::{Override, Scenario, Source, TraceInputs, initial_allocation};
use crate::serve::api::{Edits, PARTS, Server, Upkeep, Usage};
use crate::serve::clock::HostClock;
use crate::serve::desk::{Desk, Facts};
use crate::serve::ids::PictureIds;
use crate::serve::keys::Keys;
use crate::serve::ledger::results;
use crate::serve::meter::Meter;
use crate::serve::offers::Offers;
use crate::serve::settings::ServeSettings;
use crate::simulation::Simulation;
use crate::time::{Duration, Time};
use crate::trace::asks::Numbering;
use crate::trace::{Columns, Trace};

mod data;
mod ending;
mod network;
mod work;

use network::network;
use work::Loop;

/// Time that the loop may take to end after it was told to, and that the network may take after the loop.
const LOOP_END: HostDuration = HostDuration::from_secs(10);

/// Settings of a server beside its scenario. They take precedence over the section `[serve]`.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Folder for the image cache, jobs, results and recorded traffic; the next start uses its contents again.
    pub data: PathBuf,
    /// Address or name, and port, to listen on, if not those of the scenario; port 0 takes any free port.
    pub listen: Option<String>,
    /// Further origins whose pages may send requests.
    pub cors_origins: Vec<String>,
    /// File with the tenants' keys, if not that of the scenario.
    pub keys: Option<PathBuf>,
    /// Number of images that may be requested with one key in a minute, if not that of the scenario.
    pub rate_per_min: Option<u32>,
    /// Address of the server from outside, for addresses in answers; the address that it listens on if absent.
    pub origin: Option<String>,
    /// Library of ONNX Runtime.
    pub library: LibraryOptions,
}

/// Server that is ready to answer.
pub struct ReadyServer {
    server: Server,
    work: Loop,
    /// Addresses to listen on: the first that works is used.
    listen: Vec<SocketAddr>,
}

impl std::fmt::Debug for ReadyServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadyServer").field("results", &self.server.results).finish_non_exhaustive()
    }
}

impl ReadyServer {
    /// Reads the keys, finds the models and devices, and opens the data folder.
    ///
    /// # Errors
    /// Returns an error if an input, the library, a model or the data folder cannot be used.
    pub fn open(
        source: &Source,
        sets: &[Override],
        options: &ServerOptions,
        progress: &dyn Progress,
    ) -> Result<Self, ExperimentError> {
        let mut scenario = source.scenario(sets)?;
        let settings = settings(&scenario, source, options)?;
        let listen = settings.addresses(source.file())?;
        let keys = settings.keys.as_ref().map(|file| Keys::read(file)).transpose()?;
        let tenants = keys.as_ref().map(Keys::tenants).unwrap_or_default();
        if keys.is_some() {
            order_between_tenants(&mut scenario);
        }
        let library = options.library.open()?;
        let simulation = prepare(source, sets, scenario, Some(Arc::new(nobody(&tenants))), false)?;
        let file = source.file();
        let equipment = Equipment::find(&simulation.scenario, file, &library, options.library.allow_cpu, progress)?;

        let mut numbering = Numbering::of_checkpoints(equipment.checkpoints.iter().map(String::as_str));
        let offers = offers(&simulation.scenario, file, &settings, &equipment)?;

        let folder = &options.data;
        make_folder(folder)?;
        let (clock, faults) = (HostClock::new(), Faults::from_environment());
        let disk_limit = HostDuration::from_secs_f64(simulation.scenario.live.limits.disk_s);
        let ledger = data::open_ledger(folder, &clock, faults.clone())?.with_limit(disk_limit);
        if keys.is_some() {
            data::warn_of_strangers(&ledger, &tenants)?;
        }
        let results = results(folder);
        make_folder(&results)?;
        data::remove_strangers(&results, &ledger)?;
        let ids = PictureIds::open(folder)?;
        let strangers = if keys.is_some() { Strangers::WithoutKnownOwner } else { Strangers::OfOtherTenants };
        let store = folder.join("store");
        let cached = Cached::open(&simulation, &equipment, file, &store, strangers, &mut numbering)?;
        let offers = Offers { numbering: Mutex::new(numbering), ..offers };
        for warning in &cached.warnings {
            tracing::warn!("{warning}");
        }
        let sources = cached.store.sources();
        cached.store.limit(settings.max_store_bytes);
        let traffic =
            data::traffic(folder, &settings, (&tenants, &equipment.checkpoints), &cached.warm, faults.clone());
        let audits = data::audits(folder, &settings, &simulation.scenario, file)?;
        let desk = Desk::new(facts(&simulation, &tenants, &settings), Meter::default(), traffic, audits);
        let scenario = &simulation.scenario;
        let names = scenario.names_of_models().expect("the scenario was checked");
        let edits = Edits::new(edits(scenario), scenario.models.large_steps(), settings.max_uploads);
        let origin = options.origin.as_deref().unwrap_or_default().trim_end_matches('/').to_owned();
        let server = Server {
            desk: desk.clone(),
            sources,
            usage: Usage::load(&settings, keys.as_ref(), &tenants, &ledger)?,
            upkeep: Upkeep::new(folder.clone(), clock, &settings, ledger.last_date(), faults),
            ledger,
            results,
            settings,
            keys,
            public: simulation.scenario.tenants.public.clone(),
            ids,
            offers,
            names,
            edits,
            origin,
            elsewhere: Arc::default(),
        };
        let elsewhere = server.elsewhere.clone();
        Ok(Self {
            server,
            listen,
            work: Loop { abort: Arc::default(), simulation, equipment, cached, desk, elsewhere },
        })
    }

    /// Answers requests until SIGTERM or Ctrl-C comes or the loop ends, and then finishes the accepted requests. Calls
    /// `listening` with the address once requests are answered.
    ///
    /// # Errors
    /// Returns an error if the address cannot be listened on, if the models do not load, or if not everything that was
    /// accepted could be finished and stored.
    pub fn run(self, listening: &dyn Fn(SocketAddr)) -> Result<(), ExperimentError> {
        let Self { server, work, listen } = self;
        let (listen, addresses) = (server.settings.listen.clone(), listen);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(ExperimentError::System)?;
        let listener = runtime.block_on(TcpListener::bind(&*addresses)).map_err(|error| {
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
        });
        let thread = thread.map_err(ExperimentError::System)?;
        let answered = runtime.block_on(async {
            match opened.await {
                Ok(()) => network(listener, (desk.clone(), abort), server, ended, listening).await,
                Err(_) => Ok(()), // The result of the loop says why.
            }
        });
        desk.drain();
        if answered.is_err() {
            // Work that hangs, or that can no longer be stored, is left. The program ends, and the next start begins
            // the jobs again that have not ended.
            runtime.shutdown_background();
        } else {
            // The wait has a limit, because threads may wait for a disk without end.
            runtime.shutdown_timeout(LOOP_END);
        }
        if let Some(Err(error)) = desk.close_files(LOOP_END) {
            tracing::warn!("recorded traffic is not whole: {error}");
        }
        answered?;
        let panicked = |_| ExperimentError::Failed("the scheduler's loop ended by a panic".into());
        thread.join().map_err(panicked)?
    }
}

/// Returns the settings of the scenario with those of the options in their place, checked.
fn settings(scenario: &Scenario, source: &Source, options: &ServerOptions) -> Result<ServeSettings, InputError> {
    let mut settings = scenario.serve.clone();
    if let Some(listen) = &options.listen {
        settings.listen.clone_from(listen);
    }
    settings.cors_origins.extend(options.cors_origins.iter().cloned());
    settings.rate_per_min = options.rate_per_min.unwrap_or(settings.rate_per_min);
    let named = settings.keys.as_ref().map(|keys| Scenario::resolve(source.file(), keys));
    settings.keys = options.keys.clone().or(named);
    settings.check(source.file())?;
    Ok(settings)
}

/// Serves tenants fairly, unless the scenario sets another order.
fn order_between_tenants(scenario: &mut Scenario) {
    let set = scenario.queue.order.is_some();
    let order = toml::Value::try_from(scenario.order_between_tenants()).expect("an order is a word of TOML");
    let why = if set { "as the scenario sets it" } else { "since there are keys and the scenario sets none" };
    tracing::info!("queue.order = {order}, {why}");
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

/// Returns the numbers of steps that refinements of clients' pictures may skip, or the reason why none is offered.
/// Every one is served by the models that serve the hits of the cache.
fn edits(scenario: &Scenario) -> Result<Vec<u32>, &'static str> {
    if scenario.live.cluster.is_some() {
        return Err("workers on other machines take no pictures of clients");
    }
    let (steps, serving) = (scenario.models.large_steps(), scenario.serving());
    let of_hits = scenario.skipped_steps();
    let by_all = |skipped: u32| serving.of_hits(skipped).iter().count() == serving.models();
    let parts = (1..PARTS).map(|part| (f64::from(steps * part) / f64::from(PARTS)).round() as u32);
    let mut offered: Vec<u32> = parts.filter(|skipped| by_all(*skipped)).chain(of_hits).collect();
    offered.retain(|skipped| (1..steps).contains(skipped));
    offered.sort_unstable();
    offered.dedup();
    Ok(offered)
}

/// Returns what clients may ask for beside their prompts. Refuses sizes that the models do not draw.
fn offers(
    scenario: &Scenario,
    file: &Path,
    settings: &ServeSettings,
    equipment: &Equipment,
) -> Result<Offers, InputError> {
    let (size, steps) = (equipment.palette.size, scenario.models.large_steps());
    for other in &settings.sizes {
        if let Some(accepted) = equipment.undrawable(*other)? {
            return Err(InputError::new(file, accepted).value("serve.sizes", format_args!("{other:?}")));
        }
    }
    if settings.sizes.iter().any(|other| *other != size) {
        equipment.check_usual_size(scenario, file)?;
    }
    Ok(Offers {
        sizes: settings.sizes.clone(),
        most_steps: settings.most_steps.unwrap_or(steps),
        checkpoints: equipment.checkpoints.clone(),
        no_guidance: equipment.refuses_guidance(f64::INFINITY),
        no_negative_prompt: equipment.refuses_negative_prompt(),
        ..Offers::of_size(size, steps, scenario.key_rule())
    })
}

fn facts(simulation: &Simulation, tenants: &[String], settings: &ServeSettings) -> Facts {
    let scenario = &simulation.scenario;
    let full = simulation.inputs.profile.full_generation_s(GpuId(0), ModelId::LARGE, scenario.models.large_steps());
    let multiple = scenario.slo.multiples.first().copied().unwrap_or(2.0);
    let types = scenario.gpu_types();
    let number = |name: &String| tenants.iter().position(|tenant| tenant == name).map(|place| TenantId(place as u32));
    Facts {
        models: scenario.model_names().into_iter().map(Into::into).collect(),
        gpus: scenario.gpus().iter().map(|gpu| types[gpu.index()].clone()).collect(),
        initial: initial_allocation(scenario).targets,
        tenants: tenants.to_vec(),
        public: scenario.tenants.public.iter().filter_map(number).collect(),
        total_steps: scenario.models.large_steps(),
        seed: scenario.seed,
        slo: Duration::from_seconds_saturating(multiple * full),
        disk_limit: HostDuration::from_secs_f64(scenario.live.limits.disk_s),
        max_queue: settings.max_queue as usize,
        max_queue_per_tenant: settings.queue_share(tenants.len()),
    }
}
