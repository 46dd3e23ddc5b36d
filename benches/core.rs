//! The core alone: vanilla, static allocation, no embeddings, no file for each request; the loop, the
//! simulated executor and the metrics as in `modm simulate`. Requests a second and growth from 10^5 to
//! 10^7 requests; peak memory is `benches/memory.rs`'s business.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[path = "core/workload.rs"]
mod workload;

fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    for requests in [100_000_u32, 1_000_000, 10_000_000] {
        let arrivals = workload::arrivals(requests);
        group.throughput(Throughput::Elements(requests.into()));
        group.sample_size(10);
        group.bench_with_input(BenchmarkId::from_parameter(requests), &arrivals, |bencher, arrivals| {
            bencher.iter_batched(|| (), |()| black_box(workload::run(arrivals)), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, replay);
criterion_main!(benches);
