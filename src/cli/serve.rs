//! `modm serve` and `modm key`: the live system with the network as its inbox.

use std::path::PathBuf;

use clap::Args;

#[cfg(feature = "cluster")]
use super::arguments::cluster_address;
use super::arguments::{LibraryArguments, read};
use super::printer;
use super::progress::Lines;
use crate::experiments::serve::{ReadyServer, ServerOptions};
use crate::serve::keys::fresh;

/// Answer requests over HTTP
///
/// Offers OpenAI's image API (POST /v1/images/generations), asynchronous jobs with events, a page at / and counters at
/// /metrics; see docs/serve.md. Listens on this machine only, unless there are keys that say who may send requests.
/// SIGTERM or Ctrl-C ends the intake and finishes the requests that were accepted. The scenario's [live] section names
/// the models, the encoder and the devices to use, and [serve] says what is allowed; its trace is not used.
#[derive(Debug, Args)]
#[command(after_help = "\
  modm serve scenarios/live-shapes.toml            # data in results/live-shapes-server
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
    /// Folder for the image cache, jobs, results and recorded traffic; the next start uses its contents again;
    /// results/NAME-server if absent, with the name of the scenario
    #[arg(long, value_name = "DIR", env = "MODM_DATA")]
    data: Option<PathBuf>,
    /// Address or name, and port, to listen on (`serve.listen`), e.g. localhost:8080; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS", env = "MODM_LISTEN")]
    listen: Option<String>,
    /// File with the tenants' keys (`serve.keys`), as `modm key` prints them
    #[arg(long, value_name = "FILE", env = "MODM_KEYS")]
    keys: Option<PathBuf>,
    /// Images that each tenant may request in a minute (`serve.rate_per_min`)
    #[arg(long, value_name = "N", env = "MODM_RATE_PER_MIN")]
    rate_per_min: Option<u32>,
    /// Address of the server from outside, for addresses in answers, e.g. `https://images.example.org`
    #[arg(long, value_name = "URL", env = "MODM_ORIGIN")]
    origin: Option<String>,
    /// Origin whose pages may send requests, e.g. `https://app.example.org` (`serve.cors_origins`; repeatable)
    #[arg(long, value_name = "ORIGIN", env = "MODM_CORS_ORIGIN", value_delimiter = ',')]
    cors_origin: Vec<String>,
    /// Address of a NATS server that workers on other machines are found at (`live.cluster.url`); see `modm worker`
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "URL", env = "MODM_CLUSTER")]
    cluster: Option<String>,
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
    printer::text(format_args!("[[key]]\n{table}\n"));
    say!("key of {}: {key}", command.tenant);
}

pub(super) fn run(command: &Serve) -> anyhow::Result<()> {
    start_logs(command.log_json);
    #[cfg_attr(not(feature = "cluster"), expect(unused_mut, reason = "without clusters nothing is added"))]
    let (source, mut sets) = read(&command.scenario, &command.sets)?;
    #[cfg(feature = "cluster")]
    sets.extend(cluster_address(command.cluster.as_deref())?);
    let data = match &command.data {
        Some(data) => data.clone(),
        None => data_of(&source.scenario(&sets)?.name),
    };
    say!("data folder: {}{}", data.display(), if command.data.is_none() { " (--data takes another)" } else { "" });
    let options = ServerOptions {
        data,
        listen: command.listen.clone(),
        cors_origins: command.cors_origin.clone(),
        keys: command.keys.clone(),
        rate_per_min: command.rate_per_min,
        origin: command.origin.clone(),
        library: command.library.options(),
    };
    let server = ReadyServer::open(&source, &sets, &options, &Lines::new(false))?;
    Ok(server.run(&|address| say!("listening on http://{address}"))?)
}

/// Returns the folder of a server whose user names none: beside the results, named after the scenario.
fn data_of(name: &str) -> PathBuf {
    let plain = |letter: char| if letter.is_alphanumeric() || "-_+".contains(letter) { letter } else { '-' };
    let name: String = name.trim().chars().map(plain).take(100).collect();
    PathBuf::from("results").join(format!("{name}-server"))
}

fn start_logs(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A log that cannot be written would be reported by a panic, where the reader of standard error has left.
    let logs = logs.log_internal_errors(false);
    // In tests, another subscriber may be set already.
    let _ = if json { logs.json().try_init() } else { logs.with_ansi(false).try_init() };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_folder_of_its_own_within_the_results() {
        assert_eq!(data_of("live-shapes"), PathBuf::from("results/live-shapes-server"));
        assert_eq!(data_of("../../etc/x y"), PathBuf::from("results/------etc-x-y-server"));
    }
}
