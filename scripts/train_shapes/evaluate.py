"""Measures the shipped models (ONNX files, not checkpoints) and writes `models/shapes/quality.json` and the sheets of the
model card, whose tables `card.py` writes. Nothing here trains.

Captions are unseen ones: held out from every model. The judge says what is in a picture; a picture is
right if everything its caption says is.
"""

import argparse
import json
import multiprocessing
import os
import time

import numpy as np
from PIL import Image

import sample
import world
from sample import GENERATORS, Encoder, Judge

FOLDER = world.FOLDER
REFINERS = ("small", "tiny")
GUIDANCE = [1.0, 1.5, 2.0, 3.0, 4.5]
SKIPPED = [0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 49]
KINDS = {"one object": 0.0, "two objects": 1.0}
SOURCES = {"same caption": 0, "1 attribute differs": 1, "2 attributes differ": 2, "unrelated": None}


def captions(scenes):
    return [world.caption(scene) for scene in scenes]


def share(right):
    """Share of pictures with all attributes right, and half the width of its 95 % interval (Wald)."""
    mean = float(right.mean())
    return mean, 1.96 * (mean * (1 - mean) / len(right)) ** 0.5


def drawn(job):
    """A job for a worker process: (model, scenes, first seed, sources, skipped, guidance or the model's own) to pictures."""
    name, scenes, seed, sources, skipped, guidance = job
    generator = sample.Shipped(FOLDER / name)
    seeds = range(seed, seed + len(scenes))
    return sample.draw(generator, captions(scenes), seeds, guidance=guidance, sources=sources, skipped=skipped)


def distances(pool, images, scenes):
    """Mean distance of pictures from the nearest drawing of their captions."""
    parts = [(images[begin::4], scenes[begin::4]) for begin in range(4)]
    return float(np.concatenate(pool.starmap(world.distances, parts, chunksize=1)).mean())


def draw_all(pool, jobs):
    """Pictures of each job, whose halves are drawn side by side; a picture does not depend on that."""
    parts = []
    for name, scenes, seed, sources, skipped, guidance in jobs:
        cut = len(scenes) // 2
        for begin, end in ((0, cut), (cut, len(scenes))):
            source = None if sources is None else sources[begin:end]
            parts.append((name, scenes[begin:end], seed + begin, source, skipped, guidance))
    found = pool.map(drawn, parts, chunksize=1)
    return [np.concatenate(found[i : i + 2]) for i in range(0, len(found), 2)]


def measure_guidance(pool, judge, n=128):
    """Share of right pictures by guidance, on captions that were trained on: it is chosen without touching the test."""
    scenes = world.draw_scenes(np.random.default_rng(10), n, held=False)
    table = {}
    for name in GENERATORS:
        found = draw_all(pool, [(name, scenes, 50_000, None, 0, scale) for scale in GUIDANCE])
        table[name] = {scale: float(judge.right(images, scenes).all(1).mean()) for scale, images in zip(GUIDANCE, found)}
        print(name, table[name], flush=True)
    return table


def measure_judge(judge):
    rng = np.random.default_rng(11)
    scenes = world.draw_scenes(rng, 4000, held=True)
    right = judge.right(world.pictures(rng, scenes), scenes)
    found = {"n": len(scenes), "all right": float(right.all(1).mean())}
    # Shapes half way to another: a picture of each, one jitter for both, mixed.
    twins = scenes.copy()
    twins[:, world.SHAPE] = (twins[:, world.SHAPE] + rng.integers(1, len(world.SHAPES), len(scenes))) % len(world.SHAPES)
    mixed = sum(world.pictures(np.random.default_rng(1), s) for s in (scenes, twins)) / 2
    return found | {"half-way shapes refused": float(1 - judge.right(mixed, scenes)[:, world.SHAPE].mean() - judge.right(mixed, twins)[:, world.SHAPE].mean())}


def measure_encoder(encoder):
    rng = np.random.default_rng(12)
    found = {}
    for kind, two in KINDS.items():
        scenes = world.draw_scenes(rng, 1000, share_of_two=two, held=True)
        scenes = scenes[np.unique(world.keys(scenes), return_index=True)[1]]
        images = encoder.images(world.pictures(rng, scenes))
        text = encoder.texts(captions(scenes))
        own = (text * images).sum(1)
        to_text = (text @ images.T).argmax(1) == np.arange(len(scenes))
        paraphrased = encoder.texts([world.paraphrase(rng, scene) for scene in scenes])
        row = {"n": len(scenes), "R@1": float(to_text.mean()), "R@1 paraphrased": float(((paraphrased @ images.T).argmax(1) == np.arange(len(scenes))).mean()),
               "own": float(own.mean())}
        for name, near in {"1 edit": world.edit(rng, scenes), "2 edits": world.edit(rng, scenes, 2), "swap": world.swap(rng, scenes)}.items():
            similar = (encoder.texts(captions(near)) * images).sum(1)
            row[name] = float(similar.mean())
            row[f"own above {name}"] = float((own > similar).mean())
        others = (text * np.roll(images, 1, 0)).sum(1)
        row["unrelated"] = float(others.mean())
        found[kind] = row
    return found


def measure_generators(pool, judge, most):
    found, kept = {}, {}
    for kind, two in KINDS.items():
        n = most if two == 0 else most // 2
        scenes = world.draw_scenes(np.random.default_rng(13 + int(two)), n, share_of_two=two, held=True)
        images = draw_all(pool, [(name, scenes, 100_000, None, 0, None) for name in GENERATORS])
        for name, pictures in zip(GENERATORS, images):
            right = judge.right(pictures, scenes)
            used = world.USED_BY_ONE if two == 0 else world.USED_BY_TWO
            per = {world.ATTRIBUTES[column]: float(right[:, column].mean()) for column in used}
            mean, half = share(right.all(1))
            found[f"{name}, {kind}"] = {"n": n, "attributes": float(right[:, used].mean()), "all right": mean, "+-": half,
                                        "distance": distances(pool, pictures, scenes), **per}
            print(name, kind, found[f"{name}, {kind}"], flush=True)
        kept[kind] = (scenes, dict(zip(GENERATORS, images)))
        # What the search for the nearest drawing finds for drawings themselves.
        rng = np.random.default_rng(20)
        found[f"drawings, {kind}"] = {"n": n, "distance": distances(pool, world.pictures(rng, scenes), scenes)}
    return found, kept


def sources_of(rng, scenes):
    """What may lie in a cache for each scene, by how far it is from what is asked for."""
    for name, edits in SOURCES.items():
        if edits is None:
            others = world.draw_scenes(rng, len(scenes), share_of_two=float(scenes[0, world.KIND] > 0), held=None)
        else:
            others = world.edit(rng, scenes, edits) if edits else scenes.copy()
        yield name, others


def measure_idea(pool, judge, encoder, kept, n):
    """Quality of a smaller model refining the large one's picture of another caption, over k."""
    curves, pairs, shown = {}, {refiner: [] for refiner in REFINERS}, {}
    for kind, (scenes, alone) in kept.items():
        scenes, alone = scenes[:n], {name: images[:n] for name, images in alone.items()}
        rng = np.random.default_rng(14)
        text, right_alone = encoder.texts(captions(scenes)), {name: judge.right(images, scenes).all(1) for name, images in alone.items()}
        few = n // 2  # the search for the nearest drawing is slow
        far = {name: distances(pool, images[:few], scenes[:few]) for name, images in alone.items()}
        for name, others in sources_of(rng, scenes):
            source = draw_all(pool, [("large", others, 200_000, None, 0, None)])[0]
            as_is, similarity = judge.right(source, scenes).all(1), (text * encoder.images(source)).sum(1)
            for refiner in REFINERS:
                # With the noise of the pictures drawn alone: k = 0 is the same picture.
                refined = draw_all(pool, [(refiner, scenes, 100_000, source, k, None) for k in SKIPPED])
                right = np.stack([judge.right(images, scenes).all(1) for images in refined], 1)
                curves[f"{refiner}, {kind}, {name}"] = {
                    "n": n, "similarity": float(similarity.mean()), "as it is": float(as_is.mean()),
                    "large": float(right_alone["large"].mean()), "large distance": far["large"],
                    "by k": {k: float(right[:, i].mean()) for i, k in enumerate(SKIPPED)},
                    "distance by k": {k: distances(pool, images[:few], scenes[:few]) for k, images in zip(SKIPPED, refined)}}
                print(refiner, kind, name, curves[f"{refiner}, {kind}, {name}"], flush=True)
                pairs[refiner].append((similarity, right, right_alone["large"]))
                shown[refiner, kind, name] = (alone["large"], source, refined)
    return curves, {refiner: bounds(found) for refiner, found in pairs.items()}, shown


def measure_edits(pool, judge, n=240):
    """The same with one object and one attribute changed, by which attribute it is: pictures all right over k."""
    rng = np.random.default_rng(15)
    scenes = world.draw_scenes(rng, n, share_of_two=0.0, held=True)
    others = world.edit(rng, scenes)
    source = draw_all(pool, [("large", others, 200_000, None, 0, None)])[0]
    found = {}
    for refiner in REFINERS:
        refined = draw_all(pool, [(refiner, scenes, 100_000, source, k, None) for k in SKIPPED])
        right = np.stack([judge.right(images, scenes).all(1) for images in refined], 1)
        for column in world.USED_BY_ONE:
            rows = (scenes != others)[:, column]
            found[f"{refiner}, {world.ATTRIBUTES[column]}"] = {"n": int(rows.sum()), "by k": {k: float(right[rows, i].mean()) for i, k in enumerate(SKIPPED)}}
    return found


def bounds(pairs):
    """For each k the lowest similarity above which refined pictures are right at least 95 % as often as the large model's."""
    similarity, right, large = (np.concatenate(part) for part in zip(*pairs))
    order = np.argsort(-similarity)
    found = {}
    for column, k in enumerate(SKIPPED):
        sums = np.cumsum(right[order, column].astype(float)), np.cumsum(large[order].astype(float))
        # The share of the most similar hundred and more: of fewer it says little.
        good = [i for i in range(99, len(order)) if sums[0][i] >= 0.95 * sums[1][i]]
        found[k] = float(similarity[order[good[-1]]]) if good else None
    return found


def measure_steps(bursts=40, steps=25):
    """Milliseconds of one denoising step with guidance (two rows) on one thread: bursts of steps, the models in turns."""
    inputs, times = {}, {name: [] for name in GENERATORS}
    for name in times:
        generator = sample.Shipped(FOLDER / name)
        pooled, states = generator.texts(world.tokens(["a small red star at the top on a blue background", ""], world.GENERATOR_LENGTH))
        inputs[name] = generator, (np.stack([sample.noise(0)] * 2), states, pooled, np.full(2, 700, np.float32))
    for _ in range(bursts):
        for name, (generator, values) in inputs.items():
            for step in range(steps):
                begin = time.perf_counter()
                generator.velocity(*values)
                if step >= 5:  # the first ones bring the model into the processor's caches
                    times[name].append((time.perf_counter() - begin) * 1000)
    return {name: {"median": float(np.median(values)), "least": float(np.min(values))} for name, values in times.items()}


def sheets(kept, shown):
    """Pictures to look at: every model on the same captions, and what refining makes of a near miss."""
    folder = FOLDER / "img"
    folder.mkdir(exist_ok=True)
    write = lambda images, columns, name: Image.fromarray(world.grid(np.stack(images), columns)).save(folder / name, optimize=True)
    for kind, (_, alone) in kept.items():
        columns = 12
        write([image for images in alone.values() for image in images[:columns]], columns, f"{kind.replace(' ', '_')}.png")
    ks = [SKIPPED.index(k) for k in (0, 10, 15, 20, 25, 30, 40)]
    for refiner in REFINERS:
        rows = []
        for kind in KINDS:
            large, source, refined = shown[refiner, kind, "1 attribute differs"]
            rows += [image for row in range(5) for image in [large[row], source[row], *(refined[k][row] for k in ks)]]
        write(rows, 2 + len(ks), f"idea_{refiner}.png")


def write(found):
    (FOLDER / "quality.json").write_text(json.dumps(found, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps-only", action="store_true", help="measures the cost of a step again, which wants a quiet machine")
    parser.add_argument("-n", type=int, default=1000, help="captions of one object; half as many of two, a tenth for each curve of the idea")
    arguments = parser.parse_args()
    steps = measure_steps()
    print(steps, flush=True)
    if arguments.steps_only:
        write(json.loads((FOLDER / "quality.json").read_text()) | {"steps_ms": steps})
        return
    judge, encoder = Judge(), Encoder()
    found = {"steps_ms": steps, "judge": measure_judge(judge), "encoder": measure_encoder(encoder)}
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        found["guidance"] = measure_guidance(pool, judge)
        found["generators"], kept = measure_generators(pool, judge, arguments.n)
        found["idea"], found["bounds"], shown = measure_idea(pool, judge, encoder, kept, arguments.n // 10)
        found["edits"] = measure_edits(pool, judge)
    write(found)
    sheets(kept, shown)


if __name__ == "__main__":
    main()
