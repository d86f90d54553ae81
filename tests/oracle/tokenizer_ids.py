#!/usr/bin/env python3
"""Prints the ids that PyPI `tokenizers` gives texts: one line "count hash" for parse_special 0 and 1 of each text.

    tokenizer_ids.py TOKENIZER.json
"""
import sys

import tokenizers
from tokenizer_texts import fnv1a, texts

tokenizer = tokenizers.Tokenizer.from_file(sys.argv[1])
for name, data in texts().items():
    for parse_special in (0, 1):
        tokenizer.encode_special_tokens = not parse_special
        ids = tokenizer.encode(data.decode()).ids
        print(name, parse_special, len(ids), f"{fnv1a(ids):016x}")
