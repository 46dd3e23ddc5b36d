//! Image cache: it keeps index, eviction order and entries consistent, and keeps sources readable while a job needs
//! them. Not a store: the cache holds no pixels. It tells the owner of the pixels which images to keep and which to
//! release.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::cmp::Ordering;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::model::Size;
use crate::request::{Owner, RequestId, TenantId};
use crate::table::Table;
use crate::time::{Duration, Time};

pub mod eviction;
pub mod index;
mod shelf;
mod tenancy;

pub use shelf::{Resizing, Shelf};
pub use tenancy::{Scope, Tenancy};

use eviction::{Eviction, EvictionPolicy, EvictionSettings};
use index::{Match, NewIndex, Query, RetrievalIndex};

/// Images that are inserted into the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// Every image. Not where images by small models should not be refined again.
    #[default]
    All,
    /// Images made by the large model. Not where most hits refine young images.
    Large,
    /// Images of misses. Not where prompts are varied step by step.
    Miss,
}

/// Unit that counts against the capacity: an image, or one stored state of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Image of the item.
    pub image: ImageId,
    /// Step at which the state was stored; 0 for the final image.
    pub skipped_steps: u32,
}

/// Content of the cache for one image.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Image of the entry.
    pub image: ImageId,
    /// Owner, key and size of the image.
    pub shelf: Shelf,
    /// Intermediate states of Nirvana, by the steps that each spares, rising; empty for a final image.
    pub states: SmallVec<[u32; 6]>,
    /// Weight of each item of the entry: 1, or bytes.
    pub weight: u64,
    /// Time at which the entry was inserted.
    pub inserted: Time,
    /// Number of the insertion, which the cache sets: lower is older.
    pub number: u64,
}

impl Entry {
    /// Returns the items of the entry: the states, or the final image.
    pub fn items(&self) -> impl Iterator<Item = Item> {
        let image = self.image;
        let whole = self.states.is_empty().then_some(0);
        whole.into_iter().chain(self.states.iter().copied()).map(move |skipped_steps| Item { image, skipped_steps })
    }

    /// Returns the weight of all items of the entry.
    fn total_weight(&self) -> u64 {
        self.weight.saturating_mul(self.states.len().max(1) as u64)
    }
}

/// Nearest entry, as routing sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Image of the entry.
    pub image: ImageId,
    /// Similarity of the entry to the query.
    pub similarity: f64,
    /// Stored states of the entry, rising; empty for a final image.
    pub states: &'a [u32],
}

impl Candidate<'_> {
    /// Returns the more similar of two candidates, the first of equals.
    #[must_use]
    pub fn nearer(self, other: Self) -> Self {
        if other.similarity > self.similarity { other } else { self }
    }
}

/// Cause of the departure of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Eviction from a full cache.
    Evicted,
    /// Expiry at the maximum age.
    Expired,
    /// Image that could not be read.
    Unreadable,
    /// Withdrawal from outside.
    Withdrawn,
}

/// Entries and images that leave through a change of the cache.
#[derive(Clone, Debug, Default)]
pub struct Departures {
    /// Entries that left the cache, each with the cause.
    pub left: Vec<(ImageId, Cause)>,
    /// Images that neither the cache nor a request needs any more.
    pub released: Vec<ImageId>,
}

/// Settings of a cache.
#[derive(Debug)]
pub struct CacheSettings {
    /// Number of items that the cache may hold, or of bytes; at least 1.
    pub capacity: u64,
    /// Rules for the entries that a request may find, and for the shares of tenants.
    pub tenancy: Tenancy,
    /// Lowest similarity of a near duplicate. An image is not kept if the cache has an image that is at least this
    /// similar.
    pub near_duplicate: Option<f64>,
    /// Age at which entries leave.
    pub max_age: Option<Duration>,
    /// Policy that chooses the items that leave a full cache.
    pub eviction: Eviction,
    /// Settings of the policy. Each part of the cache has its own capacity and stream.
    pub eviction_settings: EvictionSettings,
    /// Maker of the indexes that find entries.
    pub index: NewIndex,
    /// Limits within which images are resized.
    pub resizing: Resizing,
}

/// Settings with room for one item, an exact index, and one cache for all tenants.
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
            resizing: Resizing::default(),
        }
    }
}

/// Part of the capacity with its own eviction.
#[derive(Debug)]
struct Part {
    eviction: Box<dyn EvictionPolicy>,
    capacity: u64,
    held: u64,
}

/// Image cache.
#[derive(Debug)]
pub struct ImageCache {
    settings: CacheSettings,
    /// Indexes of usual images by owner, as [`Tenancy`] says. Each is made when it is first needed.
    usual: BTreeMap<Owner, Box<dyn RetrievalIndex>>,
    /// Indexes of images with a key or a size of their own.
    others: BTreeMap<Shelf, Box<dyn RetrievalIndex>>,
    parts: BTreeMap<Owner, Part>,
    entries: Table<ImageId, Entry>,
    /// Entries in order of insertion, if entries expire. Entries that have left since are still in the queue.
    ages: VecDeque<(Time, ImageId)>,
    /// Sources of requests that have not ended, each with the number of requests that need it.
    pins: Table<ImageId, u32>,
    /// Number of insertions.
    inserted: u64,
    /// Last request that was routed. A part is told of it before the part evicts.
    routed: Option<RequestId>,
}

impl ImageCache {
    /// Returns an empty cache.
    #[must_use]
    pub fn new(settings: CacheSettings) -> Self {
        Self {
            settings,
            usual: BTreeMap::new(),
            others: BTreeMap::new(),
            parts: BTreeMap::new(),
            entries: Table::default(),
            ages: VecDeque::new(),
            pins: Table::default(),
            inserted: 0,
            routed: None,
        }
    }

    /// Returns the owner of an image that is made for a tenant.
    pub fn owner(&self, tenant: TenantId) -> Owner {
        self.settings.tenancy.owner(tenant)
    }

    /// Returns the places in which a request of a tenant is looked up, each in turn until one has a hit.
    pub fn places(&self, tenant: TenantId) -> SmallVec<[Owner; 2]> {
        self.settings.tenancy.places(tenant)
    }

    /// Returns the most similar entry of a place that serves a request of this key and size.
    pub fn nearest(&self, wanted: Shelf, query: &Query<'_>) -> Option<Candidate<'_>> {
        // While all images are usual, there is one index to look into.
        let found = if self.others.is_empty() && wanted.is_usual() {
            self.usual.get(&wanted.owner)?.nearest(query)?
        } else {
            self.nearest_of_sizes(wanted, query)?
        };
        let entry = self.entries.get(&found.image).expect("index and entries are kept in step");
        Some(Candidate { image: found.image, similarity: found.similarity, states: &entry.states })
    }

    /// Returns the indexes whose images serve a request of this owner, key and size.
    fn serving(&self, wanted: Shelf) -> impl Iterator<Item = &dyn RetrievalIndex> {
        let end = |width, height| Shelf { size: Size { width, height }, ..wanted };
        let of_key = self.others.range(end(0, 0)..=end(u16::MAX, u16::MAX));
        let serves = move |size: Size| self.settings.resizing.allows(size, wanted.size);
        let usual = self.usual.get(&wanted.owner).filter(|_| wanted.key == 0 && serves(Size::USUAL));
        let others = of_key.filter(move |(shelf, _)| serves(shelf.size)).map(|(_, index)| index);
        usual.into_iter().chain(others).map(|index| &**index)
    }

    /// Returns the most similar of the images of all sizes that serve a request.
    fn nearest_of_sizes(&self, wanted: Shelf, query: &Query<'_>) -> Option<Match> {
        let age = |found: &Match| self.entries.get(&found.image).map(|entry| entry.number);
        self.serving(wanted).filter_map(|index| index.nearest(query)).reduce(|nearest, other| {
            let goes_first = match other.similarity.total_cmp(&nearest.similarity) {
                Ordering::Greater => true,
                Ordering::Equal => age(&other) < age(&nearest),
                Ordering::Less => false,
            };
            if goes_first { other } else { nearest }
        })
    }

    /// Returns the true similarity of the most similar entry of a place that serves a request of this key and size, if
    /// the indexes may miss that entry and are checked.
    #[inline]
    pub fn audit(&self, wanted: Shelf, query: &Query<'_>) -> Option<f64> {
        if self.others.is_empty() && wanted.is_usual() {
            return self.usual.get(&wanted.owner)?.audit(query);
        }
        self.serving(wanted).filter_map(|index| index.audit(query)).reduce(f64::max)
    }

    /// Notes that a request is about to be routed.
    pub const fn routing(&mut self, request: RequestId) {
        self.routed = Some(request);
    }

    /// Counts a use of an image that spares this number of steps, and keeps the image readable until [`Self::unpin`].
    pub fn pin(&mut self, image: ImageId, skipped_steps: u32) {
        if let Some(entry) = self.entries.get(&image) {
            // A state is known by the steps that it spares. A final image is one item, whatever number of steps is
            // spared.
            let state = if entry.states.contains(&skipped_steps) { skipped_steps } else { 0 };
            let part = self.parts.get_mut(&self.settings.tenancy.part(entry.shelf.owner));
            let part = part.expect("an entry stands in a part");
            part.eviction.on_hit(Item { image, skipped_steps: state }, skipped_steps);
        }
        *self.pins.entry(image) += 1;
    }

    /// Ends the need of a request for its source. Returns whether the image is to be released now.
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

    /// Inserts an entry and evicts items until the capacity holds. Returns whether the entry was kept: it is not if its
    /// owner has no room for it, or if a near duplicate is there.
    ///
    /// An image takes the place of others, which leave before it comes: a new image need not compete with images that
    /// had time to be used, unless the policy says so. Nirvana's states compete from the start (`docs/semantics.md`,
    /// section 5).
    #[must_use]
    pub fn insert(&mut self, entry: Entry, key: &Embedding, departures: &mut Departures) -> bool {
        let (shelf, part) = (self.shelf(entry.shelf), self.settings.tenancy.part(entry.shelf.owner));
        let entry = Entry { number: self.inserted, ..entry };
        let weight = entry.total_weight();
        // An owner without a part has a share of 0, which no entry fits.
        let share = self.share(part);
        if weight > share || self.has_near_duplicate(shelf, key) {
            return false;
        }
        // Nothing has been changed so far: an entry that is refused costs no other entry its place.
        let room = self.parts.entry(part).or_insert_with(|| Part::new(&self.settings, part, share));
        if let Some(request) = self.routed {
            room.eviction.on_request(request);
        }
        // The empty part has room for the entry, so that enough items can leave.
        if entry.states.is_empty() && !room.eviction.newcomers_compete() {
            self.evict(part, weight, departures);
        }
        let make = || self.settings.index.make();
        let index = if shelf.is_usual() {
            self.usual.entry(shelf.owner).or_insert_with(make)
        } else {
            self.others.entry(shelf).or_insert_with(make)
        };
        index.insert(entry.image, key);
        self.inserted += 1;
        let part_of = self.part(part);
        part_of.held += weight;
        part_of.eviction.on_insert(&entry, key);
        // Entries are inserted in order of time, so that the queue is in order of age.
        if self.settings.max_age.is_some() {
            self.ages.push_back((entry.inserted, entry.image));
        }
        self.entries.insert(entry.image, entry);
        // States and competing images came in before there was room. For other images nothing is left to evict.
        self.evict(part, 0, departures);
        true
    }

    /// Returns the index of a shelf.
    fn index(&self, shelf: &Shelf) -> Option<&dyn RetrievalIndex> {
        let index = if shelf.is_usual() { self.usual.get(&shelf.owner) } else { self.others.get(shelf) };
        index.map(|index| &**index)
    }

    /// Returns the index of a shelf, to change it.
    fn index_mut(&mut self, shelf: &Shelf) -> Option<&mut Box<dyn RetrievalIndex>> {
        if shelf.is_usual() { self.usual.get_mut(&shelf.owner) } else { self.others.get_mut(shelf) }
    }

    /// Returns the shelf of the index with the images of a shelf.
    fn shelf(&self, of_entry: Shelf) -> Shelf {
        Shelf { owner: self.settings.tenancy.index(of_entry.owner), ..of_entry }
    }

    /// Returns the capacity of the part of an owner.
    fn share(&self, part: Owner) -> u64 {
        let shares = &self.settings.tenancy.shares;
        if shares.is_empty() { self.settings.capacity } else { shares.get(&part).copied().unwrap_or(0) }
    }

    fn has_near_duplicate(&self, shelf: Shelf, key: &Embedding) -> bool {
        let Some(limit) = self.settings.near_duplicate else { return false };
        let Some(index) = self.index(&shelf) else { return false };
        // The key is that of an image and not of a request: an index that searched ahead has nothing prepared for it.
        let nearest = index.nearest(&Query { request: None, embedding: key, without: &[] });
        nearest.is_some_and(|found| found.similarity >= limit)
    }

    fn part(&mut self, part: Owner) -> &mut Part {
        self.parts.get_mut(&part).expect("a part is made before it is used")
    }

    /// Evicts items from a part until an entry of weight `coming` fits.
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
        let (shelf, weight) = (entry.shelf, entry.weight);
        // A final image has no states, so that it leaves with its only item.
        entry.states.retain(|state| *state != item.skipped_steps);
        let empty = entry.states.is_empty();
        self.part(self.settings.tenancy.part(shelf.owner)).held -= weight;
        if empty {
            self.entries.remove(&item.image);
            self.leave(item.image, shelf, Cause::Evicted, departures);
        }
    }

    /// Removes an entry from its index, after it has left the entries, and notes its departure.
    fn leave(&mut self, image: ImageId, shelf: Shelf, cause: Cause, departures: &mut Departures) {
        let shelf = self.shelf(shelf);
        if let Some(index) = self.index_mut(&shelf) {
            index.remove(image);
            // Clients choose keys and sizes: an index for each that was ever used would grow without end.
            if index.is_empty() && !shelf.is_usual() {
                self.others.remove(&shelf);
            }
        }
        departures.left.push((image, cause));
        if !self.pins.contains(&image) {
            departures.released.push(image);
        }
    }

    /// Removes an entry for another reason than eviction. Pins stay until their requests end.
    fn remove(&mut self, image: ImageId, cause: Cause, departures: &mut Departures) {
        if let Some(entry) = self.entries.remove(&image) {
            // States that were evicted before are gone from the entry, so that its weight is that of the rest.
            let part = self.part(self.settings.tenancy.part(entry.shelf.owner));
            part.held -= entry.total_weight();
            part.eviction.on_remove(&entry);
            self.leave(image, entry.shelf, cause, departures);
        }
    }

    /// Removes an entry whose image cannot be read.
    pub fn forget(&mut self, image: ImageId, departures: &mut Departures) {
        self.remove(image, Cause::Unreadable, departures);
    }

    /// Removes an entry that no request may find any more. Returns whether the entry was there.
    pub fn withdraw(&mut self, image: ImageId, departures: &mut Departures) -> bool {
        let there = self.entries.contains(&image);
        self.remove(image, Cause::Withdrawn, departures);
        there
    }

    /// Removes the entries that are too old at time `now`.
    pub fn expire(&mut self, now: Time, departures: &mut Departures) {
        let Some(max_age) = self.settings.max_age else { return };
        while let Some(&(inserted, image)) = self.ages.front()
            && now.since(inserted) >= max_age
        {
            self.ages.pop_front();
            self.remove(image, Cause::Expired, departures);
        }
    }

    /// Returns the weight of all items that are held.
    pub fn held(&self) -> u64 {
        self.parts.values().map(|part| part.held).sum()
    }

    /// Returns the weight that all items may have together.
    pub const fn capacity(&self) -> u64 {
        self.settings.capacity
    }

    /// Returns the owner of an entry.
    pub fn owner_of(&self, image: ImageId) -> Option<Owner> {
        self.entries.get(&image).map(|entry| entry.shelf.owner)
    }

    /// Returns whether an image can be read: the image is cached, or a request still needs it.
    #[must_use]
    pub fn readable(&self, image: ImageId) -> bool {
        self.entries.contains(&image) || self.pins.contains(&image)
    }
}

impl Part {
    fn new(settings: &CacheSettings, owner: Owner, capacity: u64) -> Self {
        // Each part draws from its own stream: the evictions of one part say nothing about those of another.
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
