"""Draws every stored case with ONNX Runtime (sample.py) and tells how far it is from what diffusers drew.

`verify.py STORED`. Single precision must agree closely, and bfloat16 widened to it; half precision is told, and must not
fall apart.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import sample

# Greatest difference in relation to the greatest value.
TOLERANCE, TOLERANCE_HALF = 1e-4, 0.2
# Where the files of a pipeline are: what the first folder lacks is in the second.
FOLDERS = {
    "sdxl": ("sdxl/{model}",), "sd3": ("sd3/{model}",), "sd3-no-t5": ("sd3-no-t5", "sd3/{model}"), "flux-dev": ("flux-dev/{model}",),
    "flux-schnell": ("flux-schnell/{model}", "flux-dev/{model}"), "sana": ("sana/{model}",)}
# Names of conditions, in the cases and among the inputs of denoisers.
CONDITIONS = {
    "prompt_embeds": ("encoder_hidden_states",), "pooled_embeds": ("text_embeds", "pooled_projections"), "prompt_mask": ("encoder_attention_mask",)}


def relative(found, expected):
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def verify(stored, name, suffix=""):
    folder, cases = stored / name, "-bf16" if suffix == "-bf16" else ""
    pipeline = sample.Pipeline.open(*(stored / path.format(model="model" + suffix) for path in FOLDERS[name]))
    worst = {}
    head = json.loads((folder / f"cases{cases}.json").read_text())
    for case in head["cases"]:
        stored_arrays = folder / f"cases{cases}"
        arrays = sample.read_case(stored_arrays, case)
        after, image, conditions = pipeline.draw(case, arrays, head["empty_token_ids"])
        found = {"latents": relative(after[-1], arrays["latents"]), "image": float(np.abs(image - arrays["image"]).max())}
        if "latents_of_steps" in case:
            steps = np.load(stored_arrays / case["latents_of_steps"])
            found["steps"] = max(relative(one.reshape(-1), other) for one, other in zip(after, steps, strict=True))
        for key, inputs in CONDITIONS.items():
            if key in case:
                values = next(conditions[name] for name in inputs if name in conditions)
                found[key] = relative(values.reshape(len(values), -1), np.load(stored_arrays / case[key]))
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


MAKERS = {"sdxl": sample.euler, "sd3.5": sample.flow_match, "flux": sample.flux_match, "sana": sample.dpm}


def verify_schedules(path):
    worst = {}
    for entry in json.loads(path.read_text()):
        make, more = MAKERS[entry["name"].split("-")[0]], [entry.get("tokens")] if entry["name"].startswith("flux") else []
        found = zip(("sigmas", "timesteps", "init_noise_sigma"), make(entry["scheduler"], entry["steps"], *more))
        for key, values in found:
            worst[key] = max(relative(np.asarray(values), np.asarray(entry[key])), worst.get(key, 0))
    return worst


if __name__ == "__main__":
    stored, failed = Path(sys.argv[1]), False
    for name, worst in (("schedules", verify_schedules(stored / "schedules.json")), ("clip", verify_clip(stored / "clip"))):
        failed |= max(worst.values()) > 1e-5
        print(f"{name}, worst: " + ", ".join(f"{key} {value:.1e}" for key, value in worst.items()))
    for name in FOLDERS:
        for suffix, tolerance in (("", TOLERANCE), ("-fp16", TOLERANCE_HALF), ("-bf16", TOLERANCE)):
            if suffix == "-bf16" and not (stored / name / "cases-bf16.json").exists():
                continue
            worst = verify(stored, name, suffix)
            failed |= max(worst.values()) > tolerance
            print(f"{name}{suffix}, worst: " + ", ".join(f"{key} {value:.1e}" for key, value in worst.items()))
    if failed:
        raise SystemExit("beyond what is allowed")
