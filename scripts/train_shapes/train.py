"""Trains one model of the world of shapes: `train.py judge|encoder|large|small|tiny [--minutes M]`.

Stops after so many minutes, or when its plan is done, and goes on from there when called again: the
checkpoint lies in target/shapes/. What is drawn at a step depends on the seed and the step alone, so
that a run in stages is the run in one go. One thread: two models train best as two processes.
"""

import argparse
import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

import networks
import sample
import world

CHECKPOINTS = world.ROOT / "target" / "shapes"
SEED = 20_261_125


@dataclass(frozen=True)
class Plan:
    """How long a model trains and how fast: the rate rises, holds, and falls to 0 over the last part, if it falls."""

    steps: int
    batch: int
    rate: float
    rising: int = 200
    falling: float = 0.4


SIZES = {
    "large": networks.GeneratorSize(width=96, depth=6, heads=3, patch=4, text_width=64, text_depth=2, pooled=96),
    "small": networks.GeneratorSize(width=48, depth=3, heads=2, patch=4, text_width=64, text_depth=2, pooled=64),
    "tiny": networks.GeneratorSize(width=32, depth=2, heads=1, patch=4, text_width=64, text_depth=2, pooled=64),
}
PLANS = {
    "judge": Plan(steps=3_000, batch=64, rate=2e-3, falling=1 / 3),
    "encoder": Plan(steps=2_400, batch=96, rate=1.5e-3),
    "large": Plan(steps=10_500, batch=32, rate=3e-3, falling=4 / 10.5),
    "small": Plan(steps=25_000, batch=32, rate=4e-3, falling=0),
    "tiny": Plan(steps=7_000, batch=32, rate=5e-3, falling=0),
}


def degrade(rng, images):
    """Noise and blur, as generated pictures have a little of: for the networks that look at such pictures."""
    n, images = len(images), torch.from_numpy(images)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    uniform = lambda high: torch.from_numpy(rng.uniform(0, high, (n, 1, 1, 1)).astype(np.float32))
    images = images + uniform(0.6) * (blurred - images)
    noise = torch.from_numpy(rng.standard_normal(images.shape, np.float32))
    return images + uniform(0.2) * noise


class JudgeTask:
    """Attributes of pictures, some of which show no shape of ours, or too many objects."""

    HALF_WAY, CROWDED = 0.08, 0.05  # shares of the pictures

    def __init__(self):
        self.model = networks.Judge()

    def batch(self, rng, n, held=False):
        """Pictures and their labels, of which some are what the judge may say beyond the attributes' values."""
        scenes = world.draw_scenes(rng, n, held=held)
        images, labels, what = world.pictures(rng, scenes), scenes.copy(), rng.random(n)
        # A shape half way to another is none: the judge must not be generous.
        rows = np.nonzero(what < self.HALF_WAY)[0]
        column = np.where((scenes[rows, world.KIND] > 0) & (rng.random(len(rows)) < 0.5), world.SHAPE2, world.SHAPE)
        twins = scenes[rows]
        twins[np.arange(len(rows)), column] += rng.integers(1, len(world.SHAPES), len(rows))
        twins[np.arange(len(rows)), column] %= len(world.SHAPES)
        seed = rng.integers(2**62)  # one jitter for both
        own, other = (world.pictures(np.random.default_rng(seed), s) for s in (scenes[rows], twins))
        images[rows] = own + rng.uniform(0.4, 0.6, (len(rows), 1, 1, 1)).astype(np.float32) * (other - own)
        labels[rows, column] = len(world.SHAPES)
        # The objects of a second picture on top of the first: too many.
        rows = np.nonzero(what > 1 - self.CROWDED)[0]
        extra = world.pictures(rng, world.draw_scenes(rng, len(rows), share_of_two=1.0, held=None))
        covered = abs(extra - extra[:, :, :1, :1]).sum(1, keepdims=True) > 0.2
        images[rows] = np.where(covered, extra, images[rows])
        labels[rows, world.KIND] = world.COUNTS[world.KIND]
        return degrade(rng, images), labels

    def loss(self, rng, n):
        images, labels = self.batch(rng, n)
        targets, used = torch.from_numpy(labels), torch.from_numpy(world.relevant(labels)).float()
        losses = [F.cross_entropy(logits, targets[:, column], reduction="none") * used[:, column]
                  for column, logits in enumerate(self.model(images))]
        return sum(losses).sum() / n

    def report(self, model):
        rng = np.random.default_rng(1)
        scenes = world.draw_scenes(rng, 1000, held=True)
        right = judged_right(model, world.pictures(rng, scenes), scenes)
        return f"all attributes of unseen pictures right: {right.all(1).mean():.4f}"


@torch.no_grad()
def judged_right(judge, images, scenes):
    """Whether each attribute is as the scene says, bool [n, attributes]; true for those it lacks."""
    said = np.stack([logits.argmax(1).numpy() for logits in judge(torch.from_numpy(images))], 1)
    return (said == scenes) | ~world.relevant(scenes)


class EncoderTask:
    """Contrastive learning (as CLIP) over groups of near misses: a scene, two edits of one attribute, a swap."""

    GROUP = 4

    def __init__(self):
        self.model = torch.nn.ModuleDict({
            "text": networks.TextEncoder(len(world.VOCABULARY), world.ENCODER_LENGTH, 128, 2, 4, 128),
            "image": networks.ImageEncoder(8, 128, 4, 4, 128),
        })
        self.model.scale = torch.nn.Parameter(torch.tensor(2.7))

    def batch(self, rng, n, held=False):
        base = world.draw_scenes(rng, n // self.GROUP, held=held)
        groups = [base, world.edit(rng, base), world.edit(rng, base), world.swap(rng, base)]
        scenes = np.concatenate(groups)
        # Of the near misses too, the held-out captions are not trained on: they become their base again.
        if not held:
            bad = world.held_out(scenes)
            scenes[bad] = np.concatenate([base] * self.GROUP)[bad]
        return scenes

    def loss(self, rng, n):
        scenes = self.batch(rng, n)
        texts = [world.caption(scene) if rng.random() < 0.5 else world.paraphrase(rng, scene) for scene in scenes]
        text = self.model["text"](torch.from_numpy(world.tokens(texts, world.ENCODER_LENGTH)))[0]
        image = self.model["image"](degrade(rng, world.pictures(rng, scenes)))
        logits = F.normalize(text, dim=-1) @ F.normalize(image, dim=-1).T * self.model.scale.clamp(max=4.2).exp()
        # Other pictures of the same caption are no negatives.
        keys = torch.from_numpy(world.keys(scenes).astype(np.int64))
        same = (keys[:, None] == keys[None, :]) & ~torch.eye(n, dtype=torch.bool)
        logits = logits.masked_fill(same, -1e4)
        targets = torch.arange(n)
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2

    @torch.no_grad()
    def report(self, model):
        rng = np.random.default_rng(1)
        scenes = world.draw_scenes(rng, 500, held=True)
        encode = lambda scenes: F.normalize(model["text"](torch.from_numpy(world.tokens([world.caption(s) for s in scenes], world.ENCODER_LENGTH)))[0], dim=-1)
        image = F.normalize(model["image"](torch.from_numpy(world.pictures(rng, scenes))), dim=-1)
        text = encode(scenes)
        found = (text @ image.T).argmax(1)
        first = (world.keys(scenes)[found] == world.keys(scenes)).mean()
        own = (text * image).sum(1)
        edited = (encode(world.edit(rng, scenes)) * image).sum(1)
        swapped = (encode(world.swap(rng, scenes)) * image).sum(1)
        return (f"R@1 {first:.3f}, similarity own {own.mean():.3f} edited {edited.mean():.3f} swapped {swapped.mean():.3f},"
                f" own above edited {(own > edited).float().mean():.3f} swapped {(own > swapped).float().mean():.3f}")


class GeneratorTask:
    """Flow matching: the picture from its mixture with noise, one caption in ten left out for guidance."""

    SHIFT = 3.0  # of sigma towards noise
    GUIDANCE = 2.0  # of the pictures drawn; `evaluate.py` measures others
    DROPPED = 0.1
    NEAR = 3.0
    PURE_NOISE = 0.05

    def __init__(self, size):
        self.model = networks.Generator(size, len(world.VOCABULARY), world.GENERATOR_LENGTH)

    def loss(self, rng, n):
        scenes = world.draw_scenes(rng, n, held=False)
        texts = ["" if rng.random() < self.DROPPED else world.caption(scene) for scene in scenes]
        images = torch.from_numpy(world.pictures(rng, scenes))
        noise = torch.from_numpy(rng.standard_normal(images.shape, np.float32))
        # Mostly the middle of the way, where most is learnt; but all of it, and its very beginning too: a picture's
        # first steps decide what is where, and sampling starts from noise alone.
        uniform = np.where(rng.random(n) < 0.5, rng.random(n), 1 / (1 + np.exp(-rng.standard_normal(n))))
        uniform[rng.random(n) < self.PURE_NOISE] = 1
        sigma = self.SHIFT * uniform / (1 + (self.SHIFT - 1) * uniform)
        sigma = torch.from_numpy(sigma.astype(np.float32)).clamp(0.01, 1)
        # Objects count for more than what is behind them. Where they may be follows from the caption alone, not from
        # the picture, so that the best prediction of each pixel stays its mean; without a caption, all pixels count alike.
        told = np.array([text != "" for text in texts], np.float32)[:, None, None, None]
        weights = 1 + self.NEAR * torch.from_numpy(told * world.neighbourhood(scenes)[:, None])
        weights = weights / weights.mean((1, 2, 3), keepdim=True)
        return self.at(self.model, images, noise, sigma, texts, weights).mean()

    def at(self, model, images, noise, sigma, texts, weights=1):
        """Squared error of the velocity at sigma, [n]."""
        s = sigma[:, None, None, None]
        pooled, states = model.text_encoder(torch.from_numpy(world.tokens(texts, world.GENERATOR_LENGTH)))
        clean = model.transformer.picture((1 - s) * images + s * noise, states, pooled, 1000 * sigma)
        # (noise - picture) of a wrong picture is wrong by its error over sigma.
        return ((clean - images).square() * weights).mean((1, 2, 3)) / sigma.clamp(min=0.1).square()

    @torch.no_grad()
    def report(self, model):
        rng = np.random.default_rng(1)
        scenes = world.draw_scenes(rng, 128, held=True)
        texts = [world.caption(scene) for scene in scenes]
        images = torch.from_numpy(world.pictures(rng, scenes))
        noise = torch.from_numpy(rng.standard_normal(images.shape, np.float32))
        levels = [1.0, 0.9, 0.7, 0.4]
        errors = [self.at(model, images, noise, torch.full((128,), level), texts).mean() for level in levels]
        said = " ".join(f"{level}:{error:.4f}" for level, error in zip(levels, errors))
        judge = CHECKPOINTS / "judge.pt"
        if judge.exists():
            network = networks.Judge()
            network.load_state_dict(torch.load(judge)["average"])
            drawn = sample.draw(sample.Trained(model, self.SHIFT, self.GUIDANCE), texts, range(128), steps=20)
            right = judged_right(network, drawn, scenes)
            one = scenes[:, world.KIND] == 0
            said += f" | one object all right {right[one].all(1).mean():.3f} two {right[~one].all(1).mean():.3f}"
            said += " | " + " ".join(f"{name} {share:.2f}" for name, share in zip(world.ATTRIBUTES, right.mean(0)))
        return said


TASKS = {
    "judge": JudgeTask,
    "encoder": EncoderTask,
    "large": lambda: GeneratorTask(SIZES["large"]),
    "small": lambda: GeneratorTask(SIZES["small"]),
    "tiny": lambda: GeneratorTask(SIZES["tiny"]),
}


class Muon(torch.optim.Optimizer):
    """Momentum whose step is the nearest orthogonal matrix (Jordan et al. 2024), scaled to the size of an Adam step.

    torch.optim.Muon computes in bfloat16, which takes ten times as long on a CPU without it.
    """

    def __init__(self, matrices, lr, momentum=0.95):
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for matrix in group["params"]:
                mean = self.state[matrix].setdefault("mean", torch.zeros_like(matrix))
                mean.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonal(matrix.grad.lerp(mean, group["momentum"]))
                matrix.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)


def orthogonal(matrix):
    """Singular values brought near 1 by Newton and Schulz's iteration, with Jordan's coefficients."""
    x = matrix / (matrix.norm() + 1e-7)
    wide = x if x.shape[0] <= x.shape[1] else x.T
    for _ in range(5):
        square = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * square + 2.0315 * square @ square) @ wide
    return wide if x.shape[0] <= x.shape[1] else wide.T


def optimizers(model, rate):
    """Muon for the matrices inside transformer blocks, AdamW for the rest."""
    matrices = [p for name, p in model.named_parameters() if "blocks." in name and p.ndim == 2 and "modulation" not in name]
    ids = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in ids]
    found = [torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)]
    if matrices:
        found.append(Muon(matrices, lr=rate))
    return found


def share_of_rate(plan, step):
    """The learning rate at a step, as a share of its highest."""
    left = (plan.steps - step) / max(plan.falling * plan.steps, 1)
    return min(1.0, (step + 1) / plan.rising, max(left, 0.0))


def train(name, minutes):
    plan = PLANS[name]
    torch.manual_seed(SEED)
    task = TASKS[name]()
    model, average = task.model, copy.deepcopy(task.model).requires_grad_(False)
    updates = optimizers(model, plan.rate)
    checkpoint, step, seconds = CHECKPOINTS / f"{name}.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        step, seconds = state["step"], state["seconds"]
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for update, saved in zip(updates, state["updates"]):
            update.load_state_dict(saved)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{name}: {parameters / 1e6:.2f} M parameters, step {step} of {plan.steps}, batch {plan.batch}", flush=True)
    begin = last = time.monotonic()
    total, count = 0.0, 0
    while step < plan.steps and time.monotonic() - begin < 60 * minutes:
        rng = np.random.default_rng([SEED, step])
        for update in updates:
            for group in update.param_groups:
                group["lr"] = plan.rate * share_of_rate(plan, step)
        loss = task.loss(rng, plan.batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for update in updates:
            update.step()
            update.zero_grad()
        step += 1
        decay = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, now in zip(average.parameters(), model.parameters()):
                mean.lerp_(now, 1 - decay)
        total, count = total + loss.item(), count + 1
        if step % 500 == 0 or step == plan.steps or time.monotonic() - begin >= 60 * minutes:
            now = time.monotonic()
            images_per_s, seconds, last = count * plan.batch / (now - last), seconds + now - last, now
            said = task.report(average)
            last = time.monotonic()
            print(f"{name} step {step} loss {total / count:.4f} {images_per_s:.0f} pictures/s {seconds / 60:.1f} min | {said}", flush=True)
            total, count = 0.0, 0
            save(checkpoint, step, seconds, model, average, updates)
    return step == plan.steps


def save(checkpoint, step, seconds, model, average, updates):
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    unfinished = checkpoint.with_suffix(".new")
    torch.save({
        "step": step, "seconds": seconds, "model": model.state_dict(), "average": average.state_dict(),
        "updates": [update.state_dict() for update in updates],
    }, unfinished)
    unfinished.replace(checkpoint)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=list(TASKS))
    parser.add_argument("--minutes", type=float, default=150)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    done = train(arguments.model, arguments.minutes)
    print("done" if done else "to be continued", flush=True)
