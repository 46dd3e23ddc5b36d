"""CLIP's dual encoder: texts and pictures to embeddings, with what the image processor makes of the pictures."""

import numpy as np
import torch
from transformers import CLIPImageProcessor

import arrays
import export
import pipelines

PROMPTS = ["a photo of a red cube on a blue table", "", "An ASTRONAUT's horse, isn't it?! Café", "snow on the roof, " * 30]
SIZES = {"wide": (40, 48), "exact": (32, 32), "tall": (57, 20), "small": (13, 29)}  # height, width


def make(scratch, made):
    model, tokenizer = pipelines.clip(scratch / "tables")
    # As published, at this model's size.
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    source = scratch / "saved" / "clip"
    for part in (model, tokenizer, processor):
        part.save_pretrained(source)
    export.export(source, "zero-shot-image-classification", made / "model")
    if not (made / "model" / "preprocessor_config.json").exists():
        processor.save_pretrained(made / "model")
    pictures, folder = [], made / "cases"
    folder.mkdir()
    for at, (name, (height, width)) in enumerate(SIZES.items()):
        picture = arrays.picture(3000 + at, height, width)
        picture.save(folder / f"{name}.png")
        pictures.append(picture)
    texts = tokenizer(PROMPTS, padding=True, truncation=True, return_tensors="pt")
    pixels = processor(pictures, return_tensors="pt").pixel_values
    with torch.no_grad():
        found = model(**texts, pixel_values=pixels)
    keep = lambda name, values: arrays.save(folder / f"{name}.npy", values, len(values))
    cases = [{"picture": f"{name}.png", "height": height, "width": width} for name, (height, width) in SIZES.items()]
    head = {
        "made_by": "transformers, PyTorch on the CPU, float32; CLIPImageProcessor (Pillow)",
        "texts": [{"prompt": prompt, "token_ids": tokenizer(prompt, truncation=True).input_ids} for prompt in PROMPTS],
        "text_embeds": keep("text_embeds", found.text_embeds), "image_embeds": keep("image_embeds", found.image_embeds),
        "pixel_values": keep("pixel_values", pixels), "pixel_values_shape": list(pixels.shape)}
    arrays.write_cases(made / "cases.json", head, cases)
    assert np.allclose(np.linalg.norm(found.text_embeds.numpy(), axis=1), 1, atol=1e-5)
