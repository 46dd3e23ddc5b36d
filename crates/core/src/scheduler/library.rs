//! Finished images: the image cache, the sources that requests still need, and images that are being embedded.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::action::{Action, Decision, DecisionKind, Note};
use super::event::Output;
use super::requests::Pending;
use super::routing::{Load, Route, RoutingPolicy, Storage};
use super::{Config, WarmImage, Weight};
use crate::cache::index::Query;
use crate::cache::{Admission, Candidate, Departures, Entry, ImageCache, Shelf};
use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::model::ModelId;
use crate::request::{Ask, Owner, Request, RequestId, TenantId};
use crate::time::Time;

/// Owner of the image cache.
#[derive(Debug)]
pub(super) struct Library {
    storage: Storage,
    admission: Admission,
    weight: Weight,
    measures_images: bool,
    /// Image cache; `None` for a system that retrieves nothing.
    cache: Option<ImageCache>,
    /// Embeddings of prompts under which images will be cached, by request that has not ended.
    keys: BTreeMap<RequestId, Embedding>,
    /// Images that are being embedded, by request; `None` for an image that is measured and not cached.
    encoding: BTreeMap<RequestId, Option<Admitted>>,
    /// Buffer for the images that leave the cache.
    departures: Departures,
}

/// Image that is cached as soon as it is embedded.
#[derive(Clone, Copy, Debug)]
struct Admitted {
    tenant: TenantId,
    ask: Ask,
    bytes: Option<u64>,
    /// Image from which this one was refined.
    source: Option<ImageId>,
}

/// Result of a request's job.
#[derive(Clone, Copy, Debug)]
pub(super) struct MadeImage<'a> {
    pub(super) now: Time,
    /// Model that made the image.
    pub(super) model: ModelId,
    /// Output of the executor for the request.
    pub(super) output: Option<&'a Output>,
}

impl Library {
    /// Makes the library of a system that caches images as `storage` says.
    pub(super) fn new(config: &Config, storage: Storage, cache: Option<ImageCache>) -> Self {
        let cache = if storage == Storage::None { None } else { cache };
        Self {
            storage,
            admission: config.admission,
            weight: config.weight,
            measures_images: config.measures_images,
            cache,
            keys: BTreeMap::new(),
            encoding: BTreeMap::new(),
            departures: Departures::default(),
        }
    }

    pub(super) const fn cache(&self) -> Option<&ImageCache> {
        self.cache.as_ref()
    }

    /// Returns the number of images that are being embedded.
    pub(super) fn outstanding(&self) -> usize {
        self.encoding.len()
    }

    /// Returns whether images are found by their own embeddings.
    pub(super) fn is_by_image(&self) -> bool {
        self.storage == Storage::ByImage
    }

    /// Caches images before time zero, oldest first.
    pub(super) fn warm(&mut self, images: impl Iterator<Item = WarmImage>, actions: &mut Vec<Action>) {
        for (row, image) in (0..).zip(images) {
            // A tenant's image belongs to the public if the scenario says so of the tenant.
            let owner = match (image.owner, &self.cache) {
                (Owner::Tenant(tenant), Some(cache)) => cache.owner(tenant),
                (owner, _) => owner,
            };
            self.store(Time::ZERO, ImageId::warm(row), (owner, image.ask), image.bytes, &image.key, actions);
        }
    }

    /// Searches the parts of the image cache that the request may use, one after the other, until routing finds a hit.
    /// Without a hit, routing decides by the most similar entry of all parts.
    pub(super) fn look_up(
        &mut self,
        routing: &mut dyn RoutingPolicy,
        load: &Load,
        request: &Request,
        query: Option<&Query<'_>>,
        actions: &mut Vec<Action>,
    ) -> Route {
        if request.ask.skips > 0 {
            return self.own_source(request);
        }
        let (Some(cache), Some(query)) = (&mut self.cache, query) else {
            return routing.route(request, None, load);
        };
        // The cache is told of every request, also of one that is not looked up: `farthest` compares rows with the
        // latest one.
        cache.routing(request.id);
        let route = if request.reuse.look_up {
            cache.expire(load.now, &mut self.departures);
            let (mut nearest, mut truly_nearest) = (None, None::<f64>);
            let mut found = None;
            for place in cache.places(request.tenant) {
                let wanted = Shelf { owner: place, key: request.ask.key, size: request.ask.size };
                truly_nearest = cache.audit(wanted, query).into_iter().chain(truly_nearest).reduce(f64::max);
                let candidate = cache.nearest(wanted, query);
                let route = routing.route(request, candidate, load);
                if !route.is_miss() {
                    found = Some(route);
                    break;
                }
                nearest = [nearest, candidate].into_iter().flatten().reduce(Candidate::nearer);
            }
            // A miss reports the most similar entry of all parts, which need not be in the part that was searched last.
            let route = found.unwrap_or_else(|| routing.route(request, nearest, load));
            self.depart(actions);
            // `metrics::retrieval` compares the audit with the decision that is noted next.
            if let Some(nearest) = truly_nearest {
                actions.push(Action::Note(Note::Audited { request: request.id, nearest }));
            }
            route
        } else {
            routing.route(request, None, load)
        };
        // The image of the request will be stored under its prompt. Each end of a request takes the key out, image or
        // not.
        if matches!(self.storage, Storage::ByPrompt(_)) && request.reuse.keep {
            self.keys.insert(request.id, query.embedding.clone());
        }
        route
    }

    /// Returns the route of a request that brings a source of its own.
    #[cold]
    fn own_source(&mut self, request: &Request) -> Route {
        if let Some(cache) = &mut self.cache {
            cache.routing(request.id);
        }
        Route::Queue(Decision::of_own_source(request.ask.skips))
    }

    /// Pins the source of a decision: the image stays readable until [`Self::unpin`].
    pub(super) fn pin(&mut self, decision: &Decision) {
        if let (Some(image), Some(cache)) = (decision.source, &mut self.cache) {
            cache.pin(image, decision.skipped_steps);
        }
    }

    /// Unpins the source of a request. The image is released if it has left the cache and no other request needs it.
    pub(super) fn unpin(&mut self, source: Option<ImageId>, actions: &mut Vec<Action>) {
        if let (Some(image), Some(cache)) = (source, &mut self.cache)
            && cache.unpin(image)
        {
            actions.push(Action::Release(image));
        }
    }

    /// Removes an unreadable source from the cache, and unpins it for one request.
    pub(super) fn forget(&mut self, source: ImageId, actions: &mut Vec<Action>) {
        if let Some(cache) = &mut self.cache {
            cache.forget(source, &mut self.departures);
        }
        self.depart(actions);
        self.unpin(Some(source), actions);
    }

    /// Unpins the source of a request that has ended, and caches the image that was made for it.
    pub(super) fn ended(
        &mut self,
        request: RequestId,
        pending: &Pending,
        made: Option<MadeImage<'_>>,
        actions: &mut Vec<Action>,
    ) {
        // Such a system has pinned nothing and keeps nothing.
        if self.storage == Storage::None && !self.measures_images {
            return;
        }
        self.unpin(pending.decision.and_then(|decision| decision.source), actions);
        let prompt = if self.keys.is_empty() { None } else { self.keys.remove(&request) };
        if let Some(made) = made {
            self.made(request, pending, &made, prompt.as_ref(), actions);
        }
    }

    /// Caches the image of a completed request if it is admitted. Asks for its embedding if that is missing, also if
    /// the image is only measured.
    fn made(
        &mut self,
        request: RequestId,
        pending: &Pending,
        &MadeImage { now, model, output }: &MadeImage<'_>,
        prompt: Option<&Embedding>,
        actions: &mut Vec<Action>,
    ) {
        let embedding = output.and_then(|output| output.embedding.as_ref());
        let bytes = output.and_then(|output| output.bytes);
        // Nirvana and Pinecone store the images of misses alone, whatever the admission says (docs/semantics.md,
        // section 5).
        let miss = pending.decision.is_some_and(|decision| decision.kind == DecisionKind::Miss);
        let Pending { tenant, reuse, background, .. } = *pending;
        let by_image = self.is_by_image()
            && reuse.keep
            && match self.admission {
                Admission::All => true,
                Admission::Large => model.is_large(),
                Admission::Miss => miss,
            };
        let key = match self.storage {
            Storage::None => None,
            Storage::ByPrompt(_) => prompt.filter(|_| miss && reuse.keep),
            Storage::ByImage => embedding.filter(|_| by_image),
        };
        if let Some(key) = key {
            self.keep(now, request, (tenant, pending.ask()), bytes, key, actions);
        }
        let measured = self.measures_images && (reuse.keep || background);
        if embedding.is_none() && (by_image || measured) {
            let source = pending.decision.and_then(|decision| decision.source);
            self.encoding.insert(request, by_image.then_some(Admitted { tenant, ask: pending.ask(), bytes, source }));
            actions.push(Action::EncodeImage(request));
        }
    }

    /// Caches an image that has been embedded. An image without an embedding is dropped.
    pub(super) fn image_encoded(
        &mut self,
        now: Time,
        request: RequestId,
        key: Option<&Embedding>,
        actions: &mut Vec<Action>,
    ) {
        // The inner `None` is an image that was embedded to be measured, or whose source was withdrawn meanwhile.
        if let (Some(Some(Admitted { tenant, ask, bytes, .. })), Some(key)) = (self.encoding.remove(&request), key) {
            self.keep(now, request, (tenant, ask), bytes, key, actions);
        }
    }

    /// Removes withdrawn images from the cache. Returns whether the system has a cache.
    pub(super) fn withdraw(&mut self, images: &[ImageId], actions: &mut Vec<Action>) -> bool {
        let Some(cache) = &mut self.cache else { return false };
        for image in images {
            cache.withdraw(*image, &mut self.departures);
        }
        self.depart(actions);
        true
    }

    /// Marks the images that are being embedded and were refined from withdrawn ones, so that they are not cached.
    pub(super) fn withdraw_refined(&mut self, is_from_these: impl Fn(Option<ImageId>) -> bool) {
        for admitted in self.encoding.values_mut() {
            *admitted = admitted.filter(|admitted| !is_from_these(admitted.source));
        }
    }

    /// Caches the image that was made for a tenant's request, by what the request asked for.
    fn keep(
        &mut self,
        now: Time,
        request: RequestId,
        (tenant, ask): (TenantId, Ask),
        bytes: Option<u64>,
        key: &Embedding,
        actions: &mut Vec<Action>,
    ) {
        let owner = self.cache.as_ref().map_or(Owner::Tenant(tenant), |cache| cache.owner(tenant));
        self.store(now, ImageId::of_request(request), (owner, ask), bytes, key, actions);
    }

    /// Caches an image under `key`, if the cache accepts it.
    fn store(
        &mut self,
        now: Time,
        image: ImageId,
        (owner, ask): (Owner, Ask),
        bytes: Option<u64>,
        key: &Embedding,
        actions: &mut Vec<Action>,
    ) {
        let Some(cache) = &mut self.cache else { return };
        let states = match &self.storage {
            Storage::ByPrompt(states) => SmallVec::from_slice(states),
            Storage::ByImage | Storage::None => SmallVec::new(),
        };
        let (weight, bytes) = match self.weight {
            Weight::One => (1, bytes),
            // An image weighs at least one byte, so that the capacity bounds the number of images too.
            Weight::Bytes(usual) => (bytes.unwrap_or(usual).max(1), Some(bytes.unwrap_or(usual))),
        };
        cache.expire(now, &mut self.departures);
        let shelf = Shelf { owner, key: ask.key, size: ask.size };
        let entry = Entry { image, shelf, states, weight, inserted: now, number: 0 };
        // Some policies evict the newcomer itself. So `Keep` comes before the departures.
        if cache.insert(entry, key, &mut self.departures) {
            actions.push(Action::Keep { image, bytes });
        }
        self.depart(actions);
    }

    /// Reports the images that have left the cache.
    fn depart(&mut self, actions: &mut Vec<Action>) {
        if self.departures.left.is_empty() && self.departures.released.is_empty() {
            return;
        }
        let left = self.departures.left.drain(..).map(|(image, cause)| Action::Note(Note::Left { image, cause }));
        actions.extend(left);
        actions.extend(self.departures.released.drain(..).map(Action::Release));
    }
}
