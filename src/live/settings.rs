//! Section `[live]` of a scenario: the files and devices of a run on real sessions. The section is plain data, which
//! programs built without live mode read, too, so that a scenario means the same everywhere. Nothing is opened here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Expected, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cluster::settings::ClusterSettings;
use super::limits::LimitSettings;
use crate::input::InputError;

/// Largest width or height of a picture, in pixels.
pub const LARGEST_SIDE: u32 = 16_384;

/// Section `[live]` of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LiveSettings {
    /// Folder of each model as Optimum exports it, by the name of the model in `[models]`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, PathBuf>,
    /// Folders in place of those of the models, by the name of a checkpoint and the name of the model.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checkpoints: BTreeMap<String, BTreeMap<String, PathBuf>>,
    /// Guidance scale by model; the model's own if absent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub guidance: BTreeMap<String, f32>,
    /// Folder of the dual encoder, which embeds prompts and images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<PathBuf>,
    /// Devices of the workers, one for each worker, in order; CPUs with one thread each if absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Device of the dual encoder.
    pub encoder_device: Device,
    /// Width and height of the pictures, in pixels; the large model's own if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[u32; 2]>,
    /// Mean rate at which the requests of a synthetic trace arrive in `modm live`, as a multiple of the rate that the
    /// large model alone can carry on all workers. The models are measured for it at the start. The rates of the trace
    /// stay if the multiple is absent or 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit_rate: Option<f64>,
    /// Folder of the content of the image cache. The content is kept and found again by the next run. The folder is
    /// within `--out` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<PathBuf>,
    /// File format of stored pictures.
    pub images: ImageFormat,
    /// Place of the sessions: processes of their own, or threads of the program.
    pub isolation: Isolation,
    /// Time limits of calls, after which their worker counts as lost.
    pub limits: LimitSettings,
    /// Cluster of workers on other machines, in place of the devices of this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterSettings>,
}

/// Place of the sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Processes of their own, one for each worker and one for the encoder. A call that hangs or crashes costs the
    /// worker its job and a load, and costs other workers nothing.
    #[default]
    Process,
    /// Threads of the program. A call that hangs costs its worker for good, and a call that crashes ends the whole
    /// program.
    Thread,
}

/// File format of stored pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// PNG, which is exact.
    #[default]
    Png,
    /// JPEG at quality 95, a tenth of the bytes. A source then differs a little from the picture that was drawn.
    Jpeg,
}

impl ImageFormat {
    /// Returns the extension of files of this format.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
        }
    }
}

/// Processor that computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Processor {
    /// CPU of the host.
    #[default]
    Cpu,
    /// NVIDIA GPU.
    Cuda,
}

/// Device that sessions run on: `cpu:0`, `cpu:0,threads=2`, `cuda:1`, `cuda:1,memory_gb=20`. The number of a CPU only
/// tells workers apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Device {
    /// Kind of the processor: CPU or CUDA.
    pub processor: Processor,
    /// Number of the device.
    pub number: u16,
    /// Number of threads of a session, on a CPU.
    pub threads: u16,
    /// Limit of the memory arena of each session of a model, on a GPU, in GB (10^9 bytes).
    pub memory_gb: Option<f64>,
}

impl Default for Device {
    fn default() -> Self {
        Self::cpu(0)
    }
}

impl Device {
    /// Makes a device: a CPU with one thread.
    #[must_use]
    pub const fn cpu(number: u16) -> Self {
        Self { processor: Processor::Cpu, number, threads: 1, memory_gb: None }
    }

    /// Returns the name of the device, `cpu:0` or `cuda:0`, without threads and memory.
    #[must_use]
    pub fn name(&self) -> String {
        let processor = if self.processor == Processor::Cpu { "cpu" } else { "cuda" };
        format!("{processor}:{}", self.number)
    }
}

/// Error of a text that names no device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Text in another notation.
    #[error("expected a device such as \"cpu:0\", \"cpu:0,threads=2\", \"cuda:0\" or \"cuda:0,memory_gb=20\"")]
    Notation,
    /// Number of threads that is out of range.
    #[error("expected threads from 1 to 1024")]
    Threads,
    /// Limit of memory that is out of range.
    #[error("expected memory_gb above 0, at most 1000000")]
    Memory,
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default().trim();
        let (processor, number) = name.split_once(':').unwrap_or((name, "0"));
        let processor = match processor {
            "cpu" => Processor::Cpu,
            "cuda" => Processor::Cuda,
            _ => return Err(DeviceError::Notation),
        };
        let number = number.parse().map_err(|_| DeviceError::Notation)?;
        let mut device = Self { processor, number, ..Self::default() };
        for part in parts {
            let (key, value) = part.split_once('=').ok_or(DeviceError::Notation)?;
            match (key.trim(), processor) {
                ("threads", Processor::Cpu) => {
                    let threads = value.trim().parse().ok().filter(|threads| (1..=1024).contains(threads));
                    device.threads = threads.ok_or(DeviceError::Threads)?;
                }
                ("memory_gb", Processor::Cuda) => {
                    let memory = value.trim().parse().ok().filter(|memory| *memory > 0.0 && *memory <= 1e6);
                    device.memory_gb = Some(memory.ok_or(DeviceError::Memory)?);
                }
                _ => return Err(DeviceError::Notation),
            }
        }
        Ok(device)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if self.threads != 1 {
            write!(f, ",threads={}", self.threads)?;
        }
        self.memory_gb.map_or(Ok(()), |memory| write!(f, ",memory_gb={memory}"))
    }
}

impl JsonSchema for Device {
    fn schema_name() -> Cow<'static, str> {
        "Device".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["cpu", "cpu,threads=4", "cuda:0", "cuda:0,memory_gb=40"] })
    }
}

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Device {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: DeviceError| D::Error::invalid_value(Unexpected::Str(&text), &error))
    }
}

impl Expected for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_string().trim_start_matches("expected "))
    }
}

/// Refuses a width and height that no picture has.
pub(crate) fn check_size(size: Option<&[u32; 2]>, file: &Path, key: &str) -> Result<(), InputError> {
    match size.filter(|size| !size.iter().all(|side| (1..=LARGEST_SIDE).contains(side))) {
        Some(size) => {
            let message = format!("expected [width, height] from 1 to {LARGEST_SIDE} pixels");
            Err(InputError::new(file, message).value(key, format_args!("{size:?}")))
        }
        None => Ok(()),
    }
}

impl LiveSettings {
    /// Returns the devices of so many workers. The number of devices is checked here, and not when a scenario is read,
    /// because the same scenario may be simulated on another cluster.
    ///
    /// # Errors
    /// Returns an error if the number of devices is not the number of workers.
    pub fn devices_of(&self, file: &Path, workers: usize) -> Result<Vec<Device>, InputError> {
        if self.devices.is_empty() {
            return Ok((0..workers as u16).map(Device::cpu).collect());
        }
        if self.devices.len() != workers {
            let message = format!("expected {workers}, one for each worker of the cluster, in order");
            let found = format!("{} devices", self.devices.len());
            return Err(InputError::new(file, message).value("live.devices", found));
        }
        Ok(self.devices.clone())
    }

    /// Returns the names of the checkpoints, in the order of their numbers from 1.
    #[must_use]
    pub fn checkpoint_names(&self) -> Vec<String> {
        self.checkpoints.keys().cloned().collect()
    }

    /// Checks the values that must be right whatever is run.
    ///
    /// # Errors
    /// Returns an error for the first value that cannot be used, with the values that are accepted.
    pub fn check(&self, file: &Path) -> Result<(), InputError> {
        if let Some((name, scale)) = self.guidance.iter().find(|(_, scale)| !(0.0..=1000.0).contains(*scale)) {
            return Err(
                InputError::new(file, "expected a scale from 0 to 1000").value(format!("live.guidance.{name}"), scale)
            );
        }
        check_size(self.size.as_ref(), file, "live.size")?;
        if let Some(multiple) = self.fit_rate.filter(|multiple| !(0.0..=100.0).contains(multiple)) {
            let message =
                "expected a multiple of what the large model alone can carry, to 100; 0 leaves rates as they are";
            return Err(InputError::new(file, message).value("live.fit_rate", multiple));
        }
        if let Some(name) = self.checkpoints.keys().find(|name| name.is_empty() || name.trim() != *name) {
            let message = "expected a name that does not begin or end with spaces, as requests write it";
            return Err(InputError::new(file, message).value("live.checkpoints", format_args!("{name:?}")));
        }
        if let Some(cluster) = &self.cluster {
            cluster.check(file)?;
        }
        self.limits.check(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_read_as_written() {
        for text in ["cpu:0", "cpu:3,threads=2", "cuda:1", "cuda:0,memory_gb=20", "cuda:0,memory_gb=7.5"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse::<Device>().unwrap().name(), "cuda:0");
        for (bad, error) in [
            ("", DeviceError::Notation),
            ("gpu:0", DeviceError::Notation),
            ("cpu:x", DeviceError::Notation),
            ("cpu:0,threads=0", DeviceError::Threads),
            ("cpu:0,memory_gb=1", DeviceError::Notation),
            ("cuda:0,threads=1", DeviceError::Notation),
            ("cuda:0,memory_gb=nan", DeviceError::Memory),
            ("cpu:70000", DeviceError::Notation),
        ] {
            assert_eq!(bad.parse::<Device>(), Err(error), "{bad}");
        }
    }
}
