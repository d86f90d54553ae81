#!/usr/bin/env python3
"""Writes src/text/nfc_table.inc, the canonical decompositions and combining classes of this Python's Unicode version.

    python3 tests/oracle/tokenizer_nfc_table.py > src/text/nfc_table.inc
"""
import unicodedata


def main():
    decompositions, classes = [], []
    for code in range(0x110000):
        char = chr(code)
        mapping = unicodedata.decomposition(char)
        if mapping and not mapping.startswith("<"):
            parts = [int(part, 16) for part in mapping.split()]
            second = parts[1] if len(parts) == 2 else 0
            composes = second != 0 and unicodedata.normalize("NFC", "".join(map(chr, parts))) == char
            decompositions.append((code, parts[0], second, int(composes)))
        combining = unicodedata.combining(char)
        if combining:
            if classes and classes[-1][1] == code - 1 and classes[-1][2] == combining:
                classes[-1][1] = code
            else:
                classes.append([code, code, combining])
    print(f"// Unicode {unicodedata.unidata_version}. Written by tests/oracle/tokenizer_nfc_table.py; do not edit.")
    print("// clang-format off")
    print("constexpr Decomposition kDecompositions[] = {")
    write(f"{{0x{c:X},0x{a:X},0x{b:X},{k}}}" for c, a, b, k in decompositions)
    print("};\nconstexpr CombiningRange kCombiningRanges[] = {")
    write(f"{{0x{a:X},0x{b:X},{k}}}" for a, b, k in classes)
    print("};\n// clang-format on")


def write(items):
    line = ""
    for item in items:
        if len(line) + len(item) + 1 > 100:
            print(line)
            line = ""
        line += item + ","
    print(line)


if __name__ == "__main__":
    main()
