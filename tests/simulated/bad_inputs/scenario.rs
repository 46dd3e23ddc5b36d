//! Scenarios as texts: what is missing, misspelt, given twice, contradicts something else, or is not TOML;
//! variants among them. Values of keys are in `scenario_values`.

use super::folder::{SCENARIO, SYNTHETIC, all, simulate, spoiled};

const SERVES: &str = "small = { misses = false, hits = [5, 10, 30] }";
const TOP: &str = "expected one of name, seed, trace, cluster, models, system, retrieval, cache, *";

fn refused(text: impl AsRef<[u8]>, message: &str) -> Result<(), String> {
    spoiled("scenario.toml", text).refusal(&simulate("scenario.toml", &[]), &format!("scenario.toml{message}"))
}

fn without(part: &str) -> String {
    replaced(part, "")
}

fn replaced(from: &str, to: &str) -> String {
    assert!(SCENARIO.contains(from), "{from}");
    SCENARIO.replacen(from, to, 1)
}

#[test]
fn not_toml() {
    all([
        refused("", ": name: is missing"),
        refused("x", ":1: is not TOML: key with no value, expected `=`"),
        refused("= 5", ":1: is not TOML: *"),
        refused("name = \"a\n", ":1: is not TOML: *"),
        refused("name = \"a\"\nname = \"b\"\n", ":2: is not TOML: duplicate key"),
        refused("name = \"a\"\n[cache]\n[cache]\n", ":3: is not TOML: duplicate key"),
        refused(
            "seed = 99999999999999999999",
            ":1: has a number beyond what TOML holds: expected at most 9223372036854775807",
        ),
        refused(&SCENARIO[..200], ":9: is not TOML: unclosed inline table, expected `}`"),
        refused(b"\x00\x01\x02", ":1: is not TOML: *"),
        refused(b"\x7fELF\x02\x01\x00\x00", ":1: is not TOML: *"),
        refused(b"name = \"a\"\nseed = 1 # \xff\n", ":2: expected UTF-8 text"),
        refused(b"\xff\xfen\x00a\x00", ":1: expected UTF-8 text"),
    ]);
}

#[test]
fn keys() {
    all([
        refused(without("name = \"good\"\n"), ": name: is missing"),
        refused(format!("colour = 1\n{SCENARIO}"), &format!(":1: colour = 1: is not a key here: {TOP}")),
        refused(
            format!("\"cache.capacity\" = 5\n{SCENARIO}"),
            &format!(":1: cache.capacity = 5: is not a key here: {TOP}"),
        ),
        refused(replaced("[cache]", "[cahce]"), &format!(":25: cahce: is not a key here: {TOP}")),
        refused(
            replaced("period_s", "perod_s"),
            ":41: allocation.perod_s = 180: is not a key here: expected one of policy, *",
        ),
        refused(
            replaced("kp = ", "kpp = "),
            ":43: allocation.pid.kpp = 0.6: is not a key here: expected one of kp, ki, kd, dt",
        ),
        refused(
            replaced("usd_per_hour", "usd"),
            ":9: cluster.gpus.0.usd = 1.5: is not a key here: expected one of type, count, node, usd_per_hour",
        ),
        refused(format!("cache = 5\n{}", without("[cache]\n")), ":1: cache = 5: expected a table of keys"),
        refused(format!("slo = [[2.0]]\n{}", without("[slo]\n")), ":1: slo = [[2.0]]: expected a table of keys"),
    ]);
    let made = |from: &str, to: &str, message: &str| {
        let text = SYNTHETIC.replacen(from, to, 1);
        spoiled("made.toml", text).refusal(&simulate("made.toml", &[]), &format!("made.toml{message}"))
    };
    all([
        made("requests", "request", ":3: trace.synthetic.request = 20: is not a key here: expected one of requests, *"),
        made(
            "repeats",
            "repeat",
            ":12: trace.synthetic.prompts.repeat = 0.3: is not a key here: expected one of vocabulary, *",
        ),
        made(
            "rate_per_min",
            "rate",
            ":4: trace.synthetic.arrivals.rate = 20: is not a key here: expected rate_per_min",
        ),
    ]);
}

#[test]
fn keys_that_go_together() {
    let bounds = "bounds = [[0.25, 5], [0.3, 30]]\n";
    all([
        refused("name = \"a\"\n", ": trace: expected `requests = \"requests.csv\"`, or a [trace.synthetic] section"),
        refused(replaced("noise_dimension = 16", "dimension = 16"), ":68: image_model.dimension = 16: was replaced by image_model.noise_dimension: *"),
        refused(replaced("noise_dimension = 16", "noise = 2"), ":68: image_model.noise = 2: expected a standard deviation from 0 to 1"),
        refused(replaced("noise_dimension = 16", "common_share = -1"), ":68: image_model.common_share = -1: expected a share from 0 to 1"),
        refused(replaced("noise_dimension = 16", "noise = 0.05"), ":68: image_model.noise = 0.05: expected at most *"),
        refused(without("image_embeddings = \"images.npy\"\n"), ":3: trace.image_embeddings: is needed: *"),
        refused(without("requests = \"requests.csv\"\n"), ":3: trace: expected `requests = \"requests.csv\"`, or a [trace.synthetic] section"),
        refused(replaced(SERVES, "medium = {}"), ":102: models.serves.medium: is not a model of this scenario: expected one of large, small"),
        refused(replaced(SERVES, "large = { misses = false }"), ":101: models.serves: no model may serve misses: one must"),
        refused(replaced(SERVES, "large = { hits = [] }\nsmall = { hits = [5] }"), ":101: models.serves: no model may serve hits that skip 10 steps: one must"),
        refused(format!("{SCENARIO}[trace.synthetic]\n"), ":158: trace.synthetic: expected either `requests` or [trace.synthetic], not both"),
        refused(replaced("requests = \"requests.csv\"", "synthetic = {}"), ":5: trace.prompt_embeddings = \"prompts.npy\": goes with `requests`; *"),
        refused(without("prompt_embeddings = \"prompts.npy\"\n"), ":3: trace.prompt_embeddings: is needed: *"),
        refused(replaced("warm_images", "warm_requests = 2\nwarm_images"), ":7: trace.warm_requests = 2: goes without `warm_images`: *"),
        refused(replaced("warm_images = \"warm.npy\"", "warm_requests = 3"), ":7: trace.warm_requests = 3: expected fewer than the trace's 3 requests"),
        refused(replaced("steps = 50", "steps = 30"), ":19: system.bounds.1 = [0.3, 30]: expected skipped steps from 0 to 29 (models.steps - 1)"),
        refused(replaced("steps = 50", "steps = 10").replace(bounds, ""), ":17: system.bounds.1 = [0.27, 10]: expected skipped steps from 0 to 9 (models.steps - 1) (the policy's own *"),
        refused(replaced("policy = \"modm\"", "policy = \"nirvana\"").replace("capacity = 10", "capacity = 1"), ":26: cache.capacity = 1: expected at least 2, the states of one entry: *"),
        refused(replaced("count = 2", "count = 1"), ":40: allocation.initial_large = 2: expected from 1 to 1, the number of workers"),
        spoiled("scenario.toml", replaced("large = \"large\"", "large = \"nix\"").replace("schedule = { large", "schedule = { nix")).refusal(&simulate("scenario.toml", &[]), "profile.toml: GPU \"gpu\" with model \"nix\": has no [[service]] row for it; it has (gpu, large), (gpu, small); for rows to fill in: modm profiles --starter gpu nix small"),
        spoiled("made.toml", SYNTHETIC.replace("rate_per_min = 20", "rate_per_min = 1e-9")).refusal(&simulate("made.toml", &[]), "made.toml:3: trace.synthetic.requests = 20: the trace would last longer than ten years: *"),
    ]);
}

#[test]
fn variants() {
    let variant = |lines: &str, message: &str| refused(format!("{SCENARIO}[[variant]]\n{lines}\n"), message);
    let folder = "expected letters, digits, '-', '_', '+' and '.': it names a folder";
    all([
        variant("set = {}", ":158: variant.2.name: is missing"),
        variant("name = 5", ":159: variant.2.name = 5: expected text in quotes"),
        variant("name = \"\"", &format!(":159: variant.2.name = \"\": {folder}")),
        variant("name = \"a/b\"", &format!(":159: variant.2.name = \"a/b\": {folder}")),
        variant("name = \"..\"", &format!(":159: variant.2.name = \"..\": {folder}")),
        variant("name = \"one\"", ":159: variant.2.name = \"one\": names are unique"),
        variant(
            "name = \"run.json\"",
            ":159: variant.2.name = \"run.json\": is what a file of the results is called: expected another name",
        ),
        variant("name = \"x\"\nst = {}", ":160: variant.2.st: is not a key here: expected one of name, set, published"),
        variant("name = \"x\"\npublished = { speed = 2 }", ":160: variant.2.published.speed = 2: is not a key here: *"),
        variant(
            "name = \"x\"\npublished = { throughput_ratio = 0 }",
            ":160: variant.2.published.throughput_ratio = 0: expected a number above 0, at most 1e9",
        ),
        variant("name = \"x\"\nset = 5", ":160: variant.2.set = 5: expected a table of keys"),
        variant("name = \"x\"\nset = { variant = [] }", ":160: variant.2.set.variant: a variant cannot set variants"),
    ]);
    let compare = ["compare", "scenario.toml", "--out", "results", "--quiet"];
    let set = |setting: &str, message: &str| {
        let text = format!("{SCENARIO}[[variant]]\nname = \"bad\"\nset = {{ {setting} }}\n");
        spoiled("scenario.toml", text).refusal(&compare, &format!("variant \"bad\": {message}"))
    };
    all([
        set(
            "\"system.polcy\" = \"modm\"",
            "system.polcy = \"modm\": is not a key here: expected one of policy, bounds, sigma_bounds",
        ),
        set(
            "system.polcy = \"modm\"",
            "system.polcy = \"modm\": is not a key here: expected one of policy, bounds, sigma_bounds",
        ),
        set("cache = { capacity = 0 }", "cache.capacity = 0: expected at least 1"),
        set(
            "\"allocation.policy\" = \"what_if\", \"allocation.late_price\" = -1",
            "allocation.late_price = -1: expected a number of images from 0 to 1000000",
        ),
        set("\"cahce\" = 5", &format!("cahce = 5: is not a key here: {TOP}")),
        set(
            "\"cache.capacity.x\" = 5",
            "cache.capacity.x: `capacity` is a value, not a table of keys: set it as a whole",
        ),
        set("\"\" = 5", "key = \"\": expected a key, or several with a dot between, e.g. cache.capacity"),
        set("\"cluster.gpus\" = [{ type = \"gpu\", count = 0 }]", "cluster.gpus.0.count = 0: expected at least 1"),
    ]);
    // Without variants, keys of other policies than its own are refused.
    let others = ["window_s", "horizon_s", "gap_s", "cushion_s", "load_price", "queue_delay", "fall_back"];
    let none = SCENARIO.split("[[variant]]").next().unwrap().lines();
    let none: String = none
        .filter(|line| !others.iter().any(|key| line.starts_with(key)))
        .fold(String::new(), |all, line| all + line + "\n");
    all([spoiled("scenario.toml", none).refusal(&compare, "scenario.toml: has no [[variant]] to compare: *")]);
}

#[test]
fn unusual_files_work() {
    let cases = [SCENARIO.replace('\n', "\r\n"), format!("\u{feff}{SCENARIO}"), SCENARIO.trim_end().to_owned()];
    all(cases.map(|text| spoiled("scenario.toml", text).success(&simulate("scenario.toml", &[]))));
    let later = format!("\u{feff}{}", replaced("capacity = 10", "capacity = 0").replace('\n', "\r\n"));
    all([refused(later, ":26: cache.capacity = 0: expected at least 1")]);
}
