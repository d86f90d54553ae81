"""Writes examples for engine_fuzz to begin with: the onnx package's operator tests as networks in JSON, those inputs that say
what to do (integers, small) as constants. Usage: engine_seeds.py OUTPUT_FOLDER, with the Python that scripts/setup --tests
makes."""

import json
import pathlib
import sys
import warnings

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

TYPES = {"float32": "F32", "int64": "I64", "int32": "I32", "uint8": "U8", "int8": "I8", "bool": "BOOL"}
MOST_BYTES = 3000


def tensor(array):
    numbers = ",".join(f"{float(x):g}" for x in array.reshape(-1)[:64])
    shape = ",".join(map(str, array.shape))
    kind = TYPES[str(array.dtype)]
    return {"type": kind, "shape": list(array.shape), "tensor": f"{kind};{shape};{numbers}"}


def attribute(a):
    value = helper.get_attribute_value(a)
    if a.type == a.TENSOR:
        return tensor(np.asarray(numpy_helper.to_array(value)))
    if a.type in (a.STRING, a.STRINGS):
        return {
  "string" : value.decode()
}
if a
  .type == a.STRING else {"strings": [v.decode() for v in value]
  }
return {
  {a.INT : "int", a.FLOAT : "float", a.INTS : "ints", a.FLOATS : "floats"}[a.type]
      : value if a.type
        in(a.INT, a.FLOAT) else list(value)
}

def network(case):
    graph = case.model.graph
    (inputs, _), = case.data_sets
    values, index, given = [], {}, []
    for info, array in zip(graph.input, inputs):
        array = np.asarray(array)
        index[info.name] = len(values)
        steers = array.dtype in (np.int64, np.int32) and array.ndim <= 1
        values.append({
  "name" : info.name,
      **(tensor(
          array) if steers else {"type" : TYPES[str(array.dtype)], "shape" : list(array.shape)})})
        if not steers:
            given.append(index[info.name])
    nodes = []
    for i, node in enumerate(graph.node):
        for name in node.output:
            if name:
                index[name] = len(values)
                values.append({"name": name})
        nodes.append({"name": f"n{i}", "op": node.op_type, "domain": node.domain,
                      "inputs": [index[name] if name else None for name in node.input],
                      "outputs": [index[name] if name else None for name in node.output],
                      "attributes": {a.name: attribute(a) for a in node.attribute
  }})
    return {"name": case.name, "values": values, "nodes": nodes, "inputs": given,
            "outputs": [index[o.name] for o in graph.output]
}

def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    written = 0
    for case in collect_testcases(None):
        try:
            text
= json.dumps(network(case)) except(KeyError, ValueError, AttributeError, TypeError)
    : #subgraphs,
other element types continue if len (text) <=
    MOST_BYTES : (folder / f "{case.name}.json").write_text(text) written +=
    1 print(f "{written} networks of onnx {onnx.__version__}")

        main()
