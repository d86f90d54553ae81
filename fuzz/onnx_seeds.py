"""Writes examples for onnx_fuzz to begin with: the smallest models of the onnx package's own operator tests, and one with
functions. Usage: onnx_seeds.py OUTPUT_FOLDER, with the Python that scripts/setup --tests makes."""

import pathlib
import sys
import warnings

import onnx
from onnx import TensorProto, helper
from onnx.backend.test.case.node import collect_testcases

MOST_BYTES = 1500


def functions():
    """A model whose node is a function that calls another."""
    inner = helper.make_function("local", "Inner", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])],
                                 [helper.make_opsetid("", 17)])
    outer = helper.make_function("local", "Outer", ["a"], ["c"],
                                 [helper.make_node("Inner", ["a"], ["b"], domain="local"),
                                  helper.make_node("Inner", ["b"], ["c"], domain="local")],
                                 [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)])
    tensor = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Outer", ["x"], ["y"], domain="local")], "g", tensor[:1], tensor[1:])
    return helper.make_model(graph, functions=[inner, outer], opset_imports=outer.opset_import)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    written = 0
    for name, model in [("functions", functions())] + [(case.name, case.model) for case in collect_testcases(None)]:
        for opset in model.opset_import:
            opset.version = min(opset.version, 23) if not opset.domain else opset.version
        data = model.SerializeToString()
        if len(data) <= MOST_BYTES:
            (folder / f"{name}.onnx").write_bytes(data)
            written += 1
    print(f"{written} models of onnx {onnx.__version__}")


main()
