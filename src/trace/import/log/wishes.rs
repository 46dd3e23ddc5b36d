//! Values of a log that say what a request asks for, in the form that a trace has them: sizes, counts, numbers. A value
//! that cannot be asked for is left out and counted.

use super::cell::Cell;
use super::fields::LogField;
use crate::trace::TextColumn;
use crate::trace::asks::{MOST_IMAGES, MOST_STEPS};

/// Column of the trace with what its requests ask for.
#[derive(Clone, Debug)]
pub(super) struct WishColumn {
    pub(super) name: &'static str,
    pub(super) texts: TextColumn,
    /// Number of values that were left out.
    pub(super) left_out: usize,
}

impl WishColumn {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, texts: TextColumn::default(), left_out: 0 }
    }

    /// Appends a value. An error is the name of a type that the column does not take.
    pub(super) fn push(&mut self, field: LogField, cell: &Cell<'_>) -> Result<(), &'static str> {
        if cell.is_null() {
            self.texts.push("");
            return Ok(());
        }
        if matches!(cell, Cell::List(_) | Cell::Other(_)) {
            return Err(cell.type_name());
        }
        let text = match field {
            LogField::Steps => count(cell, MOST_STEPS),
            LogField::Images => count(cell, u32::from(MOST_IMAGES)),
            LogField::Width | LogField::Height => count(cell, u32::from(u16::MAX)),
            LogField::Guidance => number(cell, 1000.0),
            LogField::Executed | LogField::ImageBytes => number(cell, 1e15),
            _ => cell.name().map(std::borrow::Cow::into_owned),
        };
        self.left_out += usize::from(text.is_none());
        self.texts.push(text.as_deref().unwrap_or_default());
        Ok(())
    }
}

/// Returns a whole number from 1 to `most`, as text.
fn count(cell: &Cell<'_>, most: u32) -> Option<String> {
    let number = cell.number()?;
    (number.fract() == 0.0 && (1.0..=f64::from(most)).contains(&number)).then(|| number.to_string())
}

/// Returns a number from 0 to `most`, as text.
fn number(cell: &Cell<'_>, most: f64) -> Option<String> {
    cell.number().filter(|number| (0.0..=most).contains(number)).map(|number| number.to_string())
}

/// Returns the width and the height that a text like `1024x768`, or a list of two numbers, has.
pub(super) fn size(cell: &Cell<'_>) -> Option<(u16, u16)> {
    let side =
        |number: f64| (number.fract() == 0.0 && (1.0..=f64::from(u16::MAX)).contains(&number)).then_some(number as u16);
    match cell {
        Cell::List(sides) => match sides.as_slice() {
            [width, height] => Some((side(width.number()?)?, side(height.number()?)?)),
            _ => None,
        },
        Cell::Text(text) => {
            let (width, height) = text.trim().split_once(['x', 'X', '×', '*'])?;
            let [width, height] = [width, height].map(|text| text.trim().trim_end_matches("px").parse().ok());
            Some((side(width?)?, side(height?)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn sizes_in_their_notations() {
        let text = |text: &'static str| size(&Cell::Text(Cow::Borrowed(text)));
        assert_eq!(
            [text("1024x768"), text(" 512 × 512 "), text("64*32")],
            [(1024, 768), (512, 512), (64, 32)].map(Some)
        );
        assert_eq!(size(&Cell::List(vec![Cell::Integer(64), Cell::Float(32.0)])), Some((64, 32)));
        assert_eq!([text("auto"), text("0x5"), text("1024"), text("1.5x2"), text("99999x1")], [None; 5]);
    }

    #[test]
    fn what_cannot_be_asked_for_is_left_out_and_counted() {
        let mut steps = WishColumn::new("steps");
        for cell in
            [Cell::Integer(28), Cell::Float(30.0), Cell::Null, Cell::Integer(0), Cell::Text(Cow::Borrowed("many"))]
        {
            steps.push(LogField::Steps, &cell).unwrap();
        }
        assert_eq!((steps.texts.iter().collect::<Vec<_>>(), steps.left_out), (vec!["28", "30", "", "", ""], 2));
        assert_eq!(steps.push(LogField::Steps, &Cell::List(Vec::new())), Err("a list"));
        let mut guidance = WishColumn::new("guidance");
        guidance.push(LogField::Guidance, &Cell::Text(Cow::Borrowed("3.5"))).unwrap();
        guidance.push(LogField::Guidance, &Cell::Float(-1.0)).unwrap();
        assert_eq!(guidance.texts.iter().collect::<Vec<_>>(), ["3.5", ""]);
    }
}
