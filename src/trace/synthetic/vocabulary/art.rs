//! Vocabulary of prompts for pictures of any kind: generic words and phrases, the more common first. The words are not
//! taken from a collection of prompts.

use super::{Attributes, Slot, needed, optional};

/// Slots in the order of a prompt: framing, adjective, subject, action, place, medium, style, light, mood, palette, and
/// two details.
pub(super) static SLOTS: [Slot; super::SLOTS] = [
    needed(FRAMINGS),
    needed(ADJECTIVES),
    needed(SUBJECTS),
    optional(ACTIONS),
    needed(PLACES),
    needed(MEDIUMS),
    optional(STYLES),
    optional(LIGHTS),
    optional(MOODS),
    optional(PALETTES),
    optional(DETAILS),
    optional(FINISHES),
];

/// Number of [`SLOTS`] at the start that form one phrase about the subject. The words of the other slots follow after
/// commas.
const PHRASE: usize = 5;

/// Returns the prompt, such as "portrait of a lonely fox reading a book in a forest, oil painting, art nouveau, golden
/// hour".
pub(super) fn text(attributes: &Attributes) -> String {
    let mut text = String::with_capacity(160);
    for (slot, word) in attributes.iter().enumerate().filter(|(_, word)| **word > 0) {
        let word = SLOTS[slot].words[usize::from(*word) - 1];
        text.push_str(match slot {
            0 => "",
            // "one-eyed" begins with the sound of a consonant. No adjective of the list needs another exception.
            1 if word.starts_with(['a', 'e', 'i', 'o', 'u']) && !word.starts_with("one") => " an ",
            1 => " a ",
            2..PHRASE => " ",
            _ => ", ",
        });
        text.push_str(word);
    }
    text
}

#[rustfmt::skip] // several words stay on one line
const FRAMINGS: &[&str] = &[
    "portrait of", "photo of", "painting of", "close-up of", "wide shot of", "full body view of", "study of",
    "illustration of", "poster of", "character sheet of", "album cover showing", "aerial view of", "silhouette of",
    "side profile of", "low angle shot of", "miniature model of", "stained glass window of", "postcard of",
    "book cover with", "statue of", "isometric view of", "emblem of", "tapestry of", "mural of",
];

#[rustfmt::skip] // several words stay on one line
const ADJECTIVES: &[&str] = &[
    "beautiful", "old", "young", "giant", "lonely", "futuristic", "ancient", "mysterious", "tiny", "glowing", "elegant",
    "weathered", "mechanical", "haunted", "golden", "ethereal", "muscular", "cheerful", "melancholy", "translucent",
    "crystal", "armored", "feathered", "masked", "hooded", "rusty", "wooden", "frozen", "burning", "flooded",
    "overgrown", "floating", "shattered", "royal", "tattooed", "bearded", "wounded", "sleeping", "angry", "gentle",
    "celestial", "clockwork", "bioluminescent", "ivory", "obsidian", "marble", "velvet", "porcelain", "paper", "copper",
    "ruined", "abandoned", "colossal", "slender", "winged", "horned", "one-eyed", "two-headed", "blindfolded",
    "barefoot", "freckled", "silver-haired", "red-haired", "green-eyed", "cybernetic", "holographic", "pixelated",
    "striped", "spotted", "furry", "scaly", "mossy", "dusty", "stormy", "moonlit", "enchanted", "cursed", "sacred",
    "forgotten", "nomadic", "victorious", "defiant", "curious", "solemn", "playful", "shy", "fierce", "noble", "humble",
    "wandering", "exiled", "retired",
];

#[rustfmt::skip] // several words stay on one line
const SUBJECTS: &[&str] = &[
    "woman", "man", "girl", "cat", "robot", "warrior", "dragon", "knight", "wizard", "astronaut", "dog", "queen",
    "city", "samurai", "castle", "wolf", "princess", "witch", "king", "alien", "demon", "angel", "elf", "fox", "cyborg",
    "monk", "pirate", "owl", "lion", "mermaid", "tiger", "goddess", "sorceress", "detective", "spaceship", "horse",
    "raven", "lighthouse", "temple", "dancer", "musician", "chef", "sailor", "soldier", "scientist", "gardener",
    "blacksmith", "librarian", "beekeeper", "fisherman", "farmer", "acrobat", "boxer", "violinist", "pianist", "shaman",
    "druid", "paladin", "archer", "assassin", "bard", "hunter", "ranger", "vampire", "werewolf", "ghost", "skeleton",
    "zombie", "goblin", "orc", "dwarf", "giant", "fairy", "gnome", "centaur", "minotaur", "phoenix", "griffin",
    "unicorn", "kraken", "golem", "hydra", "sphinx", "octopus", "whale", "shark", "jellyfish", "seahorse", "turtle",
    "frog", "snake", "lizard", "chameleon", "crocodile", "elephant", "rhinoceros", "giraffe", "bear", "panda", "deer",
    "moose", "rabbit", "hare", "squirrel", "mouse", "hedgehog", "badger", "otter", "beaver", "eagle", "hawk", "heron",
    "crane", "swan", "peacock", "parrot", "penguin", "hummingbird", "butterfly", "moth", "beetle", "spider", "scorpion",
    "mantis", "bee", "ant", "snail", "mushroom", "tree", "flower", "rose", "sunflower", "cactus", "bonsai", "pumpkin",
    "teapot", "clock", "violin", "piano", "bicycle", "motorcycle", "sports car", "steam train", "airship", "submarine",
    "sailboat", "hot air balloon", "satellite", "space station", "rover", "drone", "telescope", "windmill", "watermill",
    "cottage", "treehouse", "tower", "cathedral", "monastery", "pyramid", "bridge", "skyscraper", "greenhouse",
    "bakery", "bookshop", "tea house", "market", "carousel", "throne", "mask", "crown", "sword", "lantern", "chess set",
    "snow globe", "music box", "typewriter", "camera", "sneaker", "handbag", "armchair", "chandelier", "fountain",
    "island", "mountain", "volcano", "waterfall",
];

#[rustfmt::skip] // several words stay on one line
const ACTIONS: &[&str] = &[
    "standing", "looking at the viewer", "holding a lantern", "wearing a long coat", "riding a horse", "reading a book",
    "playing a guitar", "drinking coffee", "smoking a pipe", "holding a sword", "with glowing eyes",
    "with flowing hair", "surrounded by candles", "covered in flowers", "wrapped in vines", "wearing headphones",
    "wearing a crown", "dancing", "running", "falling", "flying", "sleeping", "meditating", "casting a spell",
    "painting a canvas", "feeding birds", "carrying an umbrella", "made of glass", "made of smoke", "made of gears",
    "made of stars", "under construction", "covered in snow", "dripping with paint", "emerging from the water",
    "seen through a keyhole", "facing a mirror", "cooking soup", "repairing a clock", "writing a letter",
    "playing chess", "walking a tightrope", "guarding a gate", "opening a chest", "chasing a firefly", "weaving a net",
    "sharpening a blade", "pouring tea", "counting coins", "waving a flag", "shaking hands with a child",
    "listening to a seashell", "tangled in ribbons", "half in shadow",
];

#[rustfmt::skip] // several words stay on one line
const PLACES: &[&str] = &[
    "in a forest", "in the city", "in space", "on a mountain", "by the sea", "in the desert", "at a castle",
    "in a garden", "in a cave", "on a rooftop", "in the rain", "in a library", "on the moon", "under water",
    "in a snowy field", "in a cafe", "in a cathedral", "on a cliff", "in a swamp", "in a laboratory",
    "on a battlefield", "in a throne room", "in a tavern", "in a subway station", "on a beach", "in an alley",
    "in a meadow", "at a crossroads", "on a frozen lake", "in a jungle", "in a ruined temple", "in a neon market",
    "inside a spaceship", "on a train", "in a graveyard", "in a wheat field", "in a bamboo grove", "at a harbor",
    "in a dungeon", "in a ballroom", "in a kitchen", "in an attic", "in a workshop", "on a bridge", "in a canyon",
    "near a volcano", "on a floating island", "in a crystal cavern", "in a rose garden", "at a carnival",
    "in a theater", "in an old factory", "in a greenhouse", "on a pirate ship", "in a monastery",
    "at the end of the world", "in a parallel universe", "in a mirror maze", "in a dream", "above the clouds",
    "in an autumn park", "on a spiral staircase", "in a clock tower", "in a coral reef", "at a bus stop", "in a barn",
    "in a museum", "in an observatory", "on a salt flat", "in an ice palace", "beside a waterfall",
    "under a giant tree", "in a lavender field", "in a fishing village", "on a vineyard hill", "in a sunken city",
    "in a moonlit courtyard", "in a teahouse", "in a data center", "on a space elevator", "in a mangrove",
    "in an arcade", "in a laundromat",
];

#[rustfmt::skip] // several words stay on one line
const MEDIUMS: &[&str] = &[
    "digital painting", "oil painting", "concept art", "photograph", "illustration", "watercolor", "3 d render",
    "pencil sketch", "ink drawing", "matte painting", "acrylic on canvas", "charcoal drawing", "pastel drawing",
    "pixel art", "vector art", "anime key visual", "comic book panel", "polaroid photo", "film still", "gouache",
    "linocut print", "woodblock print", "fresco", "collage", "paper cutout", "clay sculpture", "bronze sculpture",
    "embroidery", "mosaic", "chalk drawing", "etching", "screen print", "airbrush painting", "low poly render",
    "voxel art", "blueprint", "tarot card", "ceramic tile", "spray paint stencil", "double exposure photograph",
];

#[rustfmt::skip] // several words stay on one line
const STYLES: &[&str] = &[
    "fantasy art", "cyberpunk", "art nouveau", "surrealism", "steampunk", "impressionism", "baroque", "gothic",
    "art deco", "minimalism", "renaissance style", "retro futurism", "pop art", "expressionism", "dark fantasy",
    "vaporwave", "cubism", "romanticism", "ukiyo-e", "solarpunk", "dieselpunk", "photorealism", "abstract art",
    "folk art", "symbolism", "pointillism", "futurism", "rococo", "brutalism", "bauhaus", "film noir", "space opera",
    "magical realism", "constructivism", "naive art", "medieval manuscript style", "psychedelic art", "tonalism",
    "pre-raphaelite style", "mid-century modern", "fauvism", "gritty realism", "storybook style", "cottagecore",
];

#[rustfmt::skip] // several words stay on one line
const LIGHTS: &[&str] = &[
    "cinematic lighting", "dramatic lighting", "soft light", "golden hour", "volumetric light", "studio lighting",
    "neon lights", "moonlight", "rim lighting", "sunset", "natural light", "backlit", "candlelight", "god rays",
    "overcast sky", "foggy morning", "blue hour", "firelight", "low key lighting", "high key lighting", "starlight",
    "harsh midday sun", "lens flare", "underwater caustics", "chiaroscuro", "lightning flash", "aurora overhead",
    "dappled shade", "strobe light", "lamplight", "twilight", "glowing fog",
];

#[rustfmt::skip] // several words stay on one line
const MOODS: &[&str] = &[
    "moody", "dreamy", "epic", "serene", "dark and eerie", "whimsical", "nostalgic", "mysterious atmosphere",
    "romantic", "ominous", "peaceful", "melancholic", "heroic", "joyful", "tense", "mystical", "lonely mood", "cozy",
    "chaotic", "majestic", "sinister", "playful mood", "hopeful", "surreal mood", "solemn mood", "energetic", "wistful",
    "bleak", "tranquil", "triumphant",
];

#[rustfmt::skip] // several words stay on one line
const PALETTES: &[&str] = &[
    "vibrant colors", "muted colors", "pastel palette", "black and white", "teal and orange", "warm tones",
    "cool tones", "sepia", "monochrome blue", "red and gold", "earth tones", "neon pink and cyan", "emerald and silver",
    "high contrast", "desaturated", "jewel tones", "autumn palette", "lavender and cream", "crimson and black",
    "iridescent colors", "limited palette", "ochre and umber", "turquoise and coral", "white and ivory",
];

#[rustfmt::skip] // several words stay on one line
const DETAILS: &[&str] = &[
    "highly detailed", "intricate", "ultra realistic", "sharp focus", "hyperdetailed", "elegant composition",
    "ornate patterns", "fine brush strokes", "smooth shading", "depth of field", "bokeh background", "symmetrical",
    "dynamic pose", "rule of thirds", "rich texture", "delicate line work", "thick impasto", "film grain",
    "geometric shapes", "flat shading", "bold outlines", "macro detail", "long exposure", "motion blur", "tilt shift",
    "wide angle lens", "fisheye lens", "centered composition", "negative space", "worn edges",
];

#[rustfmt::skip] // several words stay on one line
const FINISHES: &[&str] = &[
    "8 k", "4 k", "trending", "award winning", "masterpiece", "ray tracing", "global illumination", "unreal render",
    "professional", "high resolution", "concept sheet", "museum quality", "wallpaper", "magazine cover",
    "vintage print", "gallery piece", "hdr", "35 mm", "medium format", "art print", "official artwork", "matte finish",
    "glossy finish", "soft focus",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_read_well() {
        assert_eq!(
            text(&[1, 2, 24, 6, 1, 2, 3, 4, 0, 0, 1, 0]).as_str(),
            "portrait of an old fox reading a book in a forest, oil painting, art nouveau, golden hour, highly detailed"
        );
    }
}
