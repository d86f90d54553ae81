"""Writes the onnx package's own operator tests that use only operators Packlight lists, in ONNX's test data format.

Usage: onnx_node_cases.py OUTPUT_FOLDER. For each case OUTPUT_FOLDER/NAME/{model.onnx, input_K.pb, output_K.pb}, and
OUTPUT_FOLDER/cases.txt with a line `NAME rtol atol inputs outputs` each. On standard output: how many cases there are and why
the others are left out.
"""

import collections
import dataclasses
import os
import pathlib
import shutil
import sys
import warnings

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

NEWEST_OPSET, OLDEST_OPSET = 23, 7
ELEMENT_TYPES = {T.FLOAT, T.DOUBLE, T.FLOAT16, T.BFLOAT16, T.INT64, T.INT32, T.INT16, T.INT8, T.UINT8, T.BOOL}


def operators(graph, found):
    for node in graph.node:
        found.add((node.domain, node.op_type))
        for attribute in node.attribute:
            if attribute.HasField("g"):
                operators(attribute.g, found)


def reason_to_leave_out(case, listed):
    """Of the case, never of an operator that is listed."""
    found = set()
    operators(case.model.graph, found)
    if any(domain or op not in listed for domain, op in found):
        return "operator not listed"
    opset = next(o.version for o in case.model.opset_import if not o.domain)
    if opset > NEWEST_OPSET or opset < OLDEST_OPSET:
        return f"opset outside {OLDEST_OPSET} to {NEWEST_OPSET}"
    for value in list(case.model.graph.input) + list(case.model.graph.output):
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            return "sequences and optional values"
        if value.type.tensor_type.elem_type not in ELEMENT_TYPES:
            return "element type " + T.DataType.Name(value.type.tensor_type.elem_type)
    return None


def at_newest_opset(model):
    """The model as one of opset 23 where later opsets only added element types to its operators, which the checker tells."""
    if not any(not o.domain and o.version > NEWEST_OPSET for o in model.opset_import):
        return model
    older = onnx.ModelProto()
    older.CopyFrom(model)
    next(o for o in older.opset_import if not o.domain).version = NEWEST_OPSET
    try:
        onnx.checker.check_model(older, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return model
    return older


def write_case(case, folder):
    folder.mkdir()
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    (inputs, outputs), = case.data_sets
    for kind, values in (("input", inputs), ("output", outputs)):
        for index, value in enumerate(values):
            proto = value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value))
            (folder / f"{kind}_{index}.pb").write_bytes(proto.SerializeToString())
    return f"{case.name} {case.rtol} {case.atol} {len(inputs)} {len(outputs)}"


def main():
    # Made aside and renamed whole: several tests may find the folder missing at the same time.
    final = pathlib.Path(sys.argv[1])
    output = final.with_name(f"{final.name}.{os.getpid()}")
    listed = set((pathlib.Path(__file__).parent / "onnx_operators.txt").read_text().split())
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    warnings.simplefilter("ignore")
    lines, left_out = [], collections.Counter()
    for case in collect_testcases(None):
        case = dataclasses.replace(case, model=at_newest_opset(case.model))
        reason = reason_to_leave_out(case, listed)
        if reason:
            left_out[reason] += 1
        else:
            lines.append(write_case(case, output / case.name))
    (output / "cases.txt").write_text("\n".join(lines) + "\n")
    try:
        output.rename(final)
    except OSError:  # another one was first
        shutil.rmtree(output)
    print(f"{len(lines)} cases; left out: " + ", ".join(f"{reason} {count}" for reason, count in left_out.most_common()))


main()
