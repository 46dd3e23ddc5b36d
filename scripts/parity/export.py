"""Exports a saved model with Optimum and makes the folder fit to be stored.

What a program reads stays as Optimum wrote it: files, names and types of inputs and outputs, configs. Names of values
within the graphs become short, equal constants one, and notes of where nodes came from go: that is half the size, and
they may name this machine.
"""

import json
import shutil

import onnx
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
