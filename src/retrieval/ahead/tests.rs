//! Tests of the search ahead against the direct search, on histories of all kinds.

use std::sync::Arc;

use rand::RngExt;

use super::*;
use crate::cache::eviction::Foresight;
use crate::cache::index::{ExactIndex, Query, RetrievalIndex};
use crate::draw::{Purpose, normal, stream};
use crate::embedding::{Embedding, similarity};
use crate::request::RequestId;

const DIMENSION: usize = 24;

/// Returns rows around a few topics, some of them equal, some opposite.
fn matrix(seed: u64, rows: usize) -> EmbeddingMatrix {
    let mut draws = stream(seed, Purpose::Test, 40);
    let mut values = Vec::with_capacity(rows * DIMENSION);
    for _ in 0..rows {
        let (topic, sign) = (draws.random_range(0..5_usize), if draws.random_bool(0.1) { -1.0 } else { 1.0 });
        let spread = [0.0, 1e-6, 0.2, 1.0][draws.random_range(0..4_usize)];
        values.extend((0..DIMENSION).map(|at| {
            let centre = f64::from(u8::from(at % 5 == topic)) + 0.2;
            (sign * (centre + spread * normal(&mut draws))) as f32
        }));
    }
    EmbeddingMatrix::new(DIMENSION, values).expect("rows with a direction")
}

/// Makes the insertions, removals and searches of a run in both indexes, and compares the results.
fn compare(ahead: &Arc<Ahead>, prompts: &EmbeddingMatrix, capacity: usize, newest_first: bool, seed: u64) {
    let mut draws = stream(seed, Purpose::Test, 41);
    let (mut direct, mut searched) = (ExactIndex::new(), ahead.index());
    let mut held: Vec<usize> = Vec::new();
    let warm = ahead.history.warm_len();
    let mut vector = Vec::new();
    let mut coming = (0..warm).collect::<Vec<_>>();
    for row in 0..prompts.rows() {
        for place in coming.drain(..) {
            ahead.history.read(place, &mut vector);
            let embedding = Embedding::normalised(&vector).expect("a unit vector");
            let image = ahead.history.image(place);
            direct.insert(image, &embedding);
            searched.insert(image, &embedding);
            held.push(place);
        }
        while held.len() > capacity {
            let at = if newest_first { draws.random_range(0..held.len()) } else { 0 };
            let image = ahead.history.image(held.remove(at));
            direct.remove(image);
            searched.remove(image);
        }
        let embedding = prompts.embedding(row);
        for request in [Some(RequestId(row as u32)), None] {
            let query = Query { request, embedding: &embedding, without: &[] };
            assert_eq!(searched.nearest(&query), direct.nearest(&query), "row {row}, capacity {capacity}");
        }
        assert_eq!(searched.len(), direct.len());
        // Images come late and out of order, and some never come.
        let late = row.saturating_sub(draws.random_range(0..30));
        if !draws.random_bool(0.2) && !held.contains(&(warm + late)) {
            coming.push(warm + late);
        }
    }
}

#[test]
fn finds_what_a_direct_search_finds() {
    for (seed, rows, warm) in [(1, 500, 0), (2, 700, 33), (3, 20, 5), (4, 1, 0), (5, 300, 300)] {
        let prompts = matrix(seed, rows);
        let warm = (warm > 0).then(|| matrix(seed + 100, warm));
        let history = History { warm, rows: matrix(seed + 200, rows) };
        let ahead = Arc::new(Ahead::search(&prompts, history, 2, &|_| ()));
        for capacity in [1, 10, 100, 1000] {
            compare(&ahead, &prompts, capacity, false, seed);
            compare(&ahead, &prompts, capacity, true, seed);
        }
    }
}

#[test]
fn does_not_depend_on_threads_and_hears_of_every_request() {
    let (prompts, rows) = (matrix(7, 400), matrix(8, 400));
    let history = History { warm: None, rows };
    let heard = std::sync::atomic::AtomicU64::new(0);
    let count = |requests| {
        heard.fetch_add(requests, std::sync::atomic::Ordering::Relaxed);
    };
    let of = |threads| search::bounds(&prompts, &history, threads, &count);
    let one = of(1);
    assert!(one.iter().any(|bound| *bound > 0));
    assert_eq!(one, of(3));
    assert_eq!(heard.into_inner(), 800);
}

#[test]
fn bounds_are_rounded_up() {
    for similarity in [1e-9, 0.1, 0.250_000_1, 0.999_999, 1.0, 1.000_001] {
        let bound = bound_of(similarity);
        assert!(most_under(bound) >= similarity && most_under(bound) < similarity + 2.0 / STEPS);
    }
    assert_eq!([bound_of(0.0), bound_of(-1.0)], [0, 0]);
}

#[test]
fn a_file_is_found_again_for_the_same_embeddings_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let requests = folder.path().join("requests.csv");
    let (prompts, rows) = (matrix(9, 200), matrix(10, 200));
    let history = History { warm: Some(matrix(11, 9)), rows };
    let file = SearchFile::beside(&requests, &prompts, &history);
    let searches = std::sync::atomic::AtomicU64::new(0);
    let count = |requests| {
        searches.fetch_add(requests, std::sync::atomic::Ordering::Relaxed);
    };
    let search = |file: &SearchFile, history: &History| {
        let (ahead, stored) = file.search(&prompts, history.clone(), 1, &count);
        stored.expect("a folder that can be written");
        Arc::new(ahead)
    };
    compare(&search(&file, &history), &prompts, 50, true, 9);
    compare(&search(&file, &history), &prompts, 50, true, 9);
    assert_eq!(searches.load(std::sync::atomic::Ordering::Relaxed), 200, "the second time it is read");
    let other = History { rows: matrix(12, 200), ..history.clone() };
    assert_ne!(SearchFile::beside(&requests, &prompts, &other).path(), file.path());
    // A file that is damaged or cut off is made again.
    let whole = std::fs::read(file.path()).expect("it is there");
    for damage in [&whole[..whole.len() - 1], &whole[..100], &[0; 500]] {
        std::fs::write(file.path(), damage).expect("it can be written");
        search(&file, &history);
        assert!(std::fs::read(file.path()).expect("it is there") == whole);
    }
}

#[test]
fn uses_are_the_requests_that_an_image_could_serve() {
    // Every third prompt and image is equal to the one before.
    let twice = |matrix: EmbeddingMatrix| {
        let rows: Vec<u32> = (0..matrix.rows() as u32).map(|row| row - u32::from(row % 3 == 2)).collect();
        matrix.select(&rows)
    };
    let prompts = twice(matrix(13, 150));
    let history = History { warm: Some(matrix(14, 21)), rows: twice(matrix(15, 150)) };
    let ahead = Arc::new(Ahead::search(&prompts, history.clone(), 1, &|_| ()));
    let (mut vector, mut some) = (Vec::new(), 0);
    for lowest in [0.0, 0.3, 0.9] {
        let uses = Uses::new(ahead.clone(), &prompts, lowest);
        for place in 0..history.len() {
            history.read(place, &mut vector);
            let image = history.image(place);
            // Uses are asked for from the own request of the image on, and a second time, as another run does.
            let own = image.request().map(|request| request.0);
            let serves = |row: &u32| similarity(prompts.embedding(*row as usize).as_slice(), &vector) >= lowest;
            let expected: Vec<u32> = (own.map_or(0, |own| own + 1)..150).filter(serves).collect();
            for _ in 0..2 {
                let found = std::iter::successors(uses.next_use(image, own), |last| uses.next_use(image, Some(*last)));
                assert_eq!(found.collect::<Vec<u32>>(), expected, "{place} at {lowest}");
            }
            // Between two uses, the next use is the later one.
            for pair in expected.windows(2) {
                assert!((pair[0]..pair[1]).all(|after| uses.next_use(image, Some(after)) == Some(pair[1])));
            }
            some += expected.len();
        }
    }
    assert!(some > 100);
}
