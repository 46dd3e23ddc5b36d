//! Vocabulary of captions of the world of shapes: one object at a place, or two objects in relation, before a
//! background. The words are those of `models/shapes/world.toml`, by which the pictures are drawn too; a test compares
//! them.
//!
//! A session edits one attribute at a time, so it never adds or removes an object.

use super::{Attributes, Slot, needed};

const COLOURS: &[&str] = &["red", "yellow", "green", "cyan", "blue", "purple", "white", "black"];
const SHAPES: &[&str] = &["circle", "square", "triangle", "cross", "ring", "star"];

const KIND: usize = 0;
const SIZE: usize = 1;
const COLOUR: usize = 2;
const SHAPE: usize = 3;
const PLACE: usize = 4;
const BACKGROUND: usize = 5;
const SECOND_COLOUR: usize = 6;
const SECOND_SHAPE: usize = 7;

/// Word of [`KIND`] that stands for one object. The other words are relations of two objects.
const ONE: u8 = 1;

pub(super) static SLOTS: [Slot; 8] = [
    needed(&["at", "above", "left of"]),
    needed(&["small", "large"]),
    needed(COLOURS),
    needed(SHAPES),
    needed(&["top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right"]),
    needed(COLOURS),
    needed(COLOURS),
    needed(SHAPES),
];

pub(super) fn editable(attributes: &Attributes) -> &'static [usize] {
    match attributes[KIND] {
        ONE => &[SIZE, COLOUR, SHAPE, PLACE, BACKGROUND],
        _ => &[KIND, COLOUR, SHAPE, BACKGROUND, SECOND_COLOUR, SECOND_SHAPE],
    }
}

/// Returns whether all chosen colours differ. If the background or two objects had the same colour, one of them could
/// not be seen.
pub(super) fn possible(attributes: &Attributes) -> bool {
    // The second colour must differ where there is one object too: the next session on the topic may draw the kind anew
    // and make the object two.
    let colours = [attributes[COLOUR], attributes[BACKGROUND], attributes[SECOND_COLOUR]];
    (0..3).all(|one| (0..one).all(|other| colours[one] == 0 || colours[one] != colours[other]))
}

/// Returns the caption, such as "a small red star at the top left on a blue background" or "a red star above a green
/// ring on a blue background".
pub(super) fn text(attributes: &Attributes) -> String {
    let word = |slot: usize| SLOTS[slot].words[usize::from(attributes[slot]) - 1];
    let first = format!("{} {}", word(COLOUR), word(SHAPE));
    let scene = match attributes[KIND] {
        ONE => format!("a {} {first} at the {}", word(SIZE), word(PLACE)),
        _ => format!("a {first} {} a {} {}", word(KIND), word(SECOND_COLOUR), word(SECOND_SHAPE)),
    };
    format!("{scene} on a {} background", word(BACKGROUND))
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::Deserialize;

    use super::*;

    /// Content of the world's file, as `scripts/train_shapes` reads it too.
    #[derive(Deserialize, JsonSchema)]
    struct World {
        one: String,
        two: String,
        colours: Vec<String>,
        shapes: Vec<String>,
        sizes: Vec<String>,
        places: Vec<String>,
        relations: Vec<String>,
    }

    fn world() -> World {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/shapes/world.toml");
        let text = std::fs::read_to_string(path).expect("the world's file");
        toml::from_str(&text).expect("good TOML")
    }

    #[test]
    fn words_are_those_of_the_world() {
        let world = world();
        let lists =
            [&world.sizes, &world.colours, &world.shapes, &world.places, &world.colours, &world.colours, &world.shapes];
        for (slot, list) in SLOTS[SIZE..].iter().zip(lists) {
            assert_eq!(slot.words, list.as_slice());
        }
        assert_eq!(SLOTS[KIND].words[1..], world.relations);
    }

    #[test]
    fn captions_are_those_of_the_world() {
        let world = world();
        let fill = |template: &str, words: &[(&str, &str)]| {
            words.iter().fold(template.to_owned(), |text, (name, word)| text.replace(&format!("{{{name}}}"), word))
        };
        let one = fill(
            &world.one,
            &[
                ("size", "large"),
                ("colour", "cyan"),
                ("shape", "ring"),
                ("place", "bottom left"),
                ("background", "black"),
            ],
        );
        assert_eq!(text(&[1, 2, 4, 5, 7, 8, 1, 1, 0, 0, 0, 0]), one);
        let two = fill(
            &world.two,
            &[
                ("colour", "white"),
                ("shape", "cross"),
                ("relation", "left of"),
                ("colour2", "red"),
                ("shape2", "star"),
                ("background", "green"),
            ],
        );
        assert_eq!(text(&[3, 1, 7, 4, 1, 3, 1, 6, 0, 0, 0, 0]), two);
    }

    #[test]
    fn colours_of_one_scene_differ() {
        assert!(possible(&[1, 1, 1, 1, 1, 2, 3, 1, 0, 0, 0, 0]));
        assert!(possible(&[1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "not chosen yet");
        assert!(!possible(&[1, 1, 1, 1, 1, 1, 3, 1, 0, 0, 0, 0]));
        assert!(!possible(&[1, 1, 1, 1, 1, 2, 2, 1, 0, 0, 0, 0]));
    }
}
