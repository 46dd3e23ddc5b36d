//! Worker's side of a cluster: `modm worker`. One process for a machine, one agent for each device: the agent takes
//! orders from the scheduler whose lease holds, has its hand carry them out (`hand`), and repeats an answer until the
//! scheduler says that it was heard. A worker decides nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Builder;

pub use super::connection::Say;
use super::connection::{ClusterError, Connection};
use super::protocol::{PROTOCOL, Presence, Setup, Totals};
use super::settings::Identity;
use crate::live::embedder::Embed;
use crate::live::settings::Device;
use crate::live::worker::Paint;

mod agent;
mod folders;
mod hand;
mod sources;
mod tools;

use agent::Agent;
pub use folders::{Folders, hash};
pub use tools::OwnTools;

/// Time between two heartbeats.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// Time between two attempts to connect to a NATS server that is not there at the start.
const AGAIN: Duration = Duration::from_secs(2);

/// Encoder that the devices of a node share.
pub type SharedEmbed = Arc<Mutex<Box<dyn Embed>>>;

/// Tools that a node draws and embeds with. The real ones are [`OwnTools`]; tests and measurements have others.
pub trait Tools: Send + Sync {
    /// Makes the painter of a device for the models of a run, with no model loaded.
    ///
    /// # Errors
    /// Returns a sentence that says what is missing.
    fn paint(&self, device: Device, setup: &Setup) -> Result<Box<dyn Paint>, String>;

    /// Returns the encoder with this fingerprint, if the node has it and it can be opened.
    fn embed(&self, fingerprint: &str, limits: [Duration; 2]) -> Option<SharedEmbed>;

    /// Returns the hashes of the folders of models that there are.
    fn models(&self) -> Vec<String>;
}

/// Settings of a node.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Address of the NATS server.
    pub url: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Files that prove to the NATS server who this is.
    pub identity: Identity,
    /// Name of the machine, which no other machine of the cluster has.
    pub node: String,
    /// Devices, each of which becomes a worker.
    pub devices: Vec<Device>,
    /// GPU type of the devices, as profiles name it.
    pub gpu: String,
    /// Largest number of bytes of sources that are kept in memory.
    pub sources_bytes: usize,
    /// Time between two heartbeats; [`HEARTBEAT`] is usual.
    pub heartbeat: Duration,
}

impl NodeOptions {
    /// Returns the name of a device's worker in subjects.
    #[must_use]
    pub fn worker(&self, device: Device) -> String {
        format!("{}-{}", self.node, device.name().replace(':', "-"))
    }
}

/// State that the devices of a node share.
pub(super) struct Shared {
    connection: Connection,
    tools: Arc<dyn Tools>,
    sources: Mutex<sources::SourceCache>,
    ending: Arc<dyn Fn() -> bool + Send + Sync>,
    say: Say,
}

/// Runs a node until `ending` returns true, and then until its devices have finished what they do.
///
/// # Errors
/// Returns an error if a file of the identity cannot be used, or if the system gives no thread.
pub fn run(
    options: &NodeOptions,
    tools: Arc<dyn Tools>,
    ending: Arc<dyn Fn() -> bool + Send + Sync>,
    say: Say,
) -> Result<(), ClusterError> {
    let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("node").enable_all().build()?;
    // The last owner of the tools ends their processes, which waits: that must not happen within the runtime.
    let _tools = tools.clone();
    let done = runtime.block_on(async {
        let connection = loop {
            let place = (options.url.as_str(), options.cluster.as_str());
            let who = format!("modm worker {}", options.node);
            let silence = 2 * options.heartbeat;
            match Connection::open(place, &options.identity, &who, silence, say.clone()).await {
                Ok(connection) => break connection,
                // A machine may start before the NATS server does.
                Err(error @ ClusterError::Unreachable { .. }) => say(&format!("{error} Trying again")),
                Err(error) => return Err(error),
            }
            for _ in 0..20 {
                if ending() {
                    return Ok(());
                }
                tokio::time::sleep(AGAIN / 20).await;
            }
        };
        let sources = Mutex::new(sources::SourceCache::new(options.sources_bytes));
        let shared = Arc::new(Shared { connection, tools, sources, ending, say });
        let mut agents = Vec::new();
        for device in &options.devices {
            let agent = Agent::start(shared.clone(), presence(options, *device, &*shared.tools), *device, options)?;
            agents.push(tokio::spawn(agent.run()));
        }
        for agent in agents {
            let _ = agent.await;
        }
        shared.connection.flush().await;
        Ok(())
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

fn presence(options: &NodeOptions, device: Device, tools: &dyn Tools) -> Presence {
    Presence {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        worker: options.worker(device),
        node: options.node.clone(),
        device: device.name(),
        gpu: options.gpu.clone(),
        life: super::hub::secret(),
        heartbeat_s: options.heartbeat.as_secs_f64(),
        models: tools.models(),
        leaving: false,
        totals: Totals::default(),
    }
}
