//! Text encoder without a neural model: TF-IDF of hashed words, pairs of words and character trigrams, randomly
//! projected. Two prompts are close if they share words, rare ones above all.
//!
//! The encoder stands in for the text encoder of CLIP: it knows no synonyms. The similarity of two prompts is
//! t = background + (1 - background) x (cosine of their features), and 1 for equal prompts.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::embedding::{Embedding, EmbeddingMatrix};
use crate::input::InputError;

/// Number of buckets in which document frequencies are counted by hash. Two features in one bucket share a weight.
const BUCKETS: usize = 1 << 18;

/// Settings of the scenario section `[encoder]`. The defaults are fitted, together with those of `[image_model]`, to
/// published figures of CLIP on `DiffusionDB` (`scripts/fit_stand_ins`), except for the shares and the dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderSettings {
    /// Number of components of an embedding. Random projection blurs a cosine by about
    /// `(1 - background) / sqrt(dimension)`.
    pub dimension: u32,
    /// Cosine of two prompts that share nothing.
    pub background: f64,
    /// Share of words in the rest of the cosine. The three shares are scaled to sum to 1.
    pub word_share: f64,
    /// Share of pairs of neighbouring words.
    pub pair_share: f64,
    /// Share of character trigrams, which catch plurals, typing errors and scripts without spaces.
    pub character_share: f64,
}

impl Default for EncoderSettings {
    fn default() -> Self {
        Self { dimension: 112, background: 0.116, word_share: 0.6, pair_share: 0.2, character_share: 0.2 }
    }
}

impl EncoderSettings {
    /// Returns the label of outputs that are made with this encoder.
    #[must_use]
    pub fn label(&self) -> String {
        format!("prompt embeddings: stand-in (hashed n-grams, {})", super::origin(*self == Self::default(), "encoder"))
    }

    /// Checks every value. Errors name the value by `file` and `section`.
    ///
    /// # Errors
    /// The first value that cannot be used, and what is accepted.
    pub fn check(&self, file: &Path, section: &str) -> Result<(), InputError> {
        let share = "a share";
        super::check_ranges(
            file,
            section,
            &[
                ("dimension", f64::from(self.dimension), 8.0, 4096.0, "a number of components"),
                ("background", self.background, 0.0, 0.99, "a cosine"),
                ("word_share", self.word_share, 0.01, 1.0, share),
                ("pair_share", self.pair_share, 0.0, 1.0, share),
                ("character_share", self.character_share, 0.0, 1.0, share),
            ],
        )
    }
}

/// Encoder with document frequencies that have been counted.
#[derive(Clone, Debug)]
pub struct TextEncoder {
    settings: EncoderSettings,
    /// Inverse document frequency by bucket.
    rarity: Vec<f32>,
}

/// Number of kinds of features: words, pairs of words, character trigrams.
const KINDS: usize = 3;

/// Hashes of a prompt's features by kind, sorted, with repeats. The memory is reused between prompts.
#[derive(Default)]
struct Features {
    lowercase: String,
    characters: Vec<char>,
    kinds: [Vec<u64>; KINDS],
}

impl Features {
    fn read(&mut self, prompt: &str) {
        self.lowercase.clear();
        self.lowercase.extend(prompt.chars().flat_map(char::to_lowercase));
        let [words, pairs, trigrams] = &mut self.kinds;
        words.clear();
        pairs.clear();
        trigrams.clear();
        let mut before = None;
        for word in words_of(&self.lowercase) {
            let hash = hashed(0, word.bytes().map(u64::from));
            words.push(hash);
            pairs.extend(before.map(|before| hashed(1, [before, hash])));
            before = Some(hash);
            self.characters.clear();
            self.characters.push('^');
            self.characters.extend(word.chars());
            self.characters.push('$');
            trigrams.extend(self.characters.windows(3).map(|three| hashed(2, three.iter().map(|&c| u64::from(c)))));
        }
        // The hashes are sorted, so that sums do not depend on the order of words and repeats are neighbours.
        for kind in &mut self.kinds {
            kind.sort_unstable();
        }
    }
}

/// Returns runs of letters and digits. A run is cut after each character of a script without spaces (from U+2E80 on).
fn words_of(text: &str) -> impl Iterator<Item = &str> {
    let runs = text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty());
    runs.flat_map(|run| run.split_inclusive(|c| c >= '\u{2e80}'))
}

impl TextEncoder {
    /// Counts the prompts in which each feature occurs. The counts are smoothed, so that one prompt or none is enough.
    ///
    /// The settings are expected to have been checked.
    #[must_use]
    pub fn fit<S: AsRef<str>>(settings: &EncoderSettings, prompts: &[S]) -> Self {
        let mut counts = vec![0_u32; BUCKETS];
        let mut features = Features::default();
        for prompt in prompts {
            features.read(prompt.as_ref());
            for kind in &mut features.kinds {
                kind.dedup();
                for &hash in kind.iter() {
                    counts[bucket(hash)] += 1;
                }
            }
        }
        let documents = prompts.len() as f64;
        let rarity = counts.iter().map(|&count| {
            // Features that share a bucket may count a prompt twice, so the count is limited.
            // Both counts have one added, so that a feature of no prompt has a finite rarity. The 1 below keeps a
            // feature of every prompt from having the weight 0.
            let share = (1.0 + f64::from(count).min(documents)) / (1.0 + documents);
            (1.0 - libm::log(share)) as f32
        });
        Self { settings: settings.clone(), rarity: rarity.collect() }
    }

    /// Returns the number of components of an embedding.
    pub const fn dimension(&self) -> usize {
        self.settings.dimension as usize
    }

    /// Returns the embedding of a prompt. All prompts without letters or digits have one direction of their own.
    #[must_use]
    pub fn encode(&self, prompt: &str) -> Embedding {
        let mut row = Vec::with_capacity(self.dimension());
        self.append(prompt, &mut Features::default(), &mut row);
        Embedding::normalised(&row).expect("finite, with at least one component that is not 0")
    }

    /// Returns the embeddings of prompts, row by row.
    #[must_use]
    pub fn encode_all<S: AsRef<str>>(&self, prompts: &[S]) -> EmbeddingMatrix {
        let mut values = Vec::with_capacity(prompts.len() * self.dimension());
        let mut features = Features::default();
        for prompt in prompts {
            self.append(prompt.as_ref(), &mut features, &mut values);
        }
        EmbeddingMatrix::new(self.dimension(), values).expect("each row is finite and not 0")
    }

    /// Adds a row: the component that all prompts share, then the projected features.
    fn append(&self, prompt: &str, features: &mut Features, values: &mut Vec<f32>) {
        features.read(prompt);
        let start = values.len();
        values.push(0.0);
        values.resize(start + self.dimension(), 0.0);
        let content = &mut values[start + 1..];
        let settings = &self.settings;
        let shares = [settings.word_share, settings.pair_share, settings.character_share];
        for (kind, share) in features.kinds.iter().zip(shares) {
            self.project(kind, share, content);
        }
        // Random directions are only nearly orthogonal, so the length is measured after the projection and not taken
        // from the shares. It also scales the shares to the sum 1.
        let squares: f64 = content.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        // The squared length of the content is 1 - background, that of the shared component is background. So the inner
        // product of two prompts is background + (1 - background) x cosine.
        let mut scale = libm::sqrt((1.0 - settings.background) / squares);
        if squares == 0.0 {
            // If there is no feature, or if features cancel, the prompt has the direction of the empty prompt.
            add_signs(hashed(3, []), 1.0, content);
            scale = libm::sqrt((1.0 - settings.background) / content.len() as f64);
        }
        for component in content.iter_mut() {
            *component = (f64::from(*component) * scale) as f32;
        }
        values[start] = libm::sqrt(settings.background) as f32;
    }

    /// Adds the features of one kind, scaled to `share` of the squared norm, each in its random direction.
    fn project(&self, kind: &[u64], share: f64, content: &mut [f32]) {
        let weight = |group: &[u64]| {
            // A word that is repeated ten times says little more than one that is said once, so repeats count by their
            // logarithm.
            let often = if group.len() == 1 { 1.0 } else { 1.0 + libm::log(group.len() as f64) };
            often * f64::from(self.rarity[bucket(group[0])])
        };
        // Each kind is scaled by its own length, so that a long prompt with many trigrams has the same shares as a
        // short one.
        let squares: f64 = kind.chunk_by(|a, b| a == b).map(|group| weight(group) * weight(group)).sum();
        let scale = if squares > 0.0 { libm::sqrt(share / squares) } else { 0.0 };
        for group in kind.chunk_by(|a, b| a == b) {
            add_signs(group[0], (weight(group) * scale) as f32, content);
        }
    }
}

/// Adds `weight` in the direction of a feature. The direction has a sign for each component, from the hash alone, so
/// that no matrix is stored.
pub(super) fn add_signs(hash: u64, weight: f32, content: &mut [f32]) {
    for (block, components) in content.chunks_mut(64).enumerate() {
        // A mixed number has 64 bits, one for the sign of each component of the block.
        let signs = mixed(hash.wrapping_add((block as u64 + 1).wrapping_mul(GOLDEN)));
        for (components, byte) in components.chunks_mut(8).zip(signs.to_le_bytes()) {
            for (component, sign) in components.iter_mut().zip(&SIGNS[usize::from(byte)]) {
                *component += weight * sign;
            }
        }
    }
}

/// Signs of the bits of each byte.
static SIGNS: [[f32; 8]; 256] = {
    let mut signs = [[1.0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                signs[byte][bit] = -1.0;
            }
            bit += 1;
        }
        byte += 1;
    }
    signs
};

fn bucket(hash: u64) -> usize {
    (hash >> 32) as usize % BUCKETS
}

/// Returns the FNV-1a hash over whole items, mixed at the end. `kind` keeps a word apart from a trigram of the same
/// letters.
pub(super) fn hashed(kind: u64, items: impl IntoIterator<Item = u64>) -> u64 {
    let step = |hash: u64, item: u64| (hash ^ item).wrapping_mul(0x0000_0100_0000_01b3);
    mixed(items.into_iter().fold(step(0xcbf2_9ce4_8422_2325, kind), step))
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes by the finaliser of `SplitMix64`: every bit of the result depends on every bit of the input.
const fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::{norm, similarity};

    const PROMPTS: [&str; 6] = [
        "portrait of an old fox reading a book in a forest, oil painting, art nouveau, golden hour",
        "portrait of an old fox reading a book in a forest, oil painting, baroque, golden hour",
        "portrait of a young owl reading a book in a forest, watercolor, baroque, moonlight",
        "sports car in a neon market, 3 d render, cyberpunk, ray tracing",
        "abandoned lighthouse by the sea, charcoal drawing, gothic, foggy morning",
        "wide shot of a steam train on a bridge, gouache, impressionism",
    ];

    fn encoder() -> TextEncoder {
        TextEncoder::fit(&EncoderSettings::default(), &PROMPTS)
    }

    fn cosine(encoder: &TextEncoder, a: &str, b: &str) -> f64 {
        similarity(encoder.encode(a).as_slice(), encoder.encode(b).as_slice())
    }

    #[test]
    fn rows_are_unit_and_the_same_alone_or_together() {
        let encoder = encoder();
        let matrix = encoder.encode_all(&PROMPTS);
        for (row, prompt) in PROMPTS.iter().enumerate() {
            let alone = encoder.encode(prompt);
            assert_eq!(alone, matrix.embedding(row));
            assert!((norm(alone.as_slice()).expect("a direction") - 1.0).abs() < 1e-6);
        }
        assert_eq!(matrix.dimension(), 112);
    }

    /// Pins the bytes: a change of hash, weights or projection changes every result, so it must be intended.
    #[test]
    fn embeddings_are_the_same_on_every_machine() {
        let embedding = encoder().encode(PROMPTS[0]);
        let bits = embedding.as_slice().iter().fold(0_u64, |hash, x| mixed(hash ^ u64::from(x.to_bits())));
        assert_eq!(bits, 0xa2a9_ff78_6b11_f445, "{bits:#x}");
    }

    #[test]
    fn the_more_two_prompts_share_the_closer_they_are() {
        let encoder = encoder();
        let [edited, related, unrelated] = [1, 2, 3].map(|other| cosine(&encoder, PROMPTS[0], PROMPTS[other]));
        assert!(edited > related + 0.05 && related > unrelated + 0.05, "{edited} {related} {unrelated}");
        assert!(edited > 0.7, "{edited}");
        assert!((unrelated - 0.1).abs() < 0.2, "unrelated prompts lie near the background: {unrelated}");
        assert!(cosine(&encoder, PROMPTS[0], &PROMPTS[0].to_uppercase()) > 0.999);
    }

    #[test]
    fn unrelated_prompts_have_the_background_cosine_on_average() {
        let prompts: Vec<String> = (0..400_u64).map(|i| format!("{:x} {:x}", mixed(i), mixed(i + 1000))).collect();
        let encoder = TextEncoder::fit(&EncoderSettings::default(), &prompts);
        let cosines: Vec<f64> = prompts.windows(2).map(|pair| cosine(&encoder, &pair[0], &pair[1])).collect();
        let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
        assert!((mean - 0.116).abs() < 0.03, "{mean}");
        assert!(cosines.iter().all(|&cosine| cosine < 0.6));
    }

    #[test]
    fn any_text_has_a_direction() {
        let encoder = encoder();
        let empty = encoder.encode("");
        for odd in ["", "   ", "!!! ... ---", "🦊🎨"] {
            assert_eq!(encoder.encode(odd), empty, "{odd:?}");
        }
        for odd in ["猫がいる森の絵", "ÀÉÎ ß İ ǅ", "\u{0}\u{ffff}a", "e\u{301}", &"word ".repeat(10_000)] {
            let embedding = encoder.encode(odd);
            assert!(embedding.as_slice().iter().all(|x| x.is_finite()));
            assert_ne!(embedding, empty);
        }
        assert!(
            cosine(&encoder, "猫がいる森の絵", "猫がいる森の写真")
                > cosine(&encoder, "猫がいる森の絵", "old fox") + 0.1
        );
        let nothing = TextEncoder::fit::<&str>(&EncoderSettings::default(), &[]);
        assert!((norm(nothing.encode("a fox").as_slice()).expect("a direction") - 1.0).abs() < 1e-6);
    }

    #[test]
    fn settings_are_checked() {
        let check = |settings: EncoderSettings| settings.check(Path::new("a.toml"), "encoder");
        assert_eq!(check(EncoderSettings::default()), Ok(()));
        let error = check(EncoderSettings { background: 1.0, ..EncoderSettings::default() }).expect_err("too high");
        assert_eq!(error.to_string(), "a.toml: encoder.background = 1: expected a cosine from 0 to 0.99");
        assert!(check(EncoderSettings { pair_share: f64::NAN, ..EncoderSettings::default() }).is_err());
        assert!(toml::from_str::<EncoderSettings>("dimensions = 3").is_err());
    }
}
