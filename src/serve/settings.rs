//! Settings of the section `[serve]`: limits of what clients may ask for. Every setting has a default that is safe on
//! the user's own machine.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::input::InputError;
use crate::live::settings::check_size;

/// Largest number of denoising steps of a live request. The models were trained on a thousand noise levels.
pub const MOST_STEPS: u32 = 1000;

/// Settings of the section `[serve]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServeSettings {
    /// Address or name, and port, to listen on. An address that other machines can reach needs keys.
    pub listen: String,
    /// TOML file with the keys of the tenants, relative to the scenario's file. If absent, requests need no key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<PathBuf>,
    /// Number of requests that may wait for a worker, over all tenants.
    pub max_queue: u32,
    /// Number of requests of one tenant that may wait. If absent, half of `max_queue` with several tenants, and all of
    /// it with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queue_per_tenant: Option<u32>,
    /// Number of images that may be requested with one key in a minute, unless the key has its own limit.
    pub rate_per_min: u32,
    /// Number of images that may be requested with one key at once, unless the key has its own limit. If absent, a
    /// tenth of the rate, but at least 10 if the rate allows 10 a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Number of images that a tenant may request in a day (UTC), unless its keys have their own limit. `None` means no
    /// limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_per_day: Option<u64>,
    /// Widths and heights that clients may ask for beside the usual one, in pixels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<[u32; 2]>,
    /// Treatment of requests for other sizes.
    pub other_sizes: OtherSizes,
    /// Further names of models: each stands for a model of the scenario, or for all of them (`auto`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
    /// Origins of the pages that browsers may let send requests, such as `https://app.example.org`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cors_origins: Vec<String>,
    /// True if the addresses of pictures in answers are signed, so that they need no key.
    pub signed_urls: bool,
    /// Seconds for which a signed address holds.
    pub signed_urls_s: f64,
    /// Largest number of bytes of the body of a request that brings a picture.
    pub max_upload: usize,
    /// Largest number of requests with a picture that are in memory at a time.
    pub max_uploads: usize,
    /// Way in which pictures are sent if a request does not say.
    pub response_format: ResponseFormat,
    /// Largest number of denoising steps that clients may ask for. If absent, the steps of the large model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_steps: Option<u32>,
    /// Largest number of characters of a prompt.
    pub max_prompt: usize,
    /// Largest number of bytes of a request's body.
    pub max_body: usize,
    /// Largest number of open connections.
    pub max_connections: usize,
    /// Seconds that a client may take to send the header of a request, and again to send its body.
    pub read_timeout_s: f64,
    /// Seconds after which a synchronous request is withdrawn and answered with an error.
    pub timeout_s: f64,
    /// Seconds that accepted requests have to finish once the server is told to end.
    pub drain_s: f64,
    /// Seconds for which results and ended jobs are kept.
    pub keep_results_s: f64,
    /// Largest total size of the pictures of results, in bytes. Beyond it the oldest results are removed.
    pub keep_results_bytes: u64,
    /// Largest size of the image store on disk, in bytes. Beyond it new pictures are not kept there.
    pub max_store_bytes: u64,
    /// Bytes that must be free on the disk of the data folder. Below that the server accepts no new requests.
    pub min_free_bytes: u64,
    /// Seconds for which the disk may fail before the program ends with an error.
    pub disk_retry_s: f64,
    /// True if incoming requests are recorded as a trace.
    pub record: bool,
    /// Seconds for which finished recordings are kept.
    pub keep_traffic_s: f64,
    /// Largest total size of all recordings, in bytes. Beyond it the oldest recordings are removed, and the current
    /// recording ends if it alone is larger.
    pub keep_traffic_bytes: u64,
    /// True if the recordings contain the prompts.
    pub record_prompts: bool,
    /// Share of the hits, from 0 to 1, that the large model generates as well, to measure how much of its quality hits
    /// keep.
    pub audit_share: f64,
    /// Seconds for which the rows of `audit.csv` are kept.
    pub keep_audits_s: f64,
    /// Largest size of `audit.csv`, in bytes. Beyond it the older half of its rows is removed.
    pub keep_audits_bytes: u64,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            keys: None,
            max_queue: 1000,
            max_queue_per_tenant: None,
            rate_per_min: 600,
            burst: None,
            images_per_day: None,
            sizes: Vec::new(),
            other_sizes: OtherSizes::Refuse,
            response_format: ResponseFormat::B64Json,
            aliases: BTreeMap::new(),
            cors_origins: Vec::new(),
            signed_urls: false,
            signed_urls_s: 3600.0,
            max_upload: 16 << 20,
            max_uploads: 32,
            most_steps: None,
            max_prompt: 4000,
            max_body: 65_536,
            max_connections: 20_000,
            read_timeout_s: 10.0,
            timeout_s: 600.0,
            drain_s: 300.0,
            keep_results_s: 86_400.0,
            keep_results_bytes: 10 << 30,
            max_store_bytes: 64 << 30,
            min_free_bytes: 256 << 20,
            disk_retry_s: 30.0,
            record: true,
            keep_traffic_s: 30.0 * 86_400.0,
            keep_traffic_bytes: 10 << 30,
            record_prompts: false,
            audit_share: 0.0,
            keep_audits_s: 365.0 * 86_400.0,
            keep_audits_bytes: 64 << 20,
        }
    }
}

impl ServeSettings {
    /// Checks that the settings can be used.
    ///
    /// # Errors
    /// A value cannot be used. The error names the key of the first such value, and the values that are accepted.
    pub fn check(&self, file: &Path) -> Result<(), InputError> {
        let counts = [
            ("max_queue", u64::from(self.max_queue), 1_000_000),
            ("max_queue_per_tenant", u64::from(self.max_queue_per_tenant.unwrap_or(1)), u64::from(self.max_queue)),
            ("rate_per_min", u64::from(self.rate_per_min), 1_000_000),
            ("burst", u64::from(self.burst.unwrap_or(1)), 1_000_000),
            ("images_per_day", self.images_per_day.unwrap_or(1), 1 << 53),
            ("most_steps", u64::from(self.most_steps.unwrap_or(1)), u64::from(MOST_STEPS)),
            ("max_prompt", self.max_prompt as u64, 100_000),
            ("max_body", self.max_body as u64, 16 << 20),
            ("max_upload", self.max_upload as u64, 256 << 20),
            ("max_uploads", self.max_uploads as u64, 10_000),
            ("max_connections", self.max_connections as u64, 1_000_000),
        ];
        for (key, value, most) in counts {
            if !(1..=most).contains(&value) {
                let message = format!("expected a whole number from 1 to {most}");
                return Err(InputError::new(file, message).value(format!("serve.{key}"), value));
            }
        }
        self.sizes.iter().try_for_each(|size| check_size(Some(size), file, "serve.sizes"))?;
        let bytes = [
            ("keep_results_bytes", self.keep_results_bytes),
            ("max_store_bytes", self.max_store_bytes),
            ("min_free_bytes", self.min_free_bytes),
            ("keep_traffic_bytes", self.keep_traffic_bytes),
            ("keep_audits_bytes", self.keep_audits_bytes),
        ];
        for (key, value) in bytes {
            if value > 1 << 53 {
                let message = "expected a whole number of bytes, from 0 to 2^53";
                return Err(InputError::new(file, message).value(format!("serve.{key}"), value));
            }
        }
        let seconds = [
            ("read_timeout_s", self.read_timeout_s),
            ("timeout_s", self.timeout_s),
            ("drain_s", self.drain_s),
            ("keep_results_s", self.keep_results_s),
            ("disk_retry_s", self.disk_retry_s),
            ("signed_urls_s", self.signed_urls_s),
            ("keep_traffic_s", self.keep_traffic_s),
            ("keep_audits_s", self.keep_audits_s),
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
        if let Some(origin) = self.cors_origins.iter().find(|origin| !is_origin(origin)) {
            let message = "expected origins as browsers send them, such as \"https://app.example.org\": no path, no *";
            return Err(InputError::new(file, message).value("serve.cors_origins", format_args!("{origin:?}")));
        }
        match self.listen.parse::<SocketAddr>() {
            Ok(address) => self.check_reach(&[address], file),
            // The name is resolved when the server starts: a simulation asks no name server.
            Err(_) if is_name_and_port(&self.listen) => Ok(()),
            Err(_) => {
                let message = "expected an address or a name, and a port, such as 127.0.0.1:8080 or localhost:8080";
                Err(InputError::new(file, message).value("serve.listen", format_args!("{:?}", self.listen)))
            }
        }
    }

    /// Checks that no other machine reaches the addresses to listen on, unless there are keys.
    fn check_reach(&self, addresses: &[SocketAddr], file: &Path) -> Result<(), InputError> {
        if self.keys.is_none() && !addresses.iter().all(|address| address.ip().is_loopback()) {
            let message = "is reachable from elsewhere: give serve.keys, or listen on 127.0.0.1";
            return Err(InputError::new(file, message).value("serve.listen", format_args!("{:?}", self.listen)));
        }
        Ok(())
    }

    /// Returns the addresses to listen on, of which the first that works is used; those of IPv4 come first. A name is
    /// resolved.
    ///
    /// # Errors
    /// The name is not known, or other machines reach an address and there are no keys.
    pub fn addresses(&self, file: &Path) -> Result<Vec<SocketAddr>, InputError> {
        let unknown = |error: io::Error| {
            let message = format!("is not known here: {error}");
            InputError::new(file, message).value("serve.listen", format_args!("{:?}", self.listen))
        };
        let mut addresses: Vec<SocketAddr> = self.listen.to_socket_addrs().map_err(unknown)?.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        self.check_reach(&addresses, file)?;
        Ok(addresses)
    }

    /// Returns the number of requests of one tenant that may wait, for a given number of tenants.
    #[must_use]
    pub fn queue_share(&self, tenants: usize) -> usize {
        let all = self.max_queue as usize;
        self.max_queue_per_tenant.map_or(if tenants > 1 { all.div_ceil(2) } else { all }, |share| share as usize)
    }

    /// Returns the number of images that may be requested at once with a key of this rate, unless the key has its own
    /// limit. The default is six seconds of the rate. A request asks for at most 10 images, so a key that may have 10
    /// images a minute may have them at once.
    #[must_use]
    pub fn burst_at(&self, rate_per_min: u32) -> u32 {
        self.burst.unwrap_or((rate_per_min / 10).max(rate_per_min.min(10)))
    }
}

/// Treatment of requests for a size that is not offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtherSizes {
    /// Refusal.
    #[default]
    Refuse,
    /// Picture of the usual size. The answer says that the size was ignored.
    Usual,
}

/// Way in which pictures are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Base64 text in the answer.
    #[default]
    B64Json,
    /// Address of the picture.
    Url,
}

/// Returns whether a text is a host name and a port. What the name stands for is not looked up.
fn is_name_and_port(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    text.rsplit_once(':').is_some_and(|(name, port)| {
        !name.is_empty() && name.bytes().all(plain) && port.parse::<u16>().is_ok() && !port.starts_with('+')
    })
}

/// Returns whether a text is an origin: a scheme of the web, a host, and perhaps a port, without a path.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
    host.is_some_and(|host| !host.is_empty() && host.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_bursts_follow_from_what_is_set() {
        let mut settings = ServeSettings { max_queue: 5, ..ServeSettings::default() };
        assert_eq!((settings.queue_share(1), settings.queue_share(2)), (5, 3));
        assert_eq!([3, 10, 100, 600].map(|rate| settings.burst_at(rate)), [3, 10, 10, 60]);
        (settings.max_queue_per_tenant, settings.burst) = (Some(2), Some(7));
        assert_eq!((settings.queue_share(1), settings.burst_at(600)), (2, 7));
        assert!(settings.check(Path::new("s.toml")).is_ok());
        settings.listen = "localhost:0".to_owned();
        assert!(settings.check(Path::new("s.toml")).is_ok());
        let addresses = settings.addresses(Path::new("s.toml")).expect("this machine");
        assert!(addresses[0].is_ipv4() && addresses.iter().all(|address| address.ip().is_loopback()), "{addresses:?}");
        for wrong in ["localhost", "localhost:", ":8080", "localhost:99999", "a b:1", "http://localhost:1"] {
            let settings = ServeSettings { listen: wrong.to_owned(), ..ServeSettings::default() };
            assert!(settings.check(Path::new("s.toml")).is_err(), "{wrong}");
        }
        for (origin, is) in
            [("https://a.org", true), ("http://[::1]:80", true), ("*", false), ("https://a.org/", false)]
        {
            assert_eq!(is_origin(origin), is, "{origin}");
        }
        settings.max_queue_per_tenant = Some(6);
        let refused = settings.check(Path::new("s.toml")).expect_err("more than the queue").to_string();
        assert!(refused.contains("serve.max_queue_per_tenant = 6: expected a whole number from 1 to 5"), "{refused}");
    }
}
