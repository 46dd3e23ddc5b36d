"""python models/shapes/draw.py "a large red star at the center on a blue background" star.png [large|small] [seed]

A picture from the shipped files with onnxruntime alone (and the numpy that it brings)."""

import json, struct, sys, zlib
from pathlib import Path
import numpy as np
import onnxruntime

caption, png = sys.argv[1:3]
folder = Path(__file__).parent / (sys.argv[3] if len(sys.argv) > 3 else "large")
noise = np.random.default_rng(int(sys.argv[4]) if len(sys.argv) > 4 else 0).standard_normal((1, 3, 32, 32), np.float32)
read = lambda path: json.loads((folder / path).read_text())
load = lambda part: onnxruntime.InferenceSession(folder / part / "model.onnx", providers=["CPUExecutionProvider"])
words, length = read("tokenizer/tokenizer.json")["model"]["vocab"], read("tokenizer/tokenizer_config.json")["model_max_length"]
tokens = [["<|startoftext|>", *text.lower().split(), "<|endoftext|>"] for text in (caption, "")]
ids = [[words.get(token, words["<|unknown|>"]) for token in text + ["<|pad|>"] * (length - len(text))] for text in tokens]
pooled, states = load("text_encoder").run(["text_embeds", "last_hidden_state"], {"input_ids": np.array(ids)})
transformer, index, shift = load("transformer"), read("model_index.json"), read("scheduler/scheduler_config.json")["shift"]
steps, guidance = index["num_inference_steps"], index["guidance_scale"]
shifted = lambda sigma: shift * sigma / (1 + (shift - 1) * sigma)
sigmas, x = np.append(shifted(np.linspace(1, shifted(1 / 1000), steps)), 0).astype(np.float32), noise
for sigma, following in zip(sigmas, sigmas[1:]):
    inputs = {"hidden_states": np.repeat(x, 2, 0), "encoder_hidden_states": states, "pooled_projections": pooled}
    told, free = transformer.run(None, inputs | {"timestep": np.full(2, 1000 * sigma, np.float32)})[0]
    x = x + (following - sigma) * (free + np.float32(guidance) * (told - free))
pixels = np.round((x[0].clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0).repeat(8, 0).repeat(8, 1)
chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
header = struct.pack(">IIBBBBB", *pixels.shape[1::-1], 8, 2, 0, 0, 0)
rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
Path(png).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
