//! Tests of the structures by themselves: the number of rows that they hold is bounded, and trainings are few.

use super::*;
use crate::draw::{Purpose, normal, stream};
use crate::request::RequestId;

fn id(row: u32) -> ImageId {
    ImageId::of_request(RequestId(row))
}

fn vectors(count: usize) -> Vec<Embedding> {
    let mut generator = stream(5, Purpose::Test, 0);
    let mut row = || (0..8).map(|_| normal(&mut generator) as f32).collect::<Vec<_>>();
    (0..count).map(|_| Embedding::normalised(&row()).expect("a good row")).collect()
}

#[test]
fn dead_rows_are_at_most_half_of_all_and_segments_are_few() {
    let mut index = FaissFlat::new();
    for (row, vector) in (0_u32..).zip(&vectors(20_000)) {
        index.insert(id(row), vector);
        match row {
            4000..10_000 => index.remove(id(row - 4000)), // a sliding window
            10_000.. => index.remove(id(6000 + (row * 7919) % 4000)), // some of those that are still there, once each
            _ => {}
        }
        assert!(index.structure.rows() <= 2 * index.len(), "row {row}");
        assert!(index.structure.segments() <= 8, "row {row}: {}", index.structure.segments());
    }
}

#[test]
fn dead_rows_hide_nobody() {
    let mut index = FaissHnsw::new();
    let axis = Embedding::normalised(&[1.0, 0.0]).expect("a good row");
    let aside = Embedding::normalised(&[1.0, 0.1]).expect("a good row");
    for row in 0..100 {
        index.insert(id(row), &axis);
    }
    for row in 100..300 {
        index.insert(id(row), &aside);
    }
    for row in 0..100 {
        index.remove(id(row));
    }
    assert_eq!(index.structure.rows(), 300, "the nearest hundred are dead rows");
    let found = index.nearest(&Query { request: None, embedding: &axis, without: &[] }).expect("two hundred are left");
    assert_eq!(found.similarity.to_bits(), similarity(axis.as_slice(), aside.as_slice()).to_bits());
}

#[test]
fn lists_are_trained_anew_when_content_has_doubled_or_changed() {
    let mut index = FaissIvf::new();
    let mut sizes = Vec::new();
    for (row, vector) in (0_u32..).zip(&vectors(20_000)) {
        index.insert(id(row), vector);
        if row >= 6000 {
            index.remove(id(row - 6000));
        }
        let training = index.structure.last_training();
        if training.is_some_and(|(_, since)| since == 0) {
            sizes.push((row + 1, training.map_or(0, |(rows, _)| rows)));
        }
    }
    let wanted = [(2496, 2496), (4992, 4992), (9984, 6001), (15_985, 6001)];
    assert_eq!(sizes, wanted, "(insertions, entries trained on)");
    (6000..20_000).rev().for_each(|row| index.remove(id(row)));
    assert!(index.structure.last_training().is_none() && index.is_empty());
}
