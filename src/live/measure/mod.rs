//! Measures a model on a device: the times of a step, of the work around the steps and of a load, their variation, and
//! the memory. A model is measured alone and while other workers draw. The first times of a fresh session are left out.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use super::error::Error;
use super::library::Library;
use super::painter::Palette;
use super::picture::Picture;
use super::pipeline::noise::SeededNoise;
use super::pipeline::{Drawing, Manner, Pipeline, Sessions};
use super::settings::{Device, ImageFormat, Processor};

mod encoding;
pub mod parity;
mod samples;

pub use encoding::{Encoding, encoding};
pub use samples::{Measured, Samples, mean, median, usual_variation, variation};

/// Plan of a measurement: steps, prompts, and numbers of jobs and loads.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Number of denoising steps of a full generation.
    pub steps: u32,
    /// Number of jobs after the warm-up.
    pub jobs: u32,
    /// Number of loads after the first.
    pub loads: u32,
    /// Prompts that are drawn, in turns.
    pub prompts: Vec<String>,
}

/// Work to measure: a whole job, with a function that is called before each step, or the model alone.
enum Draw<'a> {
    Job(&'a dyn Fn() -> bool),
    Bare(&'a dyn Fn()),
}

#[expect(clippy::disallowed_methods, reason = "time is what is measured")]
fn clock() -> Instant {
    Instant::now()
}

/// Measures the model in `folder`. A `refiner` starts from pictures, and reading them counts into its times.
///
/// # Errors
/// Returns an error if the model does not load or does not draw.
pub fn model(
    library: &Library,
    device: Device,
    (folder, guidance): (&Path, Option<f32>),
    size: [u32; 2],
    refiner: bool,
    batches: &[u32],
    plan: &Plan,
) -> Result<Measured, Error> {
    let before = resident_mb();
    // The model is loaded as a worker loads it: the trial picture is part of the time of a load.
    let load = || Pipeline::load(&mut Sessions::new(library.clone(), device), folder, guidance, Some(size));
    // This load may read the files from the disk and is not counted. The loads below find the files in the system's
    // memory.
    let mut pipeline = load()?;
    let mut loads = Vec::new();
    let source =
        Picture::new(size[0], size[1], vec![128; (3 * size[0] * size[1]) as usize]).encode(ImageFormat::Png)?;
    let mut points = Vec::new();
    for &batch in batches {
        let skipped = if refiner { plan.steps / 2 } else { 0 };
        let mut draw = |work: Draw<'_>, job: u32| -> Result<(), Error> {
            let source = if refiner { Some(Picture::decode(&source)?) } else { None };
            let noises: Vec<SeededNoise> =
                (0..batch).map(|row| SeededNoise { seed: 0, row: u64::from(job * batch + row) }).collect();
            let drawings = noises.iter().zip(plan.prompts.iter().cycle().skip(job as usize % plan.prompts.len()));
            let drawings: Vec<Drawing<'_>> =
                drawings.map(|(noise, prompt)| Drawing { prompt, noise, source: source.as_ref() }).collect();
            let manner = |keep_going| Manner {
                steps: plan.steps,
                skipped,
                guidance,
                negative: "",
                size: Some(size),
                keep_going,
            };
            match work {
                Draw::Job(keep_going) => pipeline.draw(&drawings, &manner(keep_going)).map(drop),
                Draw::Bare(tick) => {
                    let prompts: Vec<&str> = drawings.iter().map(|drawing| drawing.prompt).collect();
                    pipeline.run_bare(&prompts, &manner(&|| true), tick)
                }
            }
        };
        points.push(point(batch, plan.jobs, plan.steps - skipped, &mut draw)?);
    }
    let memory = resident_mb().zip(before).map(|(after, before)| (after - before).max(0.0));
    // The device may not have room for two models. A worker drops the old model before a load, too.
    drop(pipeline);
    for _ in 0..plan.loads {
        let begun = clock();
        let loaded = load()?;
        loads.push(begun.elapsed().as_secs_f64());
        drop(loaded);
    }
    Ok(Measured {
        loads,
        loads_after: BTreeMap::new(),
        memory_mb: memory.filter(|grown| *grown >= 1.0 && device.processor == Processor::Cpu),
        points,
    })
}

/// Measures the loads of a model after another model, whose parts may be the same. Returns no times if no part is.
///
/// # Errors
/// Returns an error if a model does not load or does not draw.
pub fn loads_after(
    library: &Library,
    device: Device,
    other: (&Path, Option<f32>),
    (folder, guidance): (&Path, Option<f32>),
    size: [u32; 2],
    loads: u32,
) -> Result<Vec<f64>, Error> {
    let sessions = &mut Sessions::new(library.clone(), device);
    if !Pipeline::share_parts(sessions, other.0, folder)? {
        return Ok(Vec::new());
    }
    let load = |_| {
        Pipeline::load(sessions, other.0, other.1, Some(size))?.unload(sessions);
        let begun = clock();
        let pipeline = Pipeline::load(sessions, folder, guidance, Some(size))?;
        let seconds = begun.elapsed().as_secs_f64();
        drop(pipeline);
        Ok(seconds)
    };
    (0..loads).map(load).collect()
}

/// Measures jobs of one batch size. The times of steps come from the calls before each step.
fn point(
    batch: u32,
    jobs: u32,
    steps: u32,
    draw: &mut dyn FnMut(Draw<'_>, u32) -> Result<(), Error>,
) -> Result<Samples, Error> {
    let mut samples = Samples { batch, ..Samples::default() };
    // The first two jobs of a session allocate its memory and choose its algorithms: their times are left out.
    for job in 0..jobs + 2 {
        let ticks = RefCell::new(Vec::with_capacity(steps as usize + 1));
        let tick = || ticks.borrow_mut().push(clock());
        // The model alone and the job are measured in turns, so that a slow moment of the host meets both.
        draw(Draw::Bare(&tick), job)?;
        let alone = mean(&spans(&ticks.take()));
        let begun = clock();
        draw(
            Draw::Job(&|| {
                tick();
                true
            }),
            job,
        )?;
        let total = begun.elapsed().as_secs_f64();
        if job >= 2 {
            let spans = spans(&ticks.take());
            // The mean is taken by job, so that steps and overhead add up to the time of the job.
            let step = mean(&spans);
            samples.overheads.push((total - step * f64::from(steps)).max(0.0));
            samples.bare.push(alone);
            samples.steps.push(step);
            samples.totals.push(total);
            samples.spans.extend(spans);
        }
    }
    Ok(samples)
}

/// Returns the seconds between successive ticks.
fn spans(ticks: &[Instant]) -> Vec<f64> {
    ticks.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect()
}

/// Other workers, which draw one picture after the other until this value is dropped.
#[derive(Debug)]
pub struct Neighbours {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Neighbours {
    /// Has each of these devices draw with the first model. Returns once each of them has drawn a picture.
    ///
    /// # Errors
    /// Returns an error if a model does not load or does not draw.
    pub fn start(library: &Library, devices: &[Device], palette: &Palette, plan: &Plan) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        // This value is made before the first thread: if a later model does not load, its drop stops the threads that
        // have begun.
        let mut neighbours = Self { stop: stop.clone(), threads: Vec::new() };
        let (first, drawn) = channel();
        for device in devices {
            let (folder, guidance) = palette.models[0].clone();
            let sessions = &mut Sessions::new(library.clone(), *device);
            let mut pipeline = Pipeline::load(sessions, &folder, guidance, Some(palette.size))?;
            let (stop, plan, size, first) = (stop.clone(), plan.clone(), palette.size, first.clone());
            neighbours.threads.push(std::thread::spawn(move || {
                let noise = SeededNoise { seed: 1, row: 0 };
                let go = || !stop.load(Ordering::Relaxed);
                // One answer a device: a fast one must not speak for those that have not drawn yet.
                let mut first = Some(first);
                while go() {
                    let drawing = Drawing { prompt: &plan.prompts[0], noise: &noise, source: None };
                    let manner = Manner {
                        steps: plan.steps,
                        skipped: 0,
                        guidance,
                        negative: "",
                        size: Some(size),
                        keep_going: &go,
                    };
                    let done = pipeline.draw(&[drawing], &manner).map(drop);
                    let failed = done.is_err();
                    if let Some(first) = first.take() {
                        let _ = first.send(done);
                    }
                    if failed {
                        return;
                    }
                }
            }));
        }
        drop(first);
        for answer in drawn.iter().take(devices.len()) {
            answer?;
        }
        Ok(neighbours)
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Returns the resident memory of this process in MB (10^6 bytes), or `None` if the system does not say.
#[must_use]
pub fn resident_mb() -> Option<f64> {
    // `statm` counts pages, whose size differs between systems. `status` has the same number in kB.
    resident_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Returns the resident memory in MB from the text of `/proc/PID/status`.
fn resident_of(status: &str) -> Option<f64> {
    let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim();
    // The system writes kB for units of 1,024 bytes.
    let units: f64 = size.strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(units * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_without_the_size_of_a_page() {
        let status = "Name:\tmodm\nVmHWM:\t  250000 kB\nVmRSS:\t  125000 kB\nRssAnon:\t   90000 kB\n";
        assert_eq!(resident_of(status), Some(128.0));
        assert_eq!(resident_of("Name:\tkthreadd\n"), None, "a thread of the kernel has no memory of its own");
        assert!(!cfg!(target_os = "linux") || resident_mb().is_some_and(|size| size > 1.0));
    }
}
