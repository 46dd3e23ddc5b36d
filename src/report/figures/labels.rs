//! Places for the names beside the points of a scatter figure, such that no name covers another name or a point.

use super::canvas::FINE;
use super::lines::Frame;
use super::symbols::Place;

/// Rectangle in drawing pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rectangle {
    pub(super) left: i32,
    pub(super) top: i32,
    pub(super) right: i32,
    pub(super) bottom: i32,
}

impl Rectangle {
    /// Returns the area that two rectangles have in common, in square drawing pixels.
    fn overlap(&self, other: &Self) -> i64 {
        let across = self.right.min(other.right) - self.left.max(other.left);
        let down = self.bottom.min(other.bottom) - self.top.max(other.top);
        i64::from(across.max(0)) * i64::from(down.max(0))
    }

    /// Returns the place in the rectangle that lies nearest to another place.
    pub(super) fn nearest(&self, to: Place) -> Place {
        (to.0.clamp(self.left, self.right), to.1.clamp(self.top, self.bottom))
    }
}

/// Distances of a name from its point, in pixels: nearer ones are tried first.
const DISTANCES: [i32; 5] = [9, 20, 34, 50, 70];

/// Distance between a point and its name above which a line connects the two, in drawing pixels: without the line a
/// reader could not tell which point the name belongs to.
pub(super) const LED: i32 = 14 * FINE;

/// Directions from a point, in halves of the distance (across, down): right, left, above, below, then between these.
const DIRECTIONS: [(i32, i32); 8] = [(2, 0), (-2, 0), (0, -2), (0, 2), (2, -1), (2, 1), (-2, -1), (-2, 1)];

/// Finds places for the names of points. `sizes` are the sizes of the names; all values are in drawing pixels. Names
/// are placed one after another, each at the place with the least overlap with symbols and earlier names and the least
/// part outside the frame.
pub(super) fn placed(points: &[Place], sizes: &[Place], frame: &Frame) -> Vec<Rectangle> {
    let half = 6 * FINE;
    let symbols: Vec<Rectangle> = points
        .iter()
        .map(|(x, y)| Rectangle { left: x - half, top: y - half, right: x + half, bottom: y + half })
        .collect();
    let mut names: Vec<Rectangle> = Vec::new();
    for (point, size) in points.iter().zip(sizes) {
        let cost = |name: &Rectangle| {
            let outside = (frame.left - name.left).max(name.right - frame.right).max(0)
                + (frame.top - name.top).max(name.bottom - frame.bottom).max(0);
            let overlaps: i64 = symbols.iter().chain(&names).map(|other| name.overlap(other)).sum();
            // The part outside counts as an area, so that it compares with the overlaps.
            overlaps + i64::from(outside) * i64::from(size.1)
        };
        let candidates = DISTANCES.iter().flat_map(|distance| {
            DIRECTIONS.iter().map(move |direction| beside(*point, *size, distance * FINE, *direction))
        });
        let mut best = None;
        for name in candidates {
            let own = cost(&name);
            if best.is_none_or(|(least, _)| own < least) {
                best = Some((own, name));
            }
            if own == 0 {
                break;
            }
        }
        names.extend(best.map(|(_, name)| name));
    }
    names
}

/// Returns the rectangle of a size at a distance from a point, in one of [`DIRECTIONS`].
fn beside(point: Place, size: Place, distance: i32, (across, down): (i32, i32)) -> Rectangle {
    let left = match across {
        0 => point.0 - size.0 / 2,
        across if across > 0 => point.0 + distance,
        _ => point.0 - distance - size.0,
    };
    let top = match down {
        0 => point.1 - size.1 / 2,
        2 => point.1 + distance,
        -2 => point.1 - distance - size.1,
        down if down > 0 => point.1 + distance / 2,
        _ => point.1 - distance / 2 - size.1,
    };
    Rectangle { left, top, right: left + size.0, bottom: top + size.1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lie_over_nothing_even_where_points_do() {
        let frame = Frame { left: 0, right: 2000, top: 0, bottom: 1000 };
        // Two points in one place, three in a crowd, and one in a corner.
        let points = [(1000, 500), (1000, 500), (1030, 510), (1060, 490), (1000, 530), (1990, 5)];
        let sizes = [(400, 60); 6];
        let names = placed(&points, &sizes, &frame);
        assert_eq!(names.len(), points.len());
        for (at, name) in names.iter().enumerate() {
            assert!(names[..at].iter().all(|other| name.overlap(other) == 0), "{names:?}");
            let inside = name.left >= 0 && name.right <= 2000 && name.top >= 0 && name.bottom <= 1000;
            assert!(inside && points.iter().all(|point| name.nearest(*point) != *point), "{name:?}");
        }
    }
}
