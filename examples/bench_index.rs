//! Times a similarity index on vectors from files. `scripts/bench_index` runs it, and times FAISS on the same vectors.
//!
//! `bench_index VECTORS.npy QUERIES.npy [--index KIND]` inserts all vectors, searches for each query alone, and then
//! times a sliding window: insert a query's vector, remove the oldest vector, search. Prints one JSON object. Uses one
//! thread.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use modm::cache::index::Query;
use modm::embedding::Embedding;
use modm::image::ImageId;
use modm::request::RequestId;
use modm::retrieval::IndexKind;
use modm::trace::npy;

fn main() -> Result<()> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let (vectors, queries, kind) = match paths.as_slice() {
        [vectors, queries] => (vectors, queries, IndexKind::default()),
        [vectors, queries, flag, kind] if flag == "--index" => {
            (vectors, queries, serde_json::from_value(kind[..].into())?)
        }
        _ => anyhow::bail!("usage: bench_index VECTORS.npy QUERIES.npy [--index KIND]"),
    };
    let (vectors, queries) = (npy::read(Path::new(vectors))?, npy::read(Path::new(queries))?);
    let mut index = kind.build(false).context("build with --features faiss")?.make();
    let mut insert_s = 0.0;
    for row in 0..vectors.rows() {
        let embedding = vectors.embedding(row);
        let begun = now();
        index.insert(ImageId::of_request(RequestId(row as u32)), &embedding);
        insert_s += begun.elapsed().as_secs_f64();
    }
    let queries: Vec<Embedding> = (0..queries.rows()).map(|row| queries.embedding(row)).collect();
    let (mut seconds, mut found) = (Vec::new(), Vec::new());
    for query in &queries {
        let begun = now();
        let nearest = index.nearest(&Query { request: None, embedding: query, without: &[] });
        seconds.push(begun.elapsed().as_secs_f64());
        let nearest = nearest.context("an index that holds something")?;
        found.push((nearest.image.to_string(), nearest.similarity));
    }
    let mut churn = Vec::new();
    for (row, query) in queries.iter().enumerate() {
        let begun = now();
        index.insert(ImageId::of_request(RequestId((vectors.rows() + row) as u32)), query);
        index.remove(ImageId::of_request(RequestId(row as u32)));
        index.nearest(&Query { request: None, embedding: query, without: &[] });
        churn.push(begun.elapsed().as_secs_f64());
    }
    println!(
        "{}",
        serde_json::json!({
            "ms": median(&mut seconds) * 1e3,
            "churn_ms": median(&mut churn) * 1e3,
            "insert_s": insert_s,
            "ids": found.iter().map(|(id, _)| id).collect::<Vec<_>>(),
            "similarities": found.iter().map(|(_, similarity)| similarity).collect::<Vec<_>>(),
            "bandwidth_gb_s": bandwidth(vectors.rows() * vectors.dimension()),
        })
    );
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the gigabytes a second at which one thread reads as many bytes as a query does, in sequence, from large
/// pages as the default index has them. The fastest of 20 passes counts.
fn bandwidth(bytes: usize) -> f64 {
    let mut data = memmap2::MmapMut::map_anon(bytes.next_multiple_of(8)).expect("there is memory");
    #[cfg(target_os = "linux")]
    let _ = data.advise(memmap2::Advice::HugePage);
    data.iter_mut().zip(0_u32..).for_each(|(byte, at)| *byte = at as u8);
    let (words, _) = data.as_chunks::<8>();
    let mut best = f64::MAX;
    for _ in 0..20 {
        let begun = now();
        let sum = words.iter().fold(0_u64, |sum, word| sum ^ u64::from_ne_bytes(*word));
        std::hint::black_box(sum);
        best = best.min(begun.elapsed().as_secs_f64());
    }
    bytes as f64 / best / 1e9
}
