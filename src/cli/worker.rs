//! `modm worker`: draws for a scheduler on another machine.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::arguments::LibraryArguments;
use super::progress::Lines;
use crate::experiments::live::available_devices;
use crate::input::InputError;
use crate::live::cluster::node::{HEARTBEAT, NodeOptions, OwnTools, Say, run as run_node};
use crate::live::cluster::settings::{Identity, check_name, check_url, usual_name};
use crate::live::interrupts::Interrupts;
use crate::live::settings::{Device, Processor};

/// Draw for a scheduler on another machine
///
/// Each device becomes a worker of the cluster. `modm live --cluster` or `modm serve --cluster` finds the workers by
/// the NATS server and gives them work; models are known by the hash of their content, so that each machine has them
/// where it likes. SIGTERM or Ctrl-C finishes the picture that is being drawn; a second signal ends the program at
/// once. See docs/cluster.md.
#[derive(Debug, Args)]
#[command(after_help = "\
  modm worker --cluster nats://127.0.0.1:4222 --devices cuda:0,cuda:1 --gpu h100 --models /models
  modm worker --cluster nats://127.0.0.1:4222 --devices cpu:0,cpu:1 --models models/shapes     # without a GPU
  modm worker --cluster tls://nats.example.org:4222 --credentials worker.creds --ca ca.pem ...")]
pub(super) struct Worker {
    /// Address of the NATS server
    #[arg(long, value_name = "URL", env = "MODM_CLUSTER")]
    cluster: String,
    /// Name of the cluster (`live.cluster.name`)
    #[arg(long, value_name = "NAME", default_value_t = usual_name(), env = "MODM_CLUSTER_NAME")]
    cluster_name: String,
    /// Devices, each of which becomes a worker, e.g. `cuda:0 cuda:1` or `cpu:0,threads=4`; separate them by spaces, or
    /// by commas if none has options
    #[arg(long, value_name = "DEVICE", num_args = 1.., required = true, env = "MODM_DEVICES")]
    devices: Vec<String>,
    /// Folder of the models and the encoder, at any depth
    #[arg(long, value_name = "DIR", env = "MODM_MODELS")]
    models: PathBuf,
    /// GPU type of the devices, as the scenario's cluster.gpus names it; `cpu` for CPUs
    #[arg(long, value_name = "TYPE", env = "MODM_GPU")]
    gpu: Option<String>,
    /// Name of this machine, which no other of the cluster has; the host's name if absent
    #[arg(long, value_name = "NAME", env = "MODM_NODE")]
    node: Option<String>,
    /// Device of the encoder, which embeds the pictures that are drawn here
    #[arg(long, value_name = "DEVICE", default_value = "cpu:0")]
    encoder_device: String,
    /// Memory for pictures that later ones may be refined from, in MB
    #[arg(long, value_name = "MB", default_value_t = 1024)]
    sources_mb: usize,
    /// Seconds between two heartbeats; at most half of the scheduler's `live.cluster.notice_s`
    #[arg(long, value_name = "S", default_value_t = HEARTBEAT.as_secs_f64())]
    heartbeat_s: f64,
    #[command(flatten)]
    identity: IdentityArguments,
    #[command(flatten)]
    library: LibraryArguments,
}

/// Files that prove to a NATS server who this is.
#[derive(Debug, Args)]
pub(super) struct IdentityArguments {
    /// File of credentials for the NATS server (`.creds`)
    #[arg(long, value_name = "FILE", env = "MODM_NATS_CREDENTIALS")]
    credentials: Option<PathBuf>,
    /// File with the seed of an NKey for the NATS server
    #[arg(long, value_name = "FILE", env = "MODM_NATS_NKEY")]
    nkey: Option<PathBuf>,
    /// File with the certificates that the NATS server's certificate must derive from
    #[arg(long, value_name = "FILE", env = "MODM_NATS_CA")]
    ca: Option<PathBuf>,
    /// File with a certificate for the NATS server
    #[arg(long, value_name = "FILE", env = "MODM_NATS_CERTIFICATE")]
    certificate: Option<PathBuf>,
    /// File with the key of the certificate
    #[arg(long, value_name = "FILE", env = "MODM_NATS_KEY")]
    key: Option<PathBuf>,
}

impl IdentityArguments {
    pub(super) fn identity(&self) -> Identity {
        let Self { credentials, nkey, ca, certificate, key } = self;
        Identity {
            credentials: credentials.clone(),
            nkey: nkey.clone(),
            ca: ca.clone(),
            certificate: certificate.clone(),
            key: key.clone(),
        }
    }
}

/// Returns the error for a flag.
fn wrong(flag: &str, value: impl Display, accepted: &str) -> InputError {
    InputError::new("the command line", accepted.to_owned()).value(flag, value)
}

/// Returns the devices of a list. A comma separates devices unless it begins an option such as `threads=2`.
fn devices(texts: &[String]) -> anyhow::Result<Vec<Device>> {
    let mut devices: Vec<String> = Vec::new();
    for part in texts.iter().flat_map(|text| text.split(',')) {
        match devices.last_mut() {
            Some(device) if part.contains('=') => device.extend([",", part]),
            _ => devices.push(part.to_owned()),
        }
    }
    let parse =
        |text: &String| text.parse().map_err(|error| wrong("--devices", format_args!("{text:?}"), &format!("{error}")));
    let parsed = devices.iter().map(parse).collect::<Result<Vec<Device>, _>>()?;
    let mut names: Vec<String> = parsed.iter().map(Device::name).collect();
    names.sort();
    if let Some(twice) = names.iter().zip(names.iter().skip(1)).find(|(one, next)| one == next) {
        return Err(wrong("--devices", twice.0, "expected each device once: number CPUs to tell them apart").into());
    }
    Ok(parsed)
}

/// Returns the name of this machine as part of a subject.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let name: String = name.trim().chars().map(letter).take(48).collect();
    if name.is_empty() { "node".to_owned() } else { name }
}

pub(super) fn run(command: &Worker) -> anyhow::Result<()> {
    check_url(&command.cluster)
        .map_err(|accepted| wrong("--cluster", format_args!("{:?}", command.cluster), accepted))?;
    let name = &command.cluster_name;
    check_name(name).map_err(|accepted| wrong("--cluster-name", format_args!("{name:?}"), accepted))?;
    let node = command.node.clone().unwrap_or_else(host);
    check_name(&node).map_err(|accepted| wrong("--node", format_args!("{node:?}"), accepted))?;
    let devices = devices(&command.devices)?;
    let on_cpus = devices.iter().all(|device| device.processor == Processor::Cpu);
    let gpu = match &command.gpu {
        Some(gpu) => gpu.clone(),
        None if on_cpus => "cpu".to_owned(),
        None => {
            let accepted = "expected the GPU type of the devices, as the scenario's cluster.gpus names it, e.g. h100";
            return Err(wrong("--gpu", "absent", accepted).into());
        }
    };
    let parsed = command.encoder_device.parse::<Device>();
    let encoder_device =
        parsed.map_err(|error| wrong("--encoder-device", &command.encoder_device, &format!("{error}")))?;
    if !(0.05..=600.0).contains(&command.heartbeat_s) {
        return Err(wrong("--heartbeat-s", command.heartbeat_s, "expected seconds, from 0.05 to 600").into());
    }
    let identity = command.identity.identity();
    identity.check("the command line".as_ref(), "--")?;
    let library = command.library.open()?;
    let place = ("the command line".as_ref(), "--devices");
    let devices = available_devices(&library, &devices, place, command.library.allow_cpu, &Lines::new(false))?;
    let say: Say = Arc::new(|sentence| say!("{sentence}"));
    let tools = OwnTools::new(library, &command.models, encoder_device, say.clone())?;
    let options = NodeOptions {
        url: command.cluster.clone(),
        cluster: name.clone(),
        identity,
        node,
        devices,
        gpu,
        sources_bytes: command.sources_mb.saturating_mul(1_000_000),
        heartbeat: Duration::from_secs_f64(command.heartbeat_s),
    };
    let interrupts = Interrupts::listen().context("signals cannot be listened for")?;
    let workers: Vec<String> = options.devices.iter().map(|device| options.worker(*device)).collect();
    say!("workers {} of type {}, at {}", workers.join(", "), options.gpu, options.url);
    Ok(run_node(&options, Arc::new(tools), Arc::new(move || interrupts.heard()), say)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_come_apart_at_spaces_and_commas() {
        let read = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            devices(&texts).map(|devices| devices.iter().map(Device::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(read(&["cuda:0,cuda:1"]).unwrap(), "cuda:0 cuda:1");
        assert_eq!(read(&["cpu:0,threads=2", "cpu:1"]).unwrap(), "cpu:0,threads=2 cpu:1");
        assert!(read(&["cpu:0,cpu:0"]).unwrap_err().to_string().contains("each device once"));
        assert!(read(&["gpu0"]).unwrap_err().to_string().contains("--devices"));
    }
}
