//! The examples run: each is compiled in here and called as `cargo run --example` would.

#[path = "../../examples/embed_simulator.rs"]
mod embed_simulator;
#[path = "../../examples/own_executor.rs"]
mod own_executor;
#[path = "../../examples/own_routing.rs"]
mod own_routing;
#[path = "../../examples/read_journal.rs"]
#[expect(dead_code, reason = "a test has other arguments")]
mod read_journal;

#[test]
fn the_simulator_can_be_embedded() {
    embed_simulator::main().expect("two systems run");
}

#[test]
fn routing_can_be_ones_own() {
    own_routing::main().expect("three rates run");
}

#[test]
fn an_executor_can_be_ones_own() {
    own_executor::main().expect("every request is answered");
}

#[test]
fn a_journal_can_be_read() {
    read_journal::of_a_short_run().expect("a journal is written and read");
}
