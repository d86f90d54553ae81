"""Writes tests/codec/ggml_golden.bin: random GGML blocks and what PyPI gguf makes of them, bit for bit.

Record: 8 bytes name, u32 blocks, u32 elements a block, block bytes, f32 values. Then the encoders: name "enc:Q4_0",
u32 blocks, u32 elements a block, f32 values, block bytes.
Usage: make_ggml_golden.py OUT
"""

import struct
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

DECODED = [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q4_K, T.Q5_K, T.Q6_K]
ENCODED = [T.Q4_0, T.Q4_1, T.Q8_0]
# Where a block keeps its F16 scales; those get finite values of every size, subnormals included.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2],
          T.Q6_K: [208]}


def random_blocks(kind, count, rng):
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in HALVES[kind]:
        patterns = rng.integers(0, 0x7C00, count).astype(np.uint16) | (rng.integers(0, 2, count).astype(np.uint16) << 15)
        blocks[:, at:at + 2] = patterns.view(np.uint8).reshape(count, 2)
    return blocks


def main():
    rng = np.random.default_rng(20240607)
    with open(sys.argv[1], "wb") as out:
        for kind in DECODED:
            elements, _ = gguf.GGML_QUANT_SIZES[kind]
            count = 6 if elements == 32 else 2
            blocks = random_blocks(kind, count, rng)
            values = gguf.quants.dequantize(blocks, kind)
            out.write(struct.pack("<8sII", kind.name.encode(), count, elements) + blocks.tobytes() + values.tobytes())
        for kind in ENCODED:
            values = (rng.standard_normal((8, 32)) * 10.0 ** rng.integers(-4, 3, (8, 1))).astype(np.float32)
            values[5] = 0
            values[6] = np.abs(values[6])
            values[7, 3:] = 0
            blocks = gguf.quants.quantize(values, kind)
            out.write(struct.pack("<8sII", b"enc:" + kind.name.encode(), 8, 32) + values.tobytes() + blocks.tobytes())


main()
