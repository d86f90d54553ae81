"""The texts that tokenizers are compared on, and the hash that stands for ids. tests/text/test_texts.h makes the same."""
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent
AWKWARD = HERE.parent / "text" / "awkward.txt"
LONG_BYTES = 1 << 20


def texts():
    """"awkward" is the committed file; "long" a megabyte of its lines in an order from a linear congruential generator."""
    awkward = AWKWARD.read_bytes()
    lines = awkward.split(b"\n")
    out, state, size = [], 1, 0
    while size < LONG_BYTES:
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        line = lines[(state >> 33) % len(lines)]
        out.append(line)
        size += len(line) + 1
    return {"awkward": awkward, "long": b" ".join(out)}


def fnv1a(ids):
    value = 0xCBF29CE484222325
    for byte in struct.pack(f"<{len(ids)}i", *ids):
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return value
