//! `--search` through the binary: what is searched ahead changes no byte of a result, whatever the system, the eviction
//! and what is cached before the trace; it is stored beside the trace, found again, and not missed where it cannot be.
//! And `tenants.scope`: whatever others ask for, a tenant's requests end as they do without them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::program::{Folder, Row};

const SCENARIO: &str = r#"
name = "search"
[trace]
requests = "trace/requests.csv"
[cluster]
gpus = [{ type = "mi210", count = 6 }]
[cache]
capacity = 60
[[variant]]
name = "modm"
[[variant]]
name = "modm-warm"
set = { "trace.warm_requests" = 40, "cache.eviction" = "lru" }
[[variant]]
name = "bytes"
set = { "cache.capacity_bytes" = 60000, "cache.image_bytes" = 1000, "cache.eviction" = "gdsf", "cache.max_age_s" = 900 }
[[variant]]
name = "distinct"
set = { "cache.near_duplicate" = 0.99 }
[[variant]]
name = "farthest"
set = { "cache.eviction" = "farthest" }
[[variant]]
name = "apart"
set = { "tenants.scope" = "tenant-then-public", "tenants.public" = ["a"] }
[[variant]]
name = "nirvana"
set = { "system.policy" = "nirvana", "cache.capacity" = 200 }
[[variant]]
name = "pinecone"
set = { "system.policy" = "pinecone" }
[[variant]]
name = "vanilla"
set = { "system.policy" = "vanilla" }
"#;

const VARIANTS: [&str; 9] =
    ["modm", "modm-warm", "bytes", "distinct", "farthest", "apart", "nirvana", "pinecone", "vanilla"];

/// Prompts that come back with a word more or less, from three tenants.
fn requests(rows: usize, prompt: impl Fn(usize) -> String) -> String {
    let mut text = "arrival_s,prompt,tenant\n".to_owned();
    for row in 0..rows {
        writeln!(text, "{},{},{}", row * 11, prompt(row), ["a", "b", "c"][row * 7 % 3]).unwrap();
    }
    text
}

fn prompt(row: usize) -> String {
    let subject = ["a red fox", "an old castle", "a small boat", "a glass city"][row * row % 4];
    let detail = ["at dawn", "in the rain", "in oil", "by night", "from above"][row % 5];
    format!("{subject} {detail} number {}", row * 13 % 9)
}

fn folder(requests: &str) -> Folder {
    let folder = Folder::new(&[("scenario.toml", SCENARIO)]);
    fs::create_dir(folder.path("trace")).unwrap();
    folder.write("trace/requests.csv", requests);
    folder
}

/// Files of searches beside the trace.
fn stored(folder: &Folder) -> Vec<PathBuf> {
    let files = fs::read_dir(folder.path("trace")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "search")).collect()
}

fn assert_same(one: &Path, other: &Path) {
    let mut files = 0;
    for entry in fs::read_dir(one).unwrap() {
        let name = entry.unwrap().file_name();
        if name != "run.json" {
            let [one, other] = [one, other].map(|folder| fs::read(folder.join(&name)).unwrap());
            assert!(one == other, "{}", name.display());
            files += 1;
        }
    }
    assert!(files >= 6, "{files} files");
}

#[test]
fn what_is_searched_ahead_changes_no_result() {
    let folder = folder(&requests(300, prompt));
    folder.works(&["compare", "scenario.toml", "--out", "direct", "--search", "direct"]);
    folder.works(&["compare", "scenario.toml", "--out", "ahead", "--search", "ahead", "--threads", "2"]);
    for variant in VARIANTS {
        assert_same(&folder.path("direct").join(variant), &folder.path("ahead").join(variant));
    }
    let rates = VARIANTS.map(|variant| fs::read(folder.path("ahead").join(variant).join("summary.json")).unwrap());
    assert!(rates.windows(2).all(|pair| pair[0] != pair[1]), "the variants do differ");
    // Images and prompts of the whole trace and of the part that comes after what is warm.
    assert!((3..=4).contains(&stored(&folder).len()), "{:?}", stored(&folder));
}

#[test]
fn a_search_is_stored_beside_the_trace_and_found_again() {
    let folder = folder(&requests(120, prompt));
    let simulate = |out: &str| folder.works(&["simulate", "scenario.toml", "--out", out, "--search", "ahead"]);
    simulate("one");
    let first = stored(&folder);
    assert_eq!(first.len(), 1);
    let when = fs::metadata(&first[0]).unwrap().modified().unwrap();
    simulate("two");
    assert_same(&folder.path("one"), &folder.path("two"));
    assert_eq!(fs::metadata(&first[0]).unwrap().modified().unwrap(), when, "it was read");
    // Another trace under the same name has another search.
    folder.write("trace/requests.csv", requests(121, prompt));
    simulate("three");
    assert_eq!(stored(&folder).len(), 2);
    // What is in the way of the file keeps nothing from running.
    folder.write("trace/requests.csv", requests(119, prompt));
    simulate("four");
    let fresh: Vec<PathBuf> = stored(&folder).into_iter().filter(|path| !first.contains(path)).collect();
    for path in fresh {
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
    }
    let said = simulate("five").err;
    assert!(said.contains("the search is not stored"), "{said}");
    assert_same(&folder.path("four"), &folder.path("five"));
}

/// Embeddings of the prompts, each from its own words alone; with something of its own for each row besides.
fn embed(file: &Path, requests: &str, own: f32) {
    const DIMENSION: usize = 32;
    let sign = |text: &str, at: usize| {
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        if (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> (at + 20) & 1 == 0 { 1.0 } else { -1.0 }
    };
    let rows: Vec<&str> = requests.lines().skip(1).collect();
    let value = |row: usize, at: usize| -> f32 {
        let prompt = rows[row].split(',').nth(1).unwrap();
        let words: f32 = prompt.split(' ').map(|word| sign(word, at)).sum();
        words + own * sign(&format!("row {row}"), at) + 0.01
    };
    let values =
        (0..rows.len()).flat_map(|row| (0..DIMENSION).map(move |at| (row, at))).map(|(row, at)| value(row, at));
    let mut bytes = Vec::new();
    modm::trace::npy::write(&mut bytes, rows.len(), DIMENSION, values).unwrap();
    fs::write(file, bytes).unwrap();
}

/// The rows of a tenant, but for the worker: which of many idle ones is taken depends on who else came.
fn rows_of(folder: &Folder, out: &str, tenant: &str) -> Vec<Row> {
    let mut rows = folder.rows(&format!("{out}/requests.csv"));
    rows.retain(|row| row["tenant"] == tenant);
    for row in &mut rows {
        row.remove("worker");
    }
    rows
}

#[test]
fn a_tenants_requests_do_not_depend_on_what_others_ask_for() {
    let own = |row: usize| (row * 7).is_multiple_of(3);
    let others = [
        requests(300, prompt),
        // They ask for what tenant `a` asks for, word for word; or for nothing that anybody has seen.
        requests(300, |row| if own(row) { prompt(row) } else { prompt(row + 3) }),
        requests(300, |row| if own(row) { prompt(row) } else { format!("nothing {row} like it") }),
    ];
    let run = |scope: &str| -> Vec<_> {
        let settings = [
            format!("tenants.scope={scope}"),
            "cluster.gpus=[{ type = \"mi210\", count = 64 }]".to_owned(),
            "allocation.policy=static".to_owned(),
            "allocation.initial_large=32".to_owned(),
            // Stand-ins for a whole trace weigh words by how many prompts have them.
            "trace.prompt_embeddings=trace/prompts.npy".to_owned(),
            "trace.image_embeddings=trace/images.npy".to_owned(),
        ];
        let each = others.iter().map(|requests| {
            let folder = folder(requests);
            embed(&folder.path("trace/prompts.npy"), requests, 0.0);
            embed(&folder.path("trace/images.npy"), requests, 0.4);
            let sets = settings.iter().flat_map(|setting| ["--set", setting]);
            let arguments: Vec<&str> = ["simulate", "scenario.toml", "--out", "out"].into_iter().chain(sets).collect();
            folder.works(&arguments);
            rows_of(&folder, "out", "a")
        });
        each.collect()
    };
    let apart = run("tenant");
    assert!(apart[0].len() == 100 && apart[0].iter().any(|row| row["decision"] == "hit"));
    assert!(apart[0] == apart[1] && apart[0] == apart[2], "nothing that it sees depends on them, nor when it is done");
    let shared = run("shared");
    assert!(shared[0] != shared[2], "the test can tell: a shared cache does leak");
}
