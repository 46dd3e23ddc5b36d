//! Graph of near neighbours of FAISS (Malkov and Yashunin, arXiv:1603.09320) as a part that only grows. Rows cannot
//! leave a graph, and insertion is what a graph is slow at.

use std::cell::RefCell;

use faiss::index::autotune::ParameterSpace;
use faiss::index::{IndexImpl, SearchResult};
use faiss::{Index, MetricType, index_factory};

use super::OUT_OF_MEMORY;
use super::segments::Part;

/// Number of neighbours of a node (M). The lowest layer has twice as many. The number is the usual choice of FAISS.
const NEIGHBOURS: usize = 32;
/// Number of nodes that are kept in view while one is inserted.
const EXPLORED_AT_INSERT: f64 = 80.0;
/// Number of nodes that are kept in view during a search.
const EXPLORED_AT_SEARCH: f64 = 256.0;

/// Rows of one segment. The index is in a cell, because the crate searches an index of this kind only through `&mut`.
#[derive(Debug)]
pub struct Hnsw(RefCell<IndexImpl>);

impl Part for Hnsw {
    const EXACT: bool = false;

    fn new(dimension: usize) -> Self {
        let kind = format!("HNSW{NEIGHBOURS},Flat");
        let index = index_factory(dimension as u32, kind, MetricType::InnerProduct).expect(OUT_OF_MEMORY);
        let parameters = ParameterSpace::new().expect(OUT_OF_MEMORY);
        for (name, value) in [("efConstruction", EXPLORED_AT_INSERT), ("efSearch", EXPLORED_AT_SEARCH)] {
            parameters.set_index_parameter(&index, name, value).expect("a parameter of this kind of index");
        }
        Self(RefCell::new(index))
    }

    fn append(&mut self, vectors: &[f32]) {
        self.0.get_mut().add(vectors).expect(OUT_OF_MEMORY);
    }

    fn search(&self, query: &[f32], wanted: usize) -> SearchResult {
        self.0.borrow_mut().search(query, wanted).expect(OUT_OF_MEMORY)
    }
}
