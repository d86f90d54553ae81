"""Decodes every tensor of a GGUF file with PyPI gguf and writes the F32 values one after the other.

Usage: decode_gguf.py IN.gguf OUT
"""

import sys

import gguf
import numpy as np

reader = gguf.GGUFReader(sys.argv[1])
with open(sys.argv[2], "wb") as out:
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        out.write(np.ascontiguousarray(values, dtype=np.float32).tobytes())
