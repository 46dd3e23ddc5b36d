//! Cost of a cluster, with painters of fixed times and real messages. docs/cluster.md quotes the results.
//!
//! ```text
//! nats-server -js &
//! cargo run --release --features cluster --example bench_cluster -- pictures nats://127.0.0.1:4222
//! cargo run --release --features cluster --example bench_cluster -- overhead nats://127.0.0.1:4222 [JOBS]
//! cargo run --release --features cluster --example bench_cluster -- many nats://127.0.0.1:4222 [WORKERS] [SECONDS]
//! cargo run --release --features cluster --example bench_cluster -- network nats://127.0.0.1:4222
//! ```
//! `network` holds simulated runs with a section `[network]` against runs over a network that is made slow here.
//! `overhead` takes workers that were started elsewhere, for example in other network namespaces, if there are any:
//! `bench_cluster node nats://HOST:4222 NAME DEVICES STEP_MS`, and then `overhead URL JOBS outside ADDRESS:PORT`.

#[path = "../tests/common/rig.rs"]
mod rig;
#[path = "../tests/common/weather.rs"]
mod weather;

use std::process::{Child, Command};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::jetstream;
use async_nats::jetstream::stream::StorageType;
use futures_util::StreamExt as _;
use modm::live::cluster::pictures::{Line, Permits, PictureServer};
use modm::live::cluster::settings::ClusterSettings;
use modm::live::measure::median;
use modm::request::RequestId;
use rig::{FixedTools, Node, Rig, Said, now};
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Runtime;
use weather::{Weather, way};

const TURNS: usize = 5;
/// Requests of a run that is held against a simulated one.
const REQUESTS: usize = 100;
/// Time of a step, of 20 for a picture.
const STEP: Duration = Duration::from_millis(5);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, url, rest @ ..] = arguments.as_slice() else { anyhow::bail!("expected WHAT URL") };
    let number = |at: usize, usual: usize| rest.get(at).map_or(Ok(usual), |text| text.parse());
    match what.as_str() {
        "pictures" => pictures(url),
        "overhead" => overhead(url, number(0, 30)?, rest.get(2).map(String::as_str)),
        "network" => network(url),
        "many" => many(url, number(0, 200)?, number(1, 10)?),
        "node" => {
            let step = Duration::from_millis(number(2, 5)? as u64);
            let node = Node::start(url, "bench", &rest[0], number(1, 1)? as u16, FixedTools::new(step));
            loop {
                rig::sleep(Duration::from_secs(1));
                if std::env::var_os("BENCH_SAYS").is_some() {
                    println!("{}", node.said.all());
                }
            }
        }
        other => anyhow::bail!("{other} is not measured"),
    }
}

/// Measures three ways for a picture from a worker to the scheduler, in turns: a connection of its own, NATS' object
/// store, and pieces in messages.
fn pictures(url: &str) -> anyhow::Result<()> {
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let client = async_nats::connect(url).await?;
        let permits = Permits::default();
        let server =
            PictureServer::start(([127, 0, 0, 1], 0).into(), permits.clone(), Arc::new(OnceLock::new())).await?;
        let mut line = Line::new(server.address.to_string(), &server.pin)?;
        let context = jetstream::new(client.clone());
        let _ = context.delete_object_store("bench_pictures").await;
        let stream = jetstream::stream::Config {
            name: "OBJ_bench_pictures".into(),
            subjects: vec!["$O.bench_pictures.C.>".into(), "$O.bench_pictures.M.>".into()],
            storage: StorageType::Memory,
            allow_rollup: true,
            allow_direct: true,
            ..jetstream::stream::Config::default()
        };
        context.get_or_create_stream(stream).await?;
        let store = context.get_object_store("bench_pictures").await?;
        println!("{:>12} {:>14} {:>14} {:>14}", "pixels", "connection ms", "objects ms", "messages ms");
        for side in [64, 512, 1024] {
            let picture = rig::picture([side; 2], RequestId(1));
            let mut medians = [const { Vec::new() }; 3];
            for _ in 0..TURNS {
                let mut times = [const { Vec::new() }; 3];
                for number in 0..30 {
                    let begun = now();
                    let ticket = format!("{number}");
                    permits.grant(&ticket, picture.size(), None, Box::new(|| {}));
                    line.send(&ticket, &picture, &[], None).await?;
                    ensure!(permits.end(&ticket).is_some(), "the picture came");
                    times[0].push(begun.elapsed().as_secs_f64());

                    let begun = now();
                    let mut bytes = picture.bytes();
                    store.put("picture", &mut bytes).await?;
                    let mut read = Vec::with_capacity(picture.bytes().len());
                    store.get("picture").await?.read_to_end(&mut read).await?;
                    ensure!(read.len() == picture.bytes().len(), "the picture came");
                    times[1].push(begun.elapsed().as_secs_f64());

                    let mut pieces = client.subscribe("bench.pieces").await?;
                    let begun = now();
                    let sent = client.clone();
                    let bytes = picture.bytes().to_vec();
                    let sending = tokio::spawn(async move {
                        for piece in bytes.chunks(512 << 10) {
                            sent.publish("bench.pieces", piece.to_vec().into()).await?;
                        }
                        sent.flush().await.map_err(anyhow::Error::from)
                    });
                    let mut read = 0;
                    while read < picture.bytes().len() {
                        read += pieces.next().await.context("the subscription ended")?.payload.len();
                    }
                    times[2].push(begun.elapsed().as_secs_f64());
                    sending.await??;
                }
                for (medians, times) in medians.iter_mut().zip(&times) {
                    medians.push(median(times));
                }
            }
            let [direct, objects, messages] = medians.map(|medians| 1e3 * median(&medians));
            println!("{:>12} {direct:>14.2} {objects:>14.2} {messages:>14.2}", format!("{side} x {side}"));
        }
        Ok(())
    })
}

fn settings(url: &str) -> ClusterSettings {
    ClusterSettings { name: "bench".to_owned(), notice_s: 5.0, join_s: 20.0, ..ClusterSettings::at(url) }
}

/// Compares two workers here with two elsewhere that take the same times, in turns.
fn overhead(url: &str, jobs: usize, outside: Option<&str>) -> anyhow::Result<()> {
    let workers = 2;
    println!("{:>12} {:>10} {:>12} {:>10} {:>18}", "pixels", "here s", "elsewhere s", "ratio", "overhead ms/job");
    for side in [64, 512, 1024] {
        let rig = Rig::new(jobs * workers, 1e7, workers, [side; 2], "vanilla");
        let nodes: Vec<Node> = match outside {
            Some(_) => Vec::new(),
            None => ["a", "b"].map(|name| Node::start(url, "bench", name, 1, FixedTools::new(STEP))).into(),
        };
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let ended = rig.run_here(STEP);
            ensure!(ended.right == (jobs * workers) as u64, "every request has its picture");
            here.push(ended.seconds);
            let mut settings = settings(url);
            if let Some(address) = outside {
                settings.pictures = address.parse()?;
            }
            let said = Said::default();
            let cluster = rig.cluster(settings, &said).with_context(|| said.all())?;
            let ended = rig.run_there(cluster);
            ensure!(ended.right == (jobs * workers) as u64, "{} of {} have their picture", ended.right, jobs * workers);
            there.push(ended.seconds);
        }
        let (here, there) = (median(&here), median(&there));
        let each = 1e3 * (there - here) / jobs as f64;
        println!("{:>12} {here:>10.3} {there:>12.3} {:>10.4} {each:>18.2}", format!("{side} x {side}"), there / here);
        nodes.into_iter().for_each(Node::end);
    }
    Ok(())
}

/// Holds simulated networks against real messages and pictures over a network that delays them and is narrow.
fn network(url: &str) -> anyhow::Result<()> {
    let port = url.rsplit_once(':').context("expected nats://127.0.0.1:PORT")?.1.parse::<u16>()?;
    println!(
        "{:>8} {:>8} {:>8} {:>12} {:>14} {:>8}",
        "system", "delay ms", "MB/s", "live mean s", "simulated s", "ratio"
    );
    for policy in ["vanilla", "modm"] {
        for (delay_ms, megabytes_per_s) in [(0, 0), (10, 0), (0, 4), (10, 4)] {
            let side = 256;
            let rig = Rig::new(REQUESTS, 600.0, 2, [side; 2], policy);
            let weather = Arc::new(Weather::default());
            weather.delay(delay_ms);
            weather.narrow(megabytes_per_s * 1_000_000);
            let messages = way(port, weather.clone());
            let listen = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            let outside = way(listen.port(), weather.clone());
            let tools = || FixedTools { sources_bytes: 0, ..FixedTools::new(STEP) };
            let there = format!("nats://127.0.0.1:{messages}");
            let nodes = ["a", "b"].map(|name| Node::start(&there, "bench", name, 1, tools()));
            let mut means = Vec::new();
            for _ in 0..3 {
                let outside = Some(format!("127.0.0.1:{outside}"));
                let settings = ClusterSettings { pictures: listen, pictures_from_outside: outside, ..settings(url) };
                let said = Said::default();
                let cluster = rig.cluster(settings, &said).with_context(|| said.all())?;
                let ended = rig.run_there(cluster);
                ensure!(ended.right == REQUESTS as u64, "{} of {REQUESTS} have their picture", ended.right);
                means.push(ended.mean_s());
            }
            // Without a limit, the link is that of memory.
            let gbps = if megabytes_per_s == 0 { 10.0 } else { megabytes_per_s as f64 * 8e-3 };
            let simulated = rig.simulated_mean_s(&format!(
                "[network]\nworkers_per_node = 1\nlatency_ms = {delay_ms}\nbandwidth_gbps = {gbps:?}\n\
                 picture_bytes = {}\nsources = 0\n",
                3 * side * side
            ));
            let live = median(&means);
            let ratio = live / simulated;
            println!("{policy:>8} {delay_ms:>8} {megabytes_per_s:>8} {live:>12.4} {simulated:>14.4} {ratio:>8.3}");
            nodes.into_iter().for_each(Node::end);
        }
    }
    Ok(())
}

/// Ends the processes of nodes.
struct Nodes(Vec<Child>);

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Measures how many jobs a second go through one NATS server, with many workers whose jobs take 100 ms.
fn many(url: &str, workers: usize, seconds: usize) -> anyhow::Result<()> {
    let jobs = workers * 10 * seconds;
    // Four steps, as fast models take: more would measure how often two cores wake two hundred threads.
    let rig = Rig::of_steps(4, jobs, 1e7, workers, [64, 64], "vanilla");
    let halves = [workers / 2, workers - workers / 2];
    let program = std::env::current_exe()?;
    let start = |(at, half): (usize, &usize)| {
        let name = format!("node{at}");
        Command::new(&program).args(["node", url, &name, &half.to_string(), "25"]).spawn()
    };
    let _nodes = Nodes(halves.iter().enumerate().map(start).collect::<Result<_, _>>()?);
    let said = Said::default();
    let mut rates = Vec::new();
    for _ in 0..TURNS {
        let cluster = rig.cluster(settings(url), &said).with_context(|| said.all())?;
        let ended = rig.run_there(cluster);
        ensure!(ended.right == jobs as u64, "{} of {jobs} have their picture; {:?}", ended.right, ended.failures);
        rates.push(jobs as f64 / ended.seconds);
    }
    println!("{workers} workers of 100 ms a job: {:.0} jobs/s, median of {TURNS} turns ({rates:.0?})", median(&rates));
    Ok(())
}
