//! Worker's end of the connections for pictures.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::server::{send, time_for};
use super::{About, Ask, LONGEST_HEADER, Reply, tls};
use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::live::cluster::ClusterError;
use crate::live::frames::{LONGEST_TAIL, Message, receive_if};
use crate::live::picture::Picture;
use crate::live::pipeline::Cut;

/// Time that a connection may take to be made, and that an answer may take beside its bytes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reason that a picture did not go through.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Connection that failed. It can be tried again.
    #[error("the scheduler's address for pictures, {0}: {1}")]
    Connection(String, io::Error),
    /// Refusal by the scheduler.
    #[error("the scheduler refuses: {0}")]
    Refused(String),
    /// Source that the scheduler does not have.
    #[error("{0}")]
    Missing(String),
}

/// Connection for the pictures of one worker. It is made when it is needed, and again after it has failed.
pub struct Line {
    address: String,
    config: Arc<ClientConfig>,
    stream: Option<TlsStream<TcpStream>>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Line {
    /// Makes the end of a connection to this address, where the owner of the certificate with this hash listens.
    ///
    /// # Errors
    /// Returns an error if the cryptography cannot be set up.
    pub fn new(address: String, pin: &str) -> Result<Self, ClusterError> {
        Ok(Self { address, config: tls::client(pin)?, stream: None })
    }

    /// Sends the picture of an order, with what its prompt lost and its embedding. Returns once the scheduler has it.
    ///
    /// # Errors
    /// Returns an error if the connection fails, which can be tried again, or if the scheduler refuses.
    pub async fn send(
        &mut self,
        ticket: &str,
        picture: &Picture,
        cuts: &[Cut],
        embedding: Option<&Embedding>,
    ) -> Result<(), LineError> {
        let (about, cuts, embedding) = (About::of(picture), cuts.to_vec(), embedding.cloned());
        let ask = Ask::Take { ticket: ticket.to_owned(), about, cuts, embedding };
        match self.ask(&ask, picture.bytes()).await?.header {
            Reply::Taken => Ok(()),
            Reply::Refused(why) | Reply::Missing(why) => Err(LineError::Refused(why)),
            Reply::Given(_) => Err(LineError::Refused("a source that nobody asked for".to_owned())),
        }
    }

    /// Fetches the source of an order.
    ///
    /// # Errors
    /// Returns an error if the connection fails, which can be tried again, or if the source cannot be had.
    pub async fn fetch(&mut self, ticket: &str, image: ImageId) -> Result<Picture, LineError> {
        let ask = Ask::Give { ticket: ticket.to_owned(), image };
        let Message { header, tail } = self.ask(&ask, &[]).await?;
        match header {
            Reply::Given(about) => about.picture(tail).ok_or_else(|| {
                self.stream = None;
                let error = io::Error::new(io::ErrorKind::InvalidData, "the pixels are not those that were sent");
                LineError::Connection(self.address.clone(), error)
            }),
            Reply::Missing(why) => Err(LineError::Missing(why)),
            Reply::Refused(why) => Err(LineError::Refused(why)),
            Reply::Taken => Err(LineError::Refused("a receipt for nothing".to_owned())),
        }
    }

    async fn ask(&mut self, ask: &Ask, tail: &[u8]) -> Result<Message<Reply>, LineError> {
        let asked = self.try_ask(ask, tail).await;
        asked.map_err(|error| LineError::Connection(self.address.clone(), error))
    }

    async fn try_ask(&mut self, ask: &Ask, tail: &[u8]) -> io::Result<Message<Reply>> {
        // The connection is put back only after an answer: a part of a message may be left on one that failed.
        let (mut stream, fresh) = match self.stream.take() {
            Some(stream) => (stream, false),
            None => (self.connect().await?, true),
        };
        let accepts = |reply: &Reply, tail: usize| match reply {
            Reply::Given(about) => tail as u64 == about.bytes() && about.bytes() <= u64::from(LONGEST_TAIL),
            _ => tail == 0,
        };
        let exchange = async |stream: &mut TlsStream<TcpStream>| {
            send(stream, ask, tail).await?;
            receive_if(stream, LONGEST_HEADER, accepts).await
        };
        // A source is at most as long as the largest picture; how long it is is not known yet.
        let patience = PATIENCE + time_for(tail.len().max(16 << 20));
        let mut answered = timeout(patience, exchange(&mut stream)).await.map_err(io::Error::from).flatten();
        if answered.is_err() && !fresh {
            // The scheduler closes connections that were silent for long.
            stream = self.connect().await?;
            answered = timeout(patience, exchange(&mut stream)).await.map_err(io::Error::from).flatten();
        }
        let answer = answered?;
        self.stream = Some(stream);
        Ok(answer)
    }

    async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let connect = async {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(tls::NAME).map_err(io::Error::other)?;
            TlsConnector::from(self.config.clone()).connect(name, stream).await
        };
        timeout(PATIENCE, connect).await?
    }
}
