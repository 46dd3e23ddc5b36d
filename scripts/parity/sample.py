"""Draws the stored cases again from the stored files alone, in numpy and ONNX Runtime: no PyTorch, no diffusers.

This is what another program has to do, written out once; `verify.py` tells how far it comes from what diffusers drew.
"""

import json

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto
from PIL import Image


def widened(path):
    """A model in bfloat16 as one in single precision, which ONNX Runtime can run on the CPU: the same numbers, written longer."""
    model = onnx.load(path)

    def widen(tensor):
        if tensor.data_type == TensorProto.BFLOAT16:
            halves = np.frombuffer(tensor.raw_data, "<u2")
            tensor.data_type, tensor.raw_data = TensorProto.FLOAT, (halves.astype("<u4") << 16).tobytes()

    for tensor in model.graph.initializer:
        widen(tensor)
    for node in model.graph.node:
        for attribute in node.attribute:
            widen(attribute.t)
            if attribute.name == "to" and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return model.SerializeToString()


class Model:
    """One `model.onnx`, which runs in the precision of its inputs (bfloat16 as single) and answers in single precision."""

    TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}

    def __init__(self, folder):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(widened(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
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


def flux_match(config, steps, tokens):
    """FLUX.1's schedule: evenly spaced, then shifted, the more the larger the picture is if the shift is a dynamic one.

    `tokens` is the number of the picture's tokens, a 256th of its pixels.
    """
    sigmas = np.linspace(1.0, 1 / steps, steps).astype(np.float32)
    if config["use_dynamic_shifting"]:
        slope = (config["max_shift"] - config["base_shift"]) / (config["max_image_seq_len"] - config["base_image_seq_len"])
        shift = np.exp(config["base_shift"] + slope * (tokens - config["base_image_seq_len"]))
    else:
        shift = config["shift"]
    sigmas = shift / (shift + (1 / sigmas - 1))
    return np.append(sigmas, 0).astype(np.float32), (sigmas * config["num_train_timesteps"]).astype(np.float32), 1.0


def dpm(config, steps):
    """SANA's schedule. Its timesteps are whole numbers, cut off; the sigmas are not."""
    training, shift = config["num_train_timesteps"], config["flow_shift"]
    even = 1 - np.linspace(1.0, 1 / training, steps + 1)
    sigmas = (shift * even / (1 + (shift - 1) * even))[:0:-1]
    return np.append(sigmas, 0).astype(np.float32), np.trunc(sigmas * training).astype(np.float32), 1.0


class Euler:
    """One step along the direction of change that was predicted: of SDXL the noise, of SD3 and FLUX.1 the velocity."""

    def step(self, latents, found, sigmas, at):
        return latents + (sigmas[at + 1] - sigmas[at]) * found


class DpmSolver:
    """DPM-Solver++ of second order (midpoint) for flow matching: remembers the clean latents that the step before predicted."""

    def __init__(self):
        self.before = None

    def step(self, latents, found, sigmas, at):
        clean = latents - sigmas[at] * found
        # From the sigmas in single precision: the first is so close to 1 that 1 - sigma has few digits left.
        now, following = float(sigmas[at]), float(sigmas[at + 1])
        shrink = following / now * (1 - now) / (1 - following)  # exp(-h), h = log((1 - following) / following) - log((1 - now) / now)
        direction = clean
        if self.before is not None and following > 0:
            before = float(sigmas[at - 1])
            log_ratio = lambda sigma: np.log1p(-sigma) - np.log(sigma)
            r = (log_ratio(now) - log_ratio(before)) / (log_ratio(following) - log_ratio(now))
            direction = clean + 0.5 / r * (clean - self.before)
        self.before = clean
        return following / now * latents + (1 - following) * (1 - shrink) * direction


def clip_pixels(picture, config):
    """What CLIP's encoder is shown: the shorter side resized (bicubic, 8 bits), the middle cut out, channels normalised."""
    size, side = config["size"]["shortest_edge"], config["crop_size"]["height"]
    short = min(picture.size)
    resized = picture.resize([size if edge == short else int(size * edge / short) for edge in picture.size], Image.Resampling.BICUBIC)
    left, top = (resized.width - side) // 2, (resized.height - side) // 2
    pixels = np.asarray(resized.crop((left, top, left + side, top + side)), np.float32) * config["rescale_factor"]
    return ((pixels - config["image_mean"]) / config["image_std"]).astype(np.float32).transpose(2, 0, 1)


class Pipeline:
    """A folder as Optimum writes it. What one folder lacks is looked up in the next."""

    DENOISER, SOLVER = "transformer", Euler

    def __init__(self, folders):
        find = lambda name: next(folder / name for folder in folders if (folder / name).exists())
        self.index = json.loads(find("model_index.json").read_text())
        texts = sorted(name for name, kind in self.index.items() if name.startswith("text_encoder") and kind[0])
        self.texts = [Model(find(name)) for name in texts]
        self.denoiser, self.encoder, self.decoder = (Model(find(name)) for name in (self.DENOISER, "vae_encoder", "vae_decoder"))
        self.scheduler = json.loads((find("scheduler") / "scheduler_config.json").read_text())

    @staticmethod
    def open(*folders):
        index = json.loads((folders[0] / "model_index.json").read_text())
        return KINDS[index["_class_name"]](folders)

    def states(self, number, ids):
        """Token states and pooled state of one of CLIP's encoders. States are those before the last layer: hidden_states.(layers - 1)."""
        text = self.texts[number]
        found = text(input_ids=[ids])
        return found[f"hidden_states.{text.config['num_hidden_layers'] - 1}"], found.get("text_embeds")

    def conditions(self, case, empty_ids):
        """Inputs of the denoiser, of the text after those of no text if there is guidance."""
        found = self.encode(case["token_ids"])
        if case["guidance"] > 1:
            found = {name: np.concatenate([values, found[name]]) for name, values in self.without_text(empty_ids).items()}
        return found

    def without_text(self, empty_ids):
        return self.encode(empty_ids)

    def schedule(self, case):
        return flow_match(self.scheduler, case["steps"])

    def noised(self, clean, noise, sigma):
        return sigma * noise + (1 - sigma) * clean

    def predict(self, latents, sigma, timestep, case, conditions):
        rows = len(conditions["encoder_hidden_states"])
        found = self.denoise(np.repeat(latents, rows, 0), sigma, [timestep] * rows, case, conditions)
        return found if rows == 1 else found[:1] + case["guidance"] * (found[1:] - found[:1])

    def denoise(self, sample, _, timesteps, __, conditions):
        return self.denoiser(hidden_states=sample, timestep=timesteps, **conditions)["out_hidden_states"]

    def clean(self, pixels, vae_noise):
        mean, logvar = np.split(self.encoder(sample=pixels)["latent_parameters"], 2, 1)
        return mean + np.exp(0.5 * np.clip(logvar, -30, 20)) * vae_noise

    def draw(self, case, arrays, empty_ids):
        """The latents after each step, the picture (channels first, 0 to 1), and what the denoiser is told of the text."""
        sigmas, timesteps, scale = self.schedule(case)
        conditions, solver, begin = self.conditions(case, empty_ids), self.SOLVER(), case["skipped"]
        config, latents = self.decoder.config, arrays["noise"] * scale
        factor, shift = config["scaling_factor"], config.get("shift_factor") or 0
        if begin:
            pixels = arrays["source"].astype(np.float32).transpose(2, 0, 1)[None] / 255 * 2 - 1
            clean = (self.clean(pixels, arrays.get("vae_noise")) - shift) * factor
            latents = self.noised(clean, arrays["noise"], sigmas[begin])
        after = []
        for at in range(begin, case["steps"]):
            found = self.predict(latents, sigmas[at], timesteps[at], case, conditions)
            latents = solver.step(latents, found, sigmas, at).astype(np.float32)
            after.append(latents)
        decoded = self.decoder(latent_sample=latents / factor + shift)["sample"]
        return after, np.clip(decoded / 2 + 0.5, 0, 1), conditions


class StableDiffusionXl(Pipeline):
    DENOISER = "unet"

    def encode(self, ids):
        first, _ = self.states(0, ids["tokenizer"])
        second, pooled = self.states(1, ids["tokenizer_2"])
        return {"encoder_hidden_states": np.concatenate([first, second], -1), "text_embeds": pooled}

    def without_text(self, empty_ids):
        found = self.encode(empty_ids)
        zeros = self.index.get("force_zeros_for_empty_prompt", False)
        return {name: np.zeros_like(values) for name, values in found.items()} if zeros else found

    def schedule(self, case):
        return euler(self.scheduler, case["steps"])

    def noised(self, clean, noise, sigma):
        return clean + sigma * noise

    def denoise(self, sample, sigma, timesteps, case, conditions):
        size = [case["height"], case["width"]]
        return self.denoiser(
            sample=sample / np.sqrt(sigma**2 + 1), timestep=timesteps[0], time_ids=[[*size, 0, 0, *size]] * len(sample), **conditions)["out_sample"]


class StableDiffusion3(Pipeline):
    def encode(self, ids):
        (first, pooled), (second, pooled_2) = self.states(0, ids["tokenizer"]), self.states(1, ids["tokenizer_2"])
        states, width = np.concatenate([first, second], -1), self.denoiser.config["joint_attention_dim"]
        states = np.pad(states, ((0, 0), (0, 0), (0, width - states.shape[-1])))
        if len(self.texts) > 2:
            third = self.texts[2](input_ids=[ids["tokenizer_3"]])["last_hidden_state"]
        else:
            third = np.zeros((1, 256, width), np.float32)
        return {"encoder_hidden_states": np.concatenate([states, third], 1), "pooled_projections": np.concatenate([pooled, pooled_2], -1)}


class Flux(Pipeline):
    """Guidance is an input of the transformer, if it has one: there is no second row. Squares of two by two are one token."""

    def conditions(self, case, _):
        first, second = self.texts
        return {
            "encoder_hidden_states": second(input_ids=[case["token_ids"]["tokenizer_2"]])["last_hidden_state"],
            "pooled_projections": first(input_ids=[case["token_ids"]["tokenizer"]])["pooler_output"]}

    def schedule(self, case):
        return flux_match(self.scheduler, case["steps"], case["height"] // 16 * (case["width"] // 16))

    def denoise(self, sample, _, timesteps, case, conditions):
        rows, channels, height, width = sample.shape
        height, width = height // 2, width // 2
        packed = sample.reshape(rows, channels, height, 2, width, 2).transpose(0, 2, 4, 1, 3, 5).reshape(rows, height * width, channels * 4)
        places = np.stack([np.zeros((height, width)), *np.mgrid[:height, :width]], -1).reshape(-1, 3)
        found = self.denoiser(
            hidden_states=packed, timestep=np.asarray(timesteps) / 1000, guidance=[case["guidance"]] * rows, img_ids=places,
            txt_ids=np.zeros((conditions["encoder_hidden_states"].shape[1], 3)), **conditions)["out_hidden_states"]
        return found.reshape(rows, height, width, channels, 2, 2).transpose(0, 3, 1, 4, 2, 5).reshape(sample.shape)


class Sana(Pipeline):
    """The text encoder is asked for more tokens than the transformer is given: the instruction's are left out, but for the first."""

    SOLVER, TOKENS = DpmSolver, 300

    def encode(self, ids):
        ids = np.asarray([ids["tokenizer"]])
        mask = ids != 0
        states = self.texts[0](input_ids=ids, attention_mask=mask)["last_hidden_state"]
        kept = [0, *range(ids.shape[1] - self.TOKENS + 1, ids.shape[1])]
        return {"encoder_hidden_states": states[:, kept], "encoder_attention_mask": mask[:, kept]}

    def schedule(self, case):
        return dpm(self.scheduler, case["steps"])

    def clean(self, pixels, _):
        return self.encoder(sample=pixels)["latent_sample"]

    def denoise(self, sample, sigma, timesteps, case, conditions):
        scaled = np.asarray(timesteps) * self.denoiser.config.get("timestep_scale", 1.0)
        return super().denoise(sample, sigma, scaled, case, conditions)


KINDS = {"StableDiffusionXLPipeline": StableDiffusionXl, "StableDiffusion3Pipeline": StableDiffusion3, "FluxPipeline": Flux, "SanaPipeline": Sana}


def read_case(folder, case):
    """The arrays of a case, in their shapes."""
    found = {name: np.load(folder / case[name]).reshape(case["latents_shape"]) for name in ("noise", "vae_noise", "latents") if name in case}
    found["image"] = np.load(folder / case["image"]).reshape(1, *case["image_shape"])
    if "source" in case:
        found["source"] = np.asarray(Image.open(folder / case["source"]))
    return found
