"""The world of shapes: scenes, their captions, their pictures and what a near miss of one is.

Reads `models/shapes/world.toml`, which `modm trace generate` reads too. Nothing here is learnt.
A batch of scenes is an int64 array [n, 8], a column an attribute; see `ATTRIBUTES`.
"""

import itertools
import tomllib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "models" / "shapes"
WORLD = tomllib.loads((FOLDER / "world.toml").read_text())

COLOURS, SHAPES, SIZES = WORLD["colours"], WORLD["shapes"], WORLD["sizes"]
PLACES, RELATIONS = WORLD["places"], WORLD["relations"]

# Kind 0 is one object, kind r + 1 two objects in relation r. Attributes that a kind lacks are 0.
ATTRIBUTES = ["kind", "size", "colour", "shape", "place", "background", "colour2", "shape2"]
KIND, SIZE, COLOUR, SHAPE, PLACE, BACKGROUND, COLOUR2, SHAPE2 = range(8)
COUNTS = [1 + len(RELATIONS), len(SIZES), len(COLOURS), len(SHAPES), len(PLACES), len(COLOURS), len(COLOURS), len(SHAPES)]
USED_BY_ONE = [SIZE, COLOUR, SHAPE, PLACE, BACKGROUND]
USED_BY_TWO = [KIND, COLOUR, SHAPE, BACKGROUND, COLOUR2, SHAPE2]

PICTURE = WORLD["picture"]
SIDE = PICTURE["side"]

# One caption in ten is never trained on, by any of the models: what `held_out` says.
HELD_OUT_SHARE = 10


def caption(scene):
    """The canonical caption of one scene (a row)."""
    words = {
        "size": SIZES[scene[SIZE]],
        "colour": COLOURS[scene[COLOUR]],
        "shape": SHAPES[scene[SHAPE]],
        "place": PLACES[scene[PLACE]],
        "background": COLOURS[scene[BACKGROUND]],
        "colour2": COLOURS[scene[COLOUR2]],
        "shape2": SHAPES[scene[SHAPE2]],
    }
    if scene[KIND] == 0:
        return WORLD["one"].format(**words)
    return WORLD["two"].format(relation=RELATIONS[scene[KIND] - 1], **words)


def paraphrase(rng, scene):
    """Other words for a scene: synonyms, and for two objects perhaps the second one first."""
    other = WORLD["paraphrases"]

    def choose(said, alternatives):
        options = [said, *alternatives]
        return options[rng.integers(len(options))]

    def word(name):
        return choose(name, other["words"][name])

    first, second = f"{word(COLOURS[scene[COLOUR]])} {word(SHAPES[scene[SHAPE]])}", None
    if scene[KIND] == 0:
        place = PLACES[scene[PLACE]]
        where = choose(f"at the {place}", other["places"][place])
        text = f"a {word(SIZES[scene[SIZE]])} {first} {where}"
    else:
        second = f"{word(COLOURS[scene[COLOUR2]])} {word(SHAPES[scene[SHAPE2]])}"
        relation = RELATIONS[scene[KIND] - 1]
        if rng.random() < 0.3:
            first, second, relation = second, first, choose(other["flipped"][relation][0], other["flipped"][relation][1:])
        else:
            relation = choose(relation, other["relations"][relation])
        text = f"a {first} {relation} a {second}"
    background = choose("on a {background} background", other["backgrounds"])
    text = f"{text} {background.format(background=word(COLOURS[scene[BACKGROUND]]))}"
    return text if rng.random() < 0.6 else f"{choose('a picture of', other['openings'])} {text}"


# ---- tokens ---------------------------------------------------------------------------------------

PAD, UNKNOWN, START, END = "<|pad|>", "<|unknown|>", "<|startoftext|>", "<|endoftext|>"
ENCODER_LENGTH, GENERATOR_LENGTH = 24, 16  # paraphrases are longer than canonical captions


def words():
    """Every word that a caption or a paraphrase may have, sorted."""
    other = WORLD["paraphrases"]
    texts = [WORLD["one"], WORLD["two"], *COLOURS, *SHAPES, *SIZES, *PLACES, *RELATIONS, *other["openings"], *other["backgrounds"]]
    for table in ("words", "places", "relations", "flipped"):
        texts += [text for texts in other[table].values() for text in texts]
    return sorted({word for text in texts for word in text.split() if "{" not in word})


# The end has the highest id: a text encoder of CLIP's layout finds it by that.
VOCABULARY = {token: index for index, token in enumerate([PAD, UNKNOWN, START, *words(), END])}


def tokens(texts, length):
    """Token ids, int64 [n, length]: start, words, end, padding."""
    ids = np.zeros((len(texts), length), np.int64)
    for row, text in enumerate(texts):
        inside = [VOCABULARY.get(word, VOCABULARY[UNKNOWN]) for word in text.split()][: length - 2]
        ids[row, : len(inside) + 2] = [VOCABULARY[START], *inside, VOCABULARY[END]]
    return ids


# ---- scenes ---------------------------------------------------------------------------------------


def keys(scenes):
    """One number a caption: mixed radix over the attributes."""
    key = np.zeros(len(scenes), np.uint64)
    for column, count in enumerate(COUNTS):
        key = key * np.uint64(count) + scenes[:, column].astype(np.uint64)
    return key


def held_out(scenes):
    """Which captions are kept from training: splitmix64 of their key, modulo 10, is 0."""
    with np.errstate(over="ignore"):
        z = keys(scenes) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return z % np.uint64(HELD_OUT_SHARE) == 0


def colours_differ(scenes):
    """Whether no two things in a picture have one colour."""
    two = scenes[:, KIND] > 0
    good = scenes[:, COLOUR] != scenes[:, BACKGROUND]
    return good & (~two | ((scenes[:, COLOUR2] != scenes[:, BACKGROUND]) & (scenes[:, COLOUR2] != scenes[:, COLOUR])))


def canonical(scenes):
    """Sets to 0 what a scene's kind does not use."""
    two = scenes[:, KIND] > 0
    scenes[two, SIZE] = scenes[two, PLACE] = 0
    scenes[~two, COLOUR2] = scenes[~two, SHAPE2] = 0
    return scenes


def draw_scenes(rng, n, share_of_two=0.5, held=False):
    """`n` scenes; `held` takes only the held-out captions, else only the others (None: any)."""
    kept = np.empty((0, 8), np.int64)
    while len(kept) < n:
        scenes = np.stack([rng.integers(0, count, 2 * n + 64) for count in COUNTS], 1)
        scenes[:, KIND] = np.where(rng.random(len(scenes)) < share_of_two, rng.integers(1, COUNTS[KIND], len(scenes)), 0)
        scenes = canonical(scenes)
        good = colours_differ(scenes)
        if held is not None:
            # Held-out scenes are rare: draw until there are enough.
            good &= held_out(scenes) == held
        kept = np.concatenate([kept, scenes[good]])
    return kept[:n]


def edit(rng, scenes, attributes=1):
    """Near misses: so many attributes of each scene are changed, never its number of objects."""
    edited = scenes.copy()
    todo = np.arange(len(scenes))
    while len(todo):
        edited[todo] = scenes[todo]
        for row in todo:
            used = USED_BY_ONE if scenes[row, KIND] == 0 else USED_BY_TWO
            for column in rng.choice(used, attributes, replace=False):
                if column == KIND:
                    edited[row, KIND] = 3 - scenes[row, KIND]
                else:
                    step = rng.integers(1, COUNTS[column])
                    edited[row, column] = (scenes[row, column] + step) % COUNTS[column]
        todo = todo[~colours_differ(edited[todo])]
    return edited


def swap(rng, scenes):
    """Near misses with the same words: two objects trade colour, shape or places; one object trades colours with the background."""
    swapped = scenes.copy()
    how = rng.integers(0, 3, len(scenes))
    for row, (scene, way) in enumerate(zip(scenes, how)):
        if scene[KIND] == 0:
            swapped[row, [COLOUR, BACKGROUND]] = scene[[BACKGROUND, COLOUR]]
            continue
        if way != 1 or scene[SHAPE] == scene[SHAPE2]:
            swapped[row, [COLOUR, COLOUR2]] = scene[[COLOUR2, COLOUR]]
        if way != 0:
            swapped[row, [SHAPE, SHAPE2]] = scene[[SHAPE2, SHAPE]]
    return swapped


def relevant(scenes):
    """Which attributes a scene has, bool [n, attributes]; of one with too many objects only their number is asked."""
    used = np.zeros(scenes.shape, bool)
    crowded, one = scenes[:, KIND] == COUNTS[KIND], scenes[:, KIND] == 0
    used[:, [COLOUR, SHAPE, BACKGROUND]] = ~crowded[:, None]
    used[:, [SIZE, PLACE]] = one[:, None]
    used[:, [COLOUR2, SHAPE2]] = ~(one | crowded)[:, None]
    used[:, KIND] = True
    return used


# ---- pictures -------------------------------------------------------------------------------------

RGB = np.array([WORLD["rgb"][colour] for colour in COLOURS], np.float32)
PIXELS = np.arange(SIDE, dtype=np.float32) + np.float32(0.5 - SIDE / 2)


def distance(shape, x, y):
    """Signed distance to a shape of radius 1 at points, negative inside."""
    radius = np.hypot(x, y)
    match SHAPES[shape]:
        case "circle":
            return radius - 1
        case "square":
            return np.maximum(abs(x), abs(y)) - 0.88
        case "triangle":
            down, slant = y + 0.12, np.float32(np.sin(np.pi / 3))  # its middle is above that of the circle around it
            return np.maximum(down, slant * abs(x) - 0.5 * down) - 0.56
        case "cross":
            bar = 0.36
            return np.minimum(np.maximum(abs(x) - 1, abs(y) - bar), np.maximum(abs(x) - bar, abs(y) - 1))
        case "ring":
            return abs(radius - 0.74) - 0.26
        case "star":
            # The plane folded into half of one of five points, then the distance to that point's edge.
            outer, inner, fifth = 1.12, 0.50, np.float32(2 * np.pi / 5)
            folded = abs(np.mod(np.arctan2(x, -y) + fifth / 2, fifth) - fifth / 2)
            along, across = inner * np.cos(fifth / 2) - outer, inner * np.sin(fifth / 2)
            return ((radius * np.cos(folded) - outer) * across - radius * np.sin(folded) * along) / np.hypot(along, across)


def coverage(shapes, x0, y0, radius):
    """How much of each pixel objects cover, 0 to 1: [n, side, side]."""
    covered = np.empty((len(shapes), SIDE, SIDE), np.float32)
    for shape in range(len(SHAPES)):
        rows = shapes == shape
        x = (PIXELS[None, None, :] - x0[rows, None, None]) / radius[rows, None, None]
        y = (PIXELS[None, :, None] - y0[rows, None, None]) / radius[rows, None, None]
        covered[rows] = (0.5 - distance(shape, x, y) * radius[rows, None, None]).clip(0, 1)
    return covered


def layout(scenes):
    """Where a scene's objects are when nothing is jittered: of the first and the second x, y, radius [n], pixels."""
    kind, place = scenes[:, KIND], scenes[:, PLACE]
    offset, pair, zero = PICTURE["place_offset"], PICTURE["pair_offset"], np.zeros(len(scenes), np.float32)
    one = kind == 0
    above, left = (kind == 1) * np.float32(pair), (kind == 2) * np.float32(pair)
    x = np.where(one, (place % 3 - 1) * np.float32(offset), -left)
    y = np.where(one, (place // 3 - 1) * np.float32(offset), -above)
    radius = np.where(one, np.array(PICTURE["radius"], np.float32)[scenes[:, SIZE]], np.float32(PICTURE["pair_radius"]))
    return (x, y, radius), (left, above, zero + np.float32(PICTURE["pair_radius"]))


def neighbourhood(scenes):
    """1 wherever an object of the scene may be, else 0, for all that its caption leaves open: [n, side, side]."""
    near = np.zeros((len(scenes), SIDE, SIDE), np.float32)
    slack = PICTURE["pair_jitter"] + 0.5
    for second, (x, y, radius) in enumerate(layout(scenes)):
        reach = (radius * (1 + PICTURE["radius_jitter"]) + slack)[:, None]
        box = (abs(PIXELS - y[:, None]) < reach)[:, :, None] & (abs(PIXELS - x[:, None]) < reach)[:, None, :]
        near = np.maximum(near, box & ((scenes[:, KIND] > 0) | (second == 0))[:, None, None])
    return near


def parts(scenes, first, second):
    """How much of each pixel is background, first and second object at (x, y, radius): [n, 3, side, side]."""
    one = coverage(scenes[:, SHAPE], *first)
    two = coverage(scenes[:, SHAPE2], *second) * (scenes[:, KIND] > 0)[:, None, None]
    return np.stack([(1 - one) * (1 - two), one * (1 - two), two], 1)


def play(scenes):
    """How far each object may be from its place in x and y: pixels either way, [n] each."""
    kind, along, across = scenes[:, KIND], np.float32(PICTURE["position_jitter"]), np.float32(PICTURE["pair_jitter"])
    # Two objects may shift more across their relation than along it.
    return np.where(kind == 1, across, along), np.where(kind == 2, across, along)


def pictures(rng, scenes):
    """A picture of each scene, f32 [n, 3, side, side], channels from -1 to 1; what a caption leaves open is drawn."""
    n = len(scenes)
    uniform = lambda *shape: rng.uniform(-1, 1, shape).astype(np.float32)
    sideways, upright = play(scenes)
    moved = [(x + uniform(n) * sideways, y + uniform(n) * upright, radius * (1 + uniform(n) * np.float32(PICTURE["radius_jitter"])))
             for x, y, radius in layout(scenes)]
    colours = RGB[scenes[:, [BACKGROUND, COLOUR, COLOUR2]]] + uniform(n, 3, 3) * np.float32(PICTURE["colour_jitter"])
    picture = np.einsum("npij,npc->ncij", parts(scenes, *moved), colours.clip(0, 1))
    return (picture * 2 - 1).astype(np.float32)


def distances(images, scenes):
    """How far each picture is from the nearest drawing of its caption: root mean square over pixels and channels, whose
    range counts as 1. The nearest is searched for among all that a caption leaves open, in steps of a third of a pixel."""
    nominal, allowed = RGB[scenes[:, [BACKGROUND, COLOUR, COLOUR2]]], np.float32(PICTURE["colour_jitter"])
    targets = (images.astype(np.float32) + 1) / 2

    def error(first, second):
        part = parts(scenes, first, second).reshape(len(scenes), 3, -1)
        # The best colours within what is allowed.
        gram = np.einsum("npi,nqi->npq", part, part) + 1e-3 * np.eye(3, dtype=np.float32)
        sums = np.einsum("npi,nci->npc", part, targets.reshape(len(scenes), 3, -1))
        colours = np.clip(np.linalg.solve(gram, sums), nominal - allowed, nominal + allowed).clip(0, 1)
        drawn = np.einsum("npi,npc->nci", part, colours)
        return np.sqrt(np.square(drawn - targets.reshape(len(scenes), 3, -1)).mean((1, 2)))

    objects = [list(place) for place in layout(scenes)]
    centres, best = [tuple(place) for place in objects], np.full(len(scenes), np.inf, np.float32)
    for reach, radii in ((1, (-1, 0, 1)), (1 / 3, (-0.5, 0, 0.5))):
        for index in range(2 if (scenes[:, KIND] > 0).any() else 1):
            start = tuple(objects[index])
            for across, down, size in itertools.product((-1, 0, 1), (-1, 0, 1), radii):
                limits = play(scenes)
                moved = [np.clip(start[axis] + step * limit * reach, centres[index][axis] - limit, centres[index][axis] + limit)
                         for axis, (step, limit) in enumerate(zip((across, down), limits))]
                slack = np.float32(PICTURE["radius_jitter"]) * centres[index][2]
                radius = np.clip(start[2] + size * slack, centres[index][2] - slack, centres[index][2] + slack)
                candidate = [tuple(place) for place in objects]
                candidate[index] = (*moved, radius)
                found = error(*candidate)
                better = found < best
                best = np.where(better, found, best)
                for axis, value in enumerate(candidate[index]):
                    objects[index][axis] = np.where(better, value, objects[index][axis]).astype(np.float32)
    return best


def grid(images, columns):
    """A sheet of pictures [n, 3, side, side] (-1 to 1) as bytes [height, width, 3], magnified."""
    rows = -(-len(images) // columns)
    gap, scale = 2, 2
    step = SIDE * scale + gap
    sheet = np.full((rows * step + gap, columns * step + gap, 3), 128, np.uint8)
    for index, image in enumerate(images):
        pixels = np.round((image.clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)
        top, left = step * (index // columns) + gap, step * (index % columns) + gap
        sheet[top : top + SIDE * scale, left : left + SIDE * scale] = pixels.repeat(scale, 0).repeat(scale, 1)
    return sheet
