//! Form of a figure's files: their width, for a screen or in print, and whether title and origin stand in them. Figures
//! in a page always have the form for a screen.

/// Width of the files of figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Width {
    /// 760 pixels.
    #[default]
    Screen,
    /// One column of a paper in two columns: 84 mm.
    Column,
    /// The whole width of its text: 178 mm.
    Page,
}

/// Form of the files of figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Their width.
    pub width: Width,
    /// Whether title, subtitle and origin are left out, for papers that have them in a caption.
    pub untitled: bool,
}

/// Points of PDF for each millimetre, and for each pixel of CSS.
const POINTS_PER_MM: f32 = 72.0 / 25.4;
const POINTS_PER_PIXEL: f32 = 0.75;

impl Look {
    /// Width in pixels of the figure. In print a pixel is 0.212 mm, so that labels of 13 pixels have 7.8 points.
    pub(super) const fn pixels(self) -> i32 {
        match self.width {
            Width::Screen => 760,
            Width::Column => 396,
            Width::Page => 840,
        }
    }

    /// Empty border in pixels; papers have their own.
    pub(super) const fn margin(self) -> i32 {
        match self.width {
            Width::Screen => 20,
            Width::Column | Width::Page => 4,
        }
    }

    /// Height of a plot of curves in pixels.
    pub(super) const fn plot(self) -> i32 {
        match self.width {
            Width::Screen | Width::Page => 280,
            Width::Column => 200,
        }
    }

    /// Whether names and values find no room beside a plot.
    pub(super) const fn is_narrow(self) -> bool {
        matches!(self.width, Width::Column)
    }

    /// Millimetres of a pixel; `None` on a screen.
    fn mm_per_pixel(self) -> Option<f32> {
        let mm = match self.width {
            Width::Screen => return None,
            Width::Column => 84.0,
            Width::Page => 178.0,
        };
        Some(mm / self.pixels() as f32)
    }

    /// A length in pixels as SVG has it.
    pub(super) fn svg_length(self, pixels: i32) -> String {
        self.mm_per_pixel().map_or_else(|| pixels.to_string(), |mm| format!("{:.2}mm", pixels as f32 * mm))
    }

    /// A length in pixels in points, as PDF has it.
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
