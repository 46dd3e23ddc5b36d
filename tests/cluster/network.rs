//! Three network namespaces: a scheduler with its NATS server, and two machines with workers of the shapes. Where the
//! system allows no namespaces, the test says so and checks nothing.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::onnxruntime;
use crate::program::{pause, root, within};

const NAMES: [&str; 3] = ["modm-s", "modm-a", "modm-b"];

fn ip(arguments: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments.split(' ')).stderr(Stdio::null()).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Namespaces that are joined by a bridge in the first. They go with their test.
struct Namespaces;

impl Namespaces {
    fn make() -> Option<Self> {
        for name in NAMES {
            ip(&format!("netns del {name}"));
        }
        let made = NAMES.iter().all(|name| ip(&format!("netns add {name}"))).then_some(Self)?;
        let scheduler = NAMES[0];
        let mut works = ip(&format!("-n {scheduler} link set lo up"))
            && ip(&format!("-n {scheduler} link add bridge type bridge"))
            && ip(&format!("-n {scheduler} addr add 10.77.0.1/24 dev bridge"))
            && ip(&format!("-n {scheduler} link set bridge up"));
        for (at, name) in NAMES.iter().enumerate().skip(1) {
            works = works
                && ip(&format!("link add near{at} netns {scheduler} type veth peer name far netns {name}"))
                && ip(&format!("-n {scheduler} link set near{at} master bridge"))
                && ip(&format!("-n {scheduler} link set near{at} up"))
                && ip(&format!("-n {name} addr add 10.77.0.{}/24 dev far", at + 1))
                && ip(&format!("-n {name} link set far up"))
                && ip(&format!("-n {name} link set lo up"));
        }
        works.then_some(made)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in NAMES {
            ip(&format!("netns del {name}"));
        }
    }
}

/// Processes that end with their test.
struct Processes(Vec<Child>);

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn within_namespace(name: &str, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", name, program]).args(arguments).current_dir(root());
    command
}

#[test]
fn three_machines_draw_together_and_a_cable_that_is_pulled_costs_one() {
    onnxruntime::library();
    let Some(_namespaces) = Namespaces::make() else {
        println!("no network namespaces here: nothing is checked");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("nats");
    let nats = ["-js", "-a", "10.77.0.1", "-p", "4222", "-sd", store.to_str().unwrap()];
    let spawn = |mut command: Command| command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let server = if Path::new("/usr/sbin/nats-server").is_file() { "/usr/sbin/nats-server" } else { "nats-server" };
    let mut running = Processes(vec![spawn(within_namespace(NAMES[0], server, &nats))]);
    let program = env!("CARGO_BIN_EXE_modm");
    for name in &NAMES[1..] {
        let worker =
            ["worker", "--cluster", "nats://10.77.0.1:4222", "--devices", "cpu:0", "--models", "models/shapes"];
        let mut command = within_namespace(name, program, &worker);
        command.args(["--node", name, "--heartbeat-s", "0.2"]);
        running.0.push(spawn(command));
    }
    let out = folder.path().join("out");
    let live = ["live", "scenarios/live-shapes.toml", "--cluster", "nats://10.77.0.1:4222", "--quiet", "--out"];
    let mut command = within_namespace(NAMES[0], program, &live);
    command.arg(&out).args(["--set", "live.cluster.pictures=\"10.77.0.1:0\"", "--set", "live.cluster.notice_s=1"]);
    let sets = ["trace.synthetic.requests=120", "models.steps=26", "system.bounds=[[0.80, 10], [0.90, 20]]"];
    command.args(sets.iter().flat_map(|set| ["--set", set]));
    command.args(["--set", "trace.synthetic.arrivals={process=\"poisson\",rate_per_min=600}"]);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // The second machine is cut off in the middle, and comes back.
    within(60, "the run is under way", || {
        out.join("images").read_dir().is_ok_and(|all| all.count() > 20).then_some(())
    });
    assert!(ip(&format!("-n {} link set near2 down", NAMES[0])));
    pause(3000);
    assert!(ip(&format!("-n {} link set near2 up", NAMES[0])));
    let status = run.wait().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut run.stderr.take().unwrap(), &mut said).unwrap();
    assert!(status.success(), "{said}");
    let rows = crate::program::rows(&out.join("requests.csv"));
    assert_eq!(rows.len(), 120);
    assert!(rows.iter().all(|row| row["outcome"] == "completed"), "{said}");
    assert!(rows.iter().filter(|row| row["decision"] == "hit").count() > 10);
    let workers: std::collections::BTreeSet<_> = rows.iter().map(|row| row["worker"].clone()).collect();
    assert_eq!(workers.len(), 2, "both machines drew");
    assert!(said.contains("is lost"), "the cable was missed: {said}");
}
