//! Needs of a shared cache's operators: requests that must not hit or not be kept, deletion with what was
//! refined from a picture, and audits of hits. Through the program, on the models of shapes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use modm::serve::ids::PictureIds;
use serde_json::{Value, json};

use crate::program::{Answer, json as read_json, modm, pause, within};
use crate::served::{PROMPT, Served, key};

/// Bounds below the similarity of any picture and its own prompt, so that the second picture of a prompt is a hit.
const BOUNDS: [&str; 2] = ["--set", "system.bounds=[[0.50, 20]]"];

fn start(data: &Path, more: &[&str]) -> Served {
    Served::start(data, &[BOUNDS.as_slice(), more].concat())
}

/// Draws a picture with a header Cache-Control, and says how it came about.
fn draw(server: &Served, control: &str, body: &Value) -> Value {
    let request = ureq::http::Request::post(format!("{}/v1/images/generations", server.address))
        .header("content-type", "application/json")
        .header("cache-control", control);
    let request = match &server.key {
        Some(key) => request.header("authorization", format!("Bearer {key}")),
        None => request,
    };
    let mut answer = server.agent.run(request.body(body.to_string()).unwrap()).unwrap();
    let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    answer["modm"][0].clone()
}

fn prompt() -> Value {
    json!({ "prompt": PROMPT })
}

/// Ids of what is cached, oldest first.
fn cached(server: &Served) -> Vec<String> {
    let (_, listed) = server.json("GET", "/v1/cache?limit=200", None);
    listed["data"].as_array().unwrap().iter().rev().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
}

/// Draws a picture that is kept, and waits until it is listed. Returns how it came about, and its id in the cache.
fn draw_and_keep(server: &Served, body: &Value) -> (Value, String) {
    let before = cached(server);
    let made = draw(server, "max-age=0", body);
    let id = within(60, "the picture", || cached(server).into_iter().find(|id| !before.contains(id)));
    (made, id)
}

/// Records of a server's store, by id.
fn records(data: &Path) -> Vec<(String, Value)> {
    let names = PictureIds::open(data).unwrap();
    let mut files: Vec<_> = fs::read_dir(data.join("store")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.file_stem().unwrap().to_str().unwrap().bytes().all(|byte| byte.is_ascii_digit()));
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let id = |file: &Path| names.name(file.file_stem().unwrap().to_str().unwrap().parse().unwrap());
    // One may go between two looks.
    let read = |file: &Path| Some((id(file), serde_json::from_slice(&fs::read(file).ok()?).ok()?));
    files.iter().filter_map(|file| read(file)).collect()
}

fn ids(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_request_may_refuse_to_hit_and_to_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &["--set", "serve.record_prompts=true"]);
    let (first, _) = draw_and_keep(&server, &prompt());
    assert_eq!(first["decision"], "miss");
    for (control, cache) in [("max-age=0, No-Cache", Value::Null), ("x", json!("no-hit")), ("no-cache", json!("off"))] {
        let made = draw(&server, control, &json!({ "prompt": PROMPT, "cache": cache }));
        assert!(made["decision"] == "miss" && made["similarity"].is_null(), "{control} {cache}: {made}");
    }
    // The first two are kept, the third is not.
    within(60, "three pictures", || (cached(&server).len() == 3).then_some(()));
    for (control, cache, decision) in
        [("no-store", json!("auto"), "hit"), ("x", json!("no-keep"), "hit"), ("no-store", json!("no-hit"), "miss")]
    {
        let made = draw(&server, control, &json!({ "prompt": PROMPT, "cache": cache }));
        assert_eq!(made["decision"], decision, "{control} {cache}: {made}");
    }
    let (status, job) = server.json("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT, "cache": "off" })));
    assert_eq!(status, 202, "{job}");
    let job = server.ended(job["id"].as_str().unwrap());
    assert_eq!(job["data"][0]["modm"]["decision"], "miss", "{job}");
    let (status, refused) = server.draw(&json!({ "prompt": PROMPT, "cache": "never" }));
    assert_eq!((status, &refused["error"]["param"]), (400, &json!("cache")));
    // Long enough for a picture to be embedded and written.
    pause(500);
    assert_eq!(cached(&server).len(), 3);
    assert!(server.terminate().success());

    assert_eq!(records(folder.path()).len(), 3);
    let traffic = fs::read_dir(folder.path().join("traffic")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_to_string(traffic.join("requests.csv")).unwrap().matches(PROMPT).count(), 3);
    let said = read_json(&traffic.join("traffic.json"));
    assert_eq!((&said["left_out"], &said["no_hit"]), (&json!(5), &json!(2)), "{said}");
}

#[test]
fn a_deleted_picture_is_found_no_more_and_what_came_of_it_is_listed_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    let delete = |id: &str, query: &str| server.json("DELETE", &format!("/v1/images/{id}{query}"), None);
    let (_, first) = draw_and_keep(&server, &prompt());
    let kept: Vec<String> = (0..3)
        .map(|_| {
            let (made, id) = draw_and_keep(&server, &prompt());
            assert_eq!(made["decision"], "hit", "{made}");
            id
        })
        .collect();
    let (status, refused) = delete(&first, "?refined=all");
    assert_eq!((status, &refused["error"]["param"]), (400, &json!("refined")));
    // All came of the first, whichever of the others they were refined from.
    let (status, deleted) = delete(&first, "");
    assert_eq!((status, &deleted["id"], &deleted["refined_deleted"]), (200, &json!(first), &json!(false)), "{deleted}");
    assert_eq!(ids(&deleted["refined"]), kept.iter().cloned().collect());
    assert_eq!(deleted["others"], 0);
    assert_eq!(delete(&first, "").0, 404);
    assert_eq!(server.answer("GET", &format!("/v1/images/{first}"), None).0, 404);
    assert_eq!(cached(&server), kept);
    assert!(records(folder.path()).iter().all(|(id, _)| *id != first));
    let (next, last) = draw_and_keep(&server, &prompt());
    assert!(next["decision"] == "hit" && next["source"] != json!(first), "{next}");

    // What came of the second, by the records.
    let names = PictureIds::open(folder.path()).unwrap();
    let number = |id: &str| json!(names.number(id).unwrap());
    let came = |id: &str| {
        let mut found = records(folder.path());
        found.retain(|(_, record)| record["origins"].as_array().is_some_and(|all| all.contains(&number(id))));
        found.into_iter().map(|(id, _)| id).collect::<BTreeSet<_>>()
    };
    let (second, expected) = (&kept[0], came(&kept[0]));
    assert!(came(next["source"].as_str().unwrap()).contains(&last));
    let (status, deleted) = delete(second, "?refined=remove");
    assert_eq!((status, ids(&deleted["refined"])), (200, expected.clone()), "{deleted}");
    let left: Vec<String> =
        kept.iter().chain([&last]).filter(|id| *id != second && !expected.contains(*id)).cloned().collect();
    assert_eq!(cached(&server), left);
    // Whatever becomes of the program now, it does not come back.
    server.signal("-KILL");
    drop(server);
    let server = start(folder.path(), &[]);
    assert!(!server.said.contains("WARN"), "{}", server.said);
    assert_eq!(cached(&server), left);
    for id in &left {
        assert_eq!(server.answer("DELETE", &format!("/v1/images/{id}"), None).0, 200);
    }
    assert_eq!(draw(&server, "x", &prompt())["decision"], "miss");
    assert!(server.terminate().success());
}

#[test]
fn a_tenant_deletes_its_own_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ((alice, first), (bob, second)) = (key("alice", ""), key("bob", ""));
    let keys = folder.path().join("keys.toml");
    fs::write(&keys, first + &second).unwrap();
    let mut server = start(&folder.path().join("data"), &["--keys", keys.to_str().unwrap()]).with_key(&alice);
    let (_, of_alice) = draw_and_keep(&server, &prompt());
    server.key = Some(bob);
    // A hit on what nobody but alice may see.
    let (made, _) = draw_and_keep(&server, &prompt());
    assert!(made["decision"] == "hit" && made["source"].is_null(), "{made}");
    let delete = |server: &Served, id: &str| server.json("DELETE", &format!("/v1/images/{id}"), None);
    let (status, refused) = delete(&server, &of_alice);
    assert_eq!((status, &refused["error"]["code"]), (404, &json!("not_found")), "{refused}");
    server.key = Some(alice);
    let (status, deleted) = delete(&server, &of_alice);
    assert_eq!((status, ids(&deleted["refined"])), (200, BTreeSet::new()), "what bob has is not told: {deleted}");
    assert!(deleted["others"].is_null(), "{deleted}");
    assert!(server.terminate().success());
}

#[test]
fn audits_measure_what_hits_keep_and_count_for_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &["--set", "serve.audit_share=1"]);
    let audited = || server.json("GET", "/v1/status", None).1["audit"]["kept"].clone();
    assert_eq!(audited(), json!([]));
    draw_and_keep(&server, &prompt());
    for count in 1..=11 {
        // Nobody waits meanwhile: an audit that somebody waits for is called off.
        let (made, _) = draw_and_keep(&server, &prompt());
        assert!(made["decision"] == "hit" && made["skipped_steps"] == 20, "{made}");
        within(60, "an audit", || (audited()[0]["audited"] == count).then_some(()));
    }
    let found = audited();
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    let [kept, low, high] = ["kept", "low", "high"].map(|name| found[0][name].as_f64().unwrap());
    // The models of shapes: hits at k = 30 of 50 keep 99.6 % by the encoder (docs/calibration.md).
    assert!(found[0]["skipped_steps"] == 20 && (0.8..1.2).contains(&kept) && low <= kept && kept <= high, "{found}");

    let metrics = server.text("/metrics").1;
    let value = |line: &str| {
        let found =
            metrics.lines().find_map(|own| own.strip_prefix(line)).unwrap_or_else(|| panic!("{line}: {metrics}"));
        found.trim().parse::<f64>().unwrap()
    };
    let labels = "{skipped_steps=\"20\",tenant=\"\"}";
    assert!((value(&format!("modm_audit_kept{labels}")) - kept).abs() < 1e-9);
    assert!((value(&format!("modm_audit_kept_low{labels}")) - low).abs() < 1e-9);
    assert!((value(&format!("modm_audits{labels}")) - 11.0).abs() < 1e-9);
    // Users asked for twelve pictures, and twelve are cached.
    assert!((value("modm_requests_total{outcome=\"completed\"}") - 12.0).abs() < 1e-9);
    assert!((value("modm_decisions_total{decision=\"miss\",skipped_steps=\"0\"}") - 1.0).abs() < 1e-9);
    let (_, status) = server.json("GET", "/v1/status", None);
    let sum =
        |name: &str| status["history"].as_array().unwrap().iter().map(|one| one[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!([sum("arrivals"), sum("completions"), sum("routed"), sum("hits")], [12, 12, 12, 11]);
    assert_eq!((&status["queued"], &status["running"], &status["cache_images"]), (&json!(0), &json!(0), &json!(12)));
    // What must not be kept is not audited.
    draw(&server, "no-store", &prompt());
    // A hit right before the end: its audit keeps nobody.
    draw(&server, "x", &prompt());
    assert!(server.terminate().success());

    let rows = fs::read_to_string(folder.path().join("audit.csv")).unwrap();
    assert!((12..=13).contains(&rows.lines().count()), "{rows}");
    let traffic = fs::read_dir(folder.path().join("traffic")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_to_string(traffic.join("requests.csv")).unwrap().lines().count(), 14);
    Answer::to(&mut modm(&["report", folder.path().to_str().unwrap()])).succeeded();
    let text = fs::read_to_string(folder.path().join("audit.md")).unwrap();
    assert!(text.contains("| 20 | all | 1") && text.contains("| all | all | 1"), "{text}");
}
