//! Inputs of a scenario beside its own file: trace, embeddings and profile. Inputs are read and checked once and shared
//! by all runs that use the same ones. Stand-ins for embeddings are made here where the trace has none.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Scenario, Searched};
use crate::cache::Tenancy;
use crate::confidence::Confidences;
use crate::embedding::EmbeddingMatrix;
use crate::encoder::TextEncoder;
use crate::input::{InputError, sha256, sha256_of, text};
use crate::model::{GpuId, ModelId};
use crate::profile::{self, Profile, ProfileFile, catalogue};
use crate::request::{Ask, Shape, TenantId};
use crate::scheduler::TenantTerms;
use crate::scheduler::routing::System;
use crate::time::Duration;
use crate::trace::{Embeddings, IMAGE_BYTES, Trace, TraceFiles};

const PAPER_PROFILE: &str = include_str!("../../scenarios/profiles/paper.toml");

/// Name and hash of a file that a run depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Path of the file, as the scenario names it.
    pub file: PathBuf,
    /// SHA-256 of the file's bytes, in hexadecimal.
    pub sha256: String,
}

/// Trace with the entries that are cached before its first request.
#[derive(Clone, Debug)]
pub struct TraceInputs {
    /// Requests that are replayed.
    pub trace: Trace,
    /// Keys of the entries that are cached before the trace, oldest first, for text-to-image systems.
    pub warm_images: Option<EmbeddingMatrix>,
    /// Keys of the same entries for text-to-text systems.
    pub warm_prompts: Option<EmbeddingMatrix>,
    /// Facts about these entries, by row. Empty if the entries come from a file, which tells none.
    pub warm_rows: Vec<WarmRow>,
    /// Searches that were done ahead, shared by runs that look up the same images.
    pub searched: Searched,
    /// Size in bytes of the image that each request would produce, if the trace has a column `image_bytes`.
    pub image_bytes: Option<Arc<[u64]>>,
    /// Parts of the inputs that only stand in for those of a real system, in words for every output.
    pub stand_ins: Vec<String>,
    /// Files that the trace was read from.
    pub files: Vec<Fingerprint>,
}

/// Facts about an entry that a request before the trace left in the cache.
#[derive(Clone, Copy, Debug)]
pub struct WarmRow {
    /// Tenant of the request.
    pub tenant: TenantId,
    /// Size of the image in bytes, if it is known.
    pub bytes: Option<u64>,
    /// Wishes of the request.
    pub ask: Ask,
}

/// Everything that a run reads.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Requests and embeddings.
    pub trace: Arc<TraceInputs>,
    /// Service times of the models in use.
    pub profile: Arc<Profile>,
    /// Service times that policies of a simulated run expect: those of `profile` and the transfers over the network.
    pub planned: Arc<Profile>,
    /// Measured quality: (model, skipped steps, measure, value).
    pub quality: Vec<(ModelId, u32, String, f64)>,
    /// Scores of images that are made without a cache, by model: (measure, value).
    pub own_quality: Vec<Vec<(String, f64)>>,
    /// Worth of an image by each model, from 0 for the worst model to 1 for the best, as the allocation sees it.
    pub worth: Vec<f64>,
    /// Files of the profile and of the confidences, as far as they are read from files.
    pub files: Vec<Fingerprint>,
    /// Rules by which tenants share the cache.
    pub tenancy: Tenancy,
    /// Weight and priority of the tenants in the queue, by tenant number.
    pub terms: Vec<TenantTerms>,
    /// Confidences in the drafts of a cascade; `None` for systems without drafts.
    pub confidences: Option<Confidences>,
}

/// Returns the file and the content of the built-in profile that a scenario takes; `None` if it names another file.
fn built_in(scenario: &Scenario) -> Option<(&'static str, &'static str)> {
    match &scenario.models.profile {
        None => Some(("scenarios/profiles/paper.toml", PAPER_PROFILE)),
        Some(path) => is_catalogue(path).then_some((catalogue::FILE, catalogue::TEXT)),
    }
}

/// Returns whether a profile's path is the name of the built-in catalogue.
pub(super) fn is_catalogue(path: &Path) -> bool {
    path == Path::new(catalogue::CATALOGUE)
}

/// Returns the fingerprint of the built-in profile that a scenario takes, which is part of the program and no file;
/// `None` if the scenario names a file of its own.
#[must_use]
pub fn built_in_profile(scenario: &Scenario) -> Option<Fingerprint> {
    let (file, text) = built_in(scenario)?;
    Some(Fingerprint { file: file.into(), sha256: sha256_of(text.as_bytes()) })
}

pub(super) fn fingerprint(file: &Path, as_named: &Path) -> Result<Fingerprint, InputError> {
    // An array of an archive is known by the whole archive.
    let (whole, _) = crate::trace::npy::file_and_array(file);
    Ok(Fingerprint { file: as_named.to_owned(), sha256: sha256(whole)? })
}

impl TraceInputs {
    /// Makes the inputs of a trace with nothing cached before it, no sizes and no files.
    #[must_use]
    pub fn from_trace(trace: Trace) -> Self {
        Self {
            trace,
            warm_images: None,
            warm_prompts: None,
            warm_rows: Vec::new(),
            searched: Searched::default(),
            image_bytes: None,
            stand_ins: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Reads or generates the trace of a scenario whose file is `file`. Embeddings are made only if `retrieves` is
    /// true, because they take time.
    ///
    /// # Errors
    /// Returns an error if something is wrong with a file or something is missing.
    pub fn load(scenario: &Scenario, file: &Path, retrieves: bool) -> Result<Self, InputError> {
        // Hashing a large file takes as long as reading it, so both run at the same time.
        std::thread::scope(|scope| {
            let files = scope.spawn(|| Self::fingerprints(scenario, file));
            let mut inputs = Self::read(scenario, file, retrieves)?;
            inputs.files = files.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok(inputs)
        })
    }

    /// Reads or generates the trace, its embeddings and the entries that are cached before it.
    fn read(scenario: &Scenario, file: &Path, retrieves: bool) -> Result<Self, InputError> {
        let section = &scenario.trace;
        let trace = if let Some(synthetic) = &section.synthetic {
            let generated = synthetic.generate(scenario.seed, file, "trace.synthetic")?;
            let columns = generated.columns();
            let warm = section.warm_images.as_ref().map(|path| crate::trace::npy::read(&Scenario::resolve(file, path)));
            Trace::new(columns).with_embeddings(Embeddings { warm: warm.transpose()?, ..Embeddings::default() })
        } else {
            let place = |path: &PathBuf| Scenario::resolve(file, path);
            let requests = section.requests.as_ref().map(place).unwrap_or_default();
            crate::trace::read(&TraceFiles {
                requests,
                prompt_embeddings: section.prompt_embeddings.as_ref().map(place),
                image_embeddings: section.image_embeddings.as_ref().map(place),
                warm_images: section.warm_images.as_ref().map(place),
            })?
        };
        let named = section.requests.as_deref().unwrap_or(file);
        let trace = trace.with_asks(&scenario.key_rule(), named)?;
        let mut inputs = Self { image_bytes: image_bytes(&trace, named)?, ..Self::from_trace(trace) };
        if retrieves {
            inputs.embed(scenario, file)?;
        }
        inputs.warm(scenario, file)?;
        Ok(inputs)
    }

    /// Returns the fingerprints of the files of the scenario's trace.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub fn fingerprints(scenario: &Scenario, file: &Path) -> Result<Vec<Fingerprint>, InputError> {
        let mut section = scenario.trace.clone();
        let named = section.paths_mut().into_iter().filter_map(|(_, path)| path.take());
        named.map(|path| fingerprint(&Scenario::resolve(file, &path), &path)).collect()
    }

    /// Makes the embeddings that the trace lacks.
    fn embed(&mut self, scenario: &Scenario, file: &Path) -> Result<(), InputError> {
        let own = self.trace.embeddings().clone();
        if own.prompts.is_some() && own.images.is_some() {
            return Ok(());
        }
        let prompts = if let Some(prompts) = own.prompts {
            prompts
        } else {
            if own.images.is_some() || own.warm.is_some() {
                let way_out = "is needed: a stand-in for the prompts would not be in the space of the image embeddings";
                return Err(InputError::new(file, way_out).key("trace.prompt_embeddings"));
            }
            let Some(column) = self.trace.columns().prompts.as_ref() else {
                let way_out = format!(
                    "system.policy = {:?} looks up prompts: give trace.prompt_embeddings, or a `prompt` column",
                    scenario.system.policy
                );
                return Err(InputError::new(file, way_out.to_lowercase()).key("trace.prompt_embeddings"));
            };
            let prompts: Vec<&str> = column.iter().collect();
            self.stand_ins.push(scenario.encoder.label());
            TextEncoder::fit(&scenario.encoder, &prompts).encode_all(&prompts)
        };
        let embeddings = if let Some(images) = own.images {
            Embeddings { prompts: Some(prompts), texts: None, images: Some(images), warm: own.warm }
        } else if own.warm.is_some() {
            // Stand-ins for images would not be in the space of the cached embeddings. Systems that compare prompts
            // need none.
            Embeddings { prompts: Some(prompts), texts: None, images: None, warm: own.warm }
        } else {
            self.stand_ins.push(scenario.image_model.label());
            let pictures = scenario.image_model.pictures(&prompts, scenario.seed);
            let (texts, images) = (Some(prompts), Some(pictures.images));
            Embeddings { prompts: Some(pictures.prompts), texts, images, warm: None }
        };
        self.trace = std::mem::take(&mut self.trace).with_embeddings(embeddings);
        Ok(())
    }

    /// Sets aside the entries that are cached before time zero.
    fn warm(&mut self, scenario: &Scenario, file: &Path) -> Result<(), InputError> {
        let count = scenario.trace.warm_requests as usize;
        if count == 0 {
            self.warm_images = self.trace.warm_images().cloned();
            self.warm_prompts.clone_from(&self.warm_images);
            return Ok(());
        }
        if self.trace.warm_images().is_some() {
            let way_out = "goes without `warm_images`: either says what is cached before the first request";
            return Err(InputError::new(file, way_out).value("trace.warm_requests", count));
        }
        let requests = self.trace.requests();
        if count >= requests {
            let message = format!("expected fewer than the trace's {requests} requests");
            return Err(InputError::new(file, message).value("trace.warm_requests", count));
        }
        let count = self.trace.rows_of(count);
        // What the warm requests leave in the cache is taken before the trace loses their rows.
        let rows: Vec<u32> = (0..count as u32).collect();
        self.warm_images = self.trace.image_embeddings().map(|matrix| matrix.select(&rows));
        self.warm_prompts = self.trace.text_embeddings().map(|matrix| matrix.select(&rows));
        let size = |row: usize| self.image_bytes.as_ref().map(|bytes| bytes[row]);
        self.warm_rows = (0..count)
            .map(|row| WarmRow { tenant: self.trace.tenant(row), bytes: size(row), ask: self.trace.ask(row) })
            .collect();
        self.image_bytes = self.image_bytes.as_ref().map(|bytes| bytes[count..].into());
        self.trace = self.trace.after(count);
        Ok(())
    }

    /// Returns the parts of a scenario's run that only stand in for those of a real system, in words for every output.
    #[must_use]
    pub fn stand_ins_of(&self, scenario: &Scenario) -> Vec<String> {
        let retrieves = Inputs::retrieves(scenario.system.policy);
        self.stand_ins.iter().filter(|_| retrieves).cloned().chain(scenario.assumption()).collect()
    }

    /// Returns the same requests with all arrival times multiplied by `factor`, without the searches that were done.
    #[must_use]
    pub fn stretched(&self, factor: f64) -> Self {
        Self { trace: self.trace.stretched(factor), searched: Searched::passing(), ..self.clone() }
    }

    /// Returns the same requests at `factor` times the rate of arrivals. Searches that were done are kept, because
    /// similarities do not depend on time.
    #[must_use]
    pub fn at_rate(&self, factor: f64) -> Self {
        Self { trace: self.trace.stretched(1.0 / factor), searched: self.searched.shared(), ..self.clone() }
    }

    /// Returns the same inputs with the trace resampled by blocks of time.
    #[must_use]
    pub fn resampled(&self, seed: u64) -> Self {
        let trace = self.trace.resampled(seed);
        // The column of texts went with its rows, so the numbers are read again in the new order.
        let sizes = image_bytes(&trace, Path::new("requests.csv")).expect("the same values in another order");
        Self { trace, image_bytes: sizes, searched: Searched::passing(), ..self.clone() }
    }
}

/// Returns the column `image_bytes`, checked.
fn image_bytes(trace: &Trace, file: &Path) -> Result<Option<Arc<[u64]>>, InputError> {
    let Some((name, column)) = trace.columns().extra.iter().find(|(name, _)| name == IMAGE_BYTES) else {
        return Ok(None);
    };
    let read = |(row, text): (usize, &str)| {
        text.trim().parse().ok().filter(|bytes| (1..=1 << 53).contains(bytes)).ok_or_else(|| {
            let message = format!("row {} (from 1, below the header): expected a whole number of bytes", row + 1);
            InputError::new(file, message).value(name, format_args!("{text:?}"))
        })
    };
    Ok(Some(column.iter().enumerate().map(read).collect::<Result<_, _>>()?))
}

impl Inputs {
    /// Reads everything that a scenario needs beside its trace, which is given.
    ///
    /// # Errors
    /// Returns an error if something is wrong with the profile or another input, or if something is missing.
    pub fn new(scenario: &Scenario, file: &Path, trace: Arc<TraceInputs>) -> Result<Self, InputError> {
        let (profile, name, mut files) = read_profile(scenario, file)?;
        let models = scenario.model_names();
        let gpus = scenario.gpu_types();
        let selected = Profile::select(&profile, &gpus, &models).map_err(|(gpu, model)| {
            let message = catalogue::missing(&profile, &gpu, &model, &models);
            InputError::new(&name, message).key(format!("GPU {gpu:?} with model {model:?}"))
        })?;
        let selected = selected.at_pixels(scenario.models.usual_size().pixels());
        check_generations(&selected, &gpus, scenario, &name)?;
        check_asks(&trace.trace, scenario, file)?;
        check_memory(&selected, &gpus, &models, &name)?;
        let confidences = scenario.confidences(file)?.map(|(confidences, read)| {
            files.extend(read);
            confidences
        });
        let own = trace.trace.embeddings();
        // This is asked of each system and not when the trace is read: variants share a trace, and systems that compare
        // prompts need no images.
        let lacks_images = own.prompts.is_some() && own.warm.is_some() && own.images.is_none();
        if scenario.system.policy == System::Modm && lacks_images {
            let way_out = "is needed: stand-ins for images would not be in the space of trace.warm_images";
            return Err(InputError::new(file, way_out).key("trace.image_embeddings"));
        }
        let quality = profile.quality.iter().filter_map(|row| {
            let model = models.iter().position(|name| *name == row.model)?;
            Some((ModelId(model as u16), row.skipped_steps, row.measure.clone(), row.value))
        });
        let own_quality = models.iter().map(|model| {
            let rows = profile.own_quality.iter().filter(|row| row.model == *model);
            rows.map(|row| (row.measure.clone(), row.value)).collect()
        });
        let own_quality: Vec<Vec<(String, f64)>> = own_quality.collect();
        let worth = scenario.allocation.worth(&models, &own_quality, file)?;
        let tenancy = scenario.tenancy(&trace.trace, file)?;
        let terms = scenario.terms(&trace.trace, file)?;
        let by_bytes = scenario.capacity_bytes().filter(|_| Self::retrieves(scenario.system.policy));
        if let Some(bytes) = by_bytes.filter(|_| trace.image_bytes.is_none() && scenario.cache.image_bytes.is_none()) {
            let way_out = "needs the images' sizes: give the trace a column `image_bytes`, or set cache.image_bytes";
            return Err(InputError::new(file, way_out).value("cache.capacity_bytes", bytes));
        }
        let profile = Arc::new(selected);
        let network = scenario.network();
        let planned = network.map_or_else(|| profile.clone(), |network| Arc::new(profile.with_network(&network)));
        Ok(Self {
            trace,
            quality: quality.collect(),
            own_quality,
            worth,
            profile,
            planned,
            files,
            tenancy,
            terms,
            confidences,
        })
    }

    /// Returns whether a system looks requests up in the cache.
    #[must_use]
    pub fn retrieves(system: System) -> bool {
        !matches!(system, System::Vanilla | System::Cascade)
    }
}

/// Reads a scenario's profile. Returns the profile with all its rows, its name for errors, and the fingerprint of its
/// file.
///
/// # Errors
/// Returns an error if the profile cannot be read or something is wrong with it.
pub fn read_profile(scenario: &Scenario, file: &Path) -> Result<(ProfileFile, PathBuf, Vec<Fingerprint>), InputError> {
    if let Some((built_in, text)) = built_in(scenario) {
        let name = PathBuf::from(format!("the built-in profile ({built_in})"));
        return Ok((profile::parse(text, &name)?, name, Vec::new()));
    }
    let path = scenario.models.profile.as_deref().unwrap_or(file);
    let place = Scenario::resolve(file, path);
    let text = text(&place)?;
    Ok((profile::parse(&text, &place)?, place.clone(), vec![fingerprint(&place, path)?]))
}

/// Checks that every model fits into the memory of every GPU type, as far as the sizes are known.
fn check_memory(profile: &Profile, gpus: &[String], models: &[String], name: &Path) -> Result<(), InputError> {
    for (gpu, gpu_name) in gpus.iter().enumerate() {
        for (model, model_name) in models.iter().enumerate() {
            let (gpu, model) = (GpuId(gpu as u16), ModelId(model as u16));
            let (room, takes) = (profile.memory_gb(gpu), profile.service(gpu, model).memory_gb);
            if let Some((room, takes)) = room.zip(takes).filter(|(room, takes)| takes > room) {
                let message = format!("does not fit: {gpu_name} has {room} GB; leave the model or the GPU type out");
                let key = format!("service ({gpu_name}, {model_name}).memory_gb");
                return Err(InputError::new(name, message).value(key, takes));
            }
        }
    }
    Ok(())
}

/// Checks that the models can run the steps that requests ask for, and that there are not too many kinds of work.
fn check_asks(trace: &Trace, scenario: &Scenario, file: &Path) -> Result<(), InputError> {
    let Some(asks) = &trace.columns().asks else { return Ok(()) };
    let named = scenario.trace.requests.as_deref().unwrap_or(file);
    let shapes: BTreeSet<Shape> = asks.iter().map(Ask::shape).collect();
    if shapes.len() > Shape::MOST {
        let message = format!("expected at most {} different pairs of size and steps", Shape::MOST);
        return Err(InputError::new(named, message).value("width, height, steps", shapes.len()));
    }
    let most = shapes.iter().map(|shape| shape.steps).max().unwrap_or(0);
    let limited = scenario.models.limited_steps(&scenario.model_names());
    if let Some((model, limit)) = limited.filter(|(_, limit)| most > *limit) {
        let message = format!("expected at most {limit}: {model} was trained on so many (models.schedule)");
        return Err(InputError::new(named, message).value("steps", most));
    }
    Ok(())
}

/// Checks that a full generation takes a time above zero on every GPU type with every model.
fn check_generations(profile: &Profile, gpus: &[String], scenario: &Scenario, name: &Path) -> Result<(), InputError> {
    for (gpu, gpu_name) in gpus.iter().enumerate() {
        for (model, model_name) in scenario.model_names().iter().enumerate() {
            let steps = scenario.models.steps_of(model_name);
            let seconds = profile.full_generation_s(GpuId(gpu as u16), ModelId(model as u16), steps);
            // Deadlines and latency objectives are multiples of such a time, and the monitor divides by it.
            if Duration::from_seconds_saturating(seconds) == Duration::ZERO {
                let key = format!("service ({gpu_name}, {model_name})");
                let message = "a full generation (overhead_s + step_s * models.steps) must take time";
                return Err(InputError::new(name, message).value(key, seconds));
            }
        }
    }
    Ok(())
}
