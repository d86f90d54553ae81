"""Checks that a package (tests/io/tiny_package.h) is a safetensors file as PyPI safetensors reads it.

Usage: check_package.py FILE
"""

import json
import struct
import sys

import numpy as np
from safetensors import safe_open

with safe_open(sys.argv[1], "np") as file:
    metadata = json.loads(file.metadata()["packlight"])
    assert metadata["format_version"] == 1
    assert metadata["config"]["hidden_size"] == 40
    assert bytes(file.get_tensor("tokenizer")) == b"the tokenizer"
    norm = file.get_tensor("model.norm.weight")
    assert norm.dtype == np.float32 and np.array_equal(norm, np.arange(1, 41, dtype=np.float32))

with open(sys.argv[1], "rb") as raw:
    size = struct.unpack("<Q", raw.read(8))[0]
    header = json.loads(raw.read(size))
for name, tensor in header.items():
    if name != "__metadata__" and not name.startswith("padding."):
        assert (8 + size + tensor["data_offsets"][0]) % 64 == 0, name
