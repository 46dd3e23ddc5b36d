"""Draws pictures: Euler's steps along the flow, with guidance; from noise, or from a picture after so many
skipped steps. In NumPy, over a generator in PyTorch (`Trained`) or as shipped, in ONNX Runtime (`Shipped`); with what
else is shipped to look at pictures with (`Judge`, `Encoder`).

`models/shapes/draw.py` is the least program that does the same with the shipped files alone.
"""

import json

import numpy as np

import world

STEPS = 50
GENERATORS = ("large", "small", "tiny")


def sigmas(steps, shift):
    """Noise levels from 1 to 0, steps + 1 of them: those of diffusers' FlowMatchEulerDiscreteScheduler, which shifts
    its lowest level twice."""
    shifted = lambda sigma: shift * sigma / (1 + (shift - 1) * sigma)
    return np.append(shifted(np.linspace(1, shifted(1 / 1000), steps)), 0).astype(np.float32)


class Trained:
    """A generator in PyTorch."""

    def __init__(self, model, shift, guidance):
        self.model, self.shift, self.guidance = model, shift, guidance

    def texts(self, ids):
        """Token ids to the texts' embeddings and their tokens' states."""
        import torch

        with torch.no_grad():
            return [t.numpy() for t in self.model.text_encoder(torch.from_numpy(ids))]

    def velocity(self, *inputs):
        """(noise - picture) at a noisy picture, given states, embeddings and 1000 sigma."""
        import torch

        with torch.no_grad():
            return self.model.transformer(*map(torch.from_numpy, inputs)).numpy()


class Shipped:
    """A generator's folder under models/shapes/, in ONNX Runtime on one thread."""

    def __init__(self, folder):
        self.text_encoder = session(folder / "text_encoder" / "model.onnx")
        self.transformer = session(folder / "transformer" / "model.onnx")
        self.shift = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())["shift"]
        self.guidance = json.loads((folder / "model_index.json").read_text())["guidance_scale"]

    def texts(self, ids):
        return self.text_encoder.run(["text_embeds", "last_hidden_state"], {"input_ids": ids})

    def velocity(self, pictures, states, pooled, timestep):
        inputs = {"hidden_states": pictures, "encoder_hidden_states": states, "pooled_projections": pooled, "timestep": timestep}
        return self.transformer.run(["out_hidden_states"], inputs)[0]


class Judge:
    """The shipped judge, and what it says of pictures."""

    def __init__(self):
        self.network = session(world.FOLDER / "judge" / "model.onnx")

    def right(self, images, scenes):
        """Whether each attribute is as its scene says, bool [n, attributes]; true for those it lacks."""
        logits = self.network.run(world.ATTRIBUTES, {"pixel_values": images.clip(-1.5, 1.5).astype(np.float32)})
        said = np.stack([logit.argmax(1) for logit in logits], 1)
        return (said == scenes) | ~world.relevant(scenes)


class Encoder:
    """The shipped dual encoder: unit vectors."""

    def __init__(self):
        self.text, self.image = (session(world.FOLDER / "encoder" / f"{name}_model.onnx") for name in ("text", "vision"))

    def texts(self, texts):
        return unit(self.text.run(["text_embeds"], {"input_ids": world.tokens(texts, world.ENCODER_LENGTH)})[0])

    def images(self, images):
        return unit(self.image.run(["image_embeds"], {"pixel_values": images.clip(-1, 1).astype(np.float32)})[0])


def unit(vectors):
    """Rows of length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def session(path):
    """An ONNX Runtime session on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def noise(seed):
    """The noise that a seed stands for."""
    return np.random.default_rng(seed).standard_normal((3, world.SIDE, world.SIDE), np.float32)


def draw(generator, texts, seeds, steps=STEPS, guidance=None, sources=None, skipped=0, batch=32):
    """Pictures [n, 3, side, side] for the texts; `sources` are refined after `skipped` steps."""
    levels, drawn = sigmas(steps, generator.shift), []
    guidance = np.float32(generator.guidance if guidance is None else guidance)
    for begin in range(0, len(texts), batch):
        rows = slice(begin, begin + batch)
        x = np.stack([noise(seed) for seed in seeds[rows]])
        n = len(x)
        if sources is not None:
            x = levels[skipped] * x + (1 - levels[skipped]) * sources[rows]
        pooled, states = generator.texts(world.tokens([*texts[rows], *[""] * n], world.GENERATOR_LENGTH))
        for level, following in zip(levels[skipped:-1], levels[skipped + 1 :]):
            timestep = np.full(2 * n, 1000 * level, np.float32)
            velocity = generator.velocity(np.concatenate([x, x]), states, pooled, timestep)
            told, free = velocity[:n], velocity[n:]
            x = x + (following - level) * (free + guidance * (told - free))
        drawn.append(x)
    return np.concatenate(drawn)
