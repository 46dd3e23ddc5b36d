//! Profiles as files. TOML is read and checked here, and tables of other projects are imported. The meaning of a
//! profile is defined in `modm_core::profile`.

use std::cmp::Ordering;
use std::path::Path;

pub use modm_core::profile::*;

use crate::input::{self, InputError};
use crate::output::{OutputError, write_atomic};
use crate::time::MAX_INPUT_S;

pub mod catalogue;
pub mod import;
mod quality;
pub mod starter;

const TIME: &str = "expected seconds from 0 to ten years";

/// Largest number of pixels of an image: 65535 x 65535.
const MOST_PIXELS: u64 = 65_535 * 65_535;

const PIXELS: &str = "expected a number of pixels (width x height) from 1, rising from row to row";

const MEMORY: &str = "expected GB above 0, at most 1000000";

/// Largest number of requests that a job may have.
pub const MOST_BATCH: u32 = 1024;

/// Writes the file of a profile.
///
/// # Errors
/// The file cannot be written.
///
/// # Panics
/// Never: a profile is TOML.
pub fn write(profile: &ProfileFile, file: &Path) -> Result<(), OutputError> {
    let text = toml::to_string_pretty(profile).expect("a profile is TOML");
    write_atomic(file, |to| std::io::Write::write_all(to, text.as_bytes()))
}

/// Returns the first value of a row that is not accepted: key, value, and what is expected.
fn complaint(service: &Service) -> Option<(&'static str, f64, &'static str)> {
    let times = [
        ("step_s", service.step_s),
        ("overhead_s", service.overhead_s),
        ("text_s", service.text_s),
        ("decode_s", service.decode_s),
        ("source_s", service.source_s),
        ("checkpoint_s", service.checkpoint_s.unwrap_or_default()),
        ("lora_s", service.lora_s),
        ("load_s", service.load_s),
    ];
    if let Some((key, value)) = times.into_iter().find(|(_, value)| !(0.0..=MAX_INPUT_S).contains(value)) {
        return Some((key, value, TIME));
    }
    if let Some(seconds) = service.load_after.values().find(|seconds| !(0.0..=MAX_INPUT_S).contains(*seconds)) {
        return Some(("load_after", *seconds, TIME));
    }
    if !(0.0..=10.0).contains(&service.jitter_cv) {
        return Some(("jitter_cv", service.jitter_cv, "expected a coefficient of variation from 0 to 10"));
    }
    if !(0.01..=1.0).contains(&service.alone) {
        return Some(("alone", service.alone, "expected a part of a job's time, from 0.01 to 1"));
    }
    if let Some(times) = service.beside.values().find(|times| !(0.1..=10.0).contains(*times)) {
        return Some(("beside", *times, "expected times of a job's time, from 0.1 to 10"));
    }
    if let Some(spread) = service.spread.filter(|spread| !(0.0..=MOST_SPREAD).contains(spread)) {
        return Some(("spread", spread, "expected a share of the time, from 0 to 0.9"));
    }
    // A job of one request has the factor 1, from which sizes and factors rise.
    let (mut size, mut factor) = (1, 1.0);
    for &(next, its) in &service.batches {
        if !(size < next && next <= MOST_BATCH) {
            return Some(("batches", f64::from(next), "expected rising numbers of requests, from 2 to 1024"));
        }
        if !(factor..=f64::from(next)).contains(&its) {
            let accepted = "expected no less time than for fewer requests, and no more than one after the other";
            return Some(("batches", its, accepted));
        }
        (size, factor) = (next, its);
    }
    if let Some(complaint) = complaint_of_sizes(service) {
        return Some(complaint);
    }
    if let Some(memory) = service.memory_gb.filter(|memory| !(*memory > 0.0 && *memory <= 1e6)) {
        return Some(("memory_gb", memory, MEMORY));
    }
    let powers = [("active_w", service.active_w), ("load_w", service.load_w), ("idle_w", service.idle_w)];
    powers
        .into_iter()
        .find_map(|(key, value)| value.filter(|watts| !(0.0..=1e6).contains(watts)).map(|watts| (key, watts)))
        .map(|(key, value)| (key, value, "expected watts from 0 to 1000000"))
}

/// Returns the first value of a row's sizes that is not accepted.
fn complaint_of_sizes(service: &Service) -> Option<(&'static str, f64, &'static str)> {
    if !(1..=MOST_PIXELS).contains(&service.pixels) {
        return Some(("pixels", service.pixels as f64, PIXELS));
    }
    let (mut pixels, mut factor) = (0, 0.0);
    for &(next, its) in &service.sizes {
        if !(pixels < next && next <= MOST_PIXELS) {
            return Some(("sizes", next as f64, PIXELS));
        }
        if !(factor..=1e6).contains(&its) || its <= 0.0 {
            return Some((
                "sizes",
                its,
                "expected a multiple of the row's time, above 0 and no less than for fewer pixels",
            ));
        }
        // The row itself is the point at its own pixels.
        let own = next.cmp(&service.pixels);
        let is_possible = match own {
            Ordering::Less => its <= 1.0,
            Ordering::Equal => false,
            Ordering::Greater => its >= 1.0,
        };
        if !is_possible {
            return Some((
                "sizes",
                its,
                "expected less than 1 below the row's pixels, more than 1 above, nothing at them",
            ));
        }
        (pixels, factor) = (next, its);
    }
    None
}

/// Returns the reason why the source of a row is not accepted, if it is not.
fn complaint_of_source(source: &str) -> Option<&'static str> {
    if source.contains(starter::TO_FILL_IN) {
        return Some("has to be filled in: the row's values, and the words that say where they come from");
    }
    let kind = SourceKind::of(source);
    kind.is_none().then_some("expected a source that begins with \"measured\", \"published\" or \"assumed\"")
}

/// Parses a profile. Errors name it by `file`.
///
/// # Errors
/// The first fault, with line, key and value.
pub fn parse(text: &str, file: &Path) -> Result<ProfileFile, InputError> {
    let table = input::toml::parse(text, file)?;
    let place = |error: InputError| {
        let Some(key) = error.key.clone() else { return error };
        let placed = InputError { line: input::toml::line_of_key(text, &key), ..error };
        // A user finds the value in the file only if the error shows it as it is written there.
        match input::toml::look_up(&table, &key).filter(|value| value.is_float() || value.is_integer()) {
            Some(written) => placed.value(key, input::toml::written(written)),
            None => placed,
        }
    };
    let profile: ProfileFile =
        input::toml::settings(&table, &["service.*", "gpu.*", "encoding", "quality.*", "own_quality.*"], file)
            .map_err(place)?;
    if profile.service.is_empty() {
        return Err(place(InputError::new(file, "expected at least one row").value("service", "[]")));
    }
    for (index, service) in profile.service.iter().enumerate() {
        let wrong = service.source.as_ref().and_then(|source| complaint_of_source(source).map(|why| (source, why)));
        if let Some((source, accepted)) = wrong {
            let key = format!("service.{index}.source");
            return Err(place(InputError::new(file, accepted).value(key, format_args!("{source:?}"))));
        }
        if let Some((key, value, accepted)) = complaint(service) {
            return Err(place(InputError::new(file, accepted).value(format!("service.{index}.{key}"), value)));
        }
        let same = |other: &Service| other.gpu == service.gpu && other.model == service.model;
        if profile.service[..index].iter().any(same) {
            let message = format!("GPU {:?} with model {:?} has a row already", service.gpu, service.model);
            return Err(place(InputError::new(file, message).key(format!("service.{index}"))));
        }
        let unknown = |name: &&String| !profile.service.iter().any(|row| row.gpu == service.gpu && row.model == **name);
        for (key, mut names) in [("beside", service.beside.keys()), ("load_after", service.load_after.keys())] {
            if let Some(name) = names.find(unknown) {
                let message = format!("names {name:?}, which has no row on GPU {:?}", service.gpu);
                return Err(place(InputError::new(file, message).key(format!("service.{index}.{key}"))));
            }
        }
    }
    for (index, gpu) in profile.gpu.iter().enumerate() {
        if !(gpu.memory_gb > 0.0 && gpu.memory_gb <= 1e6) {
            let key = format!("gpu.{index}.memory_gb");
            return Err(place(InputError::new(file, MEMORY).value(key, gpu.memory_gb)));
        }
        if let Some(price) = gpu.usd_per_hour.filter(|dollars| !(0.0..=1e6).contains(dollars)) {
            let key = format!("gpu.{index}.usd_per_hour");
            return Err(place(InputError::new(file, "expected dollars from 0 to 1000000").value(key, price)));
        }
        if profile.gpu[..index].iter().any(|other| other.r#type == gpu.r#type) {
            let message = format!("GPU {:?} is there already", gpu.r#type);
            return Err(place(InputError::new(file, message).key(format!("gpu.{index}"))));
        }
    }
    let encoding = profile.encoding.unwrap_or_default();
    let times = [("encoding.prompt_s", encoding.prompt_s), ("encoding.image_s", encoding.image_s)];
    if let Some((key, value)) = times.into_iter().find(|(_, seconds)| !(0.0..=MAX_INPUT_S).contains(seconds)) {
        return Err(place(InputError::new(file, TIME).value(key, value)));
    }
    quality::check(&profile, file).map_err(place)?;
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "source = \"test\"\n[[service]]\ngpu = \"a\"\nmodel = \"m\"\nstep_s = 0.5\nload_s = 2\n";

    fn parse(text: &str) -> Result<ProfileFile, String> {
        super::parse(text, Path::new("profile.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn batches_rise_and_take_no_more_than_one_after_the_other() {
        let with = |batches: &str| parse(&format!("{ROW}batches = {batches}\n"));
        assert!(with("[[2, 1.5], [4, 2.5]]").is_ok());
        assert!(with("[[1, 1.0]]").is_err() && with("[[4, 2.0], [2, 2.0]]").is_err());
        assert!(with("[[4, 0.5]]").is_err() && with("[[4, 4.5]]").is_err());
    }

    #[test]
    fn errors_name_line_key_and_value() {
        let negative = ROW.replace("0.5", "-0.5");
        assert_eq!(
            parse(&negative),
            Err("profile.toml:5: service.0.step_s = -0.5: expected seconds from 0 to ten years".into())
        );
        let unknown = format!("{ROW}colour = 1\n");
        assert!(
            parse(&unknown)
                .is_err_and(|error| error.starts_with("profile.toml:7: service.0.colour = 1: is not a key here"))
        );
        let twice = format!("{ROW}{}", &ROW["source = \"test\"\n".len()..]);
        assert!(parse(&twice).is_err_and(|error| error.contains("profile.toml:7")));
    }
}
