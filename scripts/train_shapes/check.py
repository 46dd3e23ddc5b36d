"""Checks the shipped models of the world of shapes: needs onnxruntime and numpy, no PyTorch. Run by `scripts/test`.

What is compared was drawn by PyTorch when the models were exported (`golden.npz`). Quality is measured by
`evaluate.py`; here only that it has not fallen apart.
"""

import json
import subprocess
import sys
import tempfile
import unittest
import zlib
from pathlib import Path

import numpy as np

import card
import sample
import world

FOLDER = world.FOLDER
MOST_BYTES = 25_000_000


def right(images, scenes):
    """Whether the shipped judge finds all of each caption in its picture."""
    return sample.Judge().right(images, scenes).all(1)


def read_png(path):
    """The pixels of a PNG file as draw.py writes it: bytes, three channels, no filter."""
    data = path.read_bytes()
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    begin = data.index(b"IDAT") + 4
    rows = zlib.decompress(data[begin : begin + int.from_bytes(data[begin - 8 : begin - 4], "big")])
    return np.frombuffer(rows, np.uint8).reshape(height, 1 + 3 * width)[:, 1:].reshape(height, width, 3)


class World(unittest.TestCase):
    def test_scenes_are_possible_and_the_test_is_kept_from_training(self):
        rng = np.random.default_rng(1)
        seen, unseen = world.draw_scenes(rng, 3000), world.draw_scenes(rng, 3000, held=True)
        self.assertTrue(world.colours_differ(np.concatenate([seen, unseen])).all())
        self.assertFalse(set(world.keys(seen).tolist()) & set(world.keys(unseen).tolist()))
        any_ = world.draw_scenes(rng, 20_000, held=None)
        self.assertAlmostEqual(world.held_out(any_).mean(), 0.1, delta=0.01)

    def test_a_key_is_a_caption(self):
        scenes = world.draw_scenes(np.random.default_rng(2), 3000, held=None)
        captions = {world.caption(scene) for scene in scenes}
        self.assertEqual(len(captions), len(set(world.keys(scenes).tolist())))

    def test_edits_and_swaps_are_near_misses(self):
        rng = np.random.default_rng(3)
        scenes = world.draw_scenes(rng, 500, held=None)
        for attributes in (1, 2):
            edited = world.edit(rng, scenes, attributes)
            self.assertTrue(((edited != scenes).sum(1) == attributes).all())
            self.assertTrue(world.colours_differ(edited).all())
        swapped = world.swap(rng, scenes)
        for scene, other in zip(scenes, swapped):
            ours, theirs = world.caption(scene), world.caption(other)
            self.assertEqual(sorted(ours.split()), sorted(theirs.split()))

    def test_every_word_has_a_token(self):
        rng = np.random.default_rng(4)
        scenes = world.draw_scenes(rng, 2000, held=None)
        captions = [world.caption(scene) for scene in scenes]
        self.assertTrue(all(len(text.split()) <= world.GENERATOR_LENGTH - 2 for text in captions))
        texts = captions + [world.paraphrase(rng, scene) for scene in scenes]
        self.assertTrue(all(len(text.split()) <= world.ENCODER_LENGTH - 2 for text in texts))
        ids = world.tokens(texts, world.ENCODER_LENGTH)
        self.assertFalse((ids == world.VOCABULARY[world.UNKNOWN]).any())


class Shipped(unittest.TestCase):
    def test_tokenizers_have_the_words_of_the_world(self):
        lengths = {"encoder": world.ENCODER_LENGTH} | {f"{name}/tokenizer": world.GENERATOR_LENGTH for name in sample.GENERATORS}
        for folder, length in lengths.items():
            tokenizer = json.loads((FOLDER / folder / "tokenizer.json").read_text())
            self.assertEqual(tokenizer["model"]["vocab"], world.VOCABULARY)
            self.assertEqual(tokenizer["padding"]["strategy"], {"Fixed": length})

    def test_pictures_are_those_of_pytorch(self):
        golden = np.load(FOLDER / "golden.npz")
        texts = [str(text) for text in golden["texts"]]
        for name in sample.GENERATORS:
            generator = sample.Shipped(FOLDER / name)
            for skipped in (0, 25):
                sources = golden["others"] if skipped else None
                found = sample.draw(generator, texts, range(len(texts)), sources=sources, skipped=skipped)
                self.assertLess(abs(found - golden[f"{name}_{skipped}"]).max(), 1e-4, (name, skipped))

    def test_a_picture_does_not_depend_on_those_beside_it(self):
        generator = sample.Shipped(FOLDER / "small")
        texts = [world.caption(scene) for scene in world.draw_scenes(np.random.default_rng(5), 3)]
        together = sample.draw(generator, texts, range(3), steps=8)
        for row, text in enumerate(texts):
            alone = sample.draw(generator, [text], range(row, row + 1), steps=8)
            self.assertLess(abs(alone[0] - together[row]).max(), 1e-4)

    def test_the_large_model_draws_unseen_captions_and_the_judge_sees_what_differs(self):
        rng = np.random.default_rng(6)
        scenes = world.draw_scenes(rng, 24, share_of_two=0.0, held=True)
        texts = [world.caption(scene) for scene in scenes]
        images = sample.draw(sample.Shipped(FOLDER / "large"), texts, range(24), steps=20)
        self.assertGreaterEqual(right(images, scenes).sum(), 18)
        self.assertEqual(right(images, world.edit(rng, scenes)).sum(), 0)

    def test_the_judge_and_the_encoder_know_pictures_of_unseen_captions(self):
        rng = np.random.default_rng(7)
        scenes = world.draw_scenes(rng, 200, held=True)
        images = world.pictures(rng, scenes)
        self.assertGreaterEqual(right(images, scenes).sum(), 198)
        encoder = sample.Encoder()
        texts, pictures = encoder.texts([world.caption(scene) for scene in scenes]), encoder.images(images)
        self.assertGreaterEqual(((texts @ pictures.T).argmax(1) == np.arange(200)).sum(), 180)

    def test_weights_stay_within_their_bound(self):
        files = [path for path in FOLDER.rglob("*") if path.is_file()]
        self.assertLess(sum(path.stat().st_size for path in files), MOST_BYTES)

    def test_the_card_shows_what_was_measured(self):
        text = (FOLDER / "README.md").read_text()
        self.assertEqual(text, card.filled(text, card.measured()))

    def test_the_small_program_draws_what_was_asked_for(self):
        scene = world.draw_scenes(np.random.default_rng(8), 1, share_of_two=0.0)
        with tempfile.TemporaryDirectory() as folder:
            png = Path(folder) / "picture.png"
            subprocess.run([sys.executable, FOLDER / "draw.py", world.caption(scene[0]), png], check=True)
            pixels = read_png(png)
        self.assertEqual(pixels.shape, (256, 256, 3))
        image = pixels[::8, ::8].transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
        self.assertTrue(right(image[None], scene)[0])
        again = sample.draw(sample.Shipped(FOLDER / "large"), [world.caption(scene[0])], range(1))[0].clip(-1, 1)
        self.assertLess(abs(image - again).max(), 0.01)


if __name__ == "__main__":
    unittest.main()
