//! Tests of the cache by itself. Tests with the scheduler around it are in `scheduler::tests` and
//! `tests/invariants.rs`.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use rand::RngExt;

use super::*;
use crate::draw::{Purpose, normal, stream};

fn cache(eviction: Eviction, capacity: u64) -> ImageCache {
    ImageCache::new(CacheSettings { capacity, eviction, ..CacheSettings::default() })
}

fn image(row: u32) -> ImageId {
    ImageId::of_request(RequestId(row))
}

fn entry(row: u32, states: &[u32]) -> Entry {
    let states = states.iter().copied().collect();
    let shelf = Shelf::default();
    Entry { image: image(row), shelf, states, weight: 1, inserted: Time::ZERO, number: 0 }
}

fn axis() -> Embedding {
    Embedding::normalised(&[1.0, 0.0]).expect("a good row")
}

/// Inserts an entry and returns the images that were released.
fn put(cache: &mut ImageCache, entry: Entry) -> Vec<ImageId> {
    let mut departures = Departures::default();
    assert!(cache.insert(entry, &axis(), &mut departures));
    departures.released
}

fn second(second: u64) -> Time {
    Time::from_nanoseconds(second * 1_000_000_000)
}

#[test]
fn a_pinned_source_outlives_its_eviction() {
    let mut cache = cache(Eviction::Fifo, 1);
    put(&mut cache, entry(0, &[]));
    cache.pin(image(0), 5);
    assert_eq!(put(&mut cache, entry(1, &[])), []);
    assert!(cache.readable(image(0)));
    assert!(cache.unpin(image(0)), "the last need of an evicted image releases it");
    assert!(!cache.readable(image(0)));
    assert_eq!(put(&mut cache, entry(2, &[])), [image(1)]);
    assert_eq!(cache.held(), 1);
}

#[test]
fn a_new_image_does_not_compete_with_those_in_use() {
    let mut cache = cache(Eviction::Lfu, 2);
    for row in 0..2 {
        put(&mut cache, entry(row, &[]));
        cache.pin(image(row), 5);
        assert!(!cache.unpin(image(row)));
    }
    assert_eq!(put(&mut cache, entry(2, &[])), [image(0)]);
    assert!(cache.readable(image(2)));
}

#[test]
fn capacity_counts_states_and_an_entry_without_any_leaves() {
    let mut cache = cache(Eviction::Lcbfu, 3);
    put(&mut cache, entry(0, &[5, 10]));
    put(&mut cache, entry(1, &[5, 10]));
    let embedding = axis();
    let query = Query { request: None, embedding: &embedding, without: &[] };
    assert_eq!(cache.nearest(Shelf::default(), &query).map(|found| found.states.to_vec()), Some(vec![10]));
    assert_eq!(put(&mut cache, entry(2, &[5])), [image(0)]);
    assert_eq!(cache.held(), 3);
}

#[test]
fn an_unreadable_image_is_forgotten() {
    let mut cache = cache(Eviction::Fifo, 2);
    put(&mut cache, entry(0, &[]));
    let mut departures = Departures::default();
    cache.forget(image(0), &mut departures);
    assert_eq!((cache.held(), departures.left), (0, vec![(image(0), Cause::Unreadable)]));
    assert_eq!(put(&mut cache, entry(1, &[])), []);
    assert_eq!(put(&mut cache, entry(2, &[])), []);
    assert_eq!(cache.held(), 2);
}

#[test]
fn capacity_in_bytes_takes_out_as_much_as_comes() {
    let mut cache = cache(Eviction::Fifo, 100);
    for (row, weight) in [(0, 30), (1, 30), (2, 40)] {
        assert_eq!(put(&mut cache, Entry { weight, ..entry(row, &[]) }), []);
    }
    assert_eq!(put(&mut cache, Entry { weight: 50, ..entry(3, &[]) }), [image(0), image(1)]);
    assert_eq!(cache.held(), 90);
    let mut departures = Departures::default();
    let too_large = Entry { weight: 101, ..entry(4, &[]) };
    assert!(!cache.insert(too_large, &axis(), &mut departures) && departures.left.is_empty());
}

#[test]
fn entries_leave_at_their_age() {
    for eviction in [Eviction::Fifo, Eviction::S3Fifo, Eviction::Sieve, Eviction::Random] {
        let max_age = Some(Duration::from_nanoseconds(10_000_000_000));
        let settings = CacheSettings { capacity: 3, max_age, eviction, ..CacheSettings::default() };
        let mut cache = ImageCache::new(settings);
        for row in 0..4_u32 {
            put(&mut cache, Entry { inserted: second(u64::from(row)), ..entry(row, &[]) });
        }
        let mut departures = Departures::default();
        cache.expire(second(11), &mut departures);
        let left: BTreeSet<ImageId> = departures.left.iter().map(|(image, _)| *image).collect();
        let young: Vec<ImageId> = (2..4).map(image).filter(|image| cache.readable(*image)).collect();
        assert_eq!(cache.held(), young.len() as u64, "{eviction:?}: what is 10 s old has left");
        assert!(left.iter().all(|gone| [image(0), image(1)].contains(gone)));
        cache.expire(second(13), &mut departures);
        assert_eq!(cache.held(), 0);
        put(&mut cache, Entry { inserted: second(14), ..entry(9, &[]) });
        assert_eq!(cache.held(), 1);
    }
}

#[test]
fn a_near_duplicate_is_not_kept() {
    let settings = CacheSettings { capacity: 9, near_duplicate: Some(0.9), ..CacheSettings::default() };
    let mut cache = ImageCache::new(settings);
    let mut departures = Departures::default();
    let mut keep = |row, key: [f32; 2]| {
        cache.insert(entry(row, &[]), &Embedding::normalised(&key).expect("a direction"), &mut departures)
    };
    assert!(keep(0, [1.0, 0.0]));
    assert!(!keep(1, [1.0, 0.4]), "at 0.93");
    assert!(keep(2, [1.0, 0.6]), "at 0.86");
    assert!(!keep(3, [1.0, 0.55]), "the newer one counts too");
}

/// Returns what a tenant can see of a cache, a line for each of its requests: what the search finds, whether the image
/// is kept, and which of its images are cached. The other tenants ask at the steps that `others` names.
fn seen_by(tenant: u32, tenancy: &Tenancy, eviction: Eviction, others: impl Fn(u32) -> bool) -> Vec<String> {
    let settings = CacheSettings {
        capacity: 40,
        tenancy: tenancy.clone(),
        near_duplicate: Some(0.98),
        max_age: Some(Duration::from_nanoseconds(60_000_000_000)),
        eviction,
        eviction_settings: EvictionSettings { seed: 5, savings: vec![1; 51], ..EvictionSettings::default() },
        ..CacheSettings::default()
    };
    let mut cache = ImageCache::new(settings);
    let mut seen = Vec::new();
    for step in 0..600_u32 {
        let mut draws = stream(8, Purpose::Test, u64::from(step));
        let who = draws.random_range(0..3_u32);
        let topic = draws.random_range(0..6_usize);
        let row: Vec<f32> =
            (0..6).map(|at| (f64::from(u8::from(at == topic)) + 0.3 * normal(&mut draws)) as f32).collect();
        if who != tenant && !others(step) {
            continue;
        }
        let key = Embedding::normalised(&row).expect("a direction");
        let (now, id) = (second(u64::from(step)), TenantId(who));
        let mut departures = Departures::default();
        cache.expire(now, &mut departures);
        let query = Query { request: None, embedding: &key, without: &[] };
        let places = cache.places(id);
        let found = places.iter().find_map(|place| cache.nearest(Shelf::of(*place), &query));
        let found = found.map(|found| (found.image, found.similarity)).filter(|(_, similarity)| *similarity > 0.8);
        if let Some((image, similarity)) = found {
            cache.pin(image, (similarity * 50.0) as u32);
            let owner = cache.owner_of(image);
            assert!(owner == Some(Owner::Tenant(id)) || tenancy.scope != Scope::Tenant, "{owner:?} serves {id:?}");
            let _ = cache.unpin(image);
        }
        let entry = Entry { shelf: Shelf::of(cache.owner(id)), inserted: now, ..entry(step, &[]) };
        let kept = cache.insert(entry, &key, &mut departures);
        if who == tenant {
            let mine: Vec<u32> =
                (0..600).filter(|row| cache.owner_of(image(*row)) == Some(Owner::Tenant(id))).collect();
            seen.push(format!("{step}: {found:?} {kept} {mine:?}"));
        }
    }
    seen
}

/// Checks that a tenant sees nothing that depends on the requests of others, under any eviction policy: neither what
/// its searches find, and so how long its requests take, nor which images are evicted.
#[test]
fn tenants_with_parts_of_their_own_learn_nothing_of_each_other() {
    let shares = [(Owner::Tenant(TenantId(0)), 10), (Owner::Tenant(TenantId(1)), 20), (Owner::Tenant(TenantId(2)), 10)];
    let apart = Tenancy { scope: Scope::Tenant, shares: shares.into_iter().collect(), public: BTreeSet::new() };
    for eviction in Eviction::ALL {
        for tenant in 0..3 {
            let alone = seen_by(tenant, &apart, eviction, |_| false);
            assert!(alone.iter().any(|line| line.contains("Some")), "it has hits of its own");
            assert_eq!(alone, seen_by(tenant, &apart, eviction, |_| true), "{eviction:?}");
            assert_eq!(alone, seen_by(tenant, &apart, eviction, |step| step % 3 == 0), "{eviction:?}");
        }
        let shared = Tenancy::default();
        assert_ne!(
            seen_by(0, &shared, eviction, |_| false),
            seen_by(0, &shared, eviction, |_| true),
            "the test can tell: a shared cache does leak"
        );
    }
}

/// Entry of the cache as brute force sees it: image, shelf, vector.
type Known = (ImageId, Shelf, Embedding);

/// Most similar of the entries that serve a shelf, the oldest of equals.
fn brute_force(
    entries: &[Known],
    wanted: Shelf,
    query: &Embedding,
    without: &[ImageId],
    limits: &Resizing,
) -> Option<(ImageId, f64)> {
    let serves = entries.iter().filter(|(image, shelf, _)| {
        (shelf.owner, shelf.key) == (wanted.owner, wanted.key)
            && limits.allows(shelf.size, wanted.size)
            && !without.contains(image)
    });
    serves.fold(None, |best: Option<(ImageId, f64)>, (image, _, vector)| {
        let similarity = crate::embedding::similarity(query.as_slice(), vector.as_slice());
        if best.is_none_or(|(_, before)| similarity > before) { Some((*image, similarity)) } else { best }
    })
}

#[test]
fn among_sizes_and_keys_the_nearest_is_that_of_brute_force() {
    let (dimension, mut mixed) = (6, 0);
    for seed in 0..40 {
        let mut draws = stream(seed, Purpose::Test, 97);
        let usual = Size { width: 1024, height: 1024 };
        let resizing = Resizing { usual, aspect: draws.random_range(1.0..1.6), factor: draws.random_range(1.0..8.0) };
        let scope = if draws.random() { Scope::Shared } else { Scope::Tenant };
        let mut cache = ImageCache::new(CacheSettings {
            capacity: 40,
            tenancy: Tenancy { scope, ..Tenancy::default() },
            resizing,
            ..CacheSettings::default()
        });
        let mut departures = Departures::default();
        let mut known: Vec<Known> = Vec::new();
        let sizes = [(0, 0), (512, 512), (1024, 768), (900, 1000), (2048, 2048)].map(Size::from);
        for step in 0..400 {
            // Few values, so that similarities are often equal.
            let mut vector = || -> Embedding {
                let values = (0..dimension).map(|_| draws.random_range(0..3_u8).into()).collect::<Vec<f32>>();
                let some = if values.iter().all(|value| *value == 0.0) { vec![1.0; dimension] } else { values };
                crate::embedding::EmbeddingMatrix::new(dimension, some).expect("a row").embedding(0)
            };
            let (key, query) = (vector(), vector());
            let tenant = TenantId(draws.random_range(0..2));
            let mut shelf = || Shelf {
                owner: cache.owner(tenant),
                key: draws.random_range(0..3),
                size: sizes[draws.random_range(0..sizes.len())],
            };
            let (own, wanted) = (shelf(), shelf());
            let place = Shelf { owner: cache.places(tenant)[0], ..wanted };
            let without: Vec<ImageId> = known.iter().step_by(5).map(|entry| entry.0).collect();
            let query = Query { request: None, embedding: &query, without: &without };
            let found = cache.nearest(place, &query).map(|found| (found.image, found.similarity));
            let expected = brute_force(&known, place, query.embedding, &without, &resizing);
            assert_eq!(found, expected, "seed {seed}, step {step}");
            mixed += usize::from(found.is_some_and(|(image, _)| {
                known.iter().any(|(other, shelf, _)| *other == image && shelf.size != wanted.size)
            }));
            let entry = Entry { shelf: own, ..entry(step, &[]) };
            assert!(cache.insert(entry, &key, &mut departures));
            known.push((image(step), Shelf { owner: cache.places(tenant)[0], ..own }, key));
            for (left, _) in departures.left.drain(..) {
                known.retain(|(image, ..)| *image != left);
            }
        }
        assert_eq!(cache.held(), 40);
    }
    assert!(mixed > 1000, "{mixed} finds of another size");
}
