"""Draws every stored case with ONNX Runtime (sample.py) and tells how far it is from what diffusers drew.

`verify.py STORED`. Single precision must agree closely; half precision is told, and must not fall apart.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import sample

# Greatest difference in relation to the greatest value.
TOLERANCE, TOLERANCE_HALF = 1e-3, 0.2
FIRST, THIRD = ("text_encoder", "text_encoder_2"), "text_encoder_3"
TEXTS = {"sdxl": FIRST, "sd3": (*FIRST, THIRD), "sd3-no-t5": FIRST}


def relative(found, expected):
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def verify(stored, name, suffix=""):
    folder = stored / name
    model = stored / name.removesuffix("-no-t5") / ("model" + suffix)
    pipeline = sample.Pipeline(model, TEXTS[name])
    worst = {}
    head = json.loads((folder / "cases.json").read_text())
    for case in head["cases"]:
        arrays = sample.read_case(folder / "cases", case)
        after, image, conditions = pipeline.draw(case, arrays, head["empty_token_ids"])
        found = {"latents": relative(after[-1], arrays["latents"]), "image": float(np.abs(image - arrays["image"]).max())}
        if "latents_of_steps" in case:
            steps = np.load(folder / "cases" / case["latents_of_steps"])
            found["steps"] = max(relative(one.reshape(-1), other) for one, other in zip(after, steps, strict=True))
        if "prompt_embeds" in case:
            found["prompt_embeds"] = relative(conditions[0].reshape(len(conditions[0]), -1), np.load(folder / "cases" / case["prompt_embeds"]))
            found["pooled_embeds"] = relative(conditions[1], np.load(folder / "cases" / case["pooled_embeds"]))
        print(f"{name}{suffix} {case['name']}: " + ", ".join(f"{key} {value:.1e}" for key, value in found.items()))
        worst |= {key: max(value, worst.get(key, 0)) for key, value in found.items()}
    return worst


def verify_clip(folder):
    head = json.loads((folder / "cases.json").read_text())
    model = sample.Model(folder / "model")
    config = json.loads((folder / "model" / "preprocessor_config.json").read_text())
    stored = {name: np.load(folder / "cases" / head[name]) for name in ("pixel_values", "text_embeds", "image_embeds")}
    pixels = np.stack([sample.clip_pixels(Image.open(folder / "cases" / case["picture"]), config) for case in head["cases"]])
    # One text at a time, as long as it is: padding changes nothing.
    texts = [
        model(input_ids=[text["token_ids"]], attention_mask=[[1] * len(text["token_ids"])], pixel_values=pixels[:1])["text_embeds"]
        for text in head["texts"]]
    images = model(input_ids=[[0]], attention_mask=[[1]], pixel_values=pixels)["image_embeds"]
    return {
        "pixel_values": relative(pixels.reshape(len(pixels), -1), stored["pixel_values"]),
        "text_embeds": relative(np.concatenate(texts), stored["text_embeds"]), "image_embeds": relative(images, stored["image_embeds"])}


def verify_schedules(path):
    worst = {}
    for entry in json.loads(path.read_text()):
        make = sample.euler if entry["name"] == "sdxl" else sample.flow_match
        found = zip(("sigmas", "timesteps", "init_noise_sigma"), make(entry["scheduler"], entry["steps"]))
        for key, values in found:
            worst[key] = max(relative(np.asarray(values), np.asarray(entry[key])), worst.get(key, 0))
    return worst


if __name__ == "__main__":
    stored, failed = Path(sys.argv[1]), False
    for name, worst in (("schedules", verify_schedules(stored / "schedules.json")), ("clip", verify_clip(stored / "clip"))):
        failed |= max(worst.values()) > 1e-5
        print(f"{name}, worst: " + ", ".join(f"{key} {value:.1e}" for key, value in worst.items()))
    for name in TEXTS:
        for suffix, tolerance in (("", TOLERANCE), ("-fp16", TOLERANCE_HALF)):
            worst = verify(stored, name, suffix)
            failed |= max(worst.values()) > tolerance
            print(f"{name}{suffix}, worst: " + ", ".join(f"{key} {value:.1e}" for key, value in worst.items()))
    if failed:
        raise SystemExit("beyond what is allowed")
