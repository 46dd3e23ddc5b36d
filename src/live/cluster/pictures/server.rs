//! Scheduler's end of the connections for pictures. A worker opens nothing without the ticket of an order that runs:
//! one picture of the ordered size is taken in for it, and its own source is given out.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{About, Ask, LONGEST_HEADER, Reply, tls};
use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::live::cluster::ClusterError;
use crate::live::frames::{Message, head, receive_if};
use crate::live::picture::Picture;
use crate::live::pipeline::Cut;
use crate::live::store::Sources;

/// Largest number of connections: more than one for each of the 65,535 workers that a run can have would be a fault.
const MOST_CONNECTIONS: usize = 4096;
/// Time that the start of a connection, or the rest of a message that has begun, may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time that a connection may be silent between two messages.
const IDLE: Duration = Duration::from_secs(600);

/// Picture that has come for an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived {
    /// Picture.
    pub picture: Picture,
    /// Parts of the prompt that the model's text encoders did not see.
    pub cuts: Vec<Cut>,
    /// Embedding of the picture, if the worker embeds pictures.
    pub embedding: Option<Embedding>,
}

/// Function that is called when a picture has come.
type Told = Box<dyn Fn() + Send>;

/// Permission of the worker of one order: what it may send and fetch.
struct Permit {
    size: [u32; 2],
    source: Option<ImageId>,
    arrived: Option<Arrived>,
    told: Told,
}

/// Permits of all orders that run, by ticket.
#[derive(Clone, Default)]
pub struct Permits(Arc<Mutex<BTreeMap<String, Permit>>>);

impl std::fmt::Debug for Permits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permits").field("orders", &self.all().len()).finish()
    }
}

impl Permits {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Permit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Permits one picture of this width and height for an order, and its source. `told` is called when the picture has
    /// come.
    pub fn grant(&self, ticket: &str, size: [u32; 2], source: Option<ImageId>, told: Told) {
        self.all().insert(ticket.to_owned(), Permit { size, source, arrived: None, told });
    }

    /// Ends the permit of an order. Returns the picture that came for it.
    #[must_use]
    pub fn end(&self, ticket: &str) -> Option<Arrived> {
        self.all().remove(ticket)?.arrived
    }

    /// Returns whether a picture of this size is expected, and has not come.
    fn expects(&self, ticket: &str, size: [u32; 2]) -> bool {
        self.all().get(ticket).is_some_and(|permit| permit.size == size)
    }

    /// Takes a picture in. A picture that comes again replaces the former, which is the same.
    fn take(&self, ticket: &str, arrived: Arrived) -> bool {
        let mut all = self.all();
        let Some(permit) = all.get_mut(ticket) else { return false };
        permit.arrived = Some(arrived);
        (permit.told)();
        true
    }

    fn gives(&self, ticket: &str, image: ImageId) -> bool {
        self.all().get(ticket).is_some_and(|permit| permit.source == Some(image))
    }
}

/// Server that takes pictures in and gives sources out.
#[derive(Debug)]
pub struct PictureServer {
    /// Address that it listens on.
    pub address: SocketAddr,
    /// Hash of its certificate.
    pub pin: String,
}

impl PictureServer {
    /// Begins to listen. Sources can be fetched once the reader of the store is set.
    ///
    /// # Errors
    /// Returns an error if the address cannot be listened on.
    pub async fn start(
        listen: SocketAddr,
        permits: Permits,
        sources: Arc<OnceLock<Sources>>,
    ) -> Result<Self, ClusterError> {
        let (config, pin) = tls::server()?;
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            ClusterError::File(format!("live.cluster.pictures = {listen}: cannot be listened on: {error}"))
        })?;
        let address = listener.local_addr()?;
        let acceptor = TlsAcceptor::from(config);
        Handle::current().spawn(accept(listener, acceptor, permits, sources));
        Ok(Self { address, pin })
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, permits: Permits, sources: Arc<OnceLock<Sources>>) {
    let free = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = free.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // The system has no file for the connection: others will end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (acceptor, permits, sources) = (acceptor.clone(), permits.clone(), sources.clone());
        tokio::spawn(async move {
            // A connection that fails is the worker's to make again.
            let _ = serve(stream, acceptor, &permits, &sources).await;
            drop(place);
        });
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    permits: &Permits,
    sources: &OnceLock<Sources>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = timeout(PATIENCE, acceptor.accept(stream)).await??;
    loop {
        let accepts = |ask: &Ask, tail: usize| match ask {
            Ask::Take { ticket, about, .. } => tail as u64 == about.bytes() && permits.expects(ticket, about.size),
            Ask::Give { .. } => tail == 0,
        };
        let message = timeout(IDLE, receive_if(&mut stream, LONGEST_HEADER, accepts)).await?;
        let (reply, picture) = match message {
            Ok(Message { header, tail }) => answer(header, tail, permits, sources).await,
            // Its pixels were not read, so the connection ends with the refusal.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let reply = Reply::Refused(error.to_string());
                send(&mut stream, &reply, &[]).await?;
                return stream.shutdown().await;
            }
            Err(error) => return Err(error),
        };
        let pixels = picture.as_deref().map_or(&[][..], Picture::bytes);
        timeout(PATIENCE + time_for(pixels.len()), send(&mut stream, &reply, pixels)).await??;
    }
}

/// Returns the time that so many bytes may take on a slow connection: 1 MB/s.
pub(super) fn time_for(bytes: usize) -> Duration {
    Duration::from_micros(bytes as u64)
}

async fn answer(
    ask: Ask,
    tail: Vec<u8>,
    permits: &Permits,
    sources: &OnceLock<Sources>,
) -> (Reply, Option<Arc<Picture>>) {
    let refused = |why: &str| (Reply::Refused(why.to_owned()), None);
    match ask {
        Ask::Take { ticket, about, cuts, embedding } => {
            let Some(picture) = about.picture(tail) else {
                return refused("the pixels are not those that were sent");
            };
            if permits.take(&ticket, Arrived { picture, cuts, embedding }) {
                (Reply::Taken, None)
            } else {
                refused("the order is over")
            }
        }
        Ask::Give { ticket, image } => {
            if !permits.gives(&ticket, image) {
                return refused("no order has this source");
            }
            let Some(sources) = sources.get().cloned() else { return refused("there is no store yet") };
            // The disk may be slow.
            match tokio::task::spawn_blocking(move || sources.read(image)).await {
                Ok(Ok(picture)) => (Reply::Given(About::of(&picture)), Some(picture)),
                Ok(Err(error)) => (Reply::Missing(error.to_string()), None),
                Err(_) => (Reply::Missing("the picture panicked as it was read".to_owned()), None),
            }
        }
    }
}

/// Sends a message.
pub(super) async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    header: &impl serde::Serialize,
    tail: &[u8],
) -> io::Result<()> {
    to.write_all(&head(header, tail)?).await?;
    to.write_all(tail).await?;
    to.flush().await
}
