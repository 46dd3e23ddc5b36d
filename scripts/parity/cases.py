"""Runs a pipeline in diffusers, on the CPU in single precision, and stores what went in and what came out.

Every number that a run draws is drawn here and handed to it, so that another program can start from the same noise.
"""

from contextlib import contextmanager
from dataclasses import dataclass, replace

import diffusers
import torch
from diffusers import FluxImg2ImgPipeline, StableDiffusion3Img2ImgPipeline, StableDiffusionXLImg2ImgPipeline
from diffusers.models.autoencoders import vae
from diffusers.pipelines.flux import pipeline_flux_img2img as flux_img2img
from diffusers.pipelines.stable_diffusion_3 import pipeline_stable_diffusion_3_img2img as sd3_img2img
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl_img2img as sdxl_img2img

import arrays
import sana_from_image
import vocabulary

FROM_IMAGE = {
    "StableDiffusionXLPipeline": (StableDiffusionXLImg2ImgPipeline, sdxl_img2img, {"force_zeros_for_empty_prompt": True, "add_watermarker": False}),
    "StableDiffusion3Pipeline": (StableDiffusion3Img2ImgPipeline, sd3_img2img, {}),
    "FluxPipeline": (FluxImg2ImgPipeline, flux_img2img, {}),
    "SanaPipeline": (sana_from_image.SanaFromImage, sana_from_image, {})}

PROMPTS = {
    "plain": "a photo of a red cube on a blue table",
    "castle": "a painting of a castle on a hill at sunset",
    "empty": "",
    "marks": "An ASTRONAUT's   horse; isn't it #1 (of 42)?! -- \"oil, on canvas\"...",
    "unicode": "Café naïve, Ünïcödé ÉCOLE — 5€ ½ ☃ Привет κόσμος",
    "long": "a small house in the forest in winter, snow on the roof, warm light in the windows, " * 14 + "the end",
    # Beyond the 512 tokens of T5 and the 300 of Gemma.
    "endless": "a small house in the forest in winter, snow on the roof, warm light in the windows; " * 40 + "the end",
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
# Guidance is a number that the model is given: no second run without text, and 1.0 is a number like others.
FLUX_DEV = [
    Case("plain", 4, 0, 3.5, every_step=True, embeddings=True),
    Case("castle", 10, 4, 7.0, every_step=True),
    Case("plain", 10, 0, 7.0),
    Case("unicode", 10, 0, 1.0),
    Case("marks", 28, 0, 3.5, 64, 48),
    Case("endless", 10, 0, 3.5),
    Case("empty", 10, 0, 3.5, 32, 64),
    Case("castle", 50, 0, 3.5),
    Case("marks", 10, 1, 7.0, 64, 32),
    Case("empty", 10, 7, 3.5),
    Case("endless", 10, 9, 1.0),
    Case("unicode", 28, 11, 7.0, 32, 64),
    Case("castle", 50, 35, 3.5),
]
FLUX_SCHNELL = [
    Case("plain", 4, 0, 1.0, every_step=True, embeddings=True),
    Case("castle", 4, 1, 1.0, every_step=True),
    Case("marks", 4, 2, 1.0, 64, 48),
    Case("unicode", 8, 0, 1.0),
    Case("endless", 4, 0, 1.0),
    Case("empty", 4, 0, 1.0, 32, 64),
    Case("castle", 1, 0, 1.0),
    Case("unicode", 4, 3, 1.0, 64, 32),
    Case("plain", 8, 5, 1.0),
]
SANA = [
    Case("plain", 4, 0, 4.5, 64, 64, every_step=True, embeddings=True),
    Case("castle", 20, 8, 4.5, 64, 64, every_step=True),
    Case("unicode", 4, 0, 1.0, 32, 64),
    Case("plain", 20, 0, 1.0, 64, 32),
    Case("marks", 20, 0, 4.5, 64, 128),
    Case("endless", 14, 0, 4.5, 64, 64, embeddings=True),
    Case("empty", 15, 0, 4.5, 96, 32),
    Case("castle", 50, 0, 2.5, 64, 32),
    Case("castle", 1, 0, 4.5, 32, 64),
    Case("plain", 2, 0, 7.0, 32, 64),
    Case("plain", 20, 1, 1.0, 64, 64),
    Case("marks", 10, 4, 4.5, 96, 64),
    Case("empty", 10, 9, 4.5, 32, 64),
    Case("endless", 50, 20, 1.0, 64, 32),
    Case("unicode", 50, 35, 4.5, 64, 64),
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


def limit(pipeline):
    """FLUX.1's tokens for T5: schnell is used with 256, says its model card; dev with 512, the pipeline's default."""
    return 512 if pipeline.transformer.config.guidance_embeds else 256


def options(pipeline):
    """Returns what a pipeline of this kind is told beside what a case says."""
    match type(pipeline).__name__:
        case "FluxPipeline":
            return {"max_sequence_length": limit(pipeline)}
        case "SanaPipeline":
            return {"use_resolution_binning": False}
    return {}


def token_ids(pipeline, prompt, instructed=True):
    if type(pipeline).__name__ == "SanaPipeline":
        text, length = prompt.lower().strip(), 300
        if instructed:
            instruction = "\n".join(vocabulary.instruction())
            text, length = instruction + text, len(pipeline.tokenizer.encode(instruction)) + length - 2
        return {"tokenizer": pipeline.tokenizer(text, padding="max_length", max_length=length, truncation=True).input_ids}
    lengths = {"tokenizer": 77, "tokenizer_2": 77, "tokenizer_3": 256}
    if type(pipeline).__name__ == "FluxPipeline":
        lengths["tokenizer_2"] = limit(pipeline)
    found = {}
    for name, length in lengths.items():
        tokenizer = pipeline.components.get(name)
        if tokenizer is not None:
            found[name] = tokenizer(prompt, padding="max_length", max_length=length, truncation=True).input_ids
    return found


class Recorder:
    """What the denoiser was given and what each step made of it."""

    def __init__(self, pipeline, case):
        self.steps, self.conditions = [], None
        self.pipeline, self.case = pipeline, case
        self.denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
        self.hook = self.denoiser.register_forward_pre_hook(self.before, with_kwargs=True)

    def before(self, _, __, kwargs):
        given = kwargs | (kwargs.get("added_cond_kwargs") or {})
        names = {
            "prompt_embeds": ("encoder_hidden_states",), "pooled_embeds": ("text_embeds", "pooled_projections"), "time_ids": ("time_ids",),
            "prompt_mask": ("encoder_attention_mask",)}
        self.conditions = {
            name: given[key].clone() for name, keys in names.items() for key in keys if given.get(key) is not None}

    def after(self, _, __, ___, values):
        latents = values["latents"].clone()
        if type(self.pipeline).__name__ == "FluxPipeline":
            latents = self.pipeline._unpack_latents(latents, self.case.height, self.case.width, self.pipeline.vae_scale_factor)
        self.steps.append(latents)
        return {}


def run(pipeline, case, seed, folder):
    """Runs one case, stores its arrays in `folder` and returns its entry of `cases.json`."""
    channels, text = pipeline.vae.config.latent_channels, PROMPTS[case.prompt]
    factor = pipeline.vae_scale_factor
    shape = (1, channels, case.height // factor, case.width // factor)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape, generator=generator)
    keep = lambda name, values, rows=1: arrays.save(folder / f"{case.name}.{name}.npy", values, rows)
    entry = {
        "name": case.name, "prompt": text, "steps": case.steps, "skipped": case.skipped, "guidance": case.guidance,
        "height": case.height, "width": case.width, "latents_shape": list(shape), "image_shape": [3, case.height, case.width],
        "noise": keep("noise", noise)}
    recorder = Recorder(pipeline, case)
    common = {
        "prompt": text, "num_inference_steps": case.steps, "guidance_scale": case.guidance, "output_type": "pt",
        "callback_on_step_end": recorder.after} | options(pipeline)
    if case.skipped:
        kind, module, settings = FROM_IMAGE[type(pipeline).__name__]
        from_image = kind(**pipeline.components, **settings)
        from_image.set_progress_bar_config(disable=True)
        source = arrays.picture(seed, case.height, case.width)
        source.save(folder / f"{case.name}.source.png")
        entry["source"] = f"{case.name}.source.png"
        draws = [noise]
        if kind is not sana_from_image.SanaFromImage:  # whose autoencoder draws nothing
            draws.insert(0, torch.randn(shape, generator=generator))
            entry["vae_noise"] = keep("vae_noise", draws[0])
        size = {} if "XL" in type(pipeline).__name__ else {"height": case.height, "width": case.width}
        with drawn(module, draws):
            image = from_image(image=source, strength=strength(pipeline, case), **size, **common).images
        assert type(from_image.scheduler) is type(pipeline.scheduler)
    else:
        latents = pipeline._pack_latents(noise, *shape) if "Flux" in type(pipeline).__name__ else noise
        image = pipeline(latents=latents, height=case.height, width=case.width, **common).images
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
