//! Section `[live.cluster]` of a scenario: a NATS server by which workers on other machines are found and told what to
//! draw. Plain data, which programs built without the feature `cluster` read, too.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::input::InputError;

/// Longest name of a cluster or a node, in letters.
const LONGEST_NAME: usize = 64;

/// Section `[live.cluster]` of a scenario: workers are processes `modm worker`, on this machine or others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterSettings {
    /// Address of the NATS server, e.g. `nats://127.0.0.1:4222`; with `tls://` connections without TLS are refused.
    pub url: String,
    /// Name of the cluster. Clusters of different names share a NATS server and hear nothing of each other.
    #[serde(default = "usual_name")]
    pub name: String,
    /// Files that prove to the NATS server who this is.
    #[serde(default, skip_serializing_if = "Identity::is_nobody")]
    pub identity: Identity,
    /// Time without a heartbeat after which a worker counts as lost, in seconds.
    #[serde(default = "usual_notice")]
    pub notice_s: f64,
    /// Time that the start waits for workers, in seconds. Workers that join later are taken in whenever they come.
    #[serde(default = "usual_join")]
    pub join_s: f64,
    /// Address that pictures are taken in at and sources are given out at; port 0 takes any free port.
    #[serde(default = "usual_pictures")]
    pub pictures: SocketAddr,
    /// Address of `pictures` as workers reach it, `host:port`, if it is another one than is listened on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pictures_from_outside: Option<String>,
}

/// Files that prove to a NATS server who a client is, and that the server is the right one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// File of credentials (`.creds`), as NATS' `nsc` writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// File with the seed of an NKey.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<PathBuf>,
    /// File with the certificates (PEM) that the NATS server's certificate must derive from; those of the system if
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// File with the client's certificate (PEM), if the NATS server wants one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// File with the key (PEM) of the client's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// Returns the name of a cluster if none is given.
#[must_use]
pub fn usual_name() -> String {
    "modm".to_owned()
}

const fn usual_notice() -> f64 {
    5.0
}

const fn usual_join() -> f64 {
    60.0
}

fn usual_pictures() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl ClusterSettings {
    /// Makes the settings of a cluster that is reached at this address, with everything else as usual.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            name: usual_name(),
            identity: Identity::default(),
            notice_s: usual_notice(),
            join_s: usual_join(),
            pictures: usual_pictures(),
            pictures_from_outside: None,
        }
    }

    /// Returns the time without a heartbeat after which a worker counts as lost.
    #[must_use]
    pub fn notice(&self) -> Duration {
        Duration::from_secs_f64(self.notice_s)
    }

    /// Returns the time that the start waits for workers.
    #[must_use]
    pub fn join(&self) -> Duration {
        Duration::from_secs_f64(self.join_s)
    }

    /// Checks that all values can be used. `file` is the scenario.
    ///
    /// # Errors
    /// Returns an error for the first value that cannot be used, with what is accepted.
    pub fn check(&self, file: &Path) -> Result<(), InputError> {
        let wrong = |key: &str, value: String, accepted: &str| {
            Err(InputError::new(file, accepted.to_owned()).value(format!("live.cluster.{key}"), value))
        };
        if let Err(accepted) = check_url(&self.url) {
            return wrong("url", format!("{:?}", self.url), accepted);
        }
        if let Err(accepted) = check_name(&self.name) {
            return wrong("name", format!("{:?}", self.name), accepted);
        }
        if !(0.2..=3600.0).contains(&self.notice_s) {
            return wrong("notice_s", self.notice_s.to_string(), "expected seconds, from 0.2 to 3600");
        }
        if !(0.0..=86_400.0).contains(&self.join_s) {
            return wrong("join_s", self.join_s.to_string(), "expected seconds, from 0 to 86400");
        }
        let outside = self.pictures_from_outside.as_deref();
        if outside.is_none() && self.pictures.ip().is_unspecified() {
            let accepted =
                "expected an address that workers can reach, or live.cluster.pictures_from_outside beside it";
            return wrong("pictures", self.pictures.to_string(), accepted);
        }
        if let Some(address) = outside.filter(|address| !has_port(address)) {
            return wrong("pictures_from_outside", format!("{address:?}"), "expected host:port");
        }
        self.identity.check(file, "live.cluster.identity.")
    }

    /// Returns the settings with their paths as `resolve` makes them.
    #[must_use]
    pub fn resolved(mut self, resolve: impl Fn(&Path) -> PathBuf) -> Self {
        for path in self.identity.paths_mut() {
            *path = resolve(path);
        }
        self
    }
}

impl Identity {
    /// Returns whether there are no files: the NATS server takes everybody.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the paths of all files that there are.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let Self { credentials, nkey, ca, certificate, key } = self;
        [credentials, nkey, ca, certificate, key].into_iter().flatten()
    }

    /// Checks that the files go together. `prefix` comes before the names of the keys in errors.
    ///
    /// # Errors
    /// Returns an error that names the keys that do not go together.
    pub fn check(&self, place: &Path, prefix: &str) -> Result<(), InputError> {
        let wrong = |key: &str, message: &str| Err(InputError::new(place, message).key(format!("{prefix}{key}")));
        if self.credentials.is_some() && self.nkey.is_some() {
            return wrong("nkey", "goes without credentials: a client proves who it is in one way");
        }
        match (&self.certificate, &self.key) {
            (Some(_), None) => wrong("key", "is needed beside the certificate"),
            (None, Some(_)) => wrong("certificate", "is needed beside the key"),
            _ => Ok(()),
        }
    }
}

fn has_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Checks the address of a NATS server.
///
/// # Errors
/// Returns what is accepted.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    let accepted = "expected an address such as nats://127.0.0.1:4222, or tls://nats.example.org:4222";
    let (scheme, rest) = url.split_once("://").ok_or(accepted)?;
    if !["nats", "tls"].contains(&scheme) || rest.is_empty() {
        return Err(accepted);
    }
    // Whoever reads a scenario, a list of processes or a log would read the password, too.
    if rest.contains('@') {
        return Err("expected no name or password in the address: give credentials or an NKey as files");
    }
    Ok(())
}

/// Checks the name of a cluster or a node, which becomes part of NATS' subjects.
///
/// # Errors
/// Returns what is accepted.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(fits) {
        Ok(())
    } else {
        Err("expected 1 to 64 letters, digits, - and _")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_refused_by_name() {
        let good = ClusterSettings::at("nats://127.0.0.1:4222");
        assert!(good.check(Path::new("s.toml")).is_ok());
        let refused = |change: &dyn Fn(&mut ClusterSettings), said: &str| {
            let mut bad = good.clone();
            change(&mut bad);
            let error = bad.check(Path::new("s.toml")).expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        };
        refused(&|bad| bad.url = "127.0.0.1".into(), "live.cluster.url");
        refused(&|bad| bad.url = "nats://a:b@host".into(), "as files");
        refused(&|bad| bad.name = "a.b".into(), "live.cluster.name");
        refused(&|bad| bad.name = String::new(), "live.cluster.name");
        refused(&|bad| bad.notice_s = f64::NAN, "live.cluster.notice_s");
        refused(&|bad| bad.join_s = -1.0, "live.cluster.join_s");
        refused(&|bad| bad.pictures = SocketAddr::from(([0, 0, 0, 0], 1)), "pictures_from_outside");
        refused(&|bad| bad.pictures_from_outside = Some("host".into()), "expected host:port");
        refused(&|bad| bad.identity.certificate = Some("c.pem".into()), "live.cluster.identity.key");
        refused(
            &|bad| (bad.identity.nkey, bad.identity.credentials) = (Some("n".into()), Some("c".into())),
            "live.cluster.identity.nkey",
        );
    }
}
