"""Builds, exports, runs and stores: `make.py sdxl|sd3|flux|sana|clip|tables SCRATCH STORED`.

What was stored before under that name is replaced when everything is ready.
"""

import json
import logging
import shutil
import sys
from dataclasses import replace as replace_fields
from pathlib import Path

import torch

import arrays
import cases
import clip_cases
import export
import pipelines
import schedules
import tokens
import vocabulary


def replace(made, stored):
    """The new folder in place of the old one."""
    shutil.rmtree(stored, ignore_errors=True)
    stored.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made, stored)


def folder(scratch, name):
    made = scratch / "made" / name
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    return made


def head(pipeline):
    """What a reader of the cases needs beside the model's own files."""
    found = {
        "pipeline": type(pipeline).__name__, "made_by": f"diffusers {cases.version()}, PyTorch on the CPU, float32",
        "empty_token_ids": cases.token_ids(pipeline, "", instructed=False)}
    if found["pipeline"] == "SanaPipeline":
        found["complex_human_instruction"] = vocabulary.instruction()
    return found


def save(pipeline, folder):
    shutil.rmtree(folder, ignore_errors=True)
    pipeline.save_pretrained(folder)
    return folder


def store_pipeline(name, build, scratch, stored, chosen=cases.CASES, shared=None):
    """Files that are those of the pipeline `shared` are left out."""
    made = folder(scratch, name)
    pipeline = build(scratch / "tables")
    export.export(save(pipeline, scratch / "saved" / name), "text-to-image", made / "model")
    arrays.write_cases(made / "cases.json", head(pipeline), cases.run_all(pipeline, made / "cases", chosen))
    # Saved in half precision, too: what was saved in single precision is loaded as such for some of the models.
    halves = save(build(scratch / "tables").to(torch.float16), scratch / "saved" / f"{name}-fp16")
    export.export(halves, "text-to-image", made / "model-fp16", half=True)
    # The weights of a folder in bfloat16, and what it draws when all of its numbers are widened to single precision.
    narrow = save(rounded(build(scratch / "tables")).to(torch.float16), scratch / "saved" / f"{name}-bf16")
    export.export(narrow, "text-to-image", made / "model-bf16", half=True)
    export.to_bfloat16(made / "model-bf16", made / "model")
    few = [replace_fields(case, every_step=False, embeddings=False) for case in chosen[:3]]
    entries = cases.run_all(rounded(build(scratch / "tables")), made / "cases-bf16", few)
    arrays.write_cases(made / "cases-bf16.json", head(pipeline), entries)
    if shared:
        for model in made.glob("model*"):
            leave_out(model, stored / shared / model.name)
    replace(made, stored / name)
    return pipeline


def rounded(pipeline):
    """The pipeline with weights that bfloat16 can hold."""
    with torch.no_grad():
        for part in pipeline.components.values():
            for values in part.state_dict().values() if isinstance(part, torch.nn.Module) else ():
                if values.is_floating_point():
                    values.copy_(values.bfloat16())
    return pipeline


def leave_out(model, other):
    """Removes the folders whose files are, byte for byte, those of another model."""
    for part in sorted(path for path in model.iterdir() if path.is_dir() and path.name not in ("transformer", "scheduler")):
        for path in part.iterdir():
            assert path.read_bytes() == (other / part.name / path.name).read_bytes(), path
        shutil.rmtree(part)


def sdxl(scratch, stored):
    store_pipeline("sdxl", pipelines.sdxl, scratch, stored)


def sd3(scratch, stored):
    pipeline = pipelines.without_t5(store_pipeline("sd3", pipelines.sd3, scratch, stored))
    made = folder(scratch, "sd3-no-t5")
    index = json.loads((stored / "sd3" / "model" / "model_index.json").read_text()) | {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    (made / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    entries = cases.run_all(pipeline, made / "cases", cases.WITHOUT_T5, seed=2000)
    arrays.write_cases(made / "cases.json", head(pipeline), entries)
    replace(made, stored / "sd3-no-t5")


def flux(scratch, stored):
    store_pipeline("flux-dev", pipelines.flux_dev, scratch, stored, cases.FLUX_DEV)
    store_pipeline("flux-schnell", pipelines.flux_schnell, scratch, stored, cases.FLUX_SCHNELL, shared="flux-dev")


def sana(scratch, stored):
    store_pipeline("sana", pipelines.sana, scratch, stored, cases.SANA)


def clip(scratch, stored):
    made = folder(scratch, "clip")
    clip_cases.make(scratch, made)
    replace(made, stored / "clip")


def tables(scratch, stored):
    schedules.write(stored / "schedules.json")
    tokens.write(stored / "tokens.json", scratch / "tables")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for library in ("transformers", "diffusers"):
        logging.getLogger(library).setLevel(logging.ERROR)
    name, scratch, stored = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    globals()[name](scratch, stored)
