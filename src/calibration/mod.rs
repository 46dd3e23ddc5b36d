//! Similarity bounds from measured quality: how similar a source must be for its refinement to keep a share
//! (alpha) of the large model's quality. Fitted on one half of the requests (`fit`), checked on the other
//! (`check`); `samples` is what both know, as a file; `audit` is the check of a server's hits. Draws nothing and judges nothing.

use crate::embedding::{Embedding, similarity};

pub mod audit;
pub mod check;
pub mod fit;
pub mod samples;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Bounds are fitted on it.
    Fit,
    /// Bounds are checked on it.
    Check,
}

impl Half {
    /// Requests take turns: odd rows, counted from 0, are fitted on, even ones checked on.
    #[must_use]
    pub const fn of(row: u32) -> Self {
        if row % 2 == 1 { Self::Fit } else { Self::Check }
    }

    /// The word in the `half` column.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fit => "fit",
            Self::Check => "check",
        }
    }
}

/// A request and how good the pictures drawn for it are.
#[derive(Clone, Debug, PartialEq)]
pub struct Graded {
    /// Its row in the trace, from 0.
    pub row: u32,
    /// Quality of the large model's picture.
    pub large: f64,
    /// Quality of the small model's, drawn in full.
    pub small: f64,
    /// What became of its source; `None` where no request came before.
    pub refined: Option<Refined>,
}

/// Refinements of one source.
#[derive(Clone, Debug, PartialEq)]
pub struct Refined {
    /// Of the prompt and the source.
    pub similarity: f64,
    /// Quality at each number of skipped steps, in the order of [`Grades::skips`].
    pub quality: Vec<f64>,
}

/// All requests of a calibration.
#[derive(Clone, Debug, PartialEq)]
pub struct Grades {
    /// Numbers of skipped steps, rising.
    pub skips: Vec<u32>,
    /// By row.
    pub requests: Vec<Graded>,
}

impl Grades {
    /// The requests of one half that have a source.
    pub fn with_source(&self, half: Half) -> impl Iterator<Item = (&Graded, &Refined)> {
        let of_half = self.requests.iter().filter(move |request| Half::of(request.row) == half);
        of_half.filter_map(|request| Some((request, request.refined.as_ref()?)))
    }
}

/// For each prompt the most similar picture of an earlier row, as a cache that forgets nothing finds it; the
/// older one of equals.
#[must_use]
pub fn nearest_earlier(prompts: &[Embedding], pictures: &[Embedding]) -> Vec<Option<(u32, f64)>> {
    let nearest = |(row, prompt): (usize, &Embedding)| {
        let mut best: Option<(u32, f64)> = None;
        for (at, picture) in (0..).zip(&pictures[..row.min(pictures.len())]) {
            let similarity = similarity(prompt.as_slice(), picture.as_slice());
            if best.is_none_or(|(_, highest)| similarity > highest) {
                best = Some((at, similarity));
            }
        }
        best
    };
    prompts.iter().enumerate().map(nearest).collect()
}

/// Mean of values; 0 of none.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_earlier_and_the_older_of_equals() {
        let unit = |x: f32, y: f32| Embedding::normalised(&[x, y]).expect("a direction");
        let pictures = [unit(1.0, 0.0), unit(0.0, 1.0), unit(0.0, 1.0), unit(1.0, 0.0)];
        let prompts = [unit(1.0, 0.0), unit(1.0, 0.0), unit(1.0, 1.0), unit(0.0, 1.0)];
        let found = nearest_earlier(&prompts, &pictures);
        assert_eq!(
            found.iter().map(|found| found.map(|(row, _)| row)).collect::<Vec<_>>(),
            [None, Some(0), Some(0), Some(1)]
        );
        assert!((found[2].expect("a source").1 - 0.5_f64.sqrt()).abs() < 1e-7);
    }
}
