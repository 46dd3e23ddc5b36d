//! Prompts of the users of a synthetic trace: sessions on topics, exact repeats, and edits of one attribute at a time,
//! as readable text.
//!
//! A topic is a prompt that many sessions work on. Each session starts from the prompt that the latest request on the
//! topic left. Topics appear at a steady pace and fade: the r-th newest has popularity r^-s (Zipf). All counts are in
//! requests, not seconds, so that the same prompts can be sent at any rate.

use std::collections::BTreeMap;

use rand::{Rng, RngExt};
use rand_distr::Distribution;
// Nothing else of `rand_distr` is used. The alias index calls no transcendental function (see `arrivals`).
use rand_distr::weighted::WeightedAliasIndex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::vocabulary::{Attributes, SLOTS, Vocabulary};
use super::{Complaint, within};
use crate::draw::{self, Purpose};

/// Share of prompts that do not have an optional attribute.
const ABSENT: f64 = 0.3;

/// Number of draws after which the search for a word that fits is given up.
const TRIES: usize = 16;

/// Number of the newest topic at the first request. Older topics have lower numbers.
const FIRST_TOPIC: u64 = 1 << 40;

/// First row of [`Purpose::Prompts`] that is a topic. Rows below are requests.
const TOPIC_ROWS: u64 = 1 << 63;

/// First row of [`Purpose::Prompts`] that is for the own words of first phrases.
const OWN_WORD_ROWS: u64 = TOPIC_ROWS + (1 << 62);

/// First parts of the syllables of own words. There are 20 million words of two syllables, so that phrases seldom share
/// one. There are many groups of three letters too: with few, different words would be alike to an encoder that
/// compares such groups.
const ONSETS: &[&str] = &[
    "b", "br", "c", "ch", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "kl", "l", "m", "n", "p", "pr", "qu", "r",
    "s", "sh", "st", "t", "th", "v", "w", "y", "z",
];
const VOWELS: &[&str] = &["a", "e", "i", "o", "u", "ai", "ea", "oo", "y", "io"];
const CODAS: &[&str] = &["", "b", "ck", "d", "g", "l", "m", "n", "nd", "p", "r", "rk", "s", "t", "x"];
const OWN_WORD_SYLLABLES: usize = 2;

/// Settings of sessions, topics and edits. Lengths are in requests, not seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prompts {
    /// Vocabulary of the prompts: `art` or `shapes`.
    pub vocabulary: Vocabulary,
    /// Number of topics that users choose among at any one time.
    pub topics: u32,
    /// Zipf exponent of the topics' popularity; 0 makes all equally popular.
    pub topic_exponent: f64,
    /// Number of topics that appear in a thousand requests, while as many disappear (drift); 0 for no drift.
    pub new_topics_per_1000: f64,
    /// Number of sessions that go on at the same time. It is also the mean number of requests from one request of a
    /// session to its next.
    pub sessions: u32,
    /// Mean number of requests in a session (geometric distribution).
    pub session_requests: f64,
    /// Chance that a request inside a session repeats the prompt before it word for word. Otherwise one attribute is
    /// edited.
    pub repeats: f64,
    /// Chance, for each attribute, that a session draws it anew at its start instead of taking it from the topic's last
    /// request.
    pub variation: f64,
    /// Zipf exponent of the words within each list of the vocabulary.
    pub word_exponent: f64,
    /// Number of words at the end of a prompt that go with its first phrase and with no other, as names do. Such words
    /// keep prompts about different things apart.
    pub own_words: u32,
    /// Number of tenants that sessions belong to.
    pub tenants: u32,
    /// Zipf exponent of the tenants' shares of the sessions.
    pub tenant_exponent: f64,
}

/// Settings that are fitted, with the stand-in embeddings at their defaults, to what is published of `DiffusionDB` in a
/// sliding window of 100,000 images: `scenarios/paper/prompts_window_100k.toml`.
impl Default for Prompts {
    fn default() -> Self {
        Self {
            vocabulary: Vocabulary::Art,
            topics: 6_000,
            topic_exponent: 0.6,
            new_topics_per_1000: 40.0,
            sessions: 100,
            session_requests: 2.0,
            repeats: 0.3,
            variation: 0.07,
            word_exponent: 0.7,
            own_words: 0,
            tenants: 1,
            tenant_exponent: 1.0,
        }
    }
}

#[derive(Clone, Copy)]
struct Session {
    topic: u64,
    attributes: Attributes,
    tenant: u32,
}

impl Prompts {
    /// Returns the first value that cannot be used.
    pub(super) fn complaint(&self) -> Option<Complaint> {
        const EXPONENT: &str = "expected an exponent from 0 to 10";
        const CHANCE: &str = "expected a chance from 0 to 1";
        let count =
            |key: &str, value: u32| within(key, f64::from(value), 1.0..=1e7, "expected a count from 1 to 10 million");
        let drift = "expected topics per thousand requests from 0 to 1000000";
        let length = "expected a mean number of requests from 1 to 1000000";
        count("topics", self.topics)
            .or_else(|| within("topic_exponent", self.topic_exponent, 0.0..=10.0, EXPONENT))
            .or_else(|| within("new_topics_per_1000", self.new_topics_per_1000, 0.0..=1e6, drift))
            .or_else(|| count("sessions", self.sessions))
            .or_else(|| within("session_requests", self.session_requests, 1.0..=1e6, length))
            .or_else(|| within("repeats", self.repeats, 0.0..=1.0, CHANCE))
            .or_else(|| within("variation", self.variation, 0.0..=1.0, CHANCE))
            .or_else(|| within("word_exponent", self.word_exponent, 0.0..=10.0, EXPONENT))
            .or_else(|| {
                within("own_words", f64::from(self.own_words), 0.0..=20.0, "expected a number of words from 0 to 20")
            })
            .or_else(|| count("tenants", self.tenants))
            .or_else(|| within("tenant_exponent", self.tenant_exponent, 0.0..=10.0, EXPONENT))
    }

    /// Returns prompts and tenants, row by row. The settings must have been checked.
    pub(super) fn generate(&self, requests: u32, seed: u64) -> (Vec<String>, Vec<u32>) {
        let users = Users::new(self, seed);
        let mut sessions: Vec<Option<Session>> = vec![None; self.sessions as usize];
        // Prompt that the latest request on each topic left. Topics without a request yet start with the prompt that is
        // drawn for them.
        let mut topics: BTreeMap<u64, Attributes> = BTreeMap::new();
        let mut prompts = Vec::with_capacity(requests as usize);
        let mut tenants = Vec::with_capacity(requests as usize);
        let mut seen = vec![None; self.tenants as usize];
        let mut next_tenant = 0;
        for row in 0..requests {
            let mut generator = draw::stream(seed, Purpose::Prompts, u64::from(row));
            let session = &mut sessions[generator.random_range(0..self.sessions as usize)];
            // An end with this chance after each request gives lengths with a geometric distribution of the wanted
            // mean.
            let continued = session.filter(|_| !chance(&mut generator, 1.0 / self.session_requests));
            let current = match continued {
                Some(last) => users.go_on(&mut generator, last),
                None => users.start(&mut generator, row, &topics),
            };
            topics.insert(current.topic, current.attributes);
            *session = Some(current);
            let mut prompt = self.vocabulary.text(&current.attributes);
            users.append_own_words(&mut prompt);
            prompts.push(prompt);
            // Tenants are drawn by rank and renumbered in order of appearance, as a trace that is read numbers them.
            tenants.push(*seen[current.tenant as usize].get_or_insert_with(|| {
                next_tenant += 1;
                next_tenant - 1
            }));
        }
        (prompts, tenants)
    }
}

/// Settings with their distributions.
struct Users<'a> {
    settings: &'a Prompts,
    seed: u64,
    topics: Zipf,
    tenants: Zipf,
    words: Vec<Zipf>,
}

impl<'a> Users<'a> {
    fn new(settings: &'a Prompts, seed: u64) -> Self {
        let slots = settings.vocabulary.slots().iter();
        let words = slots.map(|slot| Zipf::new(slot.words.len(), settings.word_exponent));
        Self {
            settings,
            seed,
            topics: Zipf::new(settings.topics as usize, settings.topic_exponent),
            tenants: Zipf::new(settings.tenants as usize, settings.tenant_exponent),
            words: words.collect(),
        }
    }

    /// Starts a session: a topic as it was left, with some attributes drawn anew for the user.
    fn start(&self, generator: &mut impl Rng, row: u32, topics: &BTreeMap<u64, Attributes>) -> Session {
        // The number of the first topic is larger than any rank, so that the subtraction below cannot underflow.
        let newest = FIRST_TOPIC + (f64::from(row) * self.settings.new_topics_per_1000 / 1000.0) as u64;
        let topic = newest - self.topics.rank(generator) as u64;
        let mut attributes = topics.get(&topic).copied().unwrap_or_else(|| self.topic(topic));
        for slot in 0..self.words.len() {
            if chance(generator, self.settings.variation) {
                self.choose(generator, &mut attributes, slot);
            }
        }
        Session { topic, attributes, tenant: self.tenants.rank(generator) as u32 }
    }

    /// Returns the next request of a session: the same prompt again, or one attribute edited.
    fn go_on(&self, generator: &mut impl Rng, mut session: Session) -> Session {
        if chance(generator, self.settings.repeats) {
            return session;
        }
        let editable = self.settings.vocabulary.editable(&session.attributes);
        let slot = editable[generator.random_range(0..editable.len())];
        let before = session.attributes[slot];
        // A draw that changes nothing is no edit. A steep Zipf distribution may draw the same word every time, so the
        // number of tries is limited.
        for _ in 0..TRIES {
            self.choose(generator, &mut session.attributes, slot);
            if session.attributes[slot] != before {
                break;
            }
        }
        session
    }

    /// Returns the prompt with which a topic begins.
    fn topic(&self, topic: u64) -> Attributes {
        // The stream is the topic's own: the prompt of a topic does not depend on the request that first draws it.
        let mut generator = draw::stream(self.seed, Purpose::Prompts, TOPIC_ROWS + topic);
        let mut attributes = [0; SLOTS];
        for slot in 0..self.words.len() {
            self.choose(&mut generator, &mut attributes, slot);
        }
        attributes
    }

    /// Appends the own words of the prompt's first phrase.
    fn append_own_words(&self, prompt: &mut String) {
        let phrase = prompt.split(',').next().unwrap_or_default();
        // The hash is FNV-1a.
        let hash = phrase
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        // The two highest bits of the hash are lost to the range of rows. That only makes equal words of two phrases
        // slightly likelier.
        let mut generator = draw::stream(self.seed, Purpose::Prompts, OWN_WORD_ROWS | hash);
        for place in 0..self.settings.own_words {
            prompt.push_str(if place == 0 { ", " } else { " " });
            for _ in 0..OWN_WORD_SYLLABLES {
                for parts in [ONSETS, VOWELS, CODAS] {
                    prompt.push_str(parts[generator.random_range(0..parts.len())]);
                }
            }
        }
    }

    /// Draws a word that goes with the other words. If no draw does, takes the next word of the list that does.
    fn choose(&self, generator: &mut impl Rng, attributes: &mut Attributes, slot: usize) {
        let vocabulary = self.settings.vocabulary;
        for _ in 0..TRIES {
            attributes[slot] = self.word(generator, slot);
            if vocabulary.possible(attributes) {
                return;
            }
        }
        // Words are counted from 1. The search ends: a colour has eight words and only two others to differ from, and
        // all other words go together.
        let words = vocabulary.slots()[slot].words.len() as u8;
        while !vocabulary.possible(attributes) {
            attributes[slot] = attributes[slot] % words + 1;
        }
    }

    fn word(&self, generator: &mut impl Rng, slot: usize) -> u8 {
        if self.settings.vocabulary.slots()[slot].optional && chance(generator, ABSENT) {
            return 0;
        }
        // Lists are shorter than 255, as a test checks.
        1 + self.words[slot].rank(generator) as u8
    }
}

/// Distribution of ranks from 0, with probability proportional to (rank + 1)^-s.
struct Zipf(WeightedAliasIndex<f64>);

impl Zipf {
    fn new(ranks: usize, exponent: f64) -> Self {
        let weights = (1..=ranks).map(|rank| libm::pow(rank as f64, -exponent)).collect();
        Self(WeightedAliasIndex::new(weights).expect("at least one rank, and every weight from 0 to 1"))
    }

    fn rank(&self, generator: &mut impl Rng) -> usize {
        self.0.sample(generator)
    }
}

fn chance(generator: &mut impl Rng, probability: f64) -> bool {
    generator.random::<f64>() < probability
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const BOTH: [Vocabulary; 2] = [Vocabulary::Art, Vocabulary::Shapes];

    #[test]
    fn lists_fit_their_index_and_hold_no_word_twice() {
        for slot in BOTH.into_iter().flat_map(Vocabulary::slots) {
            assert!(slot.words.len() < 255);
            assert_eq!(slot.words.iter().collect::<BTreeSet<_>>().len(), slot.words.len());
        }
    }

    #[test]
    fn prompts_read_well() {
        for vocabulary in BOTH {
            for prompt in (Prompts { vocabulary, ..Prompts::default() }).generate(200, 42).0 {
                assert!(prompt.is_ascii() && (20..300).contains(&prompt.len()), "{prompt}");
                assert!(!prompt.contains("  ") && !prompt.contains(",,") && !prompt.ends_with(", "), "{prompt}");
            }
        }
    }

    #[test]
    fn captions_of_shapes_are_possible_and_of_both_kinds_however_skewed_the_words() {
        for word_exponent in [0.0, 0.7, 10.0] {
            let settings = Prompts { vocabulary: Vocabulary::Shapes, word_exponent, ..Prompts::default() };
            let users = Users::new(&settings, 3);
            let mut session = users.start(&mut draw::stream(3, Purpose::Test, 0), 0, &BTreeMap::new());
            for row in 0..2_000 {
                let generator = &mut draw::stream(3, Purpose::Test, 1 + u64::from(row));
                session = if row % 5 == 0 {
                    users.start(generator, row, &BTreeMap::new())
                } else {
                    users.go_on(generator, session)
                };
                assert!(Vocabulary::Shapes.possible(&session.attributes), "{:?}", session.attributes);
            }
        }
        let settings = Prompts { vocabulary: Vocabulary::Shapes, ..Prompts::default() };
        let prompts = settings.generate(2_000, 3).0;
        let two = prompts.iter().filter(|prompt| prompt.contains(" above ") || prompt.contains(" left of ")).count();
        assert!((400..1600).contains(&two), "{two} of 2000 captions have two objects");
    }

    #[test]
    fn repeats_and_edits_have_their_shares() {
        // One session at a time: each prompt is a repeat of the one before, an edit of one attribute, or a start.
        let settings = Prompts { sessions: 1, session_requests: 5.0, repeats: 0.4, ..Prompts::default() };
        let n = 20_000;
        let (prompts, _) = settings.generate(n, 1);
        let repeats = prompts.windows(2).filter(|pair| pair[0] == pair[1]).count() as f64 / f64::from(n);
        assert!((repeats - 0.8 * 0.4).abs() < 0.01, "repeats {repeats}");
    }

    #[test]
    fn an_edit_changes_one_attribute() {
        for vocabulary in BOTH {
            let settings = Prompts { vocabulary, ..Prompts::default() };
            let users = Users::new(&settings, 5);
            let mut generator = draw::stream(5, Purpose::Test, 0);
            let mut edits = 0;
            for _ in 0..1000 {
                let before = users.start(&mut generator, 0, &BTreeMap::new());
                let after = users.go_on(&mut generator, before);
                let changed = (0..SLOTS).filter(|&slot| before.attributes[slot] != after.attributes[slot]).count();
                assert!(changed <= 1);
                assert_eq!(changed == 1, vocabulary.text(&before.attributes) != vocabulary.text(&after.attributes));
                edits += changed;
            }
            assert!((edits as f64 / 1000.0 - (1.0 - settings.repeats)).abs() < 0.05, "{edits}");
        }
    }

    #[test]
    fn own_words_are_those_of_the_first_phrase_and_change_nothing_else() {
        let settings = Prompts::default();
        let plain = settings.generate(2_000, 1).0;
        let own = Prompts { own_words: 2, ..settings }.generate(2_000, 1).0;
        let (mut phrases, mut endings, mut both) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (plain, own) in plain.iter().zip(&own) {
            let ending = own.strip_prefix(plain.as_str()).expect("the rest is the same");
            assert_eq!(ending.split_whitespace().count(), 3, "a comma and two words: {ending}");
            let phrase = plain.split(',').next().expect("a first phrase");
            phrases.insert(phrase);
            endings.insert(ending);
            both.insert((phrase, ending));
        }
        assert!(phrases.len() > 100 && phrases.len() == both.len() && endings.len() == both.len(), "one a phrase");
    }

    #[test]
    fn topics_follow_zipf_and_drift() {
        // Each session has one request and starts with its topic's own prompt, so that prompts stand for topics.
        let settings = Prompts {
            topics: 100,
            topic_exponent: 1.0,
            session_requests: 1.0,
            variation: 0.0,
            new_topics_per_1000: 0.0,
            ..Prompts::default()
        };
        let counts = |prompts: &[String]| {
            let mut counts = BTreeMap::new();
            for prompt in prompts {
                *counts.entry(prompt.clone()).or_insert(0_u32) += 1;
            }
            let mut counts: Vec<(u32, String)> = counts.into_iter().map(|(prompt, count)| (count, prompt)).collect();
            counts.sort_unstable_by(|a, b| b.cmp(a));
            counts
        };
        let n = 50_000;
        let still = counts(&settings.generate(n, 1).0);
        let harmonic: f64 = (1..=100).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in [1_u32, 2, 5, 10] {
            let share = f64::from(still[rank as usize - 1].0) / f64::from(n);
            let expected = 1.0 / (f64::from(rank) * harmonic);
            assert!((share / expected - 1.0).abs() < 0.1, "rank {rank}: {share}, expected {expected}");
        }
        let drifting = Prompts { new_topics_per_1000: 10.0, ..settings };
        let prompts = drifting.generate(n, 1).0;
        let (early, late) = (counts(&prompts[..5_000]), counts(&prompts[45_000..]));
        assert!(late.iter().all(|(_, prompt)| early.iter().all(|(_, other)| prompt != other)), "all topics have gone");
    }

    #[test]
    fn tenants_are_numbered_as_they_appear() {
        let settings = Prompts { tenants: 5, ..Prompts::default() };
        let (_, tenants) = settings.generate(5_000, 2);
        let mut highest = 0;
        for &tenant in &tenants {
            assert!(tenant <= highest);
            highest = highest.max(tenant + 1);
        }
        assert_eq!(highest, 5);
        assert!(Prompts::default().generate(100, 2).1.iter().all(|&tenant| tenant == 0));
    }

    #[test]
    fn bad_values_are_named() {
        let key = |settings: Prompts| settings.complaint().map(|complaint| complaint.key);
        assert_eq!(key(Prompts::default()), None);
        assert_eq!(key(Prompts { topics: 0, ..Prompts::default() }).as_deref(), Some("topics"));
        assert_eq!(key(Prompts { repeats: f64::NAN, ..Prompts::default() }).as_deref(), Some("repeats"));
        assert_eq!(key(Prompts { session_requests: 0.5, ..Prompts::default() }).as_deref(), Some("session_requests"));
    }
}
