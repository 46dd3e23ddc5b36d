//! The default index by itself: a search, a sliding window (insert, remove the oldest, search), and searches in
//! batches, on isotropic and on clustered vectors of 768 components. Beside FAISS, with the bandwidth of the machine:
//! `scripts/bench_index`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use modm::cache::index::{Query, RetrievalIndex};
use modm::draw::{Purpose, normal, stream};
use modm::embedding::Embedding;
use modm::image::ImageId;
use modm::request::RequestId;

const DIMENSION: usize = 768;
const QUERIES: usize = 64;

/// Vectors around so many topics; without any, in all directions.
fn vectors(count: usize, topics: usize) -> Vec<Embedding> {
    let mut draws = stream(1, Purpose::Test, topics as u64);
    let mut row = || -> Vec<f32> { (0..DIMENSION).map(|_| normal(&mut draws) as f32).collect() };
    let common = row();
    let centres: Vec<Vec<f32>> =
        (0..topics).map(|_| row().iter().zip(&common).map(|(own, shared)| own + shared).collect()).collect();
    let vector = |at: usize| {
        let own = row();
        let of_topic = |centre: &Vec<f32>| own.iter().zip(centre).map(|(own, centre)| 0.3 * own + centre).collect();
        let values = centres.get(at * 31 % topics.max(1)).map_or_else(|| own.clone(), of_topic);
        Embedding::normalised(&values).expect("a direction")
    };
    (0..count).map(vector).collect()
}

fn image(row: usize) -> ImageId {
    ImageId::of_request(RequestId(row as u32))
}

fn retrieval(criterion: &mut Criterion) {
    for (entries, kind, topics) in [(10_000, "isotropic", 0), (10_000, "clustered", 200), (100_000, "clustered", 2000)]
    {
        let all = vectors(entries + QUERIES, topics);
        let (stored, asked) = all.split_at(entries);
        let mut index = modm::retrieval::exact();
        stored.iter().enumerate().for_each(|(row, vector)| index.insert(image(row), vector));
        let queries: Vec<Query<'_>> =
            asked.iter().map(|embedding| Query { request: None, embedding, without: &[] }).collect();
        let mut group = criterion.benchmark_group(format!("retrieval/{kind}"));
        group.throughput(Throughput::Bytes((entries * DIMENSION) as u64)).sample_size(20);
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("search", entries), |bencher| {
            bencher.iter(|| {
                turn += 1;
                black_box(index.nearest(&queries[turn % QUERIES]))
            });
        });
        group.throughput(Throughput::Elements(QUERIES as u64));
        group.bench_function(BenchmarkId::new("batch of 64", entries), |bencher| {
            bencher.iter(|| black_box(index.nearest_of_each(&queries)));
        });
        group.throughput(Throughput::Elements(1));
        let mut next = entries;
        group.bench_function(BenchmarkId::new("sliding window", entries), |bencher| {
            bencher.iter(|| {
                index.insert(image(next), &asked[next % QUERIES]);
                index.remove(image(next - entries));
                next += 1;
                black_box(index.nearest(&queries[(next + 7) % QUERIES]))
            });
        });
        group.finish();
    }
}

criterion_group!(benches, retrieval);
criterion_main!(benches);
