#!/usr/bin/env python3
"""Writes tests/text/llama_golden.txt: how many ids llama.cpp gives the test texts, and their hash.

    PACKLIGHT_CACHE=... python3 tests/oracle/tokenizer_llama_golden.py > tests/text/llama_golden.txt

Lines: vocabulary (a path in the cache), text, parse_special, ids, FNV-1a 64 of the ids as little-endian int32.
Needs what scripts/setup --tests fetches, and a C++ compiler.
"""
import os
import pathlib
import subprocess
import tempfile

from tokenizer_texts import HERE, fnv1a, texts

VOCABULARIES = ["models/SmolLM2-135M-Instruct.Q4_1.gguf"] + [
    f"llama/src/models/ggml-vocab-{name}.gguf" for name in ("gpt-2", "llama-bpe", "qwen2", "llama-spm")
]


def main():
    cache = pathlib.Path(os.environ["PACKLIGHT_CACHE"])
    llama = cache / "llama"
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/ids"
        libraries = ["-l:libllama.v0.5.0.so", "-l:libggml.v0.5.0.so", "-l:libggml-base.so"]
        subprocess.run(["g++", "-std=c++17", "-O1", "-w", f"-I{llama}/src/include", f"-I{llama}/src/ggml/include",
                        f"{HERE}/tokenizer_llama_ids.cpp", "-o", program, f"-L{llama}/bin", *libraries,
                        f"-Wl,-rpath,{llama}/bin", "-Wl,--allow-shlib-undefined"], check=True)
        for name, data in texts().items():
            path = f"{folder}/{name}"
            pathlib.Path(path).write_bytes(data)
            for vocabulary in VOCABULARIES:
                for parse_special in (0, 1):
                    out = subprocess.run([program, cache / vocabulary, path, str(parse_special)], check=True,
                                         capture_output=True).stdout
                    ids = [int(line) for line in out.split()]
                    print(vocabulary, name, parse_special, len(ids), f"{fnv1a(ids):016x}")


if __name__ == "__main__":
    main()
