//! Tests of the ledger on disks that fail at any call, on damaged files, and with rows of version 1.

use std::path::Path;

use rand::RngExt;
use redb::{Database, TableDefinition};

use super::*;
use crate::draw::{Purpose, stream};
use crate::live::faults::{Fault, Plan};
use crate::locked::LockedFile;
use crate::serve::clock::tests::set;

pub(super) fn job(id: &str, created: u64, status: Status) -> Job {
    let (prompt, made) = ("a circle".to_owned(), Vec::new());
    let (tenant, seed, deadline_s, reuse, error) = (None, Some(5), None, Reuse::ALL, None);
    let ended = (status != Status::Queued).then_some(created);
    let (id, wanted, attempts, pictures) = (id.to_owned(), Wanted::default(), 0, 1);
    Job { id, tenant, created, ended, attempts, prompt, pictures, seed, deadline_s, reuse, wanted, status, made, error }
}

fn open(folder: &Path) -> Result<Ledger, LedgerError> {
    Ledger::open(folder, &HostClock::new(), None)
}

fn picture(created: u64, bytes: u64) -> Picture {
    Picture { tenant: Some("a".to_owned()), created, bytes, crc: None }
}

fn forget(before: u64) -> Vec<Entry> {
    vec![Entry::Forget { before, most_bytes: u64::MAX }]
}

#[tokio::test]
async fn what_was_written_is_there_again_and_what_is_old_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    {
        let ledger = open(folder.path()).expect("a ledger");
        let entries = vec![
            Entry::Job(Box::new(job("b", 7, Status::Queued))),
            Entry::Job(Box::new(job("a", 7, Status::Queued))),
            Entry::Job(Box::new(job("c", 6, Status::Completed))),
            Entry::Picture("p".to_owned(), picture(5, 10)),
            Entry::Used("a".to_owned(), Used { day: 3, images: 5 }),
        ];
        ledger.write(entries).await.expect("written");
        let second = open(folder.path()).err().expect("one program at a time");
        assert!(second.to_string().contains("in use by another run"), "{second}");
    }
    let ledger = open(folder.path()).expect("a ledger");
    assert!(ledger.warnings().is_empty() && ledger.last_date().is_some_and(|date| date > 1_700_000_000));
    let open: Vec<String> = ledger.open_jobs().expect("jobs").into_iter().map(|job| job.id).collect();
    assert_eq!(open, ["a", "b"]);
    assert_eq!(ledger.picture("p").expect("read").and_then(|picture| picture.tenant), Some("a".to_owned()));
    assert_eq!(ledger.used("a").expect("read"), Some(Used { day: 3, images: 5 }));
    assert_eq!(ledger.job("none").expect("read"), None);
    assert_eq!(ledger.write(forget(100)).await.expect("written").pictures, ["p"]);
    assert!(ledger.job("c").expect("read").is_none() && ledger.job("a").expect("read").is_some(), "not what is open");
}

#[tokio::test]
async fn jobs_are_as_old_as_their_end_and_pictures_have_room_for_so_many_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = open(folder.path()).expect("a ledger");
    let asked = job("late", 10, Status::Queued);
    ledger.write(vec![Entry::Job(Box::new(asked.clone()))]).await.expect("written");
    let ended = Job { status: Status::Completed, ended: Some(500), ..asked };
    ledger.write(vec![Entry::Job(Box::new(ended))]).await.expect("written");
    ledger.write(forget(499)).await.expect("written");
    assert!(ledger.job("late").expect("read").is_some(), "by its end, not by when it was asked for");
    ledger.write(forget(501)).await.expect("written");
    assert!(ledger.job("late").expect("read").is_none());

    let pictures = (0..5).map(|number| Entry::Picture(format!("p{number}"), picture(600 + number, 100)));
    ledger.write(pictures.collect()).await.expect("written");
    // The same picture is written twice and counted once.
    ledger.write(vec![Entry::Picture("p4".to_owned(), picture(604, 100))]).await.expect("written");
    let gone = ledger.write(vec![Entry::Forget { before: 0, most_bytes: 299 }]).await.expect("written");
    assert_eq!(gone.pictures, ["p0", "p1", "p2"]);
    assert!(
        ledger.write(vec![Entry::Forget { before: 0, most_bytes: 200 }]).await.expect("written").pictures.is_empty()
    );
}

#[tokio::test]
async fn rows_written_again_at_a_later_time_have_one_age() {
    let folder = tempfile::tempdir().expect("a folder");
    {
        let ledger = open(folder.path()).expect("a ledger");
        for time in [500, 501, 502] {
            let job = Job { ended: Some(time), ..job("job", 10, Status::Completed) };
            let entries = vec![Entry::Picture("p".to_owned(), picture(time, 100)), Entry::Job(Box::new(job))];
            ledger.write(entries).await.expect("written");
        }
        ledger.write(forget(502)).await.expect("written");
        assert!(ledger.job("job").expect("read").is_some() && ledger.picture("p").expect("read").is_some());
        ledger.write(vec![Entry::Job(Box::new(job("gone", 503, Status::Failed)))]).await.expect("written");
        ledger.write(vec![Entry::Withdraw("gone".to_owned())]).await.expect("written");
    }
    // A ledger opens only if each age belongs to a row.
    let ledger = open(folder.path()).expect("a ledger");
    ledger.write(forget(503)).await.expect("written");
    assert!(ledger.job("job").expect("read").is_none() && ledger.picture("p").expect("read").is_none());
}

/// Makes the entry of a tenant's job.
pub(super) fn entry(tenant: &str, id: &str, created: u64, status: Status) -> Entry {
    let tenant = (!tenant.is_empty()).then(|| tenant.to_owned());
    let job = Box::new(Job { tenant, ..job(id, created, status) });
    if status == Status::Queued { Entry::NewJob(job) } else { Entry::Job(job) }
}

/// Lists the names of all jobs, page by page.
pub(super) fn listed(ledger: &Ledger, tenant: Option<&str>, page: usize) -> Vec<String> {
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let jobs = ledger.newest_jobs(tenant, after.as_ref(), page).expect("read");
        let Some(last) = jobs.last() else { return names };
        after = Some(Place { created: last.created, id: last.id.clone() });
        names.extend(jobs.into_iter().map(|job| job.id));
    }
}

#[tokio::test]
async fn jobs_are_listed_by_tenant_newest_first_a_page_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    {
        let ledger = open(folder.path()).expect("a ledger");
        assert!(ledger.newest_jobs(None, None, 5).expect("read").is_empty());
        let entries = vec![
            entry("b", "job-4", 7, Status::Completed),
            entry("a", "job-1", 5, Status::Queued),
            entry("a", "job-3", 7, Status::Completed),
            entry("a", "job-2", 7, Status::Completed),
            entry("", "job-5", 6, Status::Failed),
            entry("ab", "job-6", 9, Status::Completed),
        ];
        ledger.write(entries).await.expect("written");
        // The end of a job does not change its position in the list.
        let ended = Job { tenant: Some("a".to_owned()), ended: Some(20), ..job("job-1", 5, Status::Completed) };
        ledger.write(vec![Entry::Job(Box::new(ended))]).await.expect("written");
        for page in 1..8 {
            assert_eq!(listed(&ledger, Some("a"), page), ["job-3", "job-2", "job-1"], "{page}");
            assert_eq!(listed(&ledger, Some("b"), page), ["job-4"]);
            assert!(listed(&ledger, Some("c"), page).is_empty());
            let all = ["job-6", "job-4", "job-3", "job-2", "job-5", "job-1"];
            assert_eq!(listed(&ledger, None, page), all, "{page}");
        }
        // A position stays valid after its job is removed.
        let after = Place { created: 7, id: "job-3".to_owned() };
        ledger.write(vec![Entry::Withdraw("job-3".to_owned())]).await.expect("written");
        let rest: Vec<Job> = ledger.newest_jobs(Some("a"), Some(&after), 9).expect("read");
        assert_eq!(rest.iter().map(|job| &*job.id).collect::<Vec<_>>(), ["job-2", "job-1"]);
        ledger.write(forget(8)).await.expect("written");
        assert_eq!(listed(&ledger, None, 9), ["job-6", "job-1"]);
    }
    // A ledger opens only if each position in the list belongs to a row.
    assert_eq!(listed(&open(folder.path()).expect("a ledger"), None, 9), ["job-6", "job-1"]);
    // A ledger of version 2 has no table of jobs by tenant.
    let before = Database::create(file(folder.path())).expect("a database");
    let writing = before.begin_write().expect("begun");
    writing.delete_table(rows::JOBS_OF_TENANTS).expect("deleted");
    writing.open_table(rows::META).expect("a table").insert("version", 2).expect("a row");
    writing.commit().expect("committed");
    drop(before);
    assert_eq!(listed(&open(folder.path()).expect("a ledger"), Some("a"), 9), ["job-1"]);
}

#[tokio::test]
async fn a_write_that_hangs_is_not_acknowledged_and_its_job_is_withdrawn() {
    let folder = tempfile::tempdir().expect("a folder");
    let hangs = folder.path().join("hangs");
    let faults = Faults::hang_while(hangs.clone());
    let limit = Duration::from_secs(1);
    let ledger = Ledger::open(folder.path(), &HostClock::new(), Some(faults)).expect("a ledger").with_limit(limit);
    ledger.write(vec![entry("a", "job-1", 1, Status::Queued)]).await.expect("written");
    std::fs::write(&hangs, "").expect("a file");
    for id in ["job-2", "job-3"] {
        let error = ledger.write(vec![entry("a", id, 2, Status::Queued)]).await.expect_err("it hangs");
        assert!(error.is_disk() && error.to_string().contains("has not answered within 1 s"), "{error}");
    }
    let health = ledger.health();
    assert!(matches!(health, Health::Silent { since } if since > limit), "{health:?}");
    std::fs::remove_file(&hangs).expect("removed");
    ledger.write(vec![entry("a", "job-4", 4, Status::Queued)]).await.expect("written");
    assert!(matches!(ledger.health(), Health::Well));
    // The withdrawal may still be under way: another write waits for it.
    ledger.write(Vec::new()).await.expect("written");
    assert_eq!(listed(&ledger, None, 9), ["job-4", "job-1"], "what was refused is not begun again");
    // A ledger whose disk hangs does not keep the program from ending.
    std::fs::write(&hangs, "").expect("a file");
    assert!(ledger.write(vec![entry("a", "job-5", 5, Status::Queued)]).await.is_err());
    drop(ledger);
    std::fs::remove_file(&hangs).expect("removed");
}

/// Changes that the sequence below had acknowledged. The ledger may have written more than these.
#[derive(Default)]
struct Acknowledged {
    jobs: Vec<String>,
    /// Jobs whose end was acknowledged.
    ended: Vec<String>,
    /// True if the removal of old rows was acknowledged.
    forgot: bool,
}

/// Writes, reads and removes rows of a ledger whose disk follows a plan. Returns the health of the ledger at the end.
async fn scripted(ledger: &Ledger, acknowledged: &mut Acknowledged) -> Health {
    for number in 0..4 {
        let id = format!("job-{number}");
        if ledger.write(vec![Entry::NewJob(Box::new(job(&id, number, Status::Queued)))]).await.is_ok() {
            acknowledged.jobs.push(id.clone());
            match ledger.job(&id) {
                Ok(found) => assert_eq!(found.map(|job| job.status), Some(Status::Queued), "{id}"),
                Err(error) => assert!(error.is_disk(), "{error}"),
            }
            let ended = job(&id, number, Status::Completed);
            let entries =
                vec![Entry::Picture(format!("img-{number}"), picture(number, 1)), Entry::Job(Box::new(ended))];
            if ledger.write(entries).await.is_ok() {
                acknowledged.ended.push(id);
            }
        }
    }
    acknowledged.forgot = ledger.write(forget(2)).await.is_ok();
    ledger.health()
}

/// Opens the ledger on a disk that works, and compares it with what was acknowledged.
fn compare(folder: &Path, acknowledged: &Acknowledged, context: &str) {
    let ledger = open(folder).unwrap_or_else(|error| panic!("{context}: {error}"));
    for id in &acknowledged.jobs {
        let is_old = ["job-0", "job-1"].contains(&id.as_str());
        let found = ledger.job(id).expect("read");
        if acknowledged.ended.contains(id) {
            assert_eq!(found.is_none(), is_old && acknowledged.forgot, "{context}: {id}");
            let kept = ledger.picture(&id.replace("job", "img")).expect("read").is_some();
            assert_eq!(kept, found.is_some(), "{context}: the picture of {id}");
            assert!(found.is_none_or(|job| job.status == Status::Completed), "{context}: {id}");
        } else {
            let status = found.map(|job| job.status);
            // The end of the job may be on disk although it was not acknowledged.
            assert!(status.is_some() || acknowledged.forgot, "{context}: {id}");
        }
    }
    let known: Vec<String> = ledger.open_jobs().expect("jobs").into_iter().map(|job| job.id).collect();
    assert!(
        known.iter().all(|id| acknowledged.jobs.contains(id) && !acknowledged.ended.contains(id)),
        "{context}: {known:?}"
    );
}

#[tokio::test]
async fn each_call_to_the_disk_fails_once_and_nothing_acknowledged_is_lost() {
    let (mut recovered, mut refused, mut lost) = (0, 0, 0);
    for fault in [Fault::Fails(std::io::ErrorKind::Other), Fault::Fails(std::io::ErrorKind::StorageFull), Fault::Short]
    {
        for call in 0.. {
            let folder = tempfile::tempdir().expect("a folder");
            let faults = Faults::new(Plan::Once(call, fault));
            let mut acknowledged = Acknowledged::default();
            let (clock, _) = set(1_000);
            match Ledger::open(folder.path(), &clock, Some(faults.clone())) {
                Ok(ledger) => match scripted(&ledger, &mut acknowledged).await {
                    Health::Well => recovered += 1,
                    Health::Failing { .. } | Health::Silent { .. } => panic!("{fault:?} {call}: one failure is over"),
                    // A server's process would end with this message.
                    Health::Lost(error) => {
                        eprintln!("{fault:?} {call}: {error}");
                        lost += 1;
                    }
                },
                Err(error) => {
                    assert!(!matches!(error, LedgerError::InUse { .. }), "{error}");
                    refused += 1;
                }
            }
            if faults.calls() <= call {
                break;
            }
            compare(folder.path(), &acknowledged, &format!("{fault:?} {call}"));
        }
    }
    eprintln!("recovered in place {recovered}, refused at the start {refused}, ended {lost}");
    assert!(recovered > 100 && refused > 10, "{recovered} {refused} {lost}");
}

#[tokio::test]
async fn a_disk_that_is_full_for_a_while_refuses_and_recovers() {
    let folder = tempfile::tempdir().expect("a folder");
    let (clock, hands) = set(1_000);
    let faults = Faults::new(Plan::While(400, 500, Fault::Fails(std::io::ErrorKind::StorageFull)));
    let ledger = Ledger::open(folder.path(), &clock, Some(faults.clone())).expect("a ledger");
    let (mut acknowledged, mut failed) = (Vec::new(), 0);
    for number in 0..4000 {
        // Time must pass between two attempts to reopen the ledger.
        hands.passed_s.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = format!("job-{number}");
        match ledger.write(vec![Entry::NewJob(Box::new(job(&id, number, Status::Queued)))]).await {
            Ok(_) => acknowledged.push(id),
            Err(error) => {
                assert!(error.is_disk(), "{error}");
                assert!(matches!(ledger.health(), Health::Failing { is_full: true, .. }), "{error}");
                failed += 1;
            }
        }
        if faults.calls() > 700 {
            break;
        }
    }
    assert!(failed > 5 && acknowledged.len() > 10 && matches!(ledger.health(), Health::Well));
    let mut known: Vec<String> = ledger.open_jobs().expect("jobs").into_iter().map(|job| job.id).collect();
    drop(ledger);
    let again: Vec<String> =
        open(folder.path()).expect("a ledger").open_jobs().expect("jobs").into_iter().map(|job| job.id).collect();
    assert_eq!(known, again);
    known.sort();
    acknowledged.sort();
    assert_eq!(known, acknowledged, "what was refused is not on disk either");
}

#[tokio::test]
async fn seeded_faults_lose_nothing() {
    for seed in 0..20 {
        let folder = tempfile::tempdir().expect("a folder");
        let (clock, _) = set(1_000);
        let faults = Faults::new(Plan::Seeded { seed, one_in: 40, from: 0, until: 1000 });
        let mut acknowledged = Acknowledged::default();
        if let Ok(ledger) = Ledger::open(folder.path(), &clock, Some(faults)) {
            scripted(&ledger, &mut acknowledged).await;
        }
        compare(folder.path(), &acknowledged, &format!("seed {seed}"));
    }
}

/// Makes a ledger with 300 jobs, closed or in the state that a kill leaves. Returns the number of jobs.
async fn some_ledger(folder: &Path, is_closed: bool) -> usize {
    let ledger = open(folder).expect("a ledger");
    for number in 0..60 {
        let jobs =
            (0..5).map(|part| Entry::Job(Box::new(job(&format!("job-{number}-{part}"), number, Status::Completed))));
        ledger.write(jobs.collect()).await.expect("written");
    }
    if !is_closed {
        let (from, to) = (file(folder), folder.join("copy"));
        std::fs::copy(&from, &to).expect("copied");
        drop(ledger);
        std::fs::rename(to, from).expect("as it was");
    }
    300
}

#[tokio::test]
async fn damaged_files_are_whole_or_refused_with_a_sentence() {
    for is_closed in [true, false] {
        let original = tempfile::tempdir().expect("a folder");
        let jobs = some_ledger(original.path(), is_closed).await;
        let bytes = std::fs::read(file(original.path())).expect("a file");
        let mark = std::fs::read(mark::path(original.path())).expect("a mark");
        let (mut refused, mut saved) = (0, 0);
        for seed in 0..60 {
            let folder = tempfile::tempdir().expect("a folder");
            let mut damaged = bytes.clone();
            damage(&mut damaged, seed);
            std::fs::write(file(folder.path()), damaged).expect("a file");
            std::fs::write(mark::path(folder.path()), &mark).expect("a mark");
            match open(folder.path()) {
                Ok(ledger) => {
                    let found = ledger.shelf.using(|database| rows::inspect(database, rows::NEWEST)).expect("rows");
                    assert!(found.is_empty(), "seed {seed}: {found:?}");
                    for number in 0..60 {
                        for part in 0..5 {
                            let id = format!("job-{number}-{part}");
                            assert_eq!(ledger.job(&id).expect("read"), Some(job(&id, number, Status::Completed)));
                        }
                    }
                }
                Err(error) => {
                    refused += 1;
                    // The refused file is unchanged, so that it can be repaired.
                    let mut found =
                        offline::read(folder.path(), LockedFile::alone).expect("looked at").expect("a ledger");
                    assert!(!found.wrong.is_empty(), "seed {seed}");
                    saved += found.jobs.len();
                    offline::rebuild(folder.path(), &folder.path().join("aside"), &mut found).expect("made anew");
                    let meanwhile = open(folder.path()).err();
                    assert!(matches!(meanwhile, Some(LedgerError::InUse { .. })), "seed {seed}: {meanwhile:?}");
                    drop(found);
                    open(folder.path()).expect("whole");
                    assert!(error.to_string().contains("modm repair"), "seed {seed}: {error}");
                }
            }
        }
        eprintln!("closed {is_closed}: {refused} of 60 refused, {saved} of their {} jobs saved", refused * jobs);
        assert!(refused > 10 && saved * 3 > refused * jobs, "{refused} {saved}");
    }
}

/// Damages a file: flips bits, cuts the file, fills a part of it with zeros, or overwrites bytes of its header.
pub(in crate::serve) fn damage(bytes: &mut Vec<u8>, seed: u64) {
    let mut draws = stream(seed, Purpose::Test, 0);
    match seed % 4 {
        0 => {
            for _ in 0..draws.random_range(1..40) {
                let at = draws.random_range(0..bytes.len());
                bytes[at] ^= 1 << draws.random_range(0..8);
            }
        }
        1 => {
            let length = draws.random_range(0..bytes.len());
            bytes.truncate(length);
        }
        2 => {
            let from = draws.random_range(0..bytes.len());
            let to = bytes.len().min(from + 4096 * draws.random_range(1..20));
            bytes[from..to].fill(0);
        }
        // The header of a file of redb has 320 bytes.
        _ => {
            for _ in 0..4 {
                let at = draws.random_range(0..bytes.len().min(320));
                bytes[at] = draws.random();
            }
        }
    }
}

#[tokio::test]
async fn a_ledger_that_went_back_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    some_ledger(folder.path(), true).await;
    let before = std::fs::read(file(folder.path())).expect("a file");
    let ledger = open(folder.path()).expect("a ledger");
    ledger.write(vec![Entry::Job(Box::new(job("new", 1, Status::Queued)))]).await.expect("written");
    drop(ledger);
    std::fs::write(file(folder.path()), before).expect("an old copy");
    let error = open(folder.path()).err().expect("refused").to_string();
    assert!(error.contains("its last 1 of ") && error.contains("modm repair"), "{error}");
    std::fs::write(file(folder.path()), b"").expect("emptied");
    assert!(open(folder.path()).is_err(), "an empty file is no new ledger");
    std::fs::remove_file(file(folder.path())).expect("removed");
    assert!(open(folder.path()).is_err(), "nor is none");
    // A damaged mark does not make the ledger count as damaged.
    let folder = tempfile::tempdir().expect("a folder");
    some_ledger(folder.path(), true).await;
    std::fs::write(mark::path(folder.path()), "5\n").expect("a mark");
    assert_eq!(open(folder.path()).expect("a ledger").warnings().len(), 1);
    assert!(open(folder.path()).expect("a ledger").warnings().is_empty(), "written anew");
}

#[tokio::test]
async fn rows_of_version_1_get_the_ages_of_their_ends_and_newer_versions_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    {
        let jobs: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("jobs");
        let pictures: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("pictures");
        let used: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("used");
        let ages: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("ages");
        let old = Database::create(file(folder.path())).expect("a database");
        let writing = old.begin_write().expect("begun");
        {
            let common = r#""tenant":null,"prompt":"x","pictures":1,"seed":null,"deadline_s":null,"error":null"#;
            let ended =
                format!(r#"{{"id":"job-1","created":100,"status":"completed","made":[{{"id":"img-1"}}],{common}}}"#);
            let queued = format!(r#"{{"id":"job-2","created":90,"status":"queued","made":[],{common}}}"#);
            let mut jobs = writing.open_table(jobs).expect("a table");
            jobs.insert("job-1", ended.as_bytes()).expect("a row");
            jobs.insert("job-2", queued.as_bytes()).expect("a row");
            let mut pictures = writing.open_table(pictures).expect("a table");
            pictures.insert("img-1", br#"{"tenant":null,"created":300}"#.as_slice()).expect("a row");
            writing.open_table(used).expect("a table");
            let mut ages = writing.open_table(ages).expect("a table");
            for key in [(100, "job-1"), (90, "job-2"), (300, "img-1")] {
                ages.insert(key, ()).expect("a row");
            }
        }
        writing.commit().expect("committed");
    }
    std::fs::create_dir(results(folder.path())).expect("a folder");
    std::fs::write(picture_file(&results(folder.path()), "img-1"), [0; 77]).expect("a picture");
    let ledger = open(folder.path()).expect("an old ledger opens");
    assert_eq!(ledger.last_date(), Some(300));
    assert_eq!(ledger.picture("img-1").expect("read").map(|picture| picture.bytes), Some(77));
    ledger.write(forget(200)).await.expect("written");
    let job = ledger.job("job-1").expect("read").expect("kept as long as its picture");
    assert_eq!(job.ended, Some(300));
    assert_eq!(ledger.write(forget(301)).await.expect("written").pictures, ["img-1"]);
    assert!(ledger.job("job-1").expect("read").is_none() && ledger.job("job-2").expect("read").is_some());
    drop(ledger);
    let newer = Database::create(file(folder.path())).expect("a database");
    let writing = newer.begin_write().expect("begun");
    writing.open_table(rows::META).expect("a table").insert("version", 99).expect("a row");
    writing.commit().expect("committed");
    drop(newer);
    let error = open(folder.path()).err().expect("refused").to_string();
    assert!(error.contains("version 99") && error.contains("reads versions 1 to 3"), "{error}");
}
