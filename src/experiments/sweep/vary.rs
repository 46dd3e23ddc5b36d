//! Keys and values of a sweep, every combination of them, and shards of the combinations.

use std::fmt::Write as _;
use std::str::FromStr;

use crate::input::InputError;
use crate::scenario::{Override, Source, Variant};

/// Word that may stand in place of a key. Its values are names of variants, and a value sets what the variant sets.
const VARIANT: &str = "variant";

/// Largest number of combinations. Nobody would wait for more, so a larger number is taken for a mistake in `--vary`.
const MOST: usize = 100_000;

/// Largest number of characters in a folder's name.
const LONGEST_NAME: usize = 100;

/// Key with its values, as given by `--vary KEY=V1,V2,...`.
#[derive(Clone, Debug, PartialEq)]
pub struct Vary {
    /// Dotted scenario key.
    pub key: String,
    /// Values of the key, as they were written.
    pub values: Vec<String>,
}

/// Choice of one value for each key.
#[derive(Clone, Debug, PartialEq)]
pub struct Combination {
    /// Number of the combination among all combinations, from 0.
    pub index: usize,
    /// Values, one for each key, in the order of `--vary`.
    pub values: Vec<String>,
    /// Values as overrides of the scenario. The override of `variant` has the name of the variant, until the settings
    /// of the variant replace it.
    pub overrides: Vec<Override>,
    /// Last part of each key, and its value without quotes.
    written: Vec<(String, String)>,
}

/// Shard of the combinations, as given by `--shard I/N`: every N-th combination from the I-th on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Number of this shard, from 1.
    pub number: usize,
    /// Number of shards.
    pub of: usize,
}

fn refused(value: &str, accepted: impl Into<String>) -> InputError {
    InputError::new("the command line", accepted.into()).value("--vary", value)
}

impl Vary {
    /// Parses `KEY=V1,V2,...`. A comma inside brackets, braces or quotes belongs to a value.
    ///
    /// # Errors
    /// Returns an error if there is no key or no value, or if a value stands there twice.
    pub fn parse(text: &str) -> Result<Self, InputError> {
        let shape = "expected KEY=V1,V2,..., e.g. cache.capacity=1000,10000";
        let (key, rest) = text.split_once('=').ok_or_else(|| refused(text, shape))?;
        let values: Vec<String> = split(rest).iter().map(|value| value.trim().to_owned()).collect();
        if key.trim().is_empty() || values.iter().any(String::is_empty) {
            return Err(refused(text, shape));
        }
        if let Some(twice) = (0..values.len()).find(|&at| values[..at].contains(&values[at])) {
            return Err(refused(text, format!("expected each value once: {} stands there twice", values[twice])));
        }
        Ok(Self { key: key.trim().to_owned(), values })
    }

    /// Returns every combination. The values of the last key change fastest.
    ///
    /// # Errors
    /// Returns an error if a key stands there twice, or if there are more combinations than a sweep can have.
    pub fn combinations(varied: &[Self]) -> Result<Vec<Combination>, InputError> {
        if let Some(twice) = (0..varied.len()).find(|&at| varied[..at].iter().any(|other| other.key == varied[at].key))
        {
            return Err(refused(&varied[twice].key, "expected each key once, with all of its values"));
        }
        let total = varied.iter().try_fold(1_usize, |total, vary| total.checked_mul(vary.values.len()));
        let total = total.filter(|&total| total <= MOST).ok_or_else(|| {
            let counts: Vec<String> = varied.iter().map(|vary| vary.values.len().to_string()).collect();
            refused(&counts.join(" x "), format!("expected at most {MOST} combinations"))
        })?;
        (0..total).map(|index| Self::combination(varied, index)).collect()
    }

    fn combination(varied: &[Self], index: usize) -> Result<Combination, InputError> {
        let mut rest = index;
        let mut values: Vec<&String> = Vec::with_capacity(varied.len());
        for vary in varied.iter().rev() {
            values.push(&vary.values[rest % vary.values.len()]);
            rest /= vary.values.len();
        }
        values.reverse();
        let overrides = varied.iter().zip(&values).map(|(vary, value)| {
            Ok(Override { origin: "--vary".to_owned(), ..Override::parse(&format!("{}={value}", vary.key))? })
        });
        let overrides = overrides.collect::<Result<Vec<_>, _>>()?;
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        Ok(Combination {
            index,
            written: overrides.iter().map(|set| (last(&set.key), text_of(&set.value))).collect(),
            overrides,
            values: values.into_iter().cloned().collect(),
        })
    }
}

/// Returns a value as text, without the quotes of a string.
fn text_of(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Splits a text at commas outside brackets, braces and quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth, mut quote) = (Vec::new(), 0, 0_i32, None);
    for (at, character) in text.char_indices() {
        if let Some(open) = quote {
            quote = quote.filter(|_| open != character);
            continue;
        }
        match character {
            '"' | '\'' => quote = Some(character),
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

impl Combination {
    /// Replaces the name of the variant, if variants are varied, by the settings of the variant. They stand before the
    /// other keys, so that these override them.
    ///
    /// # Errors
    /// Returns an error if the scenario has no such variant.
    pub fn expand_variant(&mut self, variants: &[Variant]) -> Result<(), InputError> {
        let Some(at) = self.overrides.iter().position(|set| set.key == VARIANT) else { return Ok(()) };
        let name = self.overrides.remove(at).value;
        let variant = variants.iter().find(|variant| name.as_str() == Some(&variant.name)).ok_or_else(|| {
            let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
            refused(&format!("{VARIANT}={}", text_of(&name)), format!("expected some of {}", names.join(", ")))
        })?;
        self.overrides.splice(0..0, Source::variant_overrides(variant));
        Ok(())
    }

    /// Returns the values in words, e.g. "capacity=100, eviction=lru".
    pub fn name(&self) -> String {
        let values: Vec<String> = self.written.iter().map(|(key, value)| format!("{key}={value}")).collect();
        values.join(", ")
    }

    /// Returns the name of the folder of the run: the number of the combination, then its values with the characters
    /// that a file system takes.
    pub fn folder(&self) -> String {
        // The number keeps names apart whose values are cut off or differ only in replaced characters.
        let mut name = format!("{:05}", self.index);
        for (key, value) in &self.written {
            let _ = write!(name, "_{key}={value}"); // a write to memory cannot fail
        }
        let safe = |character: char| {
            if character.is_ascii_alphanumeric() || "._=-".contains(character) { character } else { '-' }
        };
        name.chars().map(safe).take(LONGEST_NAME).collect()
    }
}

impl Shard {
    /// Returns the shard, one `of` so many, to which a combination belongs.
    #[must_use]
    pub const fn containing(combination: &Combination, of: usize) -> Self {
        Self { number: combination.index % of + 1, of }
    }

    /// Returns whether a combination belongs to this shard.
    pub const fn has(self, combination: &Combination) -> bool {
        combination.index % self.of == self.number - 1
    }
}

/// Error of a text that names no shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected I/N, shard I of N, from 1/N to N/N")]
pub struct ShardError;

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        let found = parsed.filter(|(number, of)| (1..=*of).contains(number) && *of <= MOST);
        let (number, of) = found.ok_or(ShardError)?;
        Ok(Self { number, of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<String> {
        Vary::parse(text).expect("a good one").values
    }

    #[test]
    fn values_are_split_at_commas_outside_brackets_and_quotes() {
        assert_eq!(values("cache.capacity=1, 2,3"), ["1", "2", "3"]);
        assert_eq!(values("system.bounds=[[0.2,5],[0.3,10]],[[0.25,5]]"), ["[[0.2,5],[0.3,10]]", "[[0.25,5]]"]);
        assert_eq!(values("a={ b = 1, c = \"x,y\" },2"), ["{ b = 1, c = \"x,y\" }", "2"]);
        for bad in ["", "capacity", "=1", "a=", "a=1,,2", "a=1,1"] {
            assert!(Vary::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_combination_comes_once_and_shards_part_them() {
        let varied = [Vary::parse("a.b=1,2").unwrap(), Vary::parse("c=x,y,z").unwrap()];
        let all = Vary::combinations(&varied).unwrap();
        let texts: Vec<String> = all.iter().map(|one| one.values.join(" ")).collect();
        assert_eq!(texts, ["1 x", "1 y", "1 z", "2 x", "2 y", "2 z"]);
        assert_eq!(all[5].folder(), "00005_b=2_c=z");
        for of in 1..8 {
            for combination in &all {
                let shards = (1..=of).filter(|&number| Shard { number, of }.has(combination)).count();
                assert_eq!(shards, 1);
                assert!(Shard::containing(combination, of).has(combination));
            }
        }
        assert!(Vary::combinations(&[varied[0].clone(), varied[0].clone()]).is_err());
        let many = Vary { key: "k".into(), values: (0..1000).map(|value| value.to_string()).collect() };
        let twice = Vary { key: "l".into(), ..many.clone() };
        assert!(Vary::combinations(&[many, twice]).is_err());
    }

    #[test]
    fn folders_hold_nothing_that_a_file_system_would_mind() {
        let varied = [Vary::parse("models.profile=../a b/c.toml").unwrap()];
        assert_eq!(Vary::combinations(&varied).unwrap()[0].folder(), "00000_profile=..-a-b-c.toml");
    }

    #[test]
    fn shards_are_counted_from_one() {
        assert_eq!("2/3".parse(), Ok(Shard { number: 2, of: 3 }));
        for bad in ["", "1", "0/3", "4/3", "a/3", "1/0", "-1/3"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }
}
