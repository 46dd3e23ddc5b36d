//! Benchmark of the core alone, without files of single requests: the loop, the simulated executor and the metrics as
//! in `modm simulate`. It reports requests a second for each workload, and the growth from 10^5 to 10^7 requests.
//! `benches/memory.rs` measures peak memory.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[path = "core/workload.rs"]
mod workload;

use workload::{Kind, Workload};

fn replay(criterion: &mut Criterion) {
    let sizes = [("vanilla", 16, 100_000_u32), ("vanilla", 16, 1_000_000), ("vanilla", 16, 10_000_000)];
    let others = [("vanilla", 10_000, 1_000_000), ("classes", 16, 100_000), ("what_if", 16, 100_000)];
    let mut group = criterion.benchmark_group("replay");
    for (name, workers, requests) in sizes.into_iter().chain(others) {
        let kind = Kind::named(name).expect("a workload");
        let workload = Workload::new(kind, workers, None, requests);
        group.throughput(Throughput::Elements(requests.into()));
        group.sample_size(10);
        let id = BenchmarkId::new(name, format!("{workers}/{requests}"));
        group.bench_with_input(id, &workload, |bencher, workload| {
            bencher.iter_batched(|| (), |()| black_box(workload.run()), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, replay);
criterion_main!(benches);
