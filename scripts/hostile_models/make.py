"""Makes tests/hostile/model from models/shapes/tiny: a model that misbehaves on command, for tests/hostile.rs.

The command is a word of the prompt; without one it draws what the tiny model of shapes draws, bit by bit:
  error      the denoiser asks for a row that is not there, and ONNX Runtime refuses the step
  nan        the denoiser's prediction is NaN
  nan-text   the text encoder's embedding is NaN
  hang       the denoiser never ends a step
  huge       the denoiser asks for 512 GiB of memory
Usage, with numpy and onnx (requirements.txt): python scripts/hostile_models/make.py
"""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
SOURCE, TARGET = ROOT / "models/shapes/tiny", ROOT / "tests/hostile/model"
# Tokens that the encoder was trained with; it finds the end of a text by the highest number.
TOKENS, UNKNOWN, WIDTH = 69, 1, 64
# In the order of their numbers, from 1. The encoder passes a number on, but for the last, which it does itself.
COMMANDS = ("error", "nan", "hang", "huge", "nan-text")
# A component of the embedding carries the command's number, this many times: far above what it has without.
MARK = 1e4


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs, outputs, **attributes)


def constant(graph, name, values, dtype):
    graph.initializer.append(numpy_helper.from_array(np.array(values, dtype), name))


def renamed(graph, name, by):
    """Has the graph call an output of a node otherwise, so that another node can take its name."""
    for each in graph.node:
        for at, output in enumerate(each.output):
            if output == name:
                each.output[at] = by


def text_encoder(vocabulary):
    model = onnx.load(SOURCE / "text_encoder/model.onnx")
    graph = model.graph
    for each in graph.node:
        for at, name in enumerate(each.input):
            if name == "input_ids":
                each.input[at] = "known_ids"
    renamed(graph, "text_embeds", "own_embeds")
    constant(graph, "last_known", TOKENS - 1, np.int64)
    constant(graph, "unknown", UNKNOWN, np.int64)
    constant(graph, "tokens_of_commands", [[[vocabulary[word] for word in COMMANDS]]], np.int64)
    constant(graph, "numbers", [[[1, 2, 3, 4, 5]]], np.float32)
    constant(graph, "last_axis", [2], np.int64)
    constant(graph, "token_axis", [1], np.int64)
    constant(graph, "nan_text", 5, np.float32)
    constant(graph, "none", 0, np.float32)
    constant(graph, "not_a_number", np.nan, np.float32)
    constant(graph, "mark", [[MARK] + [0] * (WIDTH - 1)], np.float32)
    before = [
        node("Greater", ["input_ids", "last_known"], ["is_new"]),
        node("Where", ["is_new", "unknown", "input_ids"], ["known_ids"]),
    ]
    after = [
        node("Unsqueeze", ["input_ids", "last_axis"], ["ids_by_command"]),
        node("Equal", ["ids_by_command", "tokens_of_commands"], ["is_command"]),
        node("Cast", ["is_command"], ["is_command_number"], to=TensorProto.FLOAT),
        node("Mul", ["is_command_number", "numbers"], ["numbers_by_token"]),
        node("ReduceMax", ["numbers_by_token", "last_axis"], ["number_by_token"], keepdims=0),
        node("ReduceMax", ["number_by_token", "token_axis"], ["command"], keepdims=1),
        node("Equal", ["command", "nan_text"], ["is_nan_text"]),
        node("Where", ["is_nan_text", "not_a_number", "none"], ["spoils"]),
        node("Mul", ["command", "mark"], ["marks"]),
        node("Add", ["own_embeds", "marks"], ["marked_embeds"]),
        node("Add", ["marked_embeds", "spoils"], ["text_embeds"]),
    ]
    nodes = before + list(graph.node) + after
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def branch(name, nodes, initializers=()):
    """The body of an If that gives `result`."""
    output = helper.make_tensor_value_info("result", TensorProto.FLOAT, None)
    return helper.make_graph(nodes, name, [], [output], list(initializers))


def misbehaviours():
    """A body for each command that the denoiser does. Sizes and places depend on the command, which is not known when
    the model is loaded: else ONNX Runtime would misbehave there."""

    def value(name, values, dtype):
        return numpy_helper.from_array(np.array(values, dtype), name)

    error = branch(
        "error",
        [
            node("Mul", ["far", "command_index"], ["row"]),
            node("Gather", ["own_result", "row"], ["nothing"]),
            node("Add", ["own_result", "nothing"], ["result"]),
        ],
        [value("far", [1000], np.int64)],
    )
    nan = branch("nan", [node("Mul", ["own_result", "nan"], ["result"])], [value("nan", np.nan, np.float32)])
    body = helper.make_graph(
        [node("Identity", ["going"], ["goes_on"]), node("Identity", ["value"], ["next_value"])],
        "forever",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_value", TensorProto.FLOAT, None),
        ],
    )
    hang = branch(
        "hang",
        [node("Loop", ["turns", "yes", "own_result"], ["result"], body=body)],
        [value("turns", 2**62, np.int64), value("yes", True, np.bool_)],
    )
    huge = branch(
        "huge",
        [
            # 4 is the number of this command: 2^18 * 2^19 numbers of 4 bytes.
            node("Mul", ["sides", "command_index"], ["shape"]),
            node("ConstantOfShape", ["shape"], ["zeros"]),
            node("ReduceMax", ["zeros"], ["most"], keepdims=0),
            node("Add", ["own_result", "most"], ["result"]),
        ],
        [value("sides", [2**16, 2**17], np.int64)],
    )
    return error, nan, hang, huge


def transformer():
    model = onnx.load(SOURCE / "transformer/model.onnx")
    graph = model.graph
    for each in graph.node:
        for at, name in enumerate(each.input):
            if name == "pooled_projections":
                each.input[at] = "own_projections"
    renamed(graph, "out_hidden_states", "own_result")
    constant(graph, "first", [0], np.int64)
    constant(graph, "second", [1], np.int64)
    constant(graph, "mark", [[MARK] + [0] * (WIDTH - 1)], np.float32)
    constant(graph, "mark_size", MARK, np.float32)
    before = [
        node("Slice", ["pooled_projections", "first", "second", "second"], ["carrier"]),
        node("Div", ["carrier", "mark_size"], ["share"]),
        node("Round", ["share"], ["commands"]),
        node("Mul", ["commands", "mark"], ["marks"]),
        node("Sub", ["pooled_projections", "marks"], ["own_projections"]),
        node("ReduceMax", ["commands"], ["command"], keepdims=0),
        node("Cast", ["command"], ["command_number"], to=TensorProto.INT64),
        node("Reshape", ["command_number", "second"], ["command_index"]),
    ]
    after = []
    # Each asks whether it is meant, and leaves the rest to the next.
    result = branch("usual", [node("Identity", ["own_result"], ["result"])])
    for number, body in enumerate(misbehaviours(), 1):
        test = f"is_{body.name}"
        constant(graph, f"number_{body.name}", number, np.int64)
        after.append(node("Equal", ["command_number", f"number_{body.name}"], [test]))
        chosen = node("If", [test], ["result"], then_branch=body, else_branch=result)
        result = branch(f"choice_{body.name}", [chosen])
    chosen.output[0] = "out_hidden_states"
    nodes = before + list(graph.node) + after + [chosen]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def main():
    shutil.rmtree(TARGET, ignore_errors=True)
    shutil.copytree(SOURCE, TARGET)
    file = TARGET / "tokenizer/tokenizer.json"
    tokenizer = json.loads(file.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    assert len(vocabulary) == TOKENS
    for word in COMMANDS:
        vocabulary.setdefault(word, len(vocabulary))
    file.write_text(json.dumps(tokenizer, indent=2) + "\n")
    for part, model in (("text_encoder", text_encoder(vocabulary)), ("transformer", transformer())):
        onnx.checker.check_model(model)
        onnx.save(model, TARGET / part / "model.onnx")


main()
