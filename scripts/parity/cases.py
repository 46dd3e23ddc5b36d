"""Runs a pipeline in diffusers, on the CPU in single precision, and stores what went in and what came out.

Every number that a run draws is drawn here and handed to it, so that another program can start from the same noise.
"""

from contextlib import contextmanager
from dataclasses import dataclass, replace

import diffusers
import torch
from diffusers import StableDiffusion3Img2ImgPipeline, StableDiffusionXLImg2ImgPipeline
from diffusers.models.autoencoders import vae
from diffusers.pipelines.stable_diffusion_3 import pipeline_stable_diffusion_3_img2img as sd3_img2img
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl_img2img as sdxl_img2img

import arrays

FROM_IMAGE = {
    "StableDiffusionXLPipeline": (StableDiffusionXLImg2ImgPipeline, sdxl_img2img, {"force_zeros_for_empty_prompt": True, "add_watermarker": False}),
    "StableDiffusion3Pipeline": (StableDiffusion3Img2ImgPipeline, sd3_img2img, {})}

PROMPTS = {
    "plain": "a photo of a red cube on a blue table",
    "castle": "a painting of a castle on a hill at sunset",
    "empty": "",
    "marks": "An ASTRONAUT's   horse; isn't it #1 (of 42)?! -- \"oil, on canvas\"...",
    "unicode": "Café naïve, Ünïcödé ÉCOLE — 5€ ½ ☃ Привет κόσμος",
    "long": "a small house in the forest in winter, snow on the roof, warm light in the windows, " * 14 + "the end",
}


@dataclass(frozen=True)
class Case:
    """One run. `skipped` steps of `steps` are left out, from a picture; 0 draws from noise alone."""

    prompt: str
    steps: int
    skipped: int
    guidance: float
    height: int = 32
    width: int = 32
    every_step: bool = False
    embeddings: bool = False

    @property
    def name(self):
        kind = f"skip{self.skipped}" if self.skipped else "text"
        return f"{kind}_{self.steps}_{'guided' if self.guidance > 1 else 'plain'}_{self.prompt}_{self.height}x{self.width}"


# The first two are enough to begin with: every step of a short run of each kind.
CASES = [
    Case("plain", 4, 0, 5.0, every_step=True, embeddings=True),
    Case("castle", 10, 4, 5.0, every_step=True),
    Case("unicode", 4, 0, 1.0),
    Case("plain", 10, 0, 1.0),
    Case("marks", 10, 0, 5.0, 64, 64),
    Case("long", 10, 0, 5.0),
    Case("empty", 10, 0, 5.0, 32, 64),
    Case("castle", 50, 0, 5.0),
    Case("castle", 50, 0, 1.0, 64, 32),
    Case("plain", 10, 1, 1.0),
    Case("marks", 10, 4, 1.0, 64, 32),
    Case("empty", 10, 7, 5.0),
    Case("unicode", 10, 9, 1.0),
    Case("long", 50, 5, 5.0),
    Case("plain", 50, 20, 1.0, 32, 64),
    Case("castle", 50, 35, 5.0),
]
# The third encoder left away: no case about its tokens.
WITHOUT_T5 = [replace(CASES[0], embeddings=False), CASES[1], CASES[3], CASES[5], CASES[7], CASES[9], CASES[13]]


@contextmanager
def drawn(module, noises):
    """Within, the draws of the autoencoder and of the pipeline are these, in this order; all are used."""
    left = list(noises)

    def next_noise(shape, **_):
        noise = left.pop(0)
        assert tuple(shape) == noise.shape
        return noise

    before = vae.randn_tensor, module.randn_tensor
    vae.randn_tensor = module.randn_tensor = next_noise
    try:
        yield
    finally:
        vae.randn_tensor, module.randn_tensor = before
    assert not left, "noise that nobody drew"


def strength(pipeline, case):
    """The strength that leaves out exactly `skipped` steps: the two pipelines round the product in opposite directions."""
    nudge = 1e-6 if "XL" in type(pipeline).__name__ else -1e-6
    return (case.steps - case.skipped) / case.steps + nudge


def version():
    return diffusers.__version__


def token_ids(pipeline, prompt):
    found = {}
    for name, length in (("tokenizer", 77), ("tokenizer_2", 77), ("tokenizer_3", 256)):
        tokenizer = pipeline.components.get(name)
        if tokenizer is not None:
            found[name] = tokenizer(prompt, padding="max_length", max_length=length, truncation=True).input_ids
    return found


class Recorder:
    """What the denoiser was given and what each step made of it."""

    def __init__(self, pipeline):
        self.steps, self.conditions = [], None
        self.denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
        self.hook = self.denoiser.register_forward_pre_hook(self.before, with_kwargs=True)

    def before(self, _, __, kwargs):
        added = kwargs.get("added_cond_kwargs") or {"text_embeds": kwargs.get("pooled_projections")}
        conditions = {"prompt_embeds": kwargs["encoder_hidden_states"], "pooled_embeds": added["text_embeds"]}
        if "time_ids" in added:
            conditions["time_ids"] = added["time_ids"]
        self.conditions = {name: values.clone() for name, values in conditions.items()}

    def after(self, _, __, ___, values):
        self.steps.append(values["latents"].clone())
        return {}


def run(pipeline, case, seed, folder):
    """Runs one case, stores its arrays in `folder` and returns its entry of `cases.json`."""
    channels, text = pipeline.vae.config.latent_channels, PROMPTS[case.prompt]
    shape = (1, channels, case.height // 8, case.width // 8)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape, generator=generator)
    keep = lambda name, values, rows=1: arrays.save(folder / f"{case.name}.{name}.npy", values, rows)
    entry = {
        "name": case.name, "prompt": text, "steps": case.steps, "skipped": case.skipped, "guidance": case.guidance,
        "height": case.height, "width": case.width, "latents_shape": list(shape), "image_shape": [3, case.height, case.width],
        "noise": keep("noise", noise)}
    recorder = Recorder(pipeline)
    common = {
        "prompt": text, "num_inference_steps": case.steps, "guidance_scale": case.guidance, "output_type": "pt",
        "callback_on_step_end": recorder.after}
    if case.skipped:
        kind, module, options = FROM_IMAGE[type(pipeline).__name__]
        from_image = kind(**pipeline.components, **options)
        from_image.set_progress_bar_config(disable=True)
        source = arrays.picture(seed, case.height, case.width)
        source.save(folder / f"{case.name}.source.png")
        sampling = torch.randn(shape, generator=generator)
        entry |= {"source": f"{case.name}.source.png", "vae_noise": keep("vae_noise", sampling)}
        size = {"height": case.height, "width": case.width} if "3" in type(pipeline).__name__ else {}
        with drawn(module, [sampling, noise]):
            image = from_image(image=source, strength=strength(pipeline, case), **size, **common).images
        assert type(from_image.scheduler) is type(pipeline.scheduler)
    else:
        image = pipeline(latents=noise, height=case.height, width=case.width, **common).images
    recorder.hook.remove()
    assert len(recorder.steps) == case.steps - case.skipped, (case, len(recorder.steps))
    entry |= {
        "token_ids": token_ids(pipeline, text), "latents": keep("latents", recorder.steps[-1]), "image": keep("image", image)}
    if case.every_step:
        entry["latents_of_steps"] = keep("steps", torch.cat(recorder.steps), len(recorder.steps))
    if case.embeddings:
        given = recorder.conditions
        rows = given["prompt_embeds"].shape[0]
        entry |= {name: keep(name, values, rows) for name, values in given.items()}
        entry["prompt_embeds_shape"] = list(given["prompt_embeds"].shape)
    clipped = float(((image <= 0) | (image >= 1)).float().mean())
    assert torch.isfinite(image).all() and clipped < 0.2, (case, clipped)
    return entry


def run_all(pipeline, folder, cases=CASES, seed=1000):
    folder.mkdir(parents=True, exist_ok=True)
    pipeline.set_progress_bar_config(disable=True)
    return [run(pipeline, case, seed + at, folder) for at, case in enumerate(cases)]
