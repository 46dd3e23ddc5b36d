//! Figures of stand-in embeddings on a list of prompts, if each image is cached at once: hit rates, gains over the
//! large model alone on 16 x MI210, and similarities. Beside them are the published figures (arXiv 2503.11972) to which
//! they are fitted. The model serves fits and tests of the embeddings; figures in tables come from simulations.

use modm::embedding::{EmbeddingMatrix, rough_product};
use modm::encoder::{EncoderSettings, ImageModel, Pictures, TextEncoder};

/// Similarity bounds and skipped steps of 50. `MoDM` hits at or above a bound, Nirvana only above it.
const MODM: [(f32, f64); 5] = [(0.25, 5.0), (0.27, 10.0), (0.28, 15.0), (0.29, 25.0), (0.30, 30.0)];
const NIRVANA: [(f32, f64); 5] = [(0.65, 5.0), (0.75, 10.0), (0.85, 15.0), (0.90, 20.0), (0.95, 25.0)];

/// Seconds of 50 steps on an MI210: SD3.5-Large, SDXL, SANA-1.6B.
const LARGE_S: f64 = 91.5;
const SDXL_S: f64 = 16.5;
const SANA_S: f64 = 6.5;

/// Similarity bound of Pinecone. The bound is fitted, because the paper does not print it.
pub(crate) const PINECONE: f64 = 0.789;

/// Capacities of a small and a large cache, in images. The hit rate must rise from the first to the second.
const SIZES: [usize; 2] = [250, 4_000];

/// Published figure: its name, its value, and the tolerance of a fit. A difference of one tolerance weighs the same for
/// every figure.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) published: f64,
    pub(crate) tolerance: f64,
    /// Range in which the figure must lie for the embeddings to stand in for CLIP.
    pub(crate) accepted: (f64, f64),
}

const fn target(name: &'static str, published: f64, tolerance: f64, accepted: (f64, f64)) -> Target {
    Target { name, published, tolerance, accepted }
}

/// Targets in the order of [`Outcome::figures`]. The hit rate is derived from the published throughputs. The paper says
/// that the hit rate rises with the size of the cache, but not by how much, so the last target has no part in a fit.
pub(crate) const TARGETS: [Target; 9] = [
    target("hit rate", 0.70, 0.02, (0.65, 0.75)),
    target("MoDM-SDXL / vanilla", 2.5, 0.10, (2.4, 2.75)),
    target("MoDM-SANA / vanilla", 3.2, 0.12, (2.9, 3.3)),
    target("cache-large / vanilla", 2.3, 0.10, (2.05, 2.4)),
    target("Nirvana / vanilla", 1.2, 0.05, (1.10, 1.30)),
    target("Pinecone / vanilla", 1.8, 0.05, (1.7, 1.9)),
    target("similarity, text to image", 0.28, 0.005, (0.27, 0.29)),
    target("similarity, text to text", 0.22, 0.005, (0.21, 0.23)),
    target("hit rate, 4,000 images less 250", 0.15, f64::INFINITY, (0.15, 1.0)),
];

/// Similarities of each prompt to all prompts before it, and to the images of those prompts. Values are row by row,
/// without the diagonal.
pub(crate) struct Pairs {
    texts: Vec<f32>,
    images: Vec<f32>,
}

impl Pairs {
    /// Computes the similarities of the embeddings that a scenario with these settings uses.
    pub(crate) fn new(encoder: &EncoderSettings, image_model: &ImageModel, prompts: &[String], seed: u64) -> Self {
        let texts = TextEncoder::fit(encoder, prompts).encode_all(prompts);
        let Pictures { prompts, images } = image_model.pictures(&texts, seed);
        Self { texts: products(&texts, &texts), images: products(&prompts, &images) }
    }

    /// Returns the number of pairs in the rows before this one.
    const fn start(row: usize) -> usize {
        row * row.saturating_sub(1) / 2
    }
}

/// Computes the dot products of each row of `queries` with the rows of `stored` before it.
fn products(queries: &EmbeddingMatrix, stored: &EmbeddingMatrix) -> Vec<f32> {
    let width = stored.dimension();
    let stored: Vec<f32> = (0..stored.rows()).flat_map(|row| stored.embedding(row).as_slice().to_vec()).collect();
    let mut found = Vec::with_capacity(Pairs::start(queries.rows()));
    for row in 0..queries.rows() {
        let query = queries.embedding(row);
        found.extend(stored.chunks_exact(width).take(row).map(|other| rough_product(query.as_slice(), other)));
    }
    found
}

/// Parts of the similarities for one noise seed. The similarities of any settings follow from them.
pub(crate) struct Parts {
    /// Cosines of the hashed features, by pair.
    cosine: Vec<f32>,
    /// Chance part with a standard deviation of 1, by pair.
    noise: Vec<f32>,
    /// Difference of each image's own similarity from the mean, in standard deviations.
    own: Vec<f32>,
}

/// Values that a fit sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values {
    pub(crate) background: f64,
    pub(crate) common_share: f64,
    pub(crate) own_deviation: f64,
    pub(crate) noise: f64,
    /// Similarity bound of Pinecone, which the paper does not print.
    pub(crate) pinecone: f64,
}

impl Parts {
    /// Measures each part on the embeddings themselves, with settings in which the other parts are 0.
    pub(crate) fn new(prompts: &[String], seed: u64) -> Self {
        let features = EncoderSettings { background: 0.0, ..EncoderSettings::default() };
        let texts = TextEncoder::fit(&features, prompts).encode_all(prompts);
        let none = ImageModel { own_similarity: 0.0, own_similarity_deviation: 0.0, ..ImageModel::default() };
        let unit = f64::from(none.noise_dimension).sqrt();
        let chance = ImageModel { noise: 1.0 / unit, ..none.clone() }.pictures(&texts, seed);
        let noise = products(&chance.prompts, &chance.images).iter().map(|e| e * unit as f32).collect();
        let own = ImageModel { own_similarity: 0.5, own_similarity_deviation: 0.1, noise: 0.0, ..none };
        let own = own.pictures(&texts, seed);
        let deviation = |row: usize| {
            let same = rough_product(own.prompts.embedding(row).as_slice(), own.images.embedding(row).as_slice());
            (same - 0.5) / 0.1
        };
        Self { cosine: products(&texts, &texts), noise, own: (0..prompts.len()).map(deviation).collect() }
    }

    /// Returns the similarities with these values.
    pub(crate) fn pairs(&self, values: &Values) -> Pairs {
        let [background, common, deviation, noise] =
            [values.background, values.common_share, values.own_deviation, values.noise].map(|value| value as f32);
        let texts: Vec<f32> = self.cosine.iter().map(|cosine| background + (1.0 - background) * cosine).collect();
        let own: Vec<f32> =
            self.own.iter().map(|own| ImageModel::default().own_similarity as f32 + deviation * own).collect();
        let mut images = Vec::with_capacity(texts.len());
        for row in 0..own.len() {
            let start = Pairs::start(row);
            let pairs = texts[start..start + row].iter().zip(&self.noise[start..start + row]).zip(&own);
            images.extend(pairs.map(|((t, e), own)| own * (common + (1.0 - common) * t) + noise * e));
        }
        Pairs { texts, images }
    }
}

/// Sums over the measured requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    requests: f64,
    hits: f64,
    /// Work that remains after hits, in full generations: of `MoDM` on the small and on the large model, of `MoDM` on
    /// both if only images of the large model are cached, and of Nirvana on its only model.
    small: f64,
    large: f64,
    small_of_large: f64,
    large_of_large: f64,
    nirvana: f64,
    returned: f64,
    image_similarity: f64,
    text_similarity: f64,
    sized: [f64; 2],
    sized_requests: f64,
}

/// Returns the share of the steps that the highest bound met lets a request skip; 0 if it meets none.
fn skipped(bounds: &[(f32, f64)], meets: impl Fn(f32) -> bool) -> f64 {
    bounds.iter().rev().find(|(bound, _)| meets(*bound)).map_or(0.0, |(_, steps)| steps / 50.0)
}

/// Replays the prompts in order, and measures those after the first `warm`. `MoDM` searches all images, cache-large
/// only images that the large model made. Nirvana and Pinecone search the prompts that missed. All warm prompts count
/// as misses.
pub(crate) fn replay(pairs: &Pairs, rows: usize, warm: usize, pinecone: f64) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut by_large, mut by_nirvana, mut by_pinecone) = (vec![true; rows], vec![true; rows], vec![true; rows]);
    let most = |values: &[f32], kept: &[bool]| {
        let kept = values.iter().zip(kept).filter(|(_, kept)| **kept);
        kept.fold(-1.0_f32, |most, (&value, _)| most.max(value))
    };
    for row in warm..rows {
        let start = Pairs::start(row);
        let (texts, images) = (&pairs.texts[start..start + row], &pairs.images[start..start + row]);
        let [text, of_nirvana, of_pinecone] =
            [most(texts, &vec![true; row]), most(texts, &by_nirvana), most(texts, &by_pinecone)];
        let [image, of_large] = [most(images, &vec![true; row]), most(images, &by_large)];
        let at = texts.iter().position(|&t| t >= text).expect("the nearest text is one of them");
        outcome.count(
            skipped(&MODM, |bound| image >= bound),
            skipped(&MODM, |bound| of_large >= bound),
            skipped(&NIRVANA, |bound| of_nirvana > bound),
        );
        outcome.returned += f64::from(u8::from(f64::from(of_pinecone) >= pinecone));
        outcome.image_similarity += f64::from(image);
        outcome.text_similarity += f64::from(images[at]);
        by_nirvana[row] = of_nirvana <= NIRVANA[0].0;
        by_pinecone[row] = f64::from(of_pinecone) < pinecone;
        by_large[row] = of_large < MODM[0].0;
        if row >= SIZES[1] {
            outcome.sized_requests += 1.0;
            for (hits, size) in outcome.sized.iter_mut().zip(SIZES) {
                let hit = images[row - size..].iter().any(|&x| x >= MODM[0].0);
                *hits += f64::from(u8::from(hit));
            }
        }
    }
    outcome
}

impl Outcome {
    /// Counts a request by the shares of steps that `MoDM`, cache-large and Nirvana skip.
    fn count(&mut self, modm: f64, cache_large: f64, nirvana: f64) {
        self.requests += 1.0;
        if modm > 0.0 {
            self.hits += 1.0;
            self.small += 1.0 - modm;
        } else {
            self.large += 1.0;
        }
        if cache_large > 0.0 {
            self.small_of_large += 1.0 - cache_large;
        } else {
            self.large_of_large += 1.0;
        }
        self.nirvana += 1.0 - nirvana;
    }

    /// Returns the figures, in the order of [`TARGETS`].
    pub(crate) fn figures(&self) -> [f64; 9] {
        let gain = |large: f64, small: f64, small_s: f64| self.requests * LARGE_S / (large * LARGE_S + small * small_s);
        [
            self.hits / self.requests,
            gain(self.large, self.small, SDXL_S),
            gain(self.large, self.small, SANA_S),
            gain(self.large_of_large, self.small_of_large, SDXL_S),
            self.requests / self.nirvana,
            self.requests / (self.requests - self.returned),
            self.image_similarity / self.requests,
            self.text_similarity / self.requests,
            (self.sized[1] - self.sized[0]) / self.sized_requests.max(1.0),
        ]
    }
}
