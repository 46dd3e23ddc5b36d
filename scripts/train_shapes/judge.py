"""Says how many pictures of a live run show what was asked for, by the shipped judge (models/shapes/judge).

    python scripts/train_shapes/judge.py results/live-shapes/vanilla results/live-shapes/modm

Needs onnxruntime and numpy. A table of shares with 95 % intervals, by what made the pictures; `all` is the whole run.

    python scripts/train_shapes/judge.py --scores scores.csv results/calibration

writes a score for every picture of a calibration's samples.csv: 1 if everything that the caption says is so, else 0. It is
what `modm calibrate --from results/calibration --scores scores.csv --measure right` takes.
"""

import csv
import re
import sys
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np

import sample
import world

ONE = re.compile(r"a (\w+) (\w+) (\w+) at the (.+) on a (\w+) background")
TWO = re.compile(r"a (\w+) (\w+) (above|left of) a (\w+) (\w+) on a (\w+) background")


def scene(caption):
    """The attributes that a canonical caption names: `world.caption` the other way round."""
    found = np.zeros(len(world.ATTRIBUTES), np.int64)
    if match := TWO.fullmatch(caption):
        colour, shape, relation, colour2, shape2, background = match.groups()
        found[world.KIND] = 1 + world.RELATIONS.index(relation)
        found[world.COLOUR2], found[world.SHAPE2] = world.COLOURS.index(colour2), world.SHAPES.index(shape2)
    elif match := ONE.fullmatch(caption):
        size, colour, shape, place, background = match.groups()
        found[world.SIZE], found[world.PLACE] = world.SIZES.index(size), world.PLACES.index(place)
    else:
        raise ValueError(f"not a caption of this world: {caption}")
    found[world.COLOUR], found[world.SHAPE] = world.COLOURS.index(colour), world.SHAPES.index(shape)
    found[world.BACKGROUND] = world.COLOURS.index(background)
    assert world.caption(found) == caption, caption
    return found


def read_png(path):
    """Pixels of a PNG file of eight bits in three channels, any filter: bytes [height, width, 3]."""
    data, at, packed = path.read_bytes(), 8, b""
    while at < len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height = (int.from_bytes(body[i : i + 4], "big") for i in (0, 4))
            assert body[8:10] == b"\x08\x02", "three channels of eight bits"
        packed += body if kind == b"IDAT" else b""
        at += length + 12
    raw = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + 3 * width).astype(np.int64)
    pixels = np.zeros((height, 3 + 3 * width), np.int64)  # a pixel of zeros before each line
    above = np.zeros(3 + 3 * width, np.int64)
    for line, (kind, *values) in zip(pixels, raw):
        for i, value in enumerate(values, 3):
            left, up, corner = line[i - 3], above[i], above[i - 3]
            estimate = left + up - corner
            nearest = min((abs(estimate - left), 0, left), (abs(estimate - up), 1, up), (abs(estimate - corner), 2, corner))[2]
            line[i] = (value + (0, left, up, (left + up) // 2, nearest)[kind]) % 256
        above = line
    return pixels[:, 3:].reshape(height, width, 3).astype(np.uint8)


def right(files, captions):
    """Whether everything that each caption says is so in its picture."""
    images = np.stack([read_png(file) for file in files]).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    return sample.Judge().right(images, np.stack([scene(caption) for caption in captions])).all(1)


def judge(folder):
    """Whether each completed picture of a run is all right, by what made it."""
    prompts = [row["prompt"] for row in csv.DictReader(open(folder / "trace" / "requests.csv"))]
    groups = defaultdict(list)
    rows = list(csv.DictReader(open(folder / "requests.csv")))
    done = [(row, prompt) for row, prompt in zip(rows, prompts) if row["outcome"] == "completed"]
    files = [folder / "images" / f"{row['request_id']}.png" for row, _ in done]
    for (row, _), good in zip(done, right(files, [prompt for _, prompt in done])):
        made = f"{row['decision']}, {row['model']}" + (f", k = {row['skipped_steps']}" if row["decision"] == "hit" else "")
        for group in (made, "all"):
            groups[group].append(good)
    return groups


def write_scores(file, folder):
    """Scores of a calibration's pictures."""
    samples = list(csv.DictReader(open(folder / "samples.csv", encoding="utf-8")))
    good = right([folder / "pictures" / s["picture"] for s in samples], [s["prompt"] for s in samples])
    with open(file, "w", encoding="utf-8", newline="") as to:
        csv.writer(to).writerows([("picture", "score"), *((s["picture"], int(g)) for s, g in zip(samples, good))])


def main():
    if sys.argv[1:2] == ["--scores"]:
        file, folder = sys.argv[2:]
        return write_scores(file, Path(folder))
    print("| run | made by | pictures | all right |\n| --- | --- | ---: | ---: |")
    for folder in map(Path, sys.argv[1:]):
        for group, good in sorted(judge(folder).items()):
            share, n = np.mean(good), len(good)
            print(f"| {folder.name} | {group} | {n} | {share:.1%} ± {196 * np.sqrt(share * (1 - share) / n):.1f} |")


if __name__ == "__main__":
    main()
