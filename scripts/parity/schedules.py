"""The schedules of the published configs, straight from diffusers: sigmas, timesteps, scale of the first noise."""

import json

from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler

import pipelines

CONFIGS = {
    "sdxl": (EulerDiscreteScheduler, pipelines.SDXL_SCHEDULER),
    "sd3.5-large": (FlowMatchEulerDiscreteScheduler, pipelines.SD3_SCHEDULER),
    "sd3.5-large-turbo": (FlowMatchEulerDiscreteScheduler, pipelines.SD3_SCHEDULER),
}
STEPS = (1, 4, 10, 28, 50)


def numbers(values):
    """Single precision with as many digits as it takes to read the same number back."""
    return [float(str(value)) for value in values.numpy()]


def write(path):
    lines = []
    for name, (kind, config) in CONFIGS.items():
        for steps in STEPS:
            scheduler = kind(**config)
            scheduler.set_timesteps(steps)
            scale = getattr(scheduler, "init_noise_sigma", 1.0)  # SD3's starts from noise as it is
            lines.append(json.dumps({
                "name": name, "scheduler": {"_class_name": kind.__name__} | config, "steps": steps,
                "sigmas": numbers(scheduler.sigmas), "timesteps": numbers(scheduler.timesteps.float()), "init_noise_sigma": float(scale)}))
    path.write_text("[\n  " + ",\n  ".join(lines) + "\n]\n")
