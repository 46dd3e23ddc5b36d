//! Pattern search. It needs no derivatives, because counts of hits have none.

use super::at_once::Values;

/// First step of each value, and the lowest and the highest value in its range.
const RANGES: [(f64, f64, f64); 5] =
    [(0.02, 0.0, 0.5), (0.03, 0.0, 0.6), (0.002, 0.0, 0.02), (0.002, 0.02, 0.042), (0.01, 0.6, 0.95)];

/// Number of halvings of the steps after which a search ends.
const HALVINGS: usize = 4;

fn value_mut(values: &mut Values, place: usize) -> &mut f64 {
    match place {
        0 => &mut values.background,
        1 => &mut values.common_share,
        2 => &mut values.own_deviation,
        3 => &mut values.noise,
        _ => &mut values.pinecone,
    }
}

/// Searches for the values with the least cost. Moves one value at a time a step up or down while the cost falls, and
/// halves the steps when no move lowers the cost.
pub(crate) fn pattern(start: Values, most_trials: usize, mut cost: impl FnMut(&Values) -> f64) -> Values {
    let mut best = (cost(&start), start);
    let (mut trials, mut scale) = (1, 1.0);
    for _ in 0..HALVINGS {
        let mut improved = true;
        while improved {
            improved = false;
            for (place, (step, low, high)) in RANGES.into_iter().enumerate() {
                for direction in [1.0, -1.0] {
                    if trials >= most_trials {
                        return best.1;
                    }
                    let mut tried = best.1;
                    let value = value_mut(&mut tried, place);
                    *value = (*value + direction * step * scale).clamp(low, high);
                    trials += 1;
                    let found = cost(&tried);
                    if found < best.0 {
                        best = (found, tried);
                        improved = true;
                        break;
                    }
                }
            }
        }
        scale /= 2.0;
    }
    best.1
}
