//! `modm serve` through the program, on the models of shapes: pictures over HTTP, who may see what, what is refused,
//! jobs that survive kill -9, an end that finishes what is in, and recorded traffic that is simulated. Other people's
//! clients are `scripts/check_clients`, the page is tests/browser/serve.mjs.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use modm::live::picture::Picture;
use serde_json::{Value, json};

use crate::program::{Answer, modm, now, pause, root};
use crate::served::{PROMPT, SHORT, Served, key, picture};

#[test]
fn a_server_whose_user_names_no_folder_makes_one_beside_the_results() {
    crate::onnxruntime::library();
    let folder = tempfile::tempdir().unwrap();
    let mut command = modm(&["serve", "--listen", "127.0.0.1:0"]);
    command.arg(root().join("scenarios/live-shapes.toml")).args(SHORT).current_dir(folder.path());
    let server = Served::launch(&mut command);
    let first = server.said.lines().next();
    assert_eq!(first, Some("data folder: results/live-shapes-server (--data takes another)"), "{}", server.said);
    assert!(folder.path().join("results/live-shapes-server").is_dir());
}

#[test]
fn a_prompt_is_a_miss_then_a_hit_and_traffic_is_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), &["--set", "serve.record_prompts=true"]);
    let (status, first) = server.draw(&json!({ "prompt": PROMPT, "n": 1, "seed": 7, "user": "u", "quality": null }));
    assert_eq!(status, 200, "{first}");
    let made = &first["modm"][0];
    assert!(made["decision"] == "miss" && made["model"] == "shapes-large" && made["source"].is_null(), "{made}");
    let [width, height] = picture(&first["data"][0]).size();
    assert_eq!(first["size"], format!("{width}x{height}"));
    let second = loop {
        // Its picture can be found once it is embedded; as long after it that it is there in the simulation below, too.
        pause(700);
        let (status, second) = server.draw(&json!({ "prompt": PROMPT, "response_format": "url" }));
        assert_eq!(status, 200, "{second}");
        if second["modm"][0]["decision"] == "hit" {
            break second;
        }
    };
    let made = &second["modm"][0];
    assert!(made["skipped_steps"] == 20 && made["similarity"].as_f64().unwrap() > 0.8, "{made}");
    for id in [made["id"].as_str().unwrap(), made["source"].as_str().unwrap()] {
        let (status, headers, bytes) = server.answer("GET", &format!("/v1/images/{id}"), None);
        assert!(status == 200 && headers["content-type"] == "image/png", "{id}");
        Picture::decode(&bytes).unwrap();
    }
    assert_eq!(second["data"][0]["url"], format!("{}/v1/images/{}", server.address, made["id"].as_str().unwrap()));
    let (_, metrics) = server.text("/metrics");
    for line in
        ["modm_requests_total{outcome=\"completed\"}", "modm_decisions_total{decision=\"hit\"", "modm_cache_bytes "]
    {
        assert!(metrics.lines().any(|own| own.starts_with(line)), "{line} in {metrics}");
    }
    let (_, status) = server.json("GET", "/v1/status", None);
    assert!(status["workers"].as_array().unwrap().len() == 2 && status["hit_rate"].as_f64().unwrap() > 0.0, "{status}");
    assert!(server.terminate().success());

    // What came in, simulated.
    let traffic = fs::read_dir(folder.path().join("traffic")).unwrap().next().unwrap().unwrap().path();
    let set = |key: &str, file: &str| format!("trace.{key}={}", traffic.join(file).display());
    let scenario = fs::read_to_string(root().join("scenarios/live-shapes.toml")).unwrap();
    let (before, after) = scenario.split_once("[trace.synthetic]").unwrap();
    let rest = after.split_once("\n[cluster]").unwrap().1;
    let own = root().join("scenarios");
    let rest = rest.replace("\"profiles/", &format!("\"{}/profiles/", own.display()));
    let rest = rest.replace("\"../models/", &format!("\"{}/../models/", own.display()));
    let scenario = folder.path().join("yesterday.toml");
    fs::write(&scenario, format!("{before}[cluster]{rest}")).unwrap();
    let out = folder.path().join("simulated");
    let mut simulate = modm(&["simulate", scenario.to_str().unwrap(), "--out", out.to_str().unwrap(), "--quiet"]);
    simulate
        .args(SHORT)
        .args(["--set", &set("requests", "requests.csv")])
        .args(["--set", &set("prompt_embeddings", "prompt_embeddings.npy")])
        .args(["--set", &set("image_embeddings", "image_embeddings.npy")]);
    Answer::to(&mut simulate).succeeded();
    let rows = fs::read_to_string(out.join("requests.csv")).unwrap();
    assert!(
        rows.lines().nth(1).unwrap().contains(",miss,") && rows.lines().last().unwrap().contains(",hit,20,"),
        "{rows}"
    );
}

#[test]
fn what_is_wrong_is_said_in_their_shape() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), &["--set", "serve.max_prompt=50", "--set", "serve.max_body=2000"]);
    let refused = |body: Value, param: &str| {
        let (status, answer) = server.draw(&body);
        let error = &answer["error"];
        assert!(
            status == 400 && error["type"] == "invalid_request_error" && error["param"] == param,
            "{body}: {answer}"
        );
    };
    refused(json!({}), "prompt");
    refused(json!({ "prompt": " " }), "prompt");
    refused(json!({ "prompt": 5 }), "prompt");
    refused(json!({ "prompt": "x".repeat(51) }), "prompt");
    let more = [
        ("n", json!(0)),
        ("n", json!(11)),
        ("n", json!("1")),
        ("size", json!("1024x1024")),
        ("response_format", json!("jpeg")),
        ("model", json!("dall-e-3")),
        ("seed", json!(-1)),
        ("seed", json!(1.5)),
        ("deadline_s", json!(0)),
        ("stream", json!("yes")),
        ("style", json!("loud")),
        ("background", json!("transparent")),
        ("unheard_of", json!(1)),
    ];
    for (key, value) in more {
        refused(json!({ "prompt": "x", key: value }), key);
    }
    let (status, headers, _) = server.answer("GET", "/v1/images/generations", None);
    assert_eq!((status, headers["x-content-type-options"].to_str().unwrap()), (405, "nosniff"));
    let (status, answer) = server.draw(&json!({ "prompt": "x", "user": "y".repeat(3000) }));
    assert_eq!((status, &answer["error"]["code"]), (413, &json!("request_too_large")));
    for path in [
        "/nothing",
        "/v1/images/..%2f..%2fledger.redb",
        "/v1/images/cache-99",
        "/v1/images/cache-%2b1",
        "/v1/images/img-0",
        "/v1/jobs/%ff",
        "/v1/models/x%0d%0ax-evil:%201",
    ] {
        let (status, answer) = server.json("GET", path, None);
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_found")), "{path}");
    }
    let (status, answer) = server.json("GET", "/v1/cache?limit=0", None);
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("limit")));
    // The addresses that are described are there.
    let (_, described) = server.json("GET", "/openapi.json", None);
    for (path, methods) in described["paths"].as_object().unwrap() {
        for method in
            methods.as_object().unwrap().keys().filter(|method| ["get", "post", "delete"].contains(&method.as_str()))
        {
            let (status, ..) = server.answer(&method.to_uppercase(), &path.replace("{id}", "modm"), None);
            assert!(status != 405 && (status != 404 || path.contains("{id}")), "{method} {path}: {status}");
        }
    }
    assert!(server.terminate().success());
}

#[test]
fn a_client_that_does_not_finish_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), &["--set", "serve.read_timeout_s=0.3"]);
    let address = server.address.strip_prefix("http://").unwrap();
    let heard = |sent: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(sent.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    heard("GET / HTTP/1.1\r\nHost: x\r\n").unwrap();
    let answer = heard("POST /v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{").unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("took too long"), "{answer}");
    // Who goes away has withdrawn the request.
    let body = json!({ "prompt": PROMPT, "n": 10 }).to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let metrics = || server.text("/metrics").1;
    while !metrics().contains("modm_waiting 8") {
        pause(5);
    }
    drop(stream);
    while !metrics().contains("modm_requests_total{outcome=\"cancelled\"}") {
        pause(5);
    }
    assert!(server.terminate().success());
}

/// Every method and path of the description, and whether it needs no key.
fn described_addresses(server: &Served) -> Vec<(String, String, bool)> {
    let (_, described) = server.json("GET", "/openapi.json", None);
    let mut addresses = Vec::new();
    for (path, methods) in described["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap().iter().filter(|(_, value)| value.is_object()) {
            let open = operation["security"].as_array().is_some_and(Vec::is_empty);
            addresses.push((method.to_uppercase(), path.replace("{id}", "some-1"), open));
        }
    }
    assert!(addresses.len() > 15 && addresses.iter().any(|(_, _, open)| *open));
    addresses
}

#[test]
fn tenants_see_their_own_and_ask_for_what_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, first) = key("alice", "rate_per_min = 1000");
    let (bob, second) = key("bob", "rate_per_min = 3\n");
    let (carol, third) = key("carol", "images_per_day = 2\n");
    let keys = folder.path().join("keys.toml");
    fs::write(&keys, first + &second + &third).unwrap();
    let text = fs::read_to_string(&keys).unwrap();
    assert!(!text.contains(&alice) && text.matches("sha256").count() == 3, "{text}");
    let data = folder.path().join("data");
    let flags = ["--keys", keys.to_str().unwrap(), "--set", "tenants.scope=tenant"];
    let mut server = Served::start(&data, &flags);
    for wrong in [None, Some("modm-wrong".to_owned())] {
        server.key = wrong;
        for (method, path, open) in described_addresses(&server) {
            let (status, headers, body) = server.answer(&method, &path, Some(&json!({ "prompt": PROMPT })));
            let refused = status == 401 && headers.get("www-authenticate").is_some_and(|kind| kind == "Bearer");
            assert_eq!(refused, !open, "{method} {path}: {status} {body:?}");
        }
    }
    let mut server = server.with_key(&alice);
    let (status, made) = server.draw(&json!({ "prompt": PROMPT, "response_format": "url" }));
    assert_eq!(status, 200, "{made}");
    let (_, job) = server.json("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT })));
    let job = server.ended(job["id"].as_str().unwrap());
    assert_eq!(job["status"], "completed", "{job}");
    let result = made["modm"][0]["id"].as_str().unwrap().to_owned();
    let cached = loop {
        let (_, listed) = server.json("GET", "/v1/cache", None);
        if let Some(id) = listed["data"][0]["id"].as_str() {
            assert!(listed["data"][0]["created"].as_u64().is_some_and(|created| created > 1_700_000_000), "{listed}");
            break id.to_owned();
        }
    };
    let mine = [
        format!("/v1/images/{result}"),
        format!("/v1/images/{cached}"),
        format!("/v1/jobs/{}", job["id"].as_str().unwrap()),
    ];
    assert!(mine.iter().all(|path| server.answer("GET", path, None).0 == 200));

    server = server.with_key(&bob);
    assert!(mine.iter().all(|path| server.answer("GET", path, None).0 == 404), "they are not bob's");
    assert_eq!(server.answer("DELETE", &mine[2], None).0, 404);
    assert_eq!(server.json("GET", "/v1/cache", None).1["data"], json!([]));
    let (status, drawn) = server.draw(&json!({ "prompt": PROMPT }));
    assert!(status == 200 && drawn["modm"][0]["decision"] == "miss", "alice's picture is not found: {drawn}");
    let (status, headers, body) = server.answer("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT, "n": 3 })));
    assert!(status == 429 && headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1, "{body:?}");

    server = server.with_key(&carol);
    assert_eq!(server.draw(&json!({ "prompt": PROMPT, "n": 2 })).0, 200);
    let (status, answer) = server.draw(&json!({ "prompt": PROMPT }));
    assert_eq!((status, &answer["error"]["code"]), (429, &json!("quota_exceeded")));
    assert!(server.terminate().success());
    // The same on the next start, unless midnight has come.
    let again = Served::start(&data, &flags).with_key(&carol);
    assert_eq!(again.draw(&json!({ "prompt": PROMPT })).0, 429);
    assert!(again.terminate().success());
    let traffic = fs::read_dir(data.join("traffic")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let rows = fs::read_to_string(traffic.join("requests.csv")).unwrap();
    assert!(rows.contains(",alice") && !rows.contains("circle"), "prompts are not recorded unless asked: {rows}");

    let mut open =
        modm(&["serve", "scenarios/live-shapes.toml", "--data", data.to_str().unwrap(), "--listen", "0.0.0.0:0"]);
    let Answer { code, err: said, .. } = Answer::to(&mut open);
    assert!(code == 2 && said.contains("serve.listen") && said.contains("give serve.keys"), "{said}");
}

#[test]
fn the_queue_has_an_end_and_what_is_cancelled_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), &["--set", "serve.max_queue=4", "--rate-per-min", "100000"]);
    let mut jobs = Vec::new();
    let refused = loop {
        let (status, answer) = server.json("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT, "n": 2 })));
        match status {
            202 => jobs.push(answer["id"].as_str().unwrap().to_owned()),
            429 => break answer,
            _ => panic!("{status}: {answer}"),
        }
        assert!(jobs.len() < 50, "no end");
    };
    assert_eq!(refused["error"]["code"], "queue_full");
    let last = jobs.last().unwrap();
    let (status, cancelled) = server.json("DELETE", &format!("/v1/jobs/{last}"), None);
    assert!(status == 200 && cancelled["status"] == "cancelled" && cancelled["data"] == json!([]), "{cancelled}");
    let (_, again) = server.json("DELETE", &format!("/v1/jobs/{last}"), None);
    assert_eq!(again["status"], "cancelled");
    let (_, _, events) = server.answer("GET", &format!("/v1/jobs/{}/events", jobs[0]), None);
    let events = String::from_utf8(events).unwrap();
    let names: Vec<&str> = events.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert!(names.first() == Some(&"queued") && names.last() == Some(&"completed"), "{names:?}");
    for id in &jobs[..jobs.len() - 1] {
        assert_eq!(server.ended(id)["status"], "completed");
    }
    assert!(server.terminate().success());
}

#[test]
fn jobs_of_clients_that_go_away_end_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), &["--rate-per-min", "100000"]);
    let body = json!({ "prompt": PROMPT }).to_string();
    for turn in 0..30 {
        let mut stream = TcpStream::connect(server.address.strip_prefix("http://").unwrap()).unwrap();
        let head = "POST /v1/jobs HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length:";
        write!(stream, "{head} {}\r\n\r\n{body}", body.len()).unwrap();
        // Before the job is on disk, while it is written, and after.
        pause(turn % 6);
    }
    assert!(server.terminate().success());
    assert!(fs::read_dir(folder.path().join("results")).unwrap().count() > 0, "some were taken in");
    let server = Served::start(folder.path(), &[]);
    assert!(!server.said.contains("begun again"), "all that was taken in has ended: {}", server.said);
    assert!(server.terminate().success());
}

/// Jobs of a round of the test below: each is drawn in the end.
const MOST_JOBS: usize = 12;

/// Kill it at any moment: what was acknowledged ends, once. `scripts/nightly` does it a hundred times.
#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let rounds = std::env::var("MODM_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..rounds {
        let mut server = Served::start(folder.path(), &["--rate-per-min", "100000"]);
        let begun = now();
        // Some moments after the first acknowledgement, another one each time.
        let life = Duration::from_millis(30 + 97 * (round * 7 % 10));
        for _ in 0..MOST_JOBS {
            if begun.elapsed() >= life {
                break;
            }
            let body = json!({ "prompt": PROMPT, "n": 1 + round % 2 });
            let (status, job) = server.json("POST", "/v1/jobs", Some(&body));
            if status == 202 {
                acknowledged.push(job["id"].as_str().unwrap().to_owned());
            }
        }
        pause(life.saturating_sub(begun.elapsed()).as_millis() as u64);
        server.child.kill().unwrap();
        server.child.wait().unwrap();
    }
    let server = Served::start(folder.path(), &["--set", "serve.max_queue=100000"]);
    assert!(acknowledged.len() as u64 >= rounds, "{}", acknowledged.len());
    assert_eq!(acknowledged.iter().collect::<BTreeSet<_>>().len(), acknowledged.len());
    let mut pictures = BTreeSet::new();
    for id in &acknowledged {
        let job = server.ended(id);
        assert_eq!(job["status"], "completed", "{job}");
        for data in job["data"].as_array().unwrap() {
            let id = data["modm"]["id"].as_str().unwrap().to_owned();
            let (status, _, bytes) = server.answer("GET", &format!("/v1/images/{id}"), None);
            assert_eq!(status, 200, "{id}");
            Picture::decode(&bytes).unwrap();
            assert!(pictures.insert(id), "a picture is of one job");
        }
    }
    assert!(server.terminate().success());
    // The store opens clean, and what it holds is found again.
    let server = Served::start(folder.path(), &[]);
    let (_, drawn) = server.draw(&json!({ "prompt": PROMPT }));
    assert_eq!(drawn["modm"][0]["decision"], "hit", "{drawn}");
    assert!(server.terminate().success());
}
