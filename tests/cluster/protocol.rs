//! Messages between a scheduler and its workers: every request ends once with its own picture, and what a worker may
//! not do is refused.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use modm::live::cluster::pictures::{Line, LineError, Permits, PictureServer};
use modm::live::cluster::settings::ClusterSettings;
use modm::live::cluster::{Cluster, ClusterError};
use modm::live::executor::Elsewhere;
use modm::request::{Outcome, RequestId};
use modm::scheduler::WorkerId;

use crate::nats::Nats;
use crate::program::within;
use crate::rig::{FixedTools, Node, Rig, Said, image, picture, sleep};

const STEP: Duration = Duration::from_millis(2);
const TOOLS: FixedTools = FixedTools::new(STEP);

pub(crate) fn settings(url: &str) -> ClusterSettings {
    ClusterSettings { notice_s: 1.0, join_s: 20.0, ..ClusterSettings::at(url) }
}

fn opened(rig: &Rig, url: &str, said: &Said) -> Cluster {
    rig.cluster(settings(url), said).unwrap_or_else(|error| panic!("{error}\n{}", said.all()))
}

#[test]
fn every_request_gets_its_own_picture_and_hits_are_refined_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Nats::start(folder.path());
    let nodes = ["a", "b"].map(|name| Node::start(&nats.url(), "modm", name, 2, TOOLS));
    let rig = Rig::new(200, 30_000.0, 4, [32, 24], "modm");
    let said = Said::default();
    let ended = rig.run_there(opened(&rig, &nats.url(), &said));
    ended.outcome.as_ref().unwrap();
    let ends = ended.ends();
    assert_eq!((ends.len(), ended.right), (200, 200), "{:?}\n{}", ended.failures, said.all());
    assert!(ends.iter().all(|(_, outcome)| *outcome == Outcome::Completed));
    let hits = ended.lines.iter().filter(|line| format!("{:?}", line.what).contains("source: Some")).count();
    assert!(hits > 50, "{hits} hits: pictures are embedded where they are drawn, and found");
    // A second scheduler takes the same workers, which the first has left.
    let again = rig.run_there(opened(&rig, &nats.url(), &said));
    assert_eq!(again.right, 200);
    nodes.into_iter().for_each(Node::end);
}

#[test]
fn workers_join_leave_and_come_back_while_a_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Nats::start(folder.path());
    let url = nats.url();
    let first = Node::start(&url, "modm", "a", 1, TOOLS);
    let rig = Rig::new(100, 1_500.0, 2, [16, 16], "vanilla");
    let settings = ClusterSettings { join_s: 1.0, ..settings(&url) };
    let said = Said::default();
    let cluster = rig.cluster(settings, &said).unwrap();
    assert!(said.all().contains("1 of 2 workers have not joined"), "{}", said.all());
    let late = std::thread::spawn(move || {
        sleep(Duration::from_millis(700));
        let second = Node::start(&url, "modm", "b", 1, TOOLS);
        sleep(Duration::from_secs(1));
        first.end();
        let third = Node::start(&url, "modm", "a", 1, TOOLS);
        sleep(Duration::from_secs(3));
        (second, third)
    });
    let ended = rig.run_there(cluster);
    assert_eq!(ended.right, 100, "{}", said.all());
    let events = ended.lines.iter().map(|line| format!("{:?}", line.what)).collect::<Vec<_>>().join("\n");
    assert!(events.contains("it has not joined yet"), "the absent are lost at the start");
    assert!(events.contains("WorkerUp(WorkerId(1))"), "and join later: {}", said.all());
    assert!(events.contains("WorkerDown(WorkerId(0))"), "one that is told to end is no fault: {}", said.all());
    assert!(events.contains("WorkerUp(WorkerId(0))"), "and comes back");
    let (second, third) = late.join().unwrap();
    assert!(second.said.all().contains("takes orders of the scheduler"));
    drop((second, third));
}

#[test]
fn what_does_not_fit_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Nats::start(folder.path());
    let said = Said::default();
    let rig = Rig::new(1, 60.0, 1, [16, 16], "vanilla");
    let nobody = rig.cluster(ClusterSettings { join_s: 0.5, ..settings(&nats.url()) }, &said).unwrap_err();
    assert!(matches!(nobody, ClusterError::NoWorker { .. }));
    assert!(nobody.to_string().contains("start `modm worker --cluster"), "{nobody}");
    let unreachable = rig.cluster(ClusterSettings::at("nats://127.0.0.1:1"), &said).unwrap_err();
    assert!(unreachable.to_string().contains("Is nats-server running there"), "{unreachable}");

    let _node = Node::start(&nats.url(), "modm", "a", 1, TOOLS);
    let one = opened(&rig, &nats.url(), &said);
    assert!(one.is_there(WorkerId(0)));
    let another = rig.cluster(settings(&nats.url()), &said).unwrap_err();
    assert!(matches!(another, ClusterError::AnotherScheduler(..)), "{another}");
    // Clusters of other names hear nothing of each other.
    let elsewhere = ClusterSettings { name: "other".to_owned(), join_s: 0.5, ..settings(&nats.url()) };
    assert!(matches!(rig.cluster(elsewhere, &said).unwrap_err(), ClusterError::NoWorker { .. }));
    drop(one);
    // A worker without the models, and one whose heartbeats are too seldom.
    let strict = ClusterSettings { notice_s: 0.3, join_s: 1.5, ..settings(&nats.url()) };
    let refused = rig.cluster(strict, &said).unwrap_err().to_string();
    assert!(refused.contains("--heartbeat-s"), "{refused}");
}

/// Talks to a NATS server in its own words: connects and publishes.
fn publish(port: u16, subject: &str, payload: &str) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let connect = "CONNECT {\"verbose\":false,\"headers\":true}\r\n";
    stream.write_all(format!("{connect}PUB {subject} {}\r\n{payload}\r\nPING\r\n", payload.len()).as_bytes()).unwrap();
    let mut answer = [0; 4096];
    let mut heard = String::new();
    while !heard.contains("PONG") {
        let read = stream.read(&mut answer).unwrap();
        heard += &String::from_utf8_lossy(&answer[..read]);
    }
}

#[test]
fn another_version_noise_and_lies_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Nats::start(folder.path());
    let node = Node::start(&nats.url(), "modm", "a", 1, TOOLS);
    let rig = Rig::new(60, 1_200.0, 1, [16, 16], "vanilla");
    let said = Said::default();
    let cluster = opened(&rig, &nats.url(), &said);
    let port = nats.port;
    let noise = std::thread::spawn(move || {
        for _ in 0..20 {
            publish(port, "modm.modm.answers.a-cpu-0", "{\"protocol\": 9}");
            publish(port, "modm.modm.answers.a-cpu-0", "\u{1}\u{2} no message");
            let lie = r#"{"protocol": 1, "session": "x", "number": 1, "life": "y", "what": "loaded"}"#;
            publish(port, "modm.modm.answers.a-cpu-0", lie);
            publish(port, "modm.modm.orders.a-cpu-0", "{\"protocol\": 9}");
            let order = r#"{"protocol": 1, "session": "stranger", "number": 99, "ticket": "", "what": "stop"}"#;
            publish(port, "modm.modm.orders.a-cpu-0", order);
            publish(port, "$KV.modm_modm.worker.b-cpu-0", "{\"protocol\": 9}");
            publish(port, "$KV.modm_modm.worker.c-cpu-0", r#"{"protocol": 1}"#);
            sleep(Duration::from_millis(20));
        }
    });
    let ended = rig.run_there(cluster);
    noise.join().unwrap();
    assert_eq!(ended.right, 60, "{}", said.all());
    let (scheduler, worker) = (said.all(), node.said.all());
    assert!(scheduler.contains("not taken: worker b-cpu-0 speaks version 9"), "{scheduler}");
    assert_eq!(scheduler.matches("speaks version 9").count(), 2, "each is said once: {scheduler}");
    assert!(scheduler.contains("not taken: worker c-cpu-0 sent what is no message of modm"), "{scheduler}");
    assert!(worker.contains("the scheduler speaks version 9"), "{worker}");
    assert!(worker.contains("orders of a scheduler without the lease of the cluster are not taken"), "{worker}");
}

#[test]
fn pictures_go_through_for_the_tickets_of_orders_that_run_and_for_nothing_else() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let permits = Permits::default();
        let listen = ([127, 0, 0, 1], 0).into();
        let server = PictureServer::start(listen, permits.clone(), Arc::new(OnceLock::new())).await.unwrap();
        let address = server.address.to_string();
        let mut line = Line::new(address.clone(), &server.pin).unwrap();
        let right = picture([8, 8], RequestId(5));
        let refused = |sent: Result<(), LineError>| matches!(sent, Err(LineError::Refused(_)));
        assert!(refused(line.send("guessed", &right, &[], None).await));
        permits.grant("ticket", [8, 8], Some(image(1)), Box::new(|| {}));
        assert!(refused(line.send("ticket", &picture([8, 9], RequestId(5)), &[], None).await), "another size");
        line.send("ticket", &right, &[], None).await.unwrap();
        line.send("ticket", &right, &[], None).await.unwrap();
        assert_eq!(
            permits.end("ticket").map(|arrived| arrived.picture),
            Some(right.clone()),
            "what comes twice is there once"
        );
        assert!(refused(line.send("ticket", &right, &[], None).await), "the order is over");
        permits.grant("other", [8, 8], Some(image(1)), Box::new(|| {}));
        assert!(matches!(line.fetch("other", image(2)).await, Err(LineError::Refused(_))), "another's source");
        // Somebody else at the address is not talked to.
        let mut deceived = Line::new(address, &"0".repeat(64)).unwrap();
        assert!(matches!(deceived.send("other", &right, &[], None).await, Err(LineError::Connection(..))));
    });
}

#[test]
fn a_node_that_is_told_to_end_is_gone_from_the_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Nats::start(folder.path());
    let node = Node::start(&nats.url(), "modm", "a", 1, TOOLS);
    let seen = || {
        let mut found = Vec::new();
        let identity = modm::live::cluster::settings::Identity::default();
        modm::live::cluster::diagnosis::examine((&nats.url(), "modm"), &identity, &mut |finding| {
            found.push(format!("{} {}", finding.part, finding.found));
        });
        found.join("\n")
    };
    within(20, "it is heard of", || seen().contains("worker a-cpu-0: cpu:0 of type cpu on a").then_some(()));
    node.end();
    let found = seen();
    assert!(found.contains("no worker of the cluster modm was heard of"), "{found}");
    assert!(found.contains("nobody has the lease"), "{found}");
}
