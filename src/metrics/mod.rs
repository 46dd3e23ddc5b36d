//! What a run amounts to: a pure fold over the journal's records, by the formulas of
//! docs/semantics.md, section 7. Nothing here formats or draws; that is `report`.

pub mod summary;
pub mod timeline;
