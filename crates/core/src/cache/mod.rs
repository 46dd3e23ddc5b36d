//! The image cache: keeps index, eviction order and entries in step, and sources readable while a
//! job needs them. Not a store: it holds no pixels; who does is told what to keep and what to release.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::request::{Owner, RequestId, TenantId};
use crate::table::Table;
use crate::time::{Duration, Time};

pub mod eviction;
pub mod index;
mod tenancy;

pub use tenancy::{Scope, Tenancy};

use eviction::{Eviction, EvictionPolicy, EvictionSettings};
use index::{NewIndex, Query, RetrievalIndex};

/// Which images are inserted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// Every image.
    #[default]
    All,
    /// Images made by the large model.
    Large,
    /// Images of misses.
    Miss,
}

/// Something that counts against the capacity: an image, or one stored state of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Whose.
    pub image: ImageId,
    /// The step the state was stored at; 0 for the final image.
    pub skipped_steps: u32,
}

/// What the cache holds of one image.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which.
    pub image: ImageId,
    /// Whose.
    pub owner: Owner,
    /// Nirvana's intermediate states, by the steps each spares, rising; empty for a final image.
    pub states: SmallVec<[u32; 6]>,
    /// What each of its items counts for: 1, or bytes.
    pub weight: u64,
    /// When it came in.
    pub inserted: Time,
}

impl Entry {
    /// What it holds that capacity counts.
    pub fn items(&self) -> impl Iterator<Item = Item> {
        let image = self.image;
        let whole = self.states.is_empty().then_some(0);
        whole.into_iter().chain(self.states.iter().copied()).map(move |skipped_steps| Item { image, skipped_steps })
    }

    /// What all its items count for.
    fn total_weight(&self) -> u64 {
        self.weight.saturating_mul(self.states.len().max(1) as u64)
    }
}

/// The nearest entry, as routing sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Which.
    pub image: ImageId,
    /// How similar.
    pub similarity: f64,
    /// Its stored states, rising; empty for a final image.
    pub states: &'a [u32],
}

impl Candidate<'_> {
    /// The more similar of two, the first of equals.
    #[must_use]
    pub fn nearer(self, other: Self) -> Self {
        if other.similarity > self.similarity { other } else { self }
    }
}

/// Why an entry left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The capacity was full.
    Evicted,
    /// It was older than entries may be.
    Expired,
    /// Its image could not be read.
    Unreadable,
    /// It was withdrawn from outside.
    Withdrawn,
}

/// What a change of the cache led to.
#[derive(Clone, Debug, Default)]
pub struct Departures {
    /// Entries that are gone.
    pub left: Vec<(ImageId, Cause)>,
    /// Images that nothing needs any more.
    pub released: Vec<ImageId>,
}

/// What a cache is like.
#[derive(Debug)]
pub struct CacheSettings {
    /// Items it may hold, or bytes, at least 1.
    pub capacity: u64,
    /// Whose entries a request may find.
    pub tenancy: Tenancy,
    /// An image is not kept if one as similar to it as this is there already.
    pub near_duplicate: Option<f64>,
    /// Entries leave at this age.
    pub max_age: Option<Duration>,
    /// What leaves when it is full.
    pub eviction: Eviction,
    /// What that may know; the capacity is each part's own.
    pub eviction_settings: EvictionSettings,
    /// What finds entries.
    pub index: NewIndex,
}

/// Room for one item, everything exact and shared.
impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            capacity: 1,
            tenancy: Tenancy::default(),
            near_duplicate: None,
            max_age: None,
            eviction: Eviction::default(),
            eviction_settings: EvictionSettings::default(),
            index: NewIndex::new(index::ExactIndex::new),
        }
    }
}

/// A part of the capacity with an eviction of its own.
#[derive(Debug)]
struct Part {
    eviction: Box<dyn EvictionPolicy>,
    capacity: u64,
    held: u64,
}

/// The cache.
#[derive(Debug)]
pub struct ImageCache {
    settings: CacheSettings,
    /// By owner, as [`Tenancy`] says; made when first needed.
    indexes: BTreeMap<Owner, Box<dyn RetrievalIndex>>,
    parts: BTreeMap<Owner, Part>,
    entries: Table<ImageId, Entry>,
    /// In order of insertion, where entries expire; those that left since are still in it.
    ages: VecDeque<(Time, ImageId)>,
    /// Sources of requests that have not ended, with how many need them.
    pins: Table<ImageId, u32>,
    /// The last request that was routed: a part hears of it before it evicts.
    routed: Option<RequestId>,
}

impl ImageCache {
    /// An empty cache.
    #[must_use]
    pub fn new(settings: CacheSettings) -> Self {
        Self {
            settings,
            indexes: BTreeMap::new(),
            parts: BTreeMap::new(),
            entries: Table::default(),
            ages: VecDeque::new(),
            pins: Table::default(),
            routed: None,
        }
    }

    /// Whose an image made for a tenant is.
    pub fn owner(&self, tenant: TenantId) -> Owner {
        self.settings.tenancy.owner(tenant)
    }

    /// Where a tenant's request is looked up: each place in turn, until one has a hit.
    pub fn places(&self, tenant: TenantId) -> SmallVec<[Owner; 2]> {
        self.settings.tenancy.places(tenant)
    }

    /// The most similar entry in a place.
    pub fn nearest(&self, place: Owner, query: &Query<'_>) -> Option<Candidate<'_>> {
        let found = self.indexes.get(&place)?.nearest(query)?;
        let entry = self.entries.get(&found.image).expect("index and entries are kept in step");
        Some(Candidate { image: found.image, similarity: found.similarity, states: &entry.states })
    }

    /// How similar the most similar entry in a place really is, where an index that may miss it is checked.
    pub fn audit(&self, place: Owner, query: &Query<'_>) -> Option<f64> {
        self.indexes.get(&place)?.audit(query)
    }

    /// A request is about to be routed.
    pub const fn routing(&mut self, request: RequestId) {
        self.routed = Some(request);
    }

    /// Counts a use of an image, which spares so many steps, and keeps it readable until [`Self::unpin`].
    pub fn pin(&mut self, image: ImageId, skipped_steps: u32) {
        if let Some(entry) = self.entries.get(&image) {
            // A state is known by the steps it spares; a final image is one item, whatever is spared.
            let state = if entry.states.contains(&skipped_steps) { skipped_steps } else { 0 };
            let part = self.parts.get_mut(&self.settings.tenancy.part(entry.owner));
            let part = part.expect("an entry stands in a part");
            part.eviction.on_hit(Item { image, skipped_steps: state }, skipped_steps);
        }
        *self.pins.entry(image) += 1;
    }

    /// A request no longer needs its source. Returns whether the image is to be released now.
    #[must_use]
    pub fn unpin(&mut self, image: ImageId) -> bool {
        let Some(pins) = self.pins.get_mut(&image) else { return false };
        *pins -= 1;
        if *pins > 0 {
            return false;
        }
        self.pins.remove(&image);
        !self.entries.contains(&image)
    }

    /// Inserts an entry and evicts so that the capacity holds. Returns whether it was kept: not if its owner has
    /// no room for it, nor if an image like it is there.
    ///
    /// An image takes the place of others, which leave before it comes: it need not compete with images that had time to
    /// be used, unless the policy says so. Nirvana's states do compete, from the start (`docs/semantics.md`, section 5).
    #[must_use]
    pub fn insert(&mut self, entry: Entry, key: &Embedding, departures: &mut Departures) -> bool {
        let (shelf, part) = (self.settings.tenancy.index(entry.owner), self.settings.tenancy.part(entry.owner));
        let weight = entry.total_weight();
        let share = self.share(part);
        if weight > share || self.has_near_duplicate(shelf, key) {
            return false;
        }
        let room = self.parts.entry(part).or_insert_with(|| Part::new(&self.settings, part, share));
        if let Some(request) = self.routed {
            room.eviction.on_request(request);
        }
        if entry.states.is_empty() && !room.eviction.newcomers_compete() {
            self.evict(part, weight, departures);
        }
        let index = self.indexes.entry(shelf).or_insert_with(|| self.settings.index.make());
        index.insert(entry.image, key);
        let part_of = self.part(part);
        part_of.held += weight;
        part_of.eviction.on_insert(&entry, key);
        if self.settings.max_age.is_some() {
            self.ages.push_back((entry.inserted, entry.image));
        }
        self.entries.insert(entry.image, entry);
        self.evict(part, 0, departures);
        true
    }

    /// What an owner's part may hold.
    fn share(&self, part: Owner) -> u64 {
        let shares = &self.settings.tenancy.shares;
        if shares.is_empty() { self.settings.capacity } else { shares.get(&part).copied().unwrap_or(0) }
    }

    fn has_near_duplicate(&self, shelf: Owner, key: &Embedding) -> bool {
        let (Some(limit), Some(index)) = (self.settings.near_duplicate, self.indexes.get(&shelf)) else { return false };
        let nearest = index.nearest(&Query { request: None, embedding: key });
        nearest.is_some_and(|found| found.similarity >= limit)
    }

    fn part(&mut self, part: Owner) -> &mut Part {
        self.parts.get_mut(&part).expect("a part is made before it is used")
    }

    /// Evicts from a part until so much more fits.
    fn evict(&mut self, part: Owner, coming: u64, departures: &mut Departures) {
        loop {
            let part = self.part(part);
            if part.held + coming <= part.capacity {
                break;
            }
            let item = part.eviction.pop().expect("what is held is known to the eviction policy");
            self.drop_item(item, departures);
        }
    }

    fn drop_item(&mut self, item: Item, departures: &mut Departures) {
        let entry = self.entries.get_mut(&item.image).expect("eviction and entries are kept in step");
        let (owner, weight) = (entry.owner, entry.weight);
        entry.states.retain(|state| *state != item.skipped_steps);
        let empty = entry.states.is_empty();
        self.part(self.settings.tenancy.part(owner)).held -= weight;
        if empty {
            self.entries.remove(&item.image);
            self.leave(item.image, owner, Cause::Evicted, departures);
        }
    }

    /// An entry that is no longer among the entries leaves its index.
    fn leave(&mut self, image: ImageId, owner: Owner, cause: Cause, departures: &mut Departures) {
        if let Some(index) = self.indexes.get_mut(&self.settings.tenancy.index(owner)) {
            index.remove(image);
        }
        departures.left.push((image, cause));
        if !self.pins.contains(&image) {
            departures.released.push(image);
        }
    }

    /// Removes an entry for another reason than eviction. Pins stay until their requests end.
    fn remove(&mut self, image: ImageId, cause: Cause, departures: &mut Departures) {
        if let Some(entry) = self.entries.remove(&image) {
            let part = self.part(self.settings.tenancy.part(entry.owner));
            part.held -= entry.total_weight();
            part.eviction.on_remove(&entry);
            self.leave(image, entry.owner, cause, departures);
        }
    }

    /// Removes an entry whose image cannot be read.
    pub fn forget(&mut self, image: ImageId, departures: &mut Departures) {
        self.remove(image, Cause::Unreadable, departures);
    }

    /// Removes an entry that is no longer to be found. Returns whether it was there.
    pub fn withdraw(&mut self, image: ImageId, departures: &mut Departures) -> bool {
        let there = self.entries.contains(&image);
        self.remove(image, Cause::Withdrawn, departures);
        there
    }

    /// Removes what is too old by now.
    pub fn expire(&mut self, now: Time, departures: &mut Departures) {
        let Some(max_age) = self.settings.max_age else { return };
        while let Some(&(inserted, image)) = self.ages.front()
            && now.since(inserted) >= max_age
        {
            self.ages.pop_front();
            self.remove(image, Cause::Expired, departures);
        }
    }

    /// What all its items count for.
    pub fn held(&self) -> u64 {
        self.parts.values().map(|part| part.held).sum()
    }

    /// What they may count for.
    pub const fn capacity(&self) -> u64 {
        self.settings.capacity
    }

    /// Whose an entry is.
    pub fn owner_of(&self, image: ImageId) -> Option<Owner> {
        self.entries.get(&image).map(|entry| entry.owner)
    }

    /// Whether an image can be read: it is cached, or a request still needs it.
    #[must_use]
    pub fn readable(&self, image: ImageId) -> bool {
        self.entries.contains(&image) || self.pins.contains(&image)
    }
}

impl Part {
    fn new(settings: &CacheSettings, owner: Owner, capacity: u64) -> Self {
        // Parts draw apart: what one evicts says nothing of what another does.
        let stream = match owner {
            Owner::Public => 0,
            Owner::Tenant(tenant) => 1 + u64::from(tenant.0),
        };
        let own = EvictionSettings { capacity, stream, ..settings.eviction_settings.clone() };
        Self { eviction: settings.eviction.build(&own), capacity, held: 0 }
    }
}

#[cfg(test)]
mod tests;
