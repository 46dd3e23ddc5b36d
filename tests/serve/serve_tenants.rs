//! Tenants of `modm serve`, through the program: what each key may see, what was there before keys, limits that name
//! themselves, a bounded share of the queue, and that nothing a tenant can read tells of another one's requests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use modm::draw::{Purpose, stream};
use rand::RngExt;
use serde_json::{Value, json};

use crate::program::{Answer, modm, pause, within};
use crate::served::{PROMPT, Served, key};

/// A key that sees the whole server, and what the file of keys says of it.
fn operator(tenant: &str) -> (String, String) {
    let made = Answer::to(&mut modm(&["key", tenant, "--operator"]));
    (made.err.trim().rsplit(' ').next().unwrap().to_owned(), made.out)
}

fn write_keys(folder: &Path, keys: &[&str]) -> PathBuf {
    let file = folder.join("keys.toml");
    fs::write(&file, keys.concat()).unwrap();
    file
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_default()
}

/// The first cached picture that this key lists, once it is there.
fn first_cached(server: &Served) -> String {
    within(60, "a picture is cached", || {
        let (status, listed) = server.json("GET", "/v1/cache", None);
        assert_eq!(status, 200, "{listed}");
        listed["data"][0]["id"].as_str().map(str::to_owned)
    })
}

/// Draws until there is a hit. Returns how it came about.
fn hit(server: &Served) -> Value {
    loop {
        let (status, drawn) = server.draw(&json!({ "prompt": PROMPT }));
        assert_eq!(status, 200, "{drawn}");
        if drawn["modm"][0]["decision"] == "hit" {
            return drawn["modm"][0].clone();
        }
    }
}

/// Number of different pictures on pages of one, each followed from the one before.
fn paged(server: &Served) -> usize {
    let (mut ids, mut before) = (BTreeSet::new(), String::new());
    loop {
        let (_, page) = server.json("GET", &format!("/v1/cache?limit=1{before}"), None);
        let listed = page["data"].as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap().to_owned());
        ids.extend(listed);
        let Some(next) = page["next"].as_str() else { return ids.len() };
        before = format!("&before={next}");
    }
}

#[test]
fn a_tenant_sees_its_own_and_an_operator_the_whole_server() {
    let folder = tempfile::tempdir().unwrap();
    let ((alice, first), (bob, second), (ops, third)) = (key("alice", ""), key("bob", ""), operator("ops"));
    let keys = write_keys(folder.path(), &[&first, &second, &third]);
    let data = folder.path().join("data");
    // The default scope: everybody finds everybody's pictures, and looks at its own.
    let flags = ["--keys", keys.to_str().unwrap()];
    let server = Served::start(&data, &flags).with_key(&alice);
    let (status, drawn) = server.draw(&json!({ "prompt": PROMPT, "response_format": "url", "n": 2 }));
    assert_eq!(status, 200, "{drawn}");
    let results: Vec<String> =
        drawn["modm"].as_array().unwrap().iter().map(|made| made["id"].as_str().unwrap().to_owned()).collect();
    let cached = first_cached(&server);
    let digits = cached.strip_prefix("cache-").unwrap();
    assert!(digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{cached}");
    let (_, mine) = server.json("GET", "/v1/status", None);
    assert!(mine["history"].as_array().unwrap().iter().any(|window| window["arrivals"] == 2), "{mine}");
    assert!(mine.get("workers").is_none() && mine["cache_images"].as_u64() > Some(0), "{mine}");
    for path in ["/metrics", "/v1/status"] {
        let (status, answer) = (server.answer("GET", path, None).0, server.json("GET", path, None).1);
        assert!(path != "/metrics" || (status == 403 && code(&answer) == "insufficient_permissions"), "{answer}");
    }

    let server = server.with_key(&bob);
    let (_, status) = server.json("GET", "/v1/status", None);
    assert!(status["cache_images"] == 0 && status["hit_rate"].is_null() && status["queued"] == 0, "{status}");
    assert!(status["history"].as_array().unwrap().iter().all(|window| window["arrivals"] == 0), "{status}");
    assert_eq!(server.json("GET", "/v1/cache", None).1["data"], json!([]));
    for id in [&cached, &results[0]] {
        for method in ["GET", "DELETE"] {
            let (status, answer) = server.json(method, &format!("/v1/images/{id}"), None);
            assert_eq!((status, code(&answer)), (404, "not_found"), "{method} {id}");
        }
    }
    let found = hit(&server);
    assert!(
        found["source"].is_null() || found["source"] != json!(cached),
        "a hit on alice's picture, not its name: {found}"
    );

    // What bob has drawn is embedded and kept after the answers.
    pause(500);
    let server = server.with_key(&ops);
    let (status, answer) = server.draw(&json!({ "prompt": PROMPT }));
    assert_eq!((status, code(&answer)), (403, "insufficient_permissions"));
    let (_, status) = server.json("GET", "/v1/status", None);
    assert!(status["workers"].as_array().unwrap().len() == 2 && status["cache_images"].as_u64() > Some(1), "{status}");
    let (_, listed) = server.json("GET", "/v1/cache", None);
    let tenants: BTreeSet<&str> =
        listed["data"].as_array().unwrap().iter().map(|entry| entry["tenant"].as_str().unwrap()).collect();
    assert!(tenants.contains("alice"), "{listed}");
    assert_eq!(server.answer("GET", &format!("/v1/images/{cached}"), None).0, 200);
    assert_eq!(server.answer("GET", "/metrics", None).0, 200);
    assert_eq!(paged(&server), listed["data"].as_array().unwrap().len());

    let server = server.with_key(&alice);
    let (status, gone) = server.json("DELETE", &format!("/v1/images/{}", results[0]), None);
    assert!(status == 200 && gone["deleted"] == true, "{gone}");
    assert_eq!(server.answer("GET", &format!("/v1/images/{}", results[0]), None).0, 404);
    assert!(!data.join("results").join(format!("{}.png", results[0])).exists());
    assert_eq!(server.answer("GET", &format!("/v1/images/{}", results[1]), None).0, 200);
    assert!(server.terminate().success());
    // Names stay on the next start; without its key, a tenant's pictures are nobody's.
    let server = Served::start(&data, &flags).with_key(&alice);
    assert_eq!(server.answer("GET", &format!("/v1/images/{cached}"), None).0, 200);
    assert!(server.terminate().success());
    write_keys(folder.path(), &[&second, &third]);
    let server = Served::start(&data, &flags).with_key(&ops);
    assert!(server.said.contains("entries of the store are of nobody who has a key: set aside"), "{}", server.said);
    let (_, listed) = server.json("GET", "/v1/cache", None);
    assert!(listed["data"].as_array().unwrap().iter().all(|entry| entry["tenant"] == "bob"), "{listed}");
    assert_eq!(server.answer("GET", &format!("/v1/images/{cached}"), None).0, 404);
    assert!(server.terminate().success());
}

#[test]
fn what_was_there_before_keys_belongs_to_nobody_who_asks_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Served::start(&data, &[]);
    let (_, drawn) = server.draw(&json!({ "prompt": PROMPT, "response_format": "url" }));
    let (_, job) = server.json("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT })));
    let job = server.ended(job["id"].as_str().unwrap());
    let cached = first_cached(&server);
    assert!(server.terminate().success());

    let (alice, first) = key("alice", "");
    let keys = write_keys(folder.path(), &[&first]);
    let server = Served::start(&data, &["--keys", keys.to_str().unwrap()]).with_key(&alice);
    assert!(server.said.contains("entries of the store are of nobody who has a key: set aside"), "{}", server.said);
    assert!(
        server.said.contains("1 ended jobs, 2 results and 0 quotas are of nobody who has a key"),
        "{}",
        server.said
    );
    assert_eq!(server.json("GET", "/v1/cache", None).1["data"], json!([]));
    let (result, job) = (drawn["modm"][0]["id"].as_str().unwrap(), job["id"].as_str().unwrap());
    for path in [format!("/v1/images/{result}"), format!("/v1/images/{cached}"), format!("/v1/jobs/{job}")] {
        for method in ["GET", "DELETE"] {
            assert_eq!(server.answer(method, &path, None).0, 404, "{method} {path}");
        }
    }
    let (_, again) = server.draw(&json!({ "prompt": PROMPT }));
    assert_eq!(again["modm"][0]["decision"], "miss", "{again}");
    assert!(server.terminate().success());
    // They are still there for the one user that there is without keys.
    let server = Served::start(&data, &[]);
    assert_eq!(server.answer("GET", &format!("/v1/images/{cached}"), None).0, 200);
    assert!(server.terminate().success());
}

#[test]
fn what_can_never_fit_is_refused_with_the_limit_and_keys_have_rates_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let (fast, first) = key("alice", "rate_per_min = 6000\nimages_per_day = 7\n");
    let (slow, second) = key("alice", "rate_per_min = 1\nburst = 2\nimages_per_day = 7\n");
    let (bob, third) = key("bob", "burst = 9\n");
    let keys = write_keys(folder.path(), &[&first, &second, &third]);
    let flags = ["--keys", keys.to_str().unwrap(), "--set", "serve.max_queue=11"];
    let server = Served::start(&folder.path().join("data"), &flags);
    let never = |server: &Served, n: u32, limit: &str| {
        for path in ["/v1/images/generations", "/v1/jobs"] {
            let (status, answer) = server.json("POST", path, Some(&json!({ "prompt": PROMPT, "n": n })));
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(status == 400 && answer["error"]["param"] == "n" && message.contains(limit), "{n}: {answer}");
        }
    };
    let server = server.with_key(&bob);
    never(&server, 10, "at most 6, the limit max_queue_per_tenant");
    let server = server.with_key(&fast);
    never(&server, 8, "at most 6, the limit max_queue_per_tenant");
    let server = server.with_key(&slow);
    never(&server, 3, "at most 2, the limit burst");
    assert_eq!(server.draw(&json!({ "prompt": PROMPT, "n": 2 })).0, 200);
    let (status, answer) = server.draw(&json!({ "prompt": PROMPT }));
    assert_eq!((status, code(&answer)), (429, "rate_limit_exceeded"), "the slow key's own rate");
    let server = server.with_key(&fast);
    assert_eq!(server.draw(&json!({ "prompt": PROMPT, "n": 5 })).0, 200, "the fast key's own rate");
    let (status, answer) = server.draw(&json!({ "prompt": PROMPT }));
    assert_eq!((status, code(&answer)), (429, "quota_exceeded"), "both count against the tenant's quota");
    assert!(server.terminate().success());
}

#[test]
fn a_backlog_fills_its_share_and_holds_nobody_else_up() {
    let folder = tempfile::tempdir().unwrap();
    let ((alice, first), (bob, second)) = (key("alice", ""), key("bob", ""));
    let keys = write_keys(folder.path(), &[&first, &second]);
    let flags = [
        "--keys",
        keys.to_str().unwrap(),
        "--rate-per-min=100000",
        "--set=serve.max_queue=60",
        "--set=cluster.gpus=[{ type = \"cpu\", count = 1 }]",
        "--set=allocation.initial_large=1",
        "--set=tenants.scope=tenant",
    ];
    let server = Served::start(&folder.path().join("data"), &flags).with_key(&alice);
    assert!(server.said.contains("queue.order = \"fair\", since there are keys"), "{}", server.said);
    let mut jobs = Vec::new();
    let (status, answer) = loop {
        let (status, answer) = server.json("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT, "n": 5 })));
        if status != 202 {
            break (status, answer);
        }
        jobs.push(answer["id"].as_str().unwrap().to_owned());
        assert!(jobs.len() < 50, "no end");
    };
    assert_eq!((status, code(&answer)), (429, "queue_full"), "{answer}");
    let server = server.with_key(&bob);
    let (status, answer) = server.json("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT })));
    assert_eq!(status, 202, "half of the queue is not alice's: {answer}");
    assert_eq!(server.ended(answer["id"].as_str().unwrap())["status"], "completed");
    let (_, status) = server.json("GET", "/v1/status", None);
    assert_eq!(status["queued"], 0, "{status}");
    let server = server.with_key(&alice);
    let (_, status) = server.json("GET", "/v1/status", None);
    assert!(status["queued"].as_u64() >= Some(10), "most of alice's backlog is still there: {status}");
    for id in &jobs {
        server.answer("DELETE", &format!("/v1/jobs/{id}"), None);
    }
    assert!(server.terminate().success());
}

/// Everything that a key can read, without what is time or random.
fn reading(server: &Served, own: &[String]) -> String {
    let mut read = Vec::new();
    let made_up = "/v1/images/cache-00000000000000000000000000000000";
    let more = ["/v1/status", "/v1/cache", "/v1/jobs", "/metrics", "/v1/models", made_up];
    let asked = json!({ "prompt": PROMPT, "n": 2 });
    let gets = more.iter().map(|path| (*path).to_owned()).chain(own.iter().cloned()).map(|path| ("GET", path, None));
    for (method, path, body) in gets.chain([("POST", "/v1/jobs".to_owned(), Some(&asked))]) {
        let (status, headers, bytes) = server.answer(method, &path, body);
        let timeless = |name: &str| !["date", "x-request-id", "content-length", "retry-after"].contains(&name);
        let headers: Vec<String> = headers
            .iter()
            .filter(|(name, _)| timeless(name.as_str()))
            .map(|(name, value)| format!("{name}: {value:?}"))
            .collect();
        let text = match serde_json::from_slice::<Value>(&bytes) {
            Ok(mut value) => {
                if let Some(history) = value.get("history").and_then(Value::as_array) {
                    let sum = |name: &str| history.iter().filter_map(|window| window[name].as_u64()).sum::<u64>();
                    let names = ["arrivals", "completions", "routed", "hits", "within_slo", "queued"];
                    value["history"] = json!(names.map(sum));
                    value["uptime_s"] = json!(null);
                }
                value.to_string()
            }
            Err(_) => format!("{bytes:?}"),
        };
        read.push(format!("{method} {path} {status} {headers:?} {text}"));
    }
    read.join("\n")
}

/// Names of the jobs on all pages of this size, and the number of pages.
fn jobs_in_pages(server: &Served, limit: usize) -> (Vec<String>, usize) {
    let (mut names, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let (status, page) = server.json("GET", &format!("/v1/jobs?limit={limit}{after}"), None);
        assert_eq!((status, page["object"].as_str()), (200, Some("list")), "{page}");
        let listed = page["data"].as_array().unwrap();
        assert!(listed.len() == limit || page["has_more"] == false, "{page}");
        names.extend(listed.iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(next) = page["next"].as_str() else { return (names, pages) };
        assert_eq!(page["has_more"], true);
        after = format!("&after={next}");
    }
}

/// Draws a picture as a job. Returns the job's name once it has ended.
fn drawn(server: &Served) -> String {
    let (status, job) = server.json("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT })));
    assert_eq!(status, 202, "{job}");
    let id = job["id"].as_str().unwrap().to_owned();
    server.ended(&id);
    id
}

/// Queries of pages that are refused, each naming its key.
fn assert_bad_pages(server: &Served, id: &str) {
    for (query, param) in [
        ("limit=0".to_owned(), "limit"),
        ("limit=201".to_owned(), "limit"),
        ("limit=-1".to_owned(), "limit"),
        ("after=".to_owned(), "after"),
        (format!("after={id}"), "after"),
        (format!("after=x-{id}"), "after"),
        (format!("after=1-{id}0"), "after"),
        (format!("before=1-{id}"), "before"),
    ] {
        let (status, answer) = server.json("GET", &format!("/v1/jobs?{query}"), None);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == 400 && answer["error"]["param"] == param && message.starts_with(param), "{query}: {answer}");
    }
}

#[test]
fn a_tenants_jobs_are_listed_newest_first_in_pages_and_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let ((alice, first), (bob, second), (ops, third)) = (key("alice", ""), key("bob", ""), operator("ops"));
    let keys = write_keys(folder.path(), &[&first, &second, &third]);
    let data = folder.path().join("data");
    let flags = ["--keys", keys.to_str().unwrap()];
    let mut server = Served::start(&data, &flags).with_key(&alice);
    let (status, empty) = server.json("GET", "/v1/jobs", None);
    assert_eq!((status, empty), (200, json!({ "object": "list", "data": [], "has_more": false, "next": null })));
    let mut hers = Vec::new();
    for turn in 0..4 {
        if turn == 3 {
            // Dates are whole seconds; what is below forgets by date.
            pause(1100);
        }
        hers.push(drawn(&server));
        server.key = Some(bob.clone());
        let his = drawn(&server);
        server.key = Some(alice.clone());
        assert_eq!(server.json("GET", &format!("/v1/jobs/{his}"), None).0, 404);
    }
    hers.reverse();
    for (limit, pages) in [(1, 4), (2, 2), (3, 2), (4, 1), (200, 1)] {
        assert_eq!(jobs_in_pages(&server, limit), (hers.clone(), pages), "{limit}");
    }
    let (_, all) = server.json("GET", "/v1/jobs", None);
    let (_, one) = server.json("GET", &format!("/v1/jobs/{}", hers[0]), None);
    assert_eq!(all["data"][0], one, "the same as one by one");
    assert_eq!(one["status"], "completed");

    // A place of another tenant's job is no more than a date.
    server.key = Some(bob.clone());
    let (_, his) = server.json("GET", "/v1/jobs?limit=1", None);
    let next = his["next"].as_str().unwrap().to_owned();
    server.key = Some(alice.clone());
    let (_, listed) = server.json("GET", &format!("/v1/jobs?after={next}"), None);
    assert!(
        listed["data"].as_array().unwrap().iter().all(|job| hers.contains(&job["id"].as_str().unwrap().to_owned()))
    );

    assert_bad_pages(&server, &hers[0]);
    server.key = Some(ops);
    assert_eq!(server.json("GET", "/v1/jobs", None).0, 403, "a key that draws nothing has no jobs");
    server.key = Some("modm-nobody".to_owned());
    assert_eq!(server.json("GET", "/v1/jobs", None).0, 401);
    assert!(server.terminate().success());

    // One that is under way is in the list, as it stands; what is old leaves it, also between two pages.
    let server =
        Served::start(&data, &["--keys", keys.to_str().unwrap(), "--set", "models.steps=400"]).with_key(&alice);
    let (_, asked) = server.json("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT, "n": 5 })));
    let (_, listed) = server.json("GET", "/v1/jobs?limit=2", None);
    assert_eq!(listed["data"][0]["id"], asked["id"]);
    assert!(["queued", "running"].contains(&listed["data"][0]["status"].as_str().unwrap()), "{listed}");
    let next = listed["next"].as_str().unwrap().to_owned();
    let (status, _) = server.json("DELETE", &format!("/v1/jobs/{}", asked["id"].as_str().unwrap()), None);
    assert_eq!(status, 200);
    assert_eq!(server.json("GET", "/v1/jobs?limit=1", None).1["data"][0]["status"], "cancelled");
    assert!(server.terminate().success());
    // The oldest go until there is room.
    let flags = ["--keys", keys.to_str().unwrap(), "--set", "serve.keep_results_bytes=1"];
    let server = Served::start(&data, &flags).with_key(&alice);
    let jobs = || server.get("/v1/jobs")["data"].as_array().unwrap().len();
    within(60, "a job is dropped", || (jobs() < 5).then_some(()));
    let (status, page) = server.json("GET", &format!("/v1/jobs?after={next}"), None);
    assert!(status == 200 && page["data"] == json!([]), "{page}");
    assert!(server.terminate().success());

    // Without keys there is one user, to whom all of it belongs.
    let server = Served::start(&data, &[]);
    let (_, job) = server.json("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT })));
    assert_eq!(jobs_in_pages(&server, 50).0[0], job["id"].as_str().unwrap());
    assert!(server.terminate().success());
}

/// Tries with hits, and as many with misses.
const EACH: u32 = 100;

/// Share of 200 tries in which a tenant knows, from what it reads before and after, whether another one had a hit.
/// Latency is not looked at: tenants share the workers, and SECURITY.md says so.
#[test]
fn what_a_tenant_reads_tells_nothing_of_another_ones_hits() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, first) = key("alice", "");
    let (carol, second) = key("carol", "images_per_day = 2\n");
    let (ops, third) = operator("ops");
    let keys = write_keys(folder.path(), &[&first, &second, &third]);
    let flags = [
        "--keys",
        keys.to_str().unwrap(),
        "--rate-per-min=100000",
        "--set=tenants.scope=tenant",
        "--set=models.steps=4",
        "--set=system.bounds=[[0.9, 3]]",
    ];
    let mut server = Served::start(&folder.path().join("data"), &flags).with_key(&carol);
    let (status, drawn) = server.draw(&json!({ "prompt": PROMPT, "n": 1, "response_format": "url" }));
    assert_eq!(status, 200, "{drawn}");
    let (_, job) = server.json("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT })));
    let job = job["id"].as_str().unwrap().to_owned();
    server.ended(&job);
    let cached = || server.get("/v1/cache")["data"].as_array().unwrap().len();
    within(60, "two pictures are cached", || (cached() >= 2).then_some(()));
    let own = [
        format!("/v1/images/{}", drawn["modm"][0]["id"].as_str().unwrap()),
        format!("/v1/images/{}", first_cached(&server)),
        format!("/v1/jobs/{job}"),
        format!("/v1/jobs/{job}/events"),
    ];
    let asks = |server: &mut Served, prompt: &str| {
        server.key = Some(alice.clone());
        let (status, drawn) = server.draw(&json!({ "prompt": prompt }));
        assert_eq!(status, 200, "{drawn}");
        drawn["modm"][0]["decision"] == "hit"
    };
    asks(&mut server, PROMPT);
    while !asks(&mut server, PROMPT) {}
    // A tenant guesses a hit where its readings differ; an operator, to show that there is something to tell, where the
    // count of hits does. As many hits as misses, so that one guess for all is right half of the time.
    let mut draws = stream(7, Purpose::Test, 200);
    let (mut tries, mut right, mut told) = ([0_u32; 2], 0, 0);
    for turn in 0..1_000 {
        let wanted = if tries.contains(&EACH) { tries[0] == EACH } else { draws.random_bool(0.5) };
        server.key = Some(ops.clone());
        let counted_before = decided_hits(&server);
        server.key = Some(carol.clone());
        let before = reading(&server, &own);
        let prompt = if wanted { PROMPT.to_owned() } else { format!("zz{turn} qq{} a huge polygon {turn}", turn * 7) };
        let hit = asks(&mut server, &prompt);
        // Its picture is embedded and kept after the answer.
        pause(20);
        server.key = Some(carol.clone());
        let after = reading(&server, &own);
        server.key = Some(ops.clone());
        let counted = decided_hits(&server) > counted_before;
        if tries[usize::from(hit)] == EACH {
            continue;
        }
        tries[usize::from(hit)] += 1;
        assert_eq!(before, after, "try {turn}");
        right += u32::from((before != after) == hit);
        told += u32::from(counted == hit);
        if tries == [EACH; 2] {
            break;
        }
    }
    println!("misses and hits: {tries:?}; a tenant is right {right} times, an operator {told} times");
    assert_eq!((tries, right, told), ([EACH; 2], EACH, 2 * EACH));
    assert!(server.terminate().success());
}

/// Hits that the whole server has counted, as an operator reads them.
fn decided_hits(server: &Served) -> u64 {
    let text = server.text("/metrics").1;
    let lines = text.lines().filter(|line| line.starts_with("modm_decisions_total{decision=\"hit\""));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
