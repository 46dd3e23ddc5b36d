"""Draws the stored cases again from the stored files alone, in numpy and ONNX Runtime: no PyTorch, no diffusers.

This is what another program has to do, written out once; `verify.py` tells how far it comes from what diffusers drew.
"""

import json

import numpy as np
import onnxruntime
from PIL import Image


class Model:
    """One `model.onnx`, which runs in the precision of its inputs and answers in single precision."""

    TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}

    def __init__(self, folder):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self.outputs = [output.name for output in self.session.get_outputs()]
        config = folder / "config.json"
        self.config = json.loads(config.read_text()) if config.exists() else {}

    def __call__(self, **inputs):
        types = {put.name: self.TYPES[put.type] for put in self.session.get_inputs()}
        given = {name: np.asarray(values, types[name]) for name, values in inputs.items() if name in types}
        found = self.session.run(None, given)
        return {name: values.astype(np.float32) for name, values in zip(self.outputs, found)}


def euler(config, steps):
    """SDXL's schedule: sigmas (steps + 1, the last 0), timesteps, and what noise is multiplied by at the start."""
    betas = np.linspace(config["beta_start"] ** 0.5, config["beta_end"] ** 0.5, config["num_train_timesteps"]) ** 2
    alphas = np.cumprod(1 - betas)
    training = np.sqrt((1 - alphas) / alphas)
    # "leading": every so many training steps, from steps_offset upwards.
    ratio = config["num_train_timesteps"] // steps
    timesteps = (np.arange(steps) * ratio).round()[::-1].astype(np.float32) + config["steps_offset"]
    sigmas = np.append(np.interp(timesteps, np.arange(len(training)), training), 0).astype(np.float32)
    return sigmas, timesteps, float(np.sqrt(sigmas[0].astype(np.float64) ** 2 + 1))


def flow_match(config, steps):
    """SD3's schedule. The shift is applied twice to the smallest sigma, once when the range is laid out: so does diffusers."""
    training, shift = config["num_train_timesteps"], config["shift"]
    shifted = lambda sigma: shift * sigma / (1 + (shift - 1) * sigma)
    sigmas = shifted(np.linspace(1.0, shifted(1 / training), steps))
    return np.append(sigmas, 0).astype(np.float32), (sigmas * training).astype(np.float32), 1.0


def clip_pixels(picture, config):
    """What CLIP's encoder is shown: the shorter side resized (bicubic, 8 bits), the middle cut out, channels normalised."""
    size, side = config["size"]["shortest_edge"], config["crop_size"]["height"]
    short = min(picture.size)
    resized = picture.resize([size if edge == short else int(size * edge / short) for edge in picture.size], Image.Resampling.BICUBIC)
    left, top = (resized.width - side) // 2, (resized.height - side) // 2
    pixels = np.asarray(resized.crop((left, top, left + side, top + side)), np.float32) * config["rescale_factor"]
    return ((pixels - config["image_mean"]) / config["image_std"]).astype(np.float32).transpose(2, 0, 1)


class Pipeline:
    """A folder as Optimum writes it."""

    def __init__(self, folder, texts):
        index = json.loads((folder / "model_index.json").read_text())
        self.xl = index["_class_name"] == "StableDiffusionXLPipeline"
        load = lambda name: Model(folder / name) if (folder / name).exists() else None
        self.texts = [load(name) for name in texts]
        self.denoiser = load("unet" if self.xl else "transformer")
        self.encoder, self.decoder = load("vae_encoder"), load("vae_decoder")
        self.scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        self.zeros_for_empty = index.get("force_zeros_for_empty_prompt", False)

    def encode(self, ids):
        """Token states and the pooled state of one text. States are those before the last layer: hidden_states.(layers - 1)."""
        states, pooled = [], []
        for text, name in zip(self.texts[:2], ("tokenizer", "tokenizer_2")):
            found = text(input_ids=[ids[name]])
            states.append(found[f"hidden_states.{text.config['num_hidden_layers'] - 1}"])
            pooled.append(found.get("text_embeds"))
        states = np.concatenate(states, -1)
        if self.xl:
            return states, pooled[1]  # of the second encoder alone
        width = self.denoiser.config["joint_attention_dim"]
        states = np.pad(states, ((0, 0), (0, 0), (0, width - states.shape[-1])))
        if len(self.texts) > 2:
            third = self.texts[2](input_ids=[ids["tokenizer_3"]])["last_hidden_state"]
        else:
            third = np.zeros((1, 256, width), np.float32)
        return np.concatenate([states, third], 1), np.concatenate(pooled, -1)

    def conditions(self, case, empty_ids):
        """Of the text, after those of no text if there is guidance."""
        states, pooled = self.encode(case["token_ids"])
        if case["guidance"] > 1:
            without = (np.zeros_like(states), np.zeros_like(pooled)) if self.zeros_for_empty else self.encode(empty_ids)
            states, pooled = np.concatenate([without[0], states]), np.concatenate([without[1], pooled])
        return states, pooled

    def predict(self, latents, sigma, timestep, case, states, pooled):
        rows = len(states)
        sample = np.repeat(latents, rows, 0)
        if self.xl:
            size = [case["height"], case["width"]]
            found = self.denoiser(
                sample=sample / np.sqrt(sigma**2 + 1), timestep=timestep, encoder_hidden_states=states, text_embeds=pooled,
                time_ids=[[*size, 0, 0, *size]] * rows)["out_sample"]
        else:
            found = self.denoiser(
                hidden_states=sample, timestep=[timestep] * rows, encoder_hidden_states=states,
                pooled_projections=pooled)["out_hidden_states"]
        return found if rows == 1 else found[:1] + case["guidance"] * (found[1:] - found[:1])

    def draw(self, case, arrays, empty_ids):
        """The latents after each step, and the picture: channels first, 0 to 1."""
        sigmas, timesteps, scale = (euler if self.xl else flow_match)(self.scheduler, case["steps"])
        states, pooled = self.conditions(case, empty_ids)
        config, begin, noise = self.decoder.config, case["skipped"], arrays["noise"]
        factor, shift = config["scaling_factor"], config.get("shift_factor") or 0
        if begin:
            pixels = arrays["source"].astype(np.float32).transpose(2, 0, 1)[None] / 255 * 2 - 1
            mean, logvar = np.split(self.encoder(sample=pixels)["latent_parameters"], 2, 1)
            clean = mean + np.exp(0.5 * np.clip(logvar, -30, 20)) * arrays["vae_noise"]
            clean = (clean - shift) * factor
            sigma = sigmas[begin]
            latents = clean + sigma * noise if self.xl else sigma * noise + (1 - sigma) * clean
        else:
            latents = noise * scale
        after = []
        for at in range(begin, case["steps"]):
            found = self.predict(latents, sigmas[at], timesteps[at], case, states, pooled)
            # Both predict the direction of change: SDXL the noise, SD3 the velocity.
            latents = (latents + (sigmas[at + 1] - sigmas[at]) * found).astype(np.float32)
            after.append(latents)
        decoded = self.decoder(latent_sample=latents / factor + shift)["sample"]
        return after, np.clip(decoded / 2 + 0.5, 0, 1), (states, pooled)


def read_case(folder, case):
    """The arrays of a case, in their shapes."""
    found = {name: np.load(folder / case[name]).reshape(case["latents_shape"]) for name in ("noise", "vae_noise", "latents") if name in case}
    found["image"] = np.load(folder / case["image"]).reshape(1, *case["image_shape"])
    if "source" in case:
        found["source"] = np.asarray(Image.open(folder / case["source"]))
    return found
