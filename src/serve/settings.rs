//! `[serve]`: what the network may ask for. Everything has a default that is safe on one's own machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::input::InputError;

/// The section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeSettings {
    /// Address and port; beyond this machine only with keys.
    pub listen: SocketAddr,
    /// TOML file with the keys of the tenants, relative to the scenario's file; without one nobody is asked for a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<PathBuf>,
    /// Requests that may wait for a worker, over all tenants.
    pub max_queue: u32,
    /// Images a minute that a tenant may ask for, unless its key says otherwise.
    pub rate_per_min: u32,
    /// Images a day (UTC) likewise; none without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_per_day: Option<u64>,
    /// Characters of a prompt.
    pub max_prompt: usize,
    /// Bytes of a request's body.
    pub max_body: usize,
    /// Connections at a time.
    pub max_connections: usize,
    /// Seconds that a client may take to send a request.
    pub read_timeout_s: f64,
    /// Seconds after which a synchronous request is given up.
    pub timeout_s: f64,
    /// Seconds that results can be fetched.
    pub keep_results_s: f64,
    /// Whether what came in is recorded as a trace.
    pub record: bool,
    /// Whether with its prompts.
    pub record_prompts: bool,
    /// Share of the hits that the large model draws as well, to measure what hits keep of its quality.
    pub audit_share: f64,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            keys: None,
            max_queue: 1000,
            rate_per_min: 600,
            images_per_day: None,
            max_prompt: 4000,
            max_body: 65_536,
            max_connections: 20_000,
            read_timeout_s: 10.0,
            timeout_s: 600.0,
            keep_results_s: 86_400.0,
            record: true,
            record_prompts: false,
            audit_share: 0.0,
        }
    }
}

impl ServeSettings {
    /// Whether the settings can be used.
    ///
    /// # Errors
    /// The key that cannot, and what is accepted.
    pub fn check(&self, file: &Path) -> Result<(), InputError> {
        let counts = [
            ("max_queue", u64::from(self.max_queue), 1_000_000),
            ("rate_per_min", u64::from(self.rate_per_min), 1_000_000),
            ("images_per_day", self.images_per_day.unwrap_or(1), 1 << 53),
            ("max_prompt", self.max_prompt as u64, 100_000),
            ("max_body", self.max_body as u64, 16 << 20),
            ("max_connections", self.max_connections as u64, 1_000_000),
        ];
        for (key, value, most) in counts {
            if !(1..=most).contains(&value) {
                let message = format!("expected a whole number from 1 to {most}");
                return Err(InputError::new(file, message).value(format!("serve.{key}"), value));
            }
        }
        let seconds = [
            ("read_timeout_s", self.read_timeout_s),
            ("timeout_s", self.timeout_s),
            ("keep_results_s", self.keep_results_s),
        ];
        for (key, value) in seconds {
            if !(0.1..=1e9).contains(&value) {
                let message = "expected seconds, from 0.1 to 1e9";
                return Err(InputError::new(file, message).value(format!("serve.{key}"), value));
            }
        }
        if !(0.0..=1.0).contains(&self.audit_share) {
            let message = "expected a share of the hits, from 0 to 1";
            return Err(InputError::new(file, message).value("serve.audit_share", self.audit_share));
        }
        if self.keys.is_none() && !self.listen.ip().is_loopback() {
            let message = "is reachable from elsewhere: give serve.keys, or listen on 127.0.0.1";
            return Err(InputError::new(file, message).value("serve.listen", format!("\"{}\"", self.listen)));
        }
        Ok(())
    }
}
