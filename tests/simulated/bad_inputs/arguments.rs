//! Flags: `--set`, `--variants`, `--seeds` and their like, and flags of `trace generate`.

use super::folder::{Folder, all, simulate};

#[test]
fn set() {
    let folder = Folder::new();
    let refused = |text: &str, message: &str| folder.refusal(&simulate("scenario.toml", &["--set", text]), message);
    let usage = |text: &str| {
        refused(text, &format!("the command line: --set = {text}: expected KEY=VALUE, e.g. cache.capacity=5000"))
    };
    let no_key = |key: &str| {
        format!("--set: key = \"{key}\": expected a key, or several with a dot between, e.g. cache.capacity")
    };
    all([
        usage("x"),
        usage("=5"),
        usage("="),
        usage(""),
        usage("cache.capacity"),
        refused("..=5", &no_key("..")),
        refused("cache.=5", &no_key("cache.")),
        refused(".cache=5", &no_key(".cache")),
        refused("cache.capacity=", "--set: cache.capacity = \"\": expected a whole number from 0 to 4294967295"),
        refused("cache.capacitty=5", "--set: cache.capacitty = 5: is not a key here: expected one of capacity, *"),
        refused("cahce.capacity=5", "--set: cahce: is not a key here: expected one of name, seed, *"),
        refused(
            "cache.capacity.x=5",
            "--set: cache.capacity.x: `capacity` is a value, not a table of keys: set it as a whole",
        ),
        refused(
            "cluster.gpus.0.count=1",
            "--set: cluster.gpus.0.count: `gpus` is a value, not a table of keys: set it as a whole",
        ),
        refused("cache={capacity=0}", "--set: cache.capacity = 0: expected at least 1"),
        refused("models.steps=1\nx=2", "--set: models.steps = *"),
        refused("seed=1979-05-27", "--set: seed = 1979-05-27: expected a whole number from 0"),
        refused("variant=5", "--set: variant = 5: expected an array: [ ... ]"),
        refused("trace.requests=none.csv", "none.csv: cannot be read: *"),
        refused("models.profile=none.toml", "none.toml: cannot be read: *"),
    ]);
    let last = folder.refusal(
        &simulate("scenario.toml", &["--set", "seed=5", "--set", "seed=-1"]),
        "--set: seed = -1: expected a whole number from 0",
    );
    all([last]);
}

#[test]
fn compare() {
    let folder = Folder::new();
    let start = ["compare", "scenario.toml", "--out", "results", "--quiet"];
    let with = |flags: &[&'static str]| [&start, flags].concat();
    let refused = |name, message: &str| {
        folder.refusal(&with(&["--variants", name]), &format!("the command line: --variants = {message}"))
    };
    let count = "expected a whole number from 1 to 1000";
    all([
        refused("x", "x: expected some of one, two"),
        refused("", ": expected some of one, two"),
        refused("one,x", "x: expected some of one, two"),
        refused("one,two,one", "one: expected each variant once"),
    ]);
    all(["0", "x", "1.5", "1001", "99999999999999999999", ""].into_iter().flat_map(|value| {
        [folder.usage_error(&with(&["--seeds", value]), count), folder.usage_error(&with(&["--threads", value]), count)]
    }));
    all([
        folder.usage_error(&with(&["--seeds", "-1"]), "unexpected argument '-1'"),
        folder.usage_error(&with(&["--nix"]), "unexpected argument '--nix'"),
        folder.usage_error(&["compare", "scenario.toml"], "--out <DIR>"),
        folder.usage_error(&["simulate", "--out", "results"], "<SCENARIO>"),
        folder.usage_error(&["simulate", "scenario.toml", "--out", ""], "a value is required for '--out <DIR>'"),
        folder.usage_error(&["simulat"], "unrecognized subcommand 'simulat'"),
    ]);
}

#[test]
fn capacity() {
    let folder = Folder::new();
    let start = ["capacity", "scenario.toml", "--out", "results", "--quiet"];
    let with = |flags: &[&'static str]| [&start, flags].concat();
    let number = "expected a number above 0, at most 1000000";
    let usage = |flag: &str, value: &str, part: &str| {
        let joined = format!("{flag}={value}");
        folder.usage_error(&[&start[..], &[joined.as_str()]].concat(), part)
    };
    for flag in ["--slo", "--slo-s", "--up-to"] {
        all(["0", "-1", "x", "nan", "inf"].map(|value| usage(flag, value, number)));
    }
    all(["0", "-0.1", "1.01", "x", "nan"]
        .map(|value| usage("--attainment", value, "expected a share above 0, at most 1")));
    all([
        folder.usage_error(&with(&["--slo", "2", "--slo-s", "100"]), "cannot be used with"),
        folder.usage_error(&with(&["--seeds", "0"]), "expected a whole number from 1 to 1000"),
        folder.refusal(&with(&["--variants", "x"]), "the command line: --variants = x: expected some of one, two"),
    ]);
}

#[test]
fn generate() {
    let folder = Folder::new();
    let start = ["trace", "generate", "--out", "results"];
    let refused = |flags: &[&'static str], message: &str| folder.refusal(&[&start, flags].concat(), message);
    let flags = |flags: &[&'static str], message: &str| {
        refused(flags, &format!("modm trace generate: trace.synthetic.{message}"))
    };
    let usage = |flags: &[&'static str], part: &str| folder.usage_error(&[&start, flags].concat(), part);
    all([
        flags(&["--requests", "0"], "requests = 0: expected a number from 1 to 100 million"),
        flags(&["--requests", "4294967295"], "requests = 4294967295: expected a number from 1 to 100 million"),
        flags(
            &["--rate-per-min", "0"],
            "arrivals.rate_per_min = 0.0: expected requests per minute above 0, at most 1e9",
        ),
        flags(
            &["--rate-per-min", "nan"],
            "arrivals.rate_per_min = nan: expected requests per minute above 0, at most 1e9",
        ),
        flags(&["--rate-per-min", "1e-9"], "requests = 10000: the trace would last longer than ten years: *"),
        flags(&["--set", "prompts.repeats=often"], "prompts.repeats = \"often\": expected a number"),
        flags(
            &["--set", "prompt.repeats=1"],
            "prompt: is not a key here: expected one of requests, until_s, arrivals, prompts, rate_factor, parts",
        ),
        flags(&["--set", "arrivals.cv=2"], "arrivals.cv = 2: is not a key here: expected rate_per_min"),
        flags(&["--set", "requests.x=1"], "requests: expected a whole number from 0 to 4294967295, found a table"),
        flags(
            &["--arrivals", "gamma", "--set", "arrivals.cv=0"],
            "arrivals.cv = 0: expected a coefficient of variation *",
        ),
        refused(&["--set", "x"], "the command line: --set = x: expected KEY=VALUE, *"),
        refused(&["--from", "none.toml"], "none.toml: cannot be read: *"),
        refused(&["--from", "scenario.toml"], "scenario.toml: trace.synthetic: expected a section [trace.synthetic]"),
        usage(&["--requests", "x"], "invalid value 'x' for '--requests"),
        usage(&["--arrivals", "x"], "possible values: poisson, gamma, bursts"),
        usage(&["--seed", "99999999999999999999"], "invalid value '99999999999999999999' for '--seed"),
    ]);
}
