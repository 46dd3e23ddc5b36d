//! Requests of a trace with their search done ahead: the images that each prompt could find, most similar first. A run
//! then takes milliseconds, with any rate, cluster, cache and bounds, and finds what a search of its cache would find.
//!
//! Images of less similarity than any bound that the page offers could reach are left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use modm_core::cache::index::{Match, Query, QueryCodes, RetrievalIndex, Vectors, plain};
use modm_core::embedding::{Embedding, similarity};
use modm_core::image::ImageId;
use modm_core::request::RequestId;

use crate::encoder::{EncoderSettings, ImageModel, TextEncoder};
use crate::input::InputError;
use crate::settings::{LOWEST_BOUND, REQUESTS, Settings, WARM};
use crate::synthetic;

/// Distance from the lowest bound within which misses are counted as near: the default of `metrics.near_miss`.
pub const NEAR_MISS: f64 = 0.01;

/// Least similarity of an image that is of interest.
const LEAST: f64 = LOWEST_BOUND - NEAR_MISS - 1e-3;

/// Number of requests that are replayed, after those whose images are cached.
pub const REPLAYED: u32 = REQUESTS - WARM;

/// Images that the prompts of a trace could find. A place is the number of a request in the whole trace.
#[derive(Debug)]
pub struct Searched {
    /// Number of the prompt of each replayed request among the different prompts.
    prompts: Vec<u32>,
    /// Places and similarities of the images that each different prompt could find, most similar first.
    found: Vec<Vec<(u32, f64)>>,
}

impl Searched {
    /// Makes the prompts of the settings and their stand-in embeddings, and compares every prompt with the images of
    /// the requests before it.
    ///
    /// # Errors
    /// Returns an error if a setting of the prompts cannot be used.
    ///
    /// # Panics
    /// Never: the stand-ins are unit vectors of one dimension.
    pub fn new(settings: &Settings) -> Result<Self, InputError> {
        let prompts = synthetic::prompts(&settings.prompts(), REQUESTS, settings.seed)?;
        let texts = TextEncoder::fit(&EncoderSettings::default(), &prompts).encode_all(&prompts);
        let pictures = ImageModel::default().pictures(&texts, settings.seed);
        let mut images = Vectors::new(pictures.images.dimension(), plain);
        let mut image = Vec::new();
        for row in 0..pictures.images.rows() {
            pictures.images.read_unit(row, &mut image);
            images.push(&image);
        }
        let image = |place: u32| pictures.images.embedding(place as usize);
        let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
        let mut searched = Self { prompts: Vec::new(), found: Vec::new() };
        // A prompt that comes again finds the same images and those that came since, so that only the last request of a
        // prompt says how far to look.
        let mut lasts: Vec<u32> = Vec::new();
        for place in WARM..REQUESTS {
            let next = lasts.len() as u32;
            let number = *numbers.entry(&prompts[place as usize]).or_insert(next);
            if number == next {
                lasts.push(place);
            }
            lasts[number as usize] = place;
            searched.prompts.push(number);
        }
        for last in lasts {
            let prompt = pictures.prompts.embedding(last as usize);
            let (wanted, coded) = (prompt.as_slice(), QueryCodes::new(prompt.as_slice()));
            let near = (0..last).filter(|place| images.reaches(*place as usize, wanted, &coded, LEAST));
            let mut found: Vec<(u32, f64)> =
                near.map(|place| (place, similarity(wanted, image(place).as_slice()))).collect();
            found.sort_unstable_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
            searched.found.push(found);
        }
        Ok(searched)
    }

    /// Returns the images that a replayed request could find.
    fn of_request(&self, request: RequestId) -> &[(u32, f64)] {
        self.prompts.get(request.row()).map_or(&[], |number| &self.found[*number as usize])
    }
}

/// Returns the place of an image among all requests of the trace.
fn place(image: ImageId) -> usize {
    let warm = image.warm_row().map(|row| row as usize);
    let place = warm.or_else(|| image.request().map(|request| WARM as usize + request.row()));
    place.expect("an image is that of a request or from before the first")
}

/// Returns the image at a place.
fn image_at(place: u32) -> ImageId {
    place.checked_sub(WARM).map_or_else(|| ImageId::warm(place), |row| ImageId::of_request(RequestId(row)))
}

/// Index of the images that a run has cached. It takes no embeddings: the search was done ahead.
#[derive(Debug)]
pub struct SearchedIndex {
    searched: Arc<Searched>,
    /// Order of insertion by place, from 1; 0 if the image is not cached.
    ages: Vec<u32>,
    inserted: u32,
    len: usize,
}

impl SearchedIndex {
    /// Returns an empty index.
    #[must_use]
    pub fn new(searched: Arc<Searched>) -> Self {
        Self { searched, ages: vec![0; REQUESTS as usize], inserted: 0, len: 0 }
    }
}

impl RetrievalIndex for SearchedIndex {
    fn insert(&mut self, image: ImageId, _: &Embedding) {
        self.inserted += 1;
        self.ages[place(image)] = self.inserted;
        self.len += 1;
    }

    fn remove(&mut self, image: ImageId) {
        let age = &mut self.ages[place(image)];
        self.len -= usize::from(*age > 0);
        *age = 0;
    }

    fn nearest(&self, query: &Query<'_>) -> Option<Match> {
        let request = query.request?;
        let mut cached = self
            .searched
            .of_request(request)
            .iter()
            .filter(|(place, _)| self.ages[*place as usize] > 0 && !query.without.contains(&image_at(*place)));
        let first = cached.next()?;
        // Of equally similar images the oldest is the nearest.
        let equals = cached.take_while(|(_, similarity)| similarity.total_cmp(&first.1).is_eq());
        let (place, similarity) =
            std::iter::once(first).chain(equals).min_by_key(|(place, _)| self.ages[*place as usize])?;
        Some(Match { image: image_at(*place), similarity: *similarity })
    }

    fn len(&self) -> usize {
        self.len
    }
}
