//! Failures between machines: delays, losses, cuts, a partition, a NATS server that dies. Every request ends once, with
//! its own picture.

use std::sync::Arc;
use std::time::Duration;

use modm::request::Outcome;

use crate::nats::Nats;
use crate::protocol::settings;
use crate::rig::{Ended, FixedTools, Node, Rig, Said, sleep};
use crate::weather::{Weather, way};

const TOOLS: FixedTools = FixedTools::new(Duration::from_millis(2));

/// Runs requests on two workers behind a network, while `happens` changes it.
fn run(requests: usize, rate_per_min: f64, happens: impl FnOnce(&mut Nats, &Weather) + Send) -> (Ended, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut nats = Nats::start(folder.path());
    let weather = Arc::new(Weather::default());
    // Both the messages and the pictures of the workers go through the network; the scheduler is beside NATS.
    let messages = way(nats.port, weather.clone());
    let pictures = crate::nats::free_port();
    let outside = way(pictures, weather.clone());
    let url = format!("nats://127.0.0.1:{messages}");
    let nodes = ["a", "b"].map(|name| Node::start(&url, "modm", name, 1, TOOLS));
    let rig = Rig::new(requests, rate_per_min, 2, [64, 64], "modm");
    let mut settings = settings(&nats.url());
    settings.pictures = ([127, 0, 0, 1], pictures).into();
    settings.pictures_from_outside = Some(format!("127.0.0.1:{outside}"));
    let said = Said::default();
    let cluster = rig.cluster(settings, &said).unwrap_or_else(|error| panic!("{error}\n{}", said.all()));
    let ended = std::thread::scope(|scope| {
        let (nats, weather) = (&mut nats, &*weather);
        scope.spawn(move || happens(nats, weather));
        rig.run_there(cluster)
    });
    let [first, second] = &nodes;
    let all = [said.all(), first.said.all(), second.said.all()].join("\nnode: ");
    (ended, all)
}

/// Checks that every request ended once, and completed with its own picture.
fn whole(ended: &Ended, requests: usize, said: &str) {
    ended.outcome.as_ref().unwrap();
    let ends = ended.ends();
    let mut once: Vec<_> = ends.iter().map(|(request, _)| *request).collect();
    once.dedup();
    assert_eq!((ends.len(), once.len()), (requests, requests), "{said}");
    let failed: Vec<_> = ends.iter().filter(|(_, outcome)| *outcome != Outcome::Completed).collect();
    assert!(failed.is_empty(), "{failed:?}\n{said}");
    assert_eq!(ended.right, requests as u64, "each has its own picture\n{said}");
}

#[test]
fn delays_and_losses_cost_time_and_nothing_else() {
    let (ended, said) = run(40, 600.0, |_, weather| {
        weather.delay(300);
        weather.lose(50);
    });
    whole(&ended, 40, &said);
}

#[test]
fn connections_that_are_cut_are_made_again() {
    let (ended, said) = run(120, 1_500.0, |_, weather| {
        for _ in 0..8 {
            sleep(Duration::from_millis(400));
            weather.cut();
        }
    });
    whole(&ended, 120, &said);
}

#[test]
fn a_partition_costs_the_workers_until_it_heals() {
    let (ended, said) = run(120, 1_200.0, |_, weather| {
        sleep(Duration::from_millis(1500));
        weather.part(true);
        sleep(Duration::from_secs(4));
        weather.part(false);
    });
    whole(&ended, 120, &said);
    assert!(said.contains("nothing was heard of it for 1 s"), "{said}");
    let events = ended.lines.iter().map(|line| format!("{:?}", line.what)).collect::<Vec<_>>().join("\n");
    assert!(events.contains("cause: Gone") && events.contains("WorkerUp"), "{said}");
}

#[test]
fn a_nats_server_that_is_killed_is_missed_and_found_again() {
    let (ended, said) = run(120, 1_200.0, |nats, _| {
        for _ in 0..2 {
            sleep(Duration::from_millis(1500));
            nats.restart();
        }
    });
    whole(&ended, 120, &said);
    assert!(said.contains("the connection to the NATS server is lost"), "{said}");
}
