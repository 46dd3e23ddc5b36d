"""Writes the trained models as ONNX folders under models/shapes/, as Hugging Face Optimum lays them out, and
checks each against PyTorch: outputs within 1e-4, whole pictures too.
"""

import json

import numpy as np
import torch

import sample
import train
import world

PRODUCER, OPSET = "modm train_shapes", 18
TOLERANCE = 1e-4


def averaged(name):
    """A finished model with its averaged weights."""
    state = torch.load(train.CHECKPOINTS / f"{name}.pt")
    steps = train.PLANS[name].steps
    if state["step"] != steps:
        raise SystemExit(f"{name}: step {state['step']} of {steps}; run `train.py {name}` to its end")
    model = train.TASKS[name]().model
    model.load_state_dict(state["average"])
    return model.eval()


def training(name):
    """What a model took: parameters, pictures, minutes on one core beside whatever else ran."""
    state, plan = torch.load(train.CHECKPOINTS / f"{name}.pt"), train.PLANS[name]
    parameters = sum(values.numel() for values in state["average"].values())
    return {"parameters": parameters, "steps": plan.steps, "batch": plan.batch, "rate": plan.rate, "minutes": round(state["seconds"] / 60, 1)}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def export(module, path, inputs, outputs):
    """One ONNX file; any number of rows. Inputs are examples by name. Returns the greatest difference from PyTorch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = torch.export.Dim("rows")
    torch.onnx.export(
        module, tuple(inputs.values()), str(path), input_names=list(inputs), output_names=outputs, opset_version=OPSET,
        dynamic_shapes=tuple({0: rows} for _ in inputs), external_data=False, verbose=False)
    strip(path)
    with torch.no_grad():
        expected = module(*inputs.values())
    expected = expected if isinstance(expected, (tuple, list)) else [expected]
    session, difference = sample.session(path), 0.0
    for rows in (len(expected[0]), 1):  # any number of rows
        found = session.run(outputs, {name: value[:rows].numpy() for name, value in inputs.items()})
        difference = max(difference, *(float(np.abs(ours - theirs[:rows].numpy()).max()) for ours, theirs in zip(found, expected)))
    return difference


def strip(path):
    """Takes out what the exporter notes of where each node came from: it names files of this machine."""
    import onnx

    model = onnx.load(path)
    model.producer_name, model.producer_version, model.doc_string = PRODUCER, "", ""
    del model.metadata_props[:], model.graph.metadata_props[:], model.functions[:]
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.checker.check_model(model)
    onnx.save(model, path)


def tokenizer(folder, length):
    """A word-level tokenizer in the file format of the `tokenizers` library: texts to exactly `length` ids."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.WordLevel(world.VOCABULARY, unk_token=world.UNKNOWN))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single=f"{world.START} $A {world.END}",
        special_tokens=[(token, world.VOCABULARY[token]) for token in (world.START, world.END)])
    made.enable_truncation(length)
    made.enable_padding(length=length, pad_id=world.VOCABULARY[world.PAD], pad_token=world.PAD)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length, "pad_token": world.PAD,
        "unk_token": world.UNKNOWN, "bos_token": world.START, "eos_token": world.END})
    rng = np.random.default_rng(0)
    texts = ["", *(world.caption(scene) for scene in world.draw_scenes(rng, 50, held=None)), "A Small teapot"]
    for text in texts:
        assert made.encode(text).ids == world.tokens([text.lower()], length)[0].tolist(), text


def export_encoder():
    model, folder = averaged("encoder"), world.FOLDER / "encoder"
    rng = np.random.default_rng(0)
    scenes = world.draw_scenes(rng, 3, held=None)
    ids = torch.from_numpy(world.tokens([world.caption(s) for s in scenes], world.ENCODER_LENGTH))
    differences = [
        export(model["text"], folder / "text_model.onnx", {"input_ids": ids}, ["text_embeds", "last_hidden_state"]),
        export(model["image"], folder / "vision_model.onnx", {"pixel_values": torch.from_numpy(world.pictures(rng, scenes))}, ["image_embeds"]),
    ]
    tokenizer(folder, world.ENCODER_LENGTH)
    write_json(folder / "config.json", {
        "model_type": "clip", "projection_dim": model["text"].project.out_features,
        "logit_scale_init_value": float(model.scale)})
    write_json(folder / "preprocessor_config.json", {
        "image_processor_type": "CLIPImageProcessor", "do_resize": True, "do_center_crop": False, "do_convert_rgb": True,
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "resample": 3, "size": {"height": world.SIDE, "width": world.SIDE}})
    return max(differences)


def export_generator(name):
    model, folder = averaged(name), world.FOLDER / name
    shift, guidance = train.GeneratorTask.SHIFT, train.GeneratorTask.GUIDANCE
    size = train.SIZES[name]
    ids = torch.from_numpy(world.tokens(["", *(world.caption(s) for s in world.draw_scenes(np.random.default_rng(0), 2))], world.GENERATOR_LENGTH))
    difference = export(model.text_encoder, folder / "text_encoder" / "model.onnx", {"input_ids": ids}, ["text_embeds", "last_hidden_state"])
    with torch.no_grad():
        pooled, states = model.text_encoder(ids)
    noise = torch.from_numpy(np.stack([sample.noise(seed) for seed in range(3)]))
    difference = max(difference, export(
        model.transformer, folder / "transformer" / "model.onnx",
        {"hidden_states": noise, "encoder_hidden_states": states, "pooled_projections": pooled, "timestep": torch.tensor([1000.0, 700.0, 300.0])},
        ["out_hidden_states"]))
    tokenizer(folder / "tokenizer", world.GENERATOR_LENGTH)
    write_json(folder / "scheduler" / "scheduler_config.json", {
        "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": shift})
    write_json(folder / "text_encoder" / "config.json", {
        "model_type": "clip_text_model", "architectures": ["CLIPTextModelWithProjection"], "hidden_size": size.text_width,
        "projection_dim": size.pooled, "num_hidden_layers": size.text_depth, "vocab_size": len(world.VOCABULARY),
        "max_position_embeddings": world.GENERATOR_LENGTH, "eos_token_id": world.VOCABULARY[world.END]})
    write_json(folder / "transformer" / "config.json", {
        "_class_name": "SD3Transformer2DModel", "in_channels": 3, "out_channels": 3, "sample_size": world.SIDE,
        "patch_size": size.patch, "num_layers": size.depth, "attention_head_dim": size.width // size.heads,
        "num_attention_heads": size.heads, "joint_attention_dim": size.text_width, "pooled_projection_dim": size.pooled})
    # "vae": null says that the transformer works on pixels, channels from -1 to 1.
    write_json(folder / "model_index.json", {
        "_class_name": "ShapesPipeline", "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"], "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "SD3Transformer2DModel"], "vae": [None, None],
        "guidance_scale": guidance, "num_inference_steps": sample.STEPS})
    # Whole pictures: the differences of fifty steps with guidance, and of the rest of them from other pictures.
    rng = np.random.default_rng(1)
    scenes = world.draw_scenes(rng, 4)
    texts, others = [world.caption(scene) for scene in scenes], world.pictures(rng, world.edit(rng, scenes))
    trained, shipped = sample.Trained(model, shift, guidance), sample.Shipped(folder)
    golden = {}
    for skipped in (0, 25):
        sources = others if skipped else None
        expected, found = (sample.draw(g, texts, range(4), sources=sources, skipped=skipped) for g in (trained, shipped))
        difference = max(difference, float(np.abs(expected - found).max()))
        golden[f"{name}_{skipped}"] = expected
    return difference, golden | {"texts": np.array(texts), "others": others}


def export_judge():
    images = torch.zeros(3, 3, world.SIDE, world.SIDE)
    return export(averaged("judge"), world.FOLDER / "judge" / "model.onnx", {"pixel_values": images}, world.ATTRIBUTES)


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {"encoder": export_encoder(), "judge": export_judge()}
    # What PyTorch drew is kept: scripts/train_shapes/check.py compares the shipped files with it.
    golden = {}
    for name in train.SIZES:
        found[name], drawn = export_generator(name)
        golden |= drawn
    np.savez_compressed(world.FOLDER / "golden.npz", **golden)
    for name, difference in found.items():
        print(f"{name}: ONNX against PyTorch within {difference:.1e}")
    write_json(world.FOLDER / "parity.json", found)
    write_json(world.FOLDER / "training.json", {name: training(name) for name in train.PLANS})
    if max(found.values()) > TOLERANCE:
        raise SystemExit(f"beyond {TOLERANCE}")
