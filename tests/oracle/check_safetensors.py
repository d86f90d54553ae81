"""Checks with PyPI safetensors a file written by tests/io/oracle_test.cpp, and writes the same tensors its own way.

Usage: check_safetensors.py FILE OUT
"""

import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

with safe_open(sys.argv[1], "np") as file:
    assert file.metadata() == {"k": "v \u00e9"}, file.metadata()
    tensors = {name: file.get_tensor(name) for name in file.keys()}
assert sorted(tensors) == ["f16", "f32", "i64"], list(tensors)
assert np.array_equal(tensors["f32"], np.array([[1, 2, 3], [4, 5, 6]], np.float32))
assert np.array_equal(tensors["f16"], np.array([0.5, -2], np.float16))
assert np.array_equal(tensors["i64"], np.array([-1, (1 << 63) - 1]))
save_file(tensors, sys.argv[2], {"k": "v \u00e9"})
