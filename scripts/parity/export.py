"""Exports a saved model with Optimum and makes the folder fit to be stored.

What a program reads stays as Optimum wrote it: files, names and types of inputs and outputs, configs. Names of values
within the graphs become short, equal constants one, and notes of where nodes came from go: that is half the size, and
they may name this machine.
"""

import json
import shutil

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from optimum.exporters.onnx import main_export


def strip(model):
    """The same graph without names that nobody asks for."""
    graph = model.graph
    model.doc_string = graph.doc_string = ""
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    short = {value.name: value.name for value in (*graph.input, *graph.output)} | {"": ""}
    name = lambda value: short.setdefault(value, f"v{len(short)}")
    constants, nodes = {}, []
    for part in graph.initializer:
        part.name, part.doc_string = name(part.name), ""
    for node in graph.node:
        assert all(attribute.type not in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute), "a graph within"
        if node.op_type == "Constant" and node.output[0] not in short:
            content = node.attribute[0].SerializeToString()
            if content in constants:
                short[node.output[0]] = constants[content]
                continue
            constants[content] = name(node.output[0])
        node.name = node.doc_string = ""
        del node.metadata_props[:]
        node.input[:], node.output[:] = map(name, list(node.input)), map(name, list(node.output))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def tidy(folder):
    """No names of folders in the configs, and one form of each tokenizer."""
    for path in folder.rglob("*.json"):
        value = json.loads(path.read_text())
        if isinstance(value, dict) and value.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(value, indent=2) + "\n")
    for path in folder.rglob("tokenizer.json"):
        for other in ("vocab.json", "merges.txt"):
            path.with_name(other).unlink(missing_ok=True)


def export(source, task, folder, half=False):
    """`optimum-cli export onnx -m SOURCE --task TASK FOLDER`, with `--dtype fp16` for half precision.

    Without Optimum's own comparison: it holds random weights to the tolerances of trained ones, half precision to those
    of single precision, and stops. `verify.py` compares whole runs instead.
    """
    shutil.rmtree(folder, ignore_errors=True)
    main_export(str(source), folder, task=task, device="cpu", dtype="fp16" if half else "fp32", do_validation=False)
    tidy(folder)
    for path in folder.rglob("*.onnx"):
        onnx.save(strip(onnx.load(path)), path)


def to_bfloat16(folder, single):
    """Makes a folder in half precision one in bfloat16: the same graphs, bfloat16 wherever float16 was.

    Optimum's own export in bfloat16 stops for all of these models ("ScalarType ComplexDouble is an unexpected tensor
    scalar type", as if torch's older exporter took the number of the one type for the other). The weights must be such that bfloat16 can
    hold them. Other constants (of GELU, of attention) that it cannot hold are kept in single precision, with a `Cast`
    behind them, as the same model in the folder `single` has them: in bfloat16 that is the same number, and whoever
    widens the graph gets the number that was meant.
    """
    for path in folder.rglob("*.onnx"):
        model = onnx.load(path)
        other = onnx.load(single / path.relative_to(folder)).graph
        tensors = (*other.initializer, *(attribute.t for node in other.node for attribute in node.attribute))
        found = (constant(tensor, TensorProto.FLOAT) for tensor in tensors)
        meant = {value.astype("float16"): value for value in found if value is not None}
        nodes = []
        for tensor in model.graph.initializer:
            narrow(tensor)
        for node in model.graph.node:
            nodes.append(node)
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                    attribute.i = TensorProto.BFLOAT16
                value = constant(attribute.t, TensorProto.FLOAT16)
                value = meant.get(value, value)
                if value is not None and bfloat16(value) << 16 != np.float32(value).view("<u4"):
                    name = node.output[0]
                    attribute.t.CopyFrom(numpy_helper.from_array(np.float32(value)))
                    node.output[0] = f"{name}_single"
                    nodes.append(onnx.helper.make_node("Cast", node.output, [name], to=TensorProto.BFLOAT16))
                narrow(attribute.t)
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        for value in (*model.graph.input, *model.graph.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
                value.type.tensor_type.elem_type = TensorProto.BFLOAT16
        onnx.checker.check_model(model)
        onnx.save(model, path)
    for path in folder.rglob("config.json"):
        path.write_text(path.read_text().replace('"dtype": "float16"', '"dtype": "bfloat16"'))


def constant(tensor, kind):
    """The number of a tensor of this type and without dimensions."""
    return numpy_helper.to_array(tensor)[()] if tensor.data_type == kind and not tensor.dims else None


def bfloat16(values):
    """The upper half of numbers in single precision, rounded to the nearest, or to the even one of two."""
    words = np.asarray(values, "<f4").view("<u4")
    return (words + 0x7FFF + (words >> 16 & 1)) >> 16


def narrow(tensor):
    if tensor.data_type == TensorProto.FLOAT16:
        words = bfloat16(numpy_helper.to_array(tensor)).astype("<u2")
        tensor.CopyFrom(TensorProto(name=tensor.name, dims=tensor.dims, data_type=TensorProto.BFLOAT16, raw_data=words.tobytes()))
