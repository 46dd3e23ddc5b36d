//! `modm serve` on disks that fail, hang, are full, or hold damaged files, with threads that panic, clocks that jump,
//! and jobs that are begun again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use modm::live::picture::Picture;
use serde_json::{Value, json};

use crate::program::{Answer, modm, now, pause, within};
use crate::served::{PROMPT, Served, key, serve};

/// Variable with the plan of faults; programs without debug assertions do not read it.
const FAULTS: &str = "MODM_TEST_FAULTS";
const CLOCK: &str = "MODM_TEST_CLOCK_S";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn submit(server: &Served, pictures: u32) -> (u16, Value) {
    server.json("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT, "n": pictures })))
}

/// A job that was acknowledged.
fn job(server: &Served, pictures: u32) -> String {
    let (status, job) = submit(server, pictures);
    assert_eq!(status, 202, "{job}");
    job["id"].as_str().unwrap().to_owned()
}

/// Checks that a job has all its pictures.
fn completed(server: &Served, id: &str) {
    let job = server.ended(id);
    assert_eq!(job["status"], "completed", "{job}");
    for data in job["data"].as_array().unwrap() {
        let path = format!("/v1/images/{}", data["modm"]["id"].as_str().unwrap());
        let (status, _, bytes) = server.answer("GET", &path, None);
        assert_eq!(status, 200, "{path}");
        Picture::decode(&bytes).unwrap();
    }
}

/// Waits until a job is said to be completed by a server whose disk fails now and then: it may have to be asked again.
fn completes_despite_faults(server: &Served, id: &str) {
    let job = within(120, "the job ends", || {
        let (status, job) = server.json("GET", &format!("/v1/jobs/{id}"), None);
        assert!([200, 503, 507].contains(&status), "{status}: {job}");
        (status == 200 && !["queued", "running"].contains(&job["status"].as_str().unwrap())).then_some(job)
    });
    assert_eq!(job["status"], "completed", "{job}");
}

fn run(command: &str, data: &Path) -> Answer {
    Answer::to(&mut modm(&[command, data.to_str().unwrap()]))
}

/// A start that is refused: exit code and what it said.
fn refused(data: &Path) -> (i32, String) {
    let Answer { code, err, .. } = Answer::to(&mut serve(Path::new("scenarios/live-shapes.toml"), data));
    (code, err)
}

#[test]
fn damaged_recordings_do_not_keep_the_server_down() {
    let folder = tempfile::tempdir().unwrap();
    let traffic = folder.path().join("traffic");
    let header = "request_id,arrival_s,deadline_s\n";
    for (name, rows) in [("1", ""), ("2", "live-0,0.5,\n")] {
        fs::create_dir_all(traffic.join(name)).unwrap();
        fs::write(traffic.join(name).join("requests.csv"), format!("{header}{rows}")).unwrap();
        File::create(traffic.join(name).join("prompt_embeddings.npy")).unwrap();
    }
    let server = Served::start(folder.path(), &[]);
    assert!(server.said.contains("is damaged") && traffic.join("2.damaged").is_dir(), "{}", server.said);
    assert_eq!(server.answer("GET", "/readyz", None).0, 200);
    let metrics = server.text("/metrics").1;
    assert!(metrics.contains("modm_recording 1"), "{metrics}");
    assert!(server.terminate().success());

    // A recording that cannot be begun at all: a file stands where its folder would be.
    fs::remove_dir_all(&traffic).unwrap();
    File::create(&traffic).unwrap();
    let server = Served::start(folder.path(), &[]);
    assert!(server.said.contains("nothing is recorded"), "{}", server.said);
    completed(&server, &job(&server, 1));
    let metrics = server.text("/metrics").1;
    assert!(metrics.contains("modm_recording 0"), "{metrics}");
    assert!(server.terminate().success());
}

#[test]
fn without_room_nothing_new_is_taken_in() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), &[]);
    let id = job(&server, 1);
    completed(&server, &id);
    assert!(server.terminate().success());
    let floor = (1_u64 << 53).to_string();
    let server = Served::start(folder.path(), &["--set", &format!("serve.min_free_bytes={floor}")]);
    let (status, headers, body) = server.answer("POST", "/v1/jobs", Some(&json!({ "prompt": PROMPT })));
    let error: Value = serde_json::from_slice(&body).unwrap();
    assert!(status == 507 && headers.contains_key("retry-after"), "{status} {error}");
    assert_eq!(error["error"]["code"], "insufficient_storage");
    assert_eq!(server.draw(&json!({ "prompt": PROMPT })).0, 507);
    let (status, _, body) = server.answer("GET", "/readyz", None);
    assert_eq!((status, text(&body).as_str()), (503, "disk\n"));
    completed(&server, &id);
    assert!(server.terminate().success());
}

#[test]
fn a_disk_that_is_full_for_a_while_loses_nothing_and_the_server_recovers() {
    if !cfg!(debug_assertions) {
        return eprintln!("skipped: faults are for programs with debug assertions");
    }
    let folder = tempfile::tempdir().unwrap();
    // The disk fails for so many calls. A failing ledger makes few: they may take longer than it may usually fail for.
    let flags = ["--rate-per-min", "100000", "--set", "serve.disk_retry_s=300"];
    let server = Served::start_with(folder.path(), &flags, &[(FAULTS, "from=700,until=1000")]);
    let mut codes: BTreeMap<u16, usize> = BTreeMap::new();
    let (mut acknowledged, mut was_unready, mut after) = (Vec::new(), false, 0);
    while after < 5 {
        let (status, answer) = submit(&server, 1);
        *codes.entry(status).or_default() += 1;
        match status {
            202 => acknowledged.push(answer["id"].as_str().unwrap().to_owned()),
            507 | 503 => assert!(!answer.to_string().contains(folder.path().to_str().unwrap()), "{answer}"),
            _ => panic!("{status}: {answer}"),
        }
        let failed = codes.iter().any(|(status, _)| *status != 202);
        after += usize::from(failed && status == 202);
        was_unready |= server.answer("GET", "/readyz", None).0 == 503;
        pause(20);
        // More than a ledger can refuse in the time that it may fail for, 20 ms each.
        assert!(codes.values().sum::<usize>() < 15_000, "{codes:?}");
    }
    assert!(was_unready, "{codes:?}");
    for id in &acknowledged {
        completed(&server, id);
    }
    assert_eq!(server.answer("GET", "/readyz", None).0, 200);
    assert!(server.terminate().success());
    let server = Served::start(folder.path(), &[]);
    for id in &acknowledged {
        completed(&server, id);
    }
    assert!(!server.said.contains("begun again"), "what was refused was not drawn: {}", server.said);
    assert!(server.terminate().success());
}

#[test]
fn a_disk_that_fails_for_good_ends_the_program_with_a_sentence() {
    if !cfg!(debug_assertions) {
        return eprintln!("skipped: faults are for programs with debug assertions");
    }
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--set", "serve.disk_retry_s=1.5"];
    let server = Served::start_with(folder.path(), &flags, &[(FAULTS, "from=500")]);
    let mut acknowledged = Vec::new();
    for _ in 0..200 {
        let (status, answer) = submit(&server, 1);
        if status != 202 {
            break;
        }
        acknowledged.push(answer["id"].as_str().unwrap().to_owned());
    }
    let (status, said) = server.dies();
    assert!(status.code() == Some(1) && said.contains("error: the ledger has failed for"), "{status}: {said}");
    let server = Served::start(folder.path(), &[]);
    for id in &acknowledged {
        completed(&server, id);
    }
    assert!(server.terminate().success());
}

/// Lines that say why the server should not be sent requests.
fn unready(server: &Served) -> Vec<String> {
    let (status, _, body) = server.answer("GET", "/readyz", None);
    assert_eq!(server.answer("GET", "/healthz", None).0, 200, "it is about the process");
    if status == 200 { Vec::new() } else { text(&body).lines().map(str::to_owned).collect() }
}

/// Waits until the server is not ready for such a reason.
fn becomes_unready(server: &Served, reason: &str) {
    within(60, reason, || unready(server).iter().any(|line| line.starts_with(reason)).then_some(()));
}

/// A server whose disk hangs while a file is there.
fn hanging(folder: &Path, disk_retry_s: &str) -> (Served, std::path::PathBuf) {
    let hangs = folder.join("hangs");
    let retry = format!("serve.disk_retry_s={disk_retry_s}");
    let flags = ["--rate-per-min", "100000", "--set", "live.limits.disk_s=4", "--set", &retry];
    let plan = format!("hang_while={}", hangs.display());
    (Served::start_with(&folder.join("data"), &flags, &[(FAULTS, &plan)]), hangs)
}

#[test]
fn a_disk_that_hangs_makes_the_server_unready_acknowledges_nothing_and_is_recovered_from() {
    if !cfg!(debug_assertions) {
        return eprintln!("skipped: faults are for programs with debug assertions");
    }
    let folder = tempfile::tempdir().unwrap();
    let (server, hangs) = hanging(folder.path(), "600");
    let before = job(&server, 2);
    completed(&server, &before);
    assert!(unready(&server).is_empty());
    fs::write(&hangs, "").unwrap();
    // Under way when the disk stops: drawn, and its picture waits for the store; the recording waits, too.
    assert_eq!(server.draw(&json!({ "prompt": PROMPT })).0, 200, "a picture that needs no disk");
    let (status, answer) = submit(&server, 1);
    assert!(status == 503 && answer["error"]["code"] == "storage_unavailable", "{status}: {answer}");
    let (status, answer) = server.draw(&json!({ "prompt": PROMPT, "response_format": "url" }));
    assert_eq!(status, 503, "{answer}");
    becomes_unready(&server, "ledger: the disk has not answered");
    becomes_unready(&server, "store: ");
    becomes_unready(&server, "disk: ");
    for path in ["/v1/jobs", &format!("/v1/jobs/{before}"), "/v1/cache", "/v1/status", "/metrics"] {
        let begun = now();
        let (status, _, _) = server.answer("GET", path, None);
        assert!([200, 503].contains(&status), "{path}: {status}");
        assert!(begun.elapsed().as_secs() < 30, "{path}: {:?}", begun.elapsed());
    }
    let begun = now();
    assert_eq!((submit(&server, 1).0, server.draw(&json!({ "prompt": PROMPT })).0), (503, 503));
    assert!(begun.elapsed().as_millis() < 3500, "refused at once: {:?}", begun.elapsed());

    fs::remove_file(&hangs).unwrap();
    within(60, "it is ready again", || unready(&server).is_empty().then_some(()));
    completed(&server, &before);
    let after = job(&server, 1);
    completed(&server, &after);
    let (_, listed) = server.json("GET", "/v1/jobs", None);
    let names: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert_eq!(names, [after.as_str(), before.as_str()], "nothing that was refused is there");
    let metrics = server.text("/metrics").1;
    assert!(metrics.contains("modm_recording 1"), "{metrics}");
    assert!(server.terminate().success());
    let server = Served::start(&folder.path().join("data"), &[]);
    assert!(!server.said.contains("begun again"), "what was refused was not drawn: {}", server.said);
    assert!(server.terminate().success());
    assert_eq!(run("check", &folder.path().join("data")).code, 0);
}

#[test]
fn a_disk_that_hangs_for_good_ends_the_program_with_a_sentence() {
    if !cfg!(debug_assertions) {
        return eprintln!("skipped: faults are for programs with debug assertions");
    }
    let folder = tempfile::tempdir().unwrap();
    let (server, hangs) = hanging(folder.path(), "2");
    let acknowledged = job(&server, 2);
    // Its end cannot be written any more.
    fs::write(&hangs, "").unwrap();
    assert_eq!(submit(&server, 1).0, 503);
    let (status, said) = server.dies();
    assert!(
        status.code() == Some(1) && said.contains("error: the disk has not answered the ledger"),
        "{status}: {said}"
    );
    let server = Served::start(&folder.path().join("data"), &[]);
    completed(&server, &acknowledged);
    let (_, listed) = server.json("GET", "/v1/jobs", None);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
    assert!(server.terminate().success());

    // And one that hangs at the end keeps the program from ending no longer than the limits say.
    let (mut server, hangs) = hanging(&folder.path().join("second"), "600");
    let acknowledged = job(&server, 1);
    completed(&server, &acknowledged);
    fs::write(&hangs, "").unwrap();
    let (status, _) = server.draw(&json!({ "prompt": PROMPT }));
    assert_eq!(status, 200);
    let begun = now();
    server.signal("-TERM");
    let _ = server.child.wait().unwrap();
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

#[test]
fn a_part_of_the_server_that_panics_ends_the_program_and_never_stays_dead_behind_an_answer() {
    if !cfg!(debug_assertions) {
        return eprintln!("skipped: panics are injected into programs with debug assertions");
    }
    let parts = [
        ("ledger", "error: the thread that writes the ledger has ended"),
        ("store", "error: the thread that writes cached pictures has ended"),
        ("loop", "error: the scheduler's loop ended by a panic"),
        ("upkeep", "error: the task that looks after the server died"),
    ];
    for (part, sentence) in parts {
        let folder = tempfile::tempdir().unwrap();
        let (data, trigger) = (folder.path().join("data"), folder.path().join("panics"));
        let plan = format!("{part}={}", trigger.display());
        let server = Served::start_with(&data, &[], &[("MODM_TEST_PANIC", &plan)]);
        let acknowledged = job(&server, 1);
        completed(&server, &acknowledged);
        fs::write(&trigger, "").unwrap();
        let body = json!({ "prompt": PROMPT }).to_string();
        let asked = server.agent.post(format!("{}/v1/jobs", server.address)).content_type("application/json");
        // Whatever it answers, if it does: what it acknowledges must end.
        let answered = asked.send(body).ok().filter(|answer| answer.status() == 202);
        let second =
            answered.map(|mut answer| serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap());
        let second: Option<Value> = second;
        let (status, said) = server.dies();
        assert!(status.code() == Some(1) && said.contains(sentence), "{part}: {status}: {said}");
        let server = Served::start(&data, &[]);
        completed(&server, &acknowledged);
        if let Some(second) = second {
            completed(&server, second["id"].as_str().unwrap());
        }
        assert!(server.terminate().success());
    }
}

#[test]
fn a_panic_at_a_job_ends_that_job_with_a_reason_and_no_other() {
    if !cfg!(debug_assertions) {
        return eprintln!("skipped: panics are injected into programs with debug assertions");
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, trigger) = (folder.path().join("data"), folder.path().join("panics"));
    let plan = format!("job={}", trigger.display());
    let server = Served::start_with(&data, &[], &[("MODM_TEST_PANIC", &plan)]);
    fs::write(&trigger, "").unwrap();
    let bad = server.ended(&job(&server, 1));
    let why = bad["error"]["message"].as_str().unwrap_or_default();
    assert!(bad["status"] == "failed" && why.contains("server failed"), "{bad}");
    completed(&server, &job(&server, 1));
    assert_eq!(server.answer("GET", "/readyz", None).0, 200);
    assert!(server.terminate().success());
}

/// Rounds of the test below: `scripts/nightly` does more.
#[test]
fn seeded_faults_below_a_whole_server_lose_nothing_acknowledged() {
    if !cfg!(debug_assertions) {
        return eprintln!("skipped: faults are for programs with debug assertions");
    }
    let rounds = std::env::var("MODM_TEST_FAULT_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3_u64);
    for seed in 0..rounds {
        let folder = tempfile::tempdir().unwrap();
        let plan = format!("seed={seed},one_in=60,from=400,until=3000");
        let mut server = Served::start_with(folder.path(), &["--rate-per-min", "100000"], &[(FAULTS, &plan)]);
        let mut acknowledged = Vec::new();
        for number in 0..40 {
            let (status, answer) = submit(&server, 1 + number % 2);
            match status {
                202 => acknowledged.push(answer["id"].as_str().unwrap().to_owned()),
                503 | 507 => {}
                _ => panic!("seed {seed}: {status}: {answer}"),
            }
            pause(15);
        }
        assert!(acknowledged.len() > 5, "seed {seed}: {}", acknowledged.len());
        for id in &acknowledged {
            completes_despite_faults(&server, id);
        }
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        let server = Served::start(folder.path(), &[]);
        for id in &acknowledged {
            completed(&server, id);
        }
        assert!(server.terminate().success());
        let whole = run("check", folder.path());
        assert_eq!(whole.code, 0, "seed {seed}: {}", whole.out);
    }
}

#[test]
fn a_damaged_ledger_is_refused_and_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = run("check", folder.path());
    assert!(nothing.code == 2 && nothing.err.contains("--data"), "{}", nothing.err);
    let server = Served::start(folder.path(), &[]);
    let jobs: Vec<String> = (0..5).map(|_| job(&server, 1)).collect();
    for id in &jobs {
        completed(&server, id);
    }
    for command in ["check", "repair"] {
        let busy = run(command, folder.path());
        assert!(busy.code == 2 && busy.err.contains("in use"), "{}", busy.err);
    }
    assert!(server.terminate().success());
    let whole = run("check", folder.path());
    assert_eq!(whole.code, 0, "{}{}", whole.out, whole.err);
    assert!(whole.out.contains("5 jobs, 5 pictures"), "{}", whole.out);

    // The ledger's header, a result, and a cached picture.
    let ledger = folder.path().join("ledger.redb");
    let mut bytes = fs::read(&ledger).unwrap();
    bytes[64..320].fill(0);
    fs::write(&ledger, bytes).unwrap();
    let pictures = |name: &str| {
        let files = fs::read_dir(folder.path().join(name)).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|kind| kind == "png")).collect();
        files.sort();
        files
    };
    let cached = pictures("store")[0].clone();
    File::options().write(true).open(&cached).unwrap().set_len(20).unwrap();
    let (code, said) = refused(folder.path());
    assert!(code == 2 && said.contains("modm repair") && !said.contains("panicked"), "{code}: {said}");
    let check = run("check", folder.path());
    assert_eq!(check.code, 1, "{}", check.out);
    assert!(check.out.contains(cached.to_str().unwrap()), "{}", check.out);
    let repair = run("repair", folder.path());
    assert_eq!(repair.code, 0, "{}{}", repair.out, repair.err);
    assert!(repair.out.contains("made anew with 5 jobs"), "{}", repair.out);
    assert!(!repair.err.contains("panicked"), "{}", repair.err);
    let check = run("check", folder.path());
    assert_eq!(check.code, 0, "{}", check.out);
    let server = Served::start(folder.path(), &[]);
    for id in &jobs {
        completed(&server, id);
    }
    // A result that is damaged while the server runs is no answer.
    let result = pictures("results")[0].clone();
    fs::write(&result, b"\x89PNG").unwrap();
    let path = format!("/v1/images/{}", result.file_stem().unwrap().to_str().unwrap());
    assert_eq!(server.answer("GET", &path, None).0, 500);
    assert!(server.terminate().success());
    let repair = run("repair", folder.path());
    assert!(repair.out.contains("is not what was written"), "{}", repair.out);
    assert_eq!(run("check", folder.path()).code, 0);
}

#[test]
fn a_date_that_jumps_forgets_nothing_and_gives_no_quota() {
    if !cfg!(debug_assertions) {
        return eprintln!("skipped: clocks are set in programs with debug assertions");
    }
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--set", "serve.images_per_day=2"];
    let server = Served::start(folder.path(), &flags);
    let id = job(&server, 2);
    completed(&server, &id);
    assert!(server.terminate().success());
    let server = Served::start_with(folder.path(), &[], &[(CLOCK, "259200")]);
    assert!(server.said.contains("later than expected"), "{}", server.said);
    pause(1500);
    completed(&server, &id);
    assert!(server.terminate().success());
    let server = Served::start_with(folder.path(), &flags, &[(CLOCK, "-86400")]);
    assert!(server.said.contains("earlier than expected"), "{}", server.said);
    completed(&server, &id);
    assert_eq!(server.draw(&json!({ "prompt": PROMPT })).1["error"]["code"], "quota_exceeded");
    assert!(server.terminate().success());
}

/// Starts a server, takes jobs in and kills it.
fn killed_with_jobs(data: &Path, jobs: u32, pictures: u32, more: &[&str]) -> Vec<String> {
    let mut server = Served::start(data, more);
    let ids = (0..jobs).map(|_| job(&server, pictures)).collect();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    ids
}

#[test]
fn jobs_that_are_begun_again_are_found_and_withdrawn() {
    let folder = tempfile::tempdir().unwrap();
    // Long enough that the last of them waits for a while: they are begun again in their order.
    let ids = killed_with_jobs(folder.path(), 6, 10, &["--set", "models.steps=200"]);
    let last = ids.last().unwrap();
    let server = Served::start(folder.path(), &["--set", "serve.max_queue=12", "--set", "models.steps=200"]);
    let (_, waiting) = server.json("GET", &format!("/v1/jobs/{last}"), None);
    assert_eq!(waiting["status"], "queued", "{waiting}");
    let events = std::thread::scope(|scope| {
        let events = scope.spawn(|| text(&server.answer("GET", &format!("/v1/jobs/{last}/events"), None).2));
        pause(100);
        let (status, withdrawn) = server.json("DELETE", &format!("/v1/jobs/{last}"), None);
        assert_eq!((status, &withdrawn["status"]), (200, &json!("cancelled")));
        events.join().unwrap()
    });
    let names: Vec<&str> = events.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, ["queued", "cancelled"]);
    // Also one that has begun.
    let (_, withdrawn) = server.json("DELETE", &format!("/v1/jobs/{}", ids[0]), None);
    assert!(["cancelled", "completed"].contains(&withdrawn["status"].as_str().unwrap()), "{withdrawn}");
    for id in &ids[1..5] {
        completed(&server, id);
    }
    assert!(server.terminate().success());
    let server = Served::start(folder.path(), &[]);
    assert_eq!(server.ended(last)["status"], "cancelled");
    assert!(server.terminate().success());
}

#[test]
fn jobs_that_can_never_begin_again_end_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let ids = killed_with_jobs(folder.path(), 1, 10, &[]);
    let server = Served::start(folder.path(), &["--set", "serve.max_queue=5"]);
    let ended = server.ended(&ids[0]);
    assert!(ended["status"] == "failed" && ended["error"]["message"].as_str().unwrap().contains("may wait"), "{ended}");
    assert!(server.terminate().success());

    // A job that is under way at ten ends of the program.
    let ids = killed_with_jobs(folder.path(), 1, 10, &["--set", "models.steps=400"]);
    for _ in 0..10 {
        let mut server = Served::start(folder.path(), &["--set", "models.steps=400"]);
        pause(300);
        server.child.kill().unwrap();
        server.child.wait().unwrap();
    }
    let server = Served::start(folder.path(), &[]);
    let ended = server.ended(&ids[0]);
    let why = ended["error"]["message"].as_str().unwrap_or_default();
    assert!(ended["status"] == "failed" && why.contains("ended 10 times"), "{ended}");
    assert!(server.terminate().success());
}

#[test]
fn jobs_of_tenants_who_are_gone_run_as_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let unowned = killed_with_jobs(&data, 1, 10, &[]);
    let ((alice, first), (bob, second)) = (key("alice", ""), key("bob", ""));
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let (both, one) = (file("both.toml", &format!("{first}{second}")), file("one.toml", &second));
    let mut server = Served::start(&data, &["--keys", &both, "--set", "tenants.scope=tenant"]).with_key(&alice);
    let said = || server.said.contains("belongs to nobody") || server.log().contains("belongs to nobody");
    within(60, "the log says that a job belongs to nobody", || said().then_some(()));
    let id = job(&server, 10);
    server.child.kill().unwrap();
    server.child.wait().unwrap();

    let server = Served::start(&data, &["--keys", &one, "--set", "tenants.scope=tenant"]).with_key(&bob);
    pause(500);
    assert_eq!(server.json("GET", "/v1/cache", None).1["data"], json!([]), "nothing of hers is his");
    assert_eq!(server.json("GET", &format!("/v1/jobs/{id}"), None).0, 404);
    assert!(server.terminate().success());
    let server = Served::start(&data, &["--keys", &both, "--set", "tenants.scope=tenant"]).with_key(&alice);
    let ended = server.ended(&id);
    let why = ended["error"]["message"].as_str().unwrap_or_default();
    assert!(ended["status"] == "failed" && why.contains("tenant is not known"), "{ended}");
    assert!(server.terminate().success());
    let server = Served::start(&data, &[]);
    assert_eq!(server.ended(&unowned[0])["status"], "failed");
    assert!(server.terminate().success());
}
