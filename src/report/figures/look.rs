//! Form of a figure's files: the width, for a screen or for print, and whether the file shows title and origin. Figures
//! in a page always have the form for a screen.

/// Width of the files of figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Width {
    /// Width for a screen: 760 pixels.
    #[default]
    Screen,
    /// Width of one column of a paper in two columns: 84 mm.
    Column,
    /// Width of both columns of such a paper: 178 mm.
    Page,
}

/// Form of the files of figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Width of the files.
    pub width: Width,
    /// True if title, subtitle and origin are left out, for papers that have them in a caption.
    pub untitled: bool,
}

/// Points of PDF per millimetre, and per pixel of CSS.
const POINTS_PER_MM: f32 = 72.0 / 25.4;
const POINTS_PER_PIXEL: f32 = 0.75;

impl Look {
    /// Returns the width of the figure in pixels. In print a pixel is 0.212 mm, so that labels of 13 pixels have 7.8
    /// points.
    pub(super) const fn pixels(self) -> i32 {
        match self.width {
            Width::Screen => 760,
            Width::Column => 396,
            Width::Page => 840,
        }
    }

    /// Returns the width of the empty border, in pixels. It is small in print, because papers have their own border.
    pub(super) const fn margin(self) -> i32 {
        match self.width {
            Width::Screen => 20,
            Width::Column | Width::Page => 4,
        }
    }

    /// Returns the height of a plot of curves, in pixels.
    pub(super) const fn plot(self) -> i32 {
        match self.width {
            Width::Screen | Width::Page => 280,
            Width::Column => 200,
        }
    }

    /// Returns whether a plot is too narrow to have names and values beside it.
    pub(super) const fn is_narrow(self) -> bool {
        matches!(self.width, Width::Column)
    }

    /// Returns the size of a pixel in millimetres; `None` on a screen.
    fn mm_per_pixel(self) -> Option<f32> {
        let mm = match self.width {
            Width::Screen => return None,
            Width::Column => 84.0,
            Width::Page => 178.0,
        };
        Some(mm / self.pixels() as f32)
    }

    /// Formats a length in pixels as an SVG length: in pixels on a screen, else in millimetres.
    pub(super) fn svg_length(self, pixels: i32) -> String {
        self.mm_per_pixel().map_or_else(|| pixels.to_string(), |mm| format!("{:.2}mm", pixels as f32 * mm))
    }

    /// Converts a length in pixels to points, the unit of PDF.
    pub(super) fn points(self, pixels: i32) -> f32 {
        pixels as f32 * self.mm_per_pixel().map_or(POINTS_PER_PIXEL, |mm| mm * POINTS_PER_MM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_their_width_in_print() {
        let column = Look { width: Width::Column, untitled: true };
        assert_eq!(column.svg_length(column.pixels()), "84.00mm");
        assert!((column.points(column.pixels()) - 238.11).abs() < 0.01);
        assert_eq!(Look::default().svg_length(760), "760");
        let page = Look { width: Width::Page, untitled: false };
        assert_eq!(page.svg_length(page.pixels()), "178.00mm");
    }
}
