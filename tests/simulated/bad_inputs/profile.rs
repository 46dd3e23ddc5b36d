//! Profiles: every key with values of the wrong type and out of range; rows missing, twice, unusable.

use super::folder::{PROFILE, all, rows, simulate, spoiled, with_line};

/// A value a line with its message, which names it.
const VALUES: &str = r#"
source = 5: expected text in quotes
service.0.gpu = 5: expected text in quotes
service.0.model = 5: expected text in quotes
service.0.step_s = "x": expected a number
service.0.step_s = nan: expected seconds from 0 to ten years
service.0.step_s = inf: expected seconds from 0 to ten years
service.0.step_s = -1: expected seconds from 0 to ten years
service.0.step_s = 1e300: expected seconds from 0 to ten years
service.0.overhead_s = "x": expected a number
service.0.overhead_s = nan: expected seconds from 0 to ten years
service.0.overhead_s = -1: expected seconds from 0 to ten years
service.0.overhead_s = 1e300: expected seconds from 0 to ten years
service.0.text_s = "x": expected a number
service.0.text_s = -1: expected seconds from 0 to ten years
service.0.decode_s = nan: expected seconds from 0 to ten years
service.0.source_s = 1e300: expected seconds from 0 to ten years
service.0.checkpoint_s = "x": expected a number
service.0.checkpoint_s = -1: expected seconds from 0 to ten years
service.0.lora_s = inf: expected seconds from 0 to ten years
service.0.pixels = "x": expected a whole number from 0
service.0.pixels = 0: expected a number of pixels (width x height) from 1, rising from row to row
service.0.sizes = 5: expected an array: [ ... ]
service.0.sizes = [[4096, 2.0], [1024, 0.5]] => service.0.sizes = 1024: expected a number of pixels (width x height) from 1, rising from row to row
service.0.sizes = [[1024, 0]] => service.0.sizes = 0: expected a multiple of the row's time, above 0 and no less than for fewer pixels
service.0.sizes = [[1024, 1.5]] => service.0.sizes = 1.5: expected less than 1 below the row's pixels, more than 1 above, nothing at them
service.0.sizes = [[2048, 1.0]] => service.0.sizes = 1: expected less than 1 below the row's pixels, more than 1 above, nothing at them
service.0.load_s = "x": expected a number
service.0.load_s = nan: expected seconds from 0 to ten years
service.0.load_s = -1: expected seconds from 0 to ten years
service.0.load_s = 1e300: expected seconds from 0 to ten years
service.0.jitter_cv = "x": expected a number
service.0.jitter_cv = nan: expected a coefficient of variation from 0 to 10
service.0.jitter_cv = -1: expected a coefficient of variation from 0 to 10
service.0.jitter_cv = 11: expected a coefficient of variation from 0 to 10
service.0.alone = "x": expected a number
service.0.alone = nan: expected a part of a job's time, from 0.01 to 1
service.0.alone = 0: expected a part of a job's time, from 0.01 to 1
service.0.alone = 1.5: expected a part of a job's time, from 0.01 to 1
service.0.beside = 5: expected a table of keys
service.0.beside = { large = 0 } => service.0.beside = 0: expected times of a job's time, from 0.1 to 10
service.0.beside = { nobody = 1.1 } => service.0.beside: names "nobody", which has no row on GPU "gpu"
service.0.spread = "x": expected a number
service.0.spread = nan: expected a share of the time, from 0 to 0.9
service.0.spread = 1.0: expected a share of the time, from 0 to 0.9
service.0.spread_kind = "guessed": expected "assumed" or "measured"
service.0.batches = 5: expected an array: [ ... ]
service.0.batches = [[1, 1.0]] => service.0.batches = 1: expected rising numbers of requests, from 2 to 1024
service.0.batches = [[2, 0.5]] => service.0.batches = 0.5: expected no less time than for fewer requests, and no more than one after the other
service.0.memory_gb = 0: expected GB above 0, at most 1000000
service.0.memory_gb = "x": expected a number
gpu.0.type = 5: expected text in quotes
gpu.0.memory_gb = -1: expected GB above 0, at most 1000000
gpu.0.memory_gb = "x": expected a number
service.0.active_w = "x": expected a number
service.0.active_w = nan: expected watts from 0 to 1000000
service.0.active_w = -1: expected watts from 0 to 1000000
service.0.active_w = 2000000: expected watts from 0 to 1000000
service.0.load_w = "x": expected a number
service.0.load_w = nan: expected watts from 0 to 1000000
service.0.load_w = -1: expected watts from 0 to 1000000
service.0.idle_w = "x": expected a number
service.0.idle_w = nan: expected watts from 0 to 1000000
service.0.idle_w = -1: expected watts from 0 to 1000000
encoding.prompt_s = "x": expected a number
encoding.prompt_s = -1: expected seconds from 0 to ten years
encoding.image_s = "x": expected a number
encoding.image_s = nan: expected seconds from 0 to ten years
quality.0.model = 5: expected text in quotes
quality.0.skipped_steps = "x": expected a whole number from 0 to 4294967295
quality.0.skipped_steps = -1: expected a whole number from 0 to 4294967295
quality.0.skipped_steps = 1.5: expected a whole number from 0 to 4294967295
quality.0.measure = 5: expected text in quotes
quality.0.value = "x": expected a number
quality.0.value = nan: expected a finite number
quality.0.value = inf: expected a finite number
quality.0.source = 5: expected text in quotes
"#;

#[test]
fn values() {
    all(rows(VALUES).map(|(key, value, message)| {
        let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
        let section = section.strip_suffix(".0").map_or(String::new(), |name| format!("[[{name}]]"));
        let (text, line) = with_line(PROFILE, &section, last, &format!("{last} = {value}"));
        spoiled("profile.toml", text)
            .refusal(&simulate("scenario.toml", &[]), &format!("profile.toml:{line}: {message}"))
    }));
}

#[test]
fn rows_and_keys() {
    let without = |line: &str| PROFILE.replacen(line, "", 1);
    let with = |before: &str, line: &str| PROFILE.replacen(before, &format!("{before}\n{line}"), 1);
    let cases: &[(String, &str)] = &[
        (String::new(), ": source: is missing"),
        (without("source = \"test\"\n"), ": source: is missing"),
        (without("step_s = 1.0\n"), ":2: service.0.step_s: is missing"),
        (without("load_s = 20\n"), ":2: service.0.load_s: is missing"),
        (without("measure = \"clip\"\n"), ":36: quality.0.measure: is missing"),
        ("source = \"x\"\n".into(), ": service: is missing"),
        ("source = \"x\"\nservice = []\n".into(), ":2: service = []: expected at least one row"),
        ("source = \"x\"\nservice = [5]\n".into(), ":2: service.0 = 5: expected a table of keys"),
        ("source = \"x\"\n[service]\ngpu = \"a\"\n".into(), ":2: service: expected an array of tables, [[service]]"),
        (
            PROFILE.replacen("\"small\"", "\"large\"", 1),
            ":25: service.1: GPU \"gpu\" with model \"large\" has a row already",
        ),
        (
            PROFILE.replacen("step_s", "step_ms", 1),
            ":5: service.0.step_ms = 1.0: is not a key here: expected one of gpu, model, *",
        ),
        (format!("{PROFILE}colour = 1\n"), ":56: measurement.0.colour = 1: is not a key here: expected one of gpu, *"),
        (
            format!("colour = 1\n{PROFILE}"),
            ":1: colour = 1: is not a key here: expected one of source, service, gpu, encoding, measurement, quality, own_quality",
        ),
        (
            PROFILE.replacen("gpu = \"gpu\"", "gpu = \"other\"", 1),
            ": GPU \"gpu\" with model \"large\": has no [[service]] row for it; it has (other, large), (gpu, small); for rows to fill in: modm profiles --starter gpu large small",
        ),
        (
            PROFILE.replace("step_s = 1.0\noverhead_s = 0.1", "step_s = 0"),
            ": service (gpu, large) = 0: a full generation (overhead_s + step_s * models.steps) must take time",
        ),
        (
            PROFILE.replace("step_s = 1.0\noverhead_s = 0.1", "step_s = 1e-12"),
            ": service (gpu, large) = 0.00000000005: a full generation *",
        ),
        (PROFILE[..150].into(), ":10: is not TOML: *"),
        (with("lora_s = 1", "source = 5"), ":25: service.0.source = 5: expected text in quotes"),
        (
            with("lora_s = 1", "source = \"a guess\""),
            ":25: service.0.source = \"a guess\": expected a source that begins with \"measured\", \"published\" or *",
        ),
        (
            with("lora_s = 1", "source = \"measured, TODO\""),
            ":25: service.0.source = \"measured, TODO\": has to be filled in: *",
        ),
        (with("memory_gb = 48", "usd_per_hour = \"x\""), ":33: gpu.0.usd_per_hour = \"x\": expected a number"),
        (
            with("memory_gb = 48", "usd_per_hour = -1"),
            ":33: gpu.0.usd_per_hour = -1: expected dollars from 0 to 1000000",
        ),
        (with("memory_gb = 48", "source = 5"), ":33: gpu.0.source = 5: expected text in quotes"),
    ];
    all(cases.iter().map(|(text, message)| {
        spoiled("profile.toml", text).refusal(&simulate("scenario.toml", &[]), &format!("profile.toml{message}"))
    }));
}
