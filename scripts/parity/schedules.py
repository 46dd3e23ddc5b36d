"""The schedules of the published configs, straight from diffusers: sigmas, timesteps, scale of the first noise."""

import json

import numpy as np
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

import pipelines

CONFIGS = {
    "sdxl": (EulerDiscreteScheduler, pipelines.SDXL_SCHEDULER),
    "sd3.5-large": (FlowMatchEulerDiscreteScheduler, pipelines.SD3_SCHEDULER),
    "sd3.5-large-turbo": (FlowMatchEulerDiscreteScheduler, pipelines.SD3_SCHEDULER),
    "sd3.5-medium": (FlowMatchEulerDiscreteScheduler, pipelines.SD3_SCHEDULER),
    "flux-dev": (FlowMatchEulerDiscreteScheduler, pipelines.FLUX_DEV_SCHEDULER),
    "flux-schnell": (FlowMatchEulerDiscreteScheduler, pipelines.FLUX_SCHNELL_SCHEDULER),
    "sana": (DPMSolverMultistepScheduler, pipelines.SANA_SCHEDULER),
}
STEPS = (1, 4, 10, 28, 50)
# Tokens of a picture of 256, 512 and 1024 pixels in the square, on which FLUX.1-dev's schedule depends.
TOKENS = {"flux-dev": (256, 1024, 4096)}


def numbers(values):
    """Single precision with as many digits as it takes to read the same number back."""
    return [float(str(value)) for value in values.numpy()]


def set_timesteps(scheduler, name, steps, tokens):
    """As the pipelines do it: FLUX.1's lay out the sigmas themselves, and tell what the shift is."""
    if not name.startswith("flux"):
        scheduler.set_timesteps(steps)
        return
    config = scheduler.config
    mu = calculate_shift(tokens or 4096, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)


def write(path):
    lines = []
    for name, (kind, config) in CONFIGS.items():
        for steps, tokens in ((steps, tokens) for tokens in TOKENS.get(name, (None,)) for steps in STEPS):
            scheduler = kind(**config)
            set_timesteps(scheduler, name, steps, tokens)
            scale = getattr(scheduler, "init_noise_sigma", 1.0)  # SD3's starts from noise as it is
            lines.append(json.dumps({
                "name": name, "scheduler": {"_class_name": kind.__name__} | config, "steps": steps} | ({"tokens": tokens} if tokens else {}) | {
                "sigmas": numbers(scheduler.sigmas), "timesteps": numbers(scheduler.timesteps.float()), "init_noise_sigma": float(scale)}))
    path.write_text("[\n  " + ",\n  ".join(lines) + "\n]\n")
