//! Connection to a NATS server, and the bucket of a cluster in it. A connection that was once there comes back by
//! itself, however long that takes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::kv::Store;
use async_nats::jetstream::stream::{self, DiscardPolicy, StorageType};
use async_nats::{Client, ConnectOptions, Event};

use super::protocol::Names;
use super::settings::{Identity, check_url};

/// Time after which the bucket forgets what nobody has said again. Who is there is judged by
/// `live.cluster.notice_s`, by the clock of whoever judges; this only keeps the bucket clean.
const FORGET: Duration = Duration::from_secs(60);
/// Time that a request to the NATS server may take.
pub(super) const REQUEST: Duration = Duration::from_secs(3);
/// Longest time between two attempts to connect again.
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// Largest value in the bucket: a heartbeat with the hashes of some thousand folders.
const LARGEST_VALUE: i32 = 512 << 10;

/// Function that takes a sentence for the log.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Error between this machine and a cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// NATS server that cannot be reached, or that refuses the client.
    #[error("{url}: cannot be connected to: {why}. Is nats-server running there, and may this machine use it?")]
    Unreachable {
        /// Address of the server.
        url: String,
        /// Reason.
        why: String,
    },
    /// File of an identity that cannot be read.
    #[error("{0}")]
    File(String),
    /// NATS server without the bucket of the cluster.
    #[error("the NATS server keeps no key-value bucket {bucket}: {why}. It needs JetStream: nats-server -js")]
    NoBucket {
        /// Name of the bucket.
        bucket: String,
        /// Reason.
        why: String,
    },
    /// Another scheduler that serves the cluster.
    #[error("another scheduler serves the cluster {0} ({1}): end it, or give this one a live.cluster.name of its own")]
    AnotherScheduler(String, String),
    /// Cluster without a worker.
    #[error(
        "no worker of the cluster {name} joined within {join_s} s{refused}: start `modm worker --cluster {url}` on a \
         machine with a GPU of type {gpus}"
    )]
    NoWorker {
        /// Name of the cluster.
        name: String,
        /// Address of the NATS server.
        url: String,
        /// Time that was waited, in seconds.
        join_s: f64,
        /// GPU types that the scenario has.
        gpus: String,
        /// Workers that were refused, and why.
        refused: String,
    },
    /// System that gives no thread or socket.
    #[error("the system refuses: {0}")]
    System(#[from] std::io::Error),
    /// Cryptography that cannot be set up.
    #[error("the connection for pictures cannot be set up: {0}")]
    Cryptography(String),
}

/// Connection of a scheduler or a worker to the NATS server of a cluster.
#[derive(Clone)]
pub struct Connection {
    /// Client, which connects again by itself.
    pub client: Client,
    /// Names of the cluster's subjects and of its bucket.
    pub names: Names,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to the NATS server at `url`. `who` names the client in the server's lists. A connection that answers
    /// nothing for `silence` is given up and made again.
    ///
    /// # Errors
    /// Returns an error if a file of the identity cannot be read, or if the server cannot be reached or refuses.
    pub async fn open(
        (url, cluster): (&str, &str),
        identity: &Identity,
        who: &str,
        silence: Duration,
        say: Say,
    ) -> Result<Self, ClusterError> {
        let failed = |why: String| ClusterError::Unreachable { url: url.to_owned(), why };
        check_url(url).map_err(|accepted| failed(accepted.to_owned()))?;
        let options = identified(identity).await?;
        let options = options
            .name(who)
            .require_tls(url.starts_with("tls://") || identity.ca.is_some())
            .connection_timeout(REQUEST)
            .request_timeout(Some(REQUEST))
            // A connection that hangs without an end is noticed by pings alone.
            .ping_interval(silence.max(Duration::from_millis(200)))
            .max_reconnects(None)
            .reconnect_delay_callback(|attempts| {
                Duration::from_millis(50).saturating_mul(1 << attempts.min(6)).min(LONGEST_DELAY)
            })
            .event_callback(move |event| {
                let say = say.clone();
                async move { tell(&event, &*say) }
            });
        let client = options.connect(url).await.map_err(|error| failed(error.to_string()))?;
        Ok(Self { client, names: Names(cluster.to_owned()) })
    }

    /// Sends what was published, if there is a connection.
    pub(super) async fn flush(&self) {
        let _ = tokio::time::timeout(REQUEST, self.client.flush()).await;
    }

    /// Returns the bucket of the cluster, made if it is not there.
    ///
    /// # Errors
    /// Returns an error if the NATS server has no JetStream, or if this client may not use it.
    pub async fn bucket(&self) -> Result<Store, ClusterError> {
        let context = jetstream::new(self.client.clone());
        let bucket = self.names.bucket();
        if let Ok(store) = context.get_key_value(&bucket).await {
            return Ok(store);
        }
        // A bucket is a stream with these settings (NATS' ADR-8). The client's own function asks for the account's
        // limits first, whose answer it cannot read from servers before 2.10.
        let config = stream::Config {
            name: format!("KV_{bucket}"),
            description: Some("who is there, of schedulers and workers of modm".to_owned()),
            subjects: vec![format!("$KV.{bucket}.>")],
            max_age: FORGET,
            max_message_size: LARGEST_VALUE,
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            // Everything in it is said again within seconds: nothing has to outlive the server.
            storage: StorageType::Memory,
            num_replicas: 1,
            ..stream::Config::default()
        };
        let failed = |why: String| ClusterError::NoBucket { bucket: bucket.clone(), why };
        context.get_or_create_stream(config).await.map_err(|error| failed(error.to_string()))?;
        context.get_key_value(&bucket).await.map_err(|error| failed(error.to_string()))
    }
}

/// Returns options with the files of an identity.
async fn identified(identity: &Identity) -> Result<ConnectOptions, ClusterError> {
    let unreadable = |file: &Path, error: &dyn std::fmt::Display| {
        ClusterError::File(format!("{}: cannot be used: {error}", file.display()))
    };
    let mut options = ConnectOptions::new();
    let Identity { credentials, nkey, ca, certificate, key } = identity;
    // The client reads these files only as it connects, and does not name them in its errors.
    for file in [ca, certificate, key].into_iter().flatten() {
        std::fs::read(file).map_err(|error| unreadable(file, &error))?;
    }
    if let Some(file) = credentials {
        options = options.credentials_file(file).await.map_err(|error| unreadable(file, &error))?;
    }
    if let Some(file) = nkey {
        let seed = std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
        options = options.nkey(seed.trim().to_owned());
    }
    if let Some(file) = ca {
        options = options.add_root_certificates(file.clone());
    }
    if let Some((certificate, key)) = certificate.clone().zip(key.clone()) {
        options = options.add_client_certificate(certificate, key);
    }
    Ok(options)
}

fn tell(event: &Event, say: &(dyn Fn(&str) + Send + Sync)) {
    match event {
        Event::Connected => say("connected to the NATS server"),
        Event::Disconnected => say("the connection to the NATS server is lost, and is made again"),
        Event::SlowConsumer(_) => say("messages come faster than they are read: some are lost, and come again"),
        Event::ServerError(error) => say(&format!("the NATS server says: {error}")),
        Event::ClientError(error) => say(&format!("the connection to the NATS server: {error}")),
        _ => {}
    }
}
