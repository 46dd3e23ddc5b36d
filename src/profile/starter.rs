//! Profiles to start from, for GPU types and models that the catalogue lacks: rows with every value to fill in, or rows
//! of another GPU type with all times multiplied by a factor that the user states.

use super::catalogue::{self, GPUS};
use super::{ProfileFile, Service};
use crate::input::InputError;

/// Word that stands for what the user has to fill in. A row with it is refused.
pub const TO_FILL_IN: &str = "TODO";

/// Question of a starter.
#[derive(Clone, Debug, PartialEq)]
pub struct Starter<'a> {
    /// GPU type, by the name that the scenario will use.
    pub gpu: &'a str,
    /// Models, by the names that the scenario will use.
    pub models: &'a [String],
    /// GPU type of the catalogue whose rows the new ones are made from.
    pub like: &'a str,
    /// Factor on all times of these rows. Without one, the values are left to fill in.
    pub factor: Option<f64>,
    /// GPU types of the catalogue whose rows are copied beside, for clusters of several types.
    pub with: &'a [String],
}

const HEAD: &str = "\
# Rows to fill in: replace every nan by a time, and every TODO. Where a figure is published, begin the source with
# \"published\" and give its settings, address and date; where you measured it (`modm profile`), with \"measured\".
# docs/profiles.md says how the rows of the catalogue were made.
";

impl Starter<'_> {
    /// Returns the profile as TOML.
    ///
    /// # Errors
    /// A GPU type or, with a factor, a model that the catalogue does not have.
    pub fn text(&self) -> Result<String, InputError> {
        let file = catalogue::profile()?;
        let like = known(self.like, "--like")?;
        let rows: Vec<(&String, Option<&Service>)> = self
            .models
            .iter()
            .map(|name| (name, catalogue::model(name).and_then(|model| catalogue::row(&file, like, model.name))))
            .collect();
        let mut text = String::new();
        match self.factor {
            None => {
                text.push_str(HEAD);
                let source = format!("{}, to fill in", self.gpu);
                text.push_str(&line("source", &quoted(&source), ""));
                text.push_str("\n# [[gpu]]           # optional: models that fit together need no load between them\n");
                text.push_str(&line("# type", &quoted(self.gpu), ""));
                text.push_str(&line("# memory_gb", TO_FILL_IN, ""));
                for (name, row) in rows {
                    text.push_str(&self.to_fill_in(name, like, row));
                }
            }
            Some(factor) => {
                let source = format!("assumed, from the built-in catalogue's {like} by {factor} (docs/profiles.md)");
                let mut service = Vec::new();
                for (name, row) in rows {
                    let row = row.ok_or_else(|| no_row(name))?;
                    service.push(scaled(row, self.gpu, name, factor));
                }
                let names: Vec<String> = service.iter().map(|row| row.model.clone()).collect();
                for row in &mut service {
                    row.load_after.retain(|other, _| names.contains(other));
                }
                text.push_str(&as_toml(&ProfileFile { source, service, ..empty() }));
            }
        }
        text.push_str(&self.beside(&file)?);
        Ok(text)
    }

    /// Returns the row of a model with its values left to fill in, each beside that of the other GPU type.
    fn to_fill_in(&self, model: &str, like: &str, row: Option<&Service>) -> String {
        let known = |value: Option<f64>| value.map_or(String::new(), |value| format!(" ({like}: {value})"));
        let with = |words: &str, value: Option<f64>| format!("{TO_FILL_IN}: {words}{}", known(value));
        let from = |row: &Service| format!("assumed, from {like} {} by {TO_FILL_IN}", row.model);
        let source = row.map_or_else(|| TO_FILL_IN.to_owned(), from);
        [
            "\n[[service]]\n".to_owned(),
            line("gpu", &quoted(self.gpu), ""),
            line("model", &quoted(model), ""),
            line(
                "step_s",
                "nan",
                &with("seconds of one denoising step, batch 1, 1024 x 1024", row.map(|row| row.step_s)),
            ),
            line("overhead_s", "nan", &with("seconds of a job beside its steps", row.map(|row| row.overhead_s))),
            line("load_s", "22.7", "a load of the model; assumed: production p50 (Alibaba cluster-trace-v2026-GenAI)"),
            line("spread", "0.25", "assumed: relative half-width of the 90 % range of the times"),
            line("source", &quoted(&source), ""),
        ]
        .concat()
    }

    /// Returns the rows of the GPU types that are copied beside.
    fn beside(&self, file: &ProfileFile) -> Result<String, InputError> {
        let mut kept = ProfileFile { source: String::new(), ..empty() };
        for name in self.with {
            let gpu = known(name, "--with")?;
            kept.gpu.extend(file.gpu.iter().filter(|facts| facts.r#type == gpu).cloned());
            for model in self.models {
                let known = catalogue::model(model).ok_or_else(|| no_row(model))?;
                kept.service.extend(catalogue::row(file, gpu, known.name).map(|row| scaled_name(row, model)));
            }
        }
        for row in &mut kept.service {
            row.load_after.retain(|other, _| self.models.contains(other));
        }
        let own = file.own_quality.iter().filter_map(|row| {
            let model =
                self.models.iter().find(|name| catalogue::model(name).is_some_and(|it| it.name == row.model))?;
            Some(super::OwnQuality { model: model.clone(), ..row.clone() })
        });
        kept.own_quality = own.collect();
        let text = as_toml(&kept);
        // The source of the whole profile stands at the top already.
        let rows = text.lines().skip_while(|line| !line.starts_with("[["));
        let lines: Vec<&str> = std::iter::once("").chain(rows).collect();
        Ok(if lines.len() > 1 { lines.join("\n") + "\n" } else { String::new() })
    }
}

/// Returns the name in the catalogue of a GPU type that a flag names.
fn known(name: &str, flag: &str) -> Result<&'static str, InputError> {
    catalogue::gpu(name).map(|gpu| gpu.name).ok_or_else(|| {
        let names = GPUS.map(|gpu| gpu.name).join(", ");
        InputError::new("the command line", format!("expected a GPU type of the catalogue: {names}")).value(flag, name)
    })
}

fn no_row(model: &str) -> InputError {
    let names = catalogue::MODELS.map(|model| model.name).join(", ");
    let message = format!("expected models of the catalogue ({names}), or neither --factor nor --with");
    InputError::new("the command line", message).value("--starter", model)
}

/// Returns a row of the catalogue for another GPU type, with all its times multiplied by a factor.
fn scaled(row: &Service, gpu: &str, model: &str, factor: f64) -> Service {
    let source = Some(format!("assumed, from {} {} by {factor}", row.gpu, row.model));
    let spread = Some(row.spread.unwrap_or_default().max(0.25));
    let gpu = gpu.to_owned();
    // The power of another GPU is not in proportion to its times.
    let unpowered = Service { active_w: None, load_w: None, idle_w: None, ..scaled_name(row, model) };
    Service { gpu, source, spread, ..unpowered.times(factor) }
}

/// Returns a row under the name that the scenario uses for its model.
fn scaled_name(row: &Service, model: &str) -> Service {
    Service { model: model.to_owned(), ..row.clone() }
}

fn empty() -> ProfileFile {
    ProfileFile {
        source: String::new(),
        service: Vec::new(),
        gpu: Vec::new(),
        encoding: None,
        measurement: Vec::new(),
        quality: Vec::new(),
        own_quality: Vec::new(),
    }
}

/// Returns a profile as TOML. A profile without rows has none to show.
fn as_toml(profile: &ProfileFile) -> String {
    toml::to_string(profile).unwrap_or_default()
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Returns a line of TOML with a comment beside it.
fn line(key: &str, value: &str, comment: &str) -> String {
    let pair = format!("{key} = {value}");
    if comment.is_empty() { format!("{pair}\n") } else { format!("{pair:<20} # {comment}\n") }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn text(models: &[&str], factor: Option<f64>, with: &[&str]) -> Result<String, String> {
        let models: Vec<String> = models.iter().map(|name| (*name).to_owned()).collect();
        let with: Vec<String> = with.iter().map(|name| (*name).to_owned()).collect();
        let starter = Starter { gpu: "b200", models: &models, like: "h100", factor, with: &with };
        starter.text().map_err(|error| error.to_string())
    }

    fn read(text: &str) -> Result<ProfileFile, String> {
        parse(text, "b200.toml".as_ref()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_starter_is_refused_until_it_is_filled_in() {
        let empty = text(&["flux-dev", "mine"], None, &["h200"]);
        assert!(empty.is_err_and(|error| error.contains("mine")), "rows of a model that the catalogue lacks");
        let empty = text(&["flux-dev", "mine"], None, &[]).expect("a starter");
        assert!(read(&empty).is_err_and(|error| error.contains("TODO")), "{empty}");
        let half = empty.replace("by TODO", "by 0.6").replace("source = \"TODO\"", "source = \"measured by me\"");
        assert!(read(&half).is_err_and(|error| error.contains("service.0.step_s = nan")), "{half}");
        let full = read(&half.replace("nan", "0.5")).expect("a profile");
        assert_eq!(full.service.iter().map(|row| row.model.as_str()).collect::<Vec<_>>(), ["flux-dev", "mine"]);
    }

    #[test]
    fn a_factor_makes_a_profile_that_runs_and_says_what_it_is() {
        let file = read(&text(&["FLUX.1-dev", "sdxl"], Some(0.5), &["h200"]).expect("a starter")).expect("a profile");
        let catalogue = catalogue::profile().expect("the catalogue");
        let (own, from) = (&file.service[0], catalogue::row(&catalogue, "h100", "flux-dev").expect("a row"));
        assert_eq!((own.gpu.as_str(), own.model.as_str()), ("b200", "FLUX.1-dev"));
        assert!((own.step_s - from.step_s / 2.0).abs() < 1e-12 && own.active_w.is_none());
        assert_eq!(own.source.as_deref(), Some("assumed, from h100 flux-dev by 0.5"));
        assert_eq!((file.service.len(), file.service[3].gpu.as_str(), file.gpu.len()), (4, "h200", 1));
        assert_eq!(file.own_quality[0].model, "sdxl", "scores go by the names that were asked for");
        assert!(text(&["mine"], Some(0.5), &[]).is_err_and(|error| error.contains("--starter = mine")));
    }
}
