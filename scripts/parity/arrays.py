"""How the stored cases are written: two-dimensional `.npy` files, pictures as PNG, everything else in `cases.json`."""

import json

import numpy as np
from PIL import Image


def save(path, values, rows=1):
    """Single precision, little-endian, rows by rows: [rows, the rest]."""
    values = np.ascontiguousarray(np.asarray(values, dtype="<f4").reshape(rows, -1))
    np.save(path, values)
    return path.name


def load(path, shape):
    return np.load(path).reshape(shape)


def picture(seed, height, width):
    """A smooth picture with a few hard edges and some noise, 8 bits a channel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64) / max(height, width)
    channels = []
    for _ in range(3):
        a, b, c = rng.uniform(1, 6, 3)
        channel = 0.5 + 0.3 * np.sin(a * x + b * y + c) + 0.2 * (np.hypot(x - rng.uniform(0, 1), y - rng.uniform(0, 1)) < 0.3)
        channels.append(channel + rng.normal(0, 0.03, channel.shape))
    return Image.fromarray((np.clip(np.stack(channels, -1), 0, 1) * 255).round().astype(np.uint8))


def write_cases(path, head, cases):
    """One case a line: short to read, and a change of one is a change of a line."""
    lines = ",\n".join("    " + json.dumps(case, ensure_ascii=False) for case in cases)
    first = "".join(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},\n" for key, value in head.items())
    path.write_text("{\n" + first + '  "cases": [\n' + lines + "\n  ]\n}\n")
    json.loads(path.read_text())
