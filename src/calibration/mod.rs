//! Similarity bounds from measured quality: how similar a source must be so that its refinement keeps a share (alpha)
//! of the large model's quality. `fit` fits the bounds on one half of the requests, `check` checks them on the other
//! half. `samples` reads and writes the measurements that both use, `audit` is the same check for the hits of a server.
//! No image is drawn or judged here.

use crate::embedding::{Embedding, similarity};

pub mod audit;
pub mod check;
pub mod fit;
pub mod samples;

/// Half of the requests, by the purpose of the half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Requests on which bounds are fitted.
    Fit,
    /// Requests on which bounds are checked.
    Check,
}

impl Half {
    /// Returns the half of a row. Requests take turns: odd rows, counted from 0, are for the fit, even rows for the
    /// check.
    #[must_use]
    pub const fn of_row(row: u32) -> Self {
        if row % 2 == 1 { Self::Fit } else { Self::Check }
    }

    /// Returns the half's word in the `half` column.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fit => "fit",
            Self::Check => "check",
        }
    }
}

/// Request with the qualities of the images drawn for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Graded {
    /// Row of the request in the trace, from 0.
    pub row: u32,
    /// Quality of the large model's image.
    pub large: f64,
    /// Quality of the small model's image, drawn without skipped steps.
    pub small: f64,
    /// Refinements of the request's source; `None` if no request came before.
    pub refined: Option<Refined>,
}

/// Refinements of one source image.
#[derive(Clone, Debug, PartialEq)]
pub struct Refined {
    /// Similarity of the prompt and the source image.
    pub similarity: f64,
    /// Quality at each number of skipped steps, in the order of [`Grades::skips`].
    pub quality: Vec<f64>,
}

/// Graded requests of a calibration.
#[derive(Clone, Debug, PartialEq)]
pub struct Grades {
    /// Numbers of skipped steps, rising.
    pub skips: Vec<u32>,
    /// Requests in the order of their rows.
    pub requests: Vec<Graded>,
}

impl Grades {
    /// Returns the requests of one half that have a source, with their refinements.
    pub fn with_source(&self, half: Half) -> impl Iterator<Item = (&Graded, &Refined)> {
        let of_half = self.requests.iter().filter(move |request| Half::of_row(request.row) == half);
        of_half.filter_map(|request| Some((request, request.refined.as_ref()?)))
    }
}

/// Finds for each prompt the most similar image of an earlier row, as a cache without eviction does. Of equally similar
/// images the older one is chosen.
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

/// Returns the mean of values; 0 without values.
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
