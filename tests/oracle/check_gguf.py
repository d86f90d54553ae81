"""Checks with PyPI gguf that a file written by tests/io/oracle_test.cpp holds what that test gave.

Usage: check_gguf.py FILE
"""

import sys

import gguf
import numpy as np

WANT = {
    "general.architecture": "llama",
    "u8": 200,
    "i8": -100,
    "u16": 60000,
    "i16": -30000,
    "u32": 4000000000,
    "i32": -2000000000,
    "u64": 1 << 63,
    "i64": -(1 << 63),
    "f32": 1.5,
    "f64": -0.1,
    "bool": True,
    "text": "\u00e9\u4e2d",
    "list i32": [1, -2, 3],
    "list f32": [0.5],
    "list bool": [True, False],
    "list text": ["a", "", "bc"],
}

reader = gguf.GGUFReader(sys.argv[1])
assert reader.fields["GGUF.version"].contents() == 3
for key, want in WANT.items():
    got = reader.fields[key].contents()
    assert got == want, (key, got, want)
assert len(reader.fields) == len(WANT) + 3, list(reader.fields)
tensors = {t.name: t for t in reader.tensors}
assert sorted(tensors) == ["blocks", "matrix", "vector"], list(tensors)
assert tensors["matrix"].data.shape == (4, 16)
assert np.array_equal(tensors["matrix"].data, np.arange(64, dtype=np.float32).reshape(4, 16))
assert np.array_equal(tensors["vector"].data, np.arange(3, dtype=np.float32))
decoded = gguf.quants.dequantize(tensors["blocks"].data, tensors["blocks"].tensor_type)
again = gguf.quants.quantize(np.arange(64, dtype=np.float32).reshape(2, 32), gguf.GGMLQuantizationType.Q8_0)
assert decoded.shape == (2, 32) and np.array_equal(tensors["blocks"].data, again)
for tensor in reader.tensors:
    assert tensor.data_offset % 32 == 0, tensor.name
