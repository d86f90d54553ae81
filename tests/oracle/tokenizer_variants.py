#!/usr/bin/env python3
"""Writes tokenizer.json files that differ in one thing each, and what PyPI `tokenizers` makes of the awkward text.

    tokenizer_variants.py FOLDER   ->   FOLDER/NAME.json, FOLDER/NAME.PARSE_SPECIAL.ids, one id a line, and
                                        FOLDER/NAME.decoded of the ids with parse_special 0
"""
import json
import pathlib
import sys

import tokenizers
from tokenizer_texts import AWKWARD
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
SPLIT = tokenizers.Regex
BYTES = pre_tokenizers.ByteLevel


def split(pattern):
    return pre_tokenizers.Split(SPLIT(pattern), "isolated")


def train(pre, normalizer=None, size=700, alphabet=None, byte_fallback=False):
    if byte_fallback:
        model = models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>")
        special = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    else:
        model, special = models.BPE(), []
    out = tokenizers.Tokenizer(model)
    if normalizer is not None:
        out.normalizer = normalizer
    if pre is not None:
        out.pre_tokenizer = pre
    trainer = trainers.BpeTrainer(vocab_size=size + 256 * byte_fallback, special_tokens=special, show_progress=False,
                                  initial_alphabet=alphabet or [], limit_alphabet=200 if byte_fallback else 1000)
    lines = [line + "\n" for line in AWKWARD.read_bytes().decode().split("\n")]
    out.train_from_iterator(lines * 3, trainer)
    if byte_fallback:  # byte tokens are no added tokens in published files
        document = json.loads(out.to_str())
        document["added_tokens"] = [t for t in document["added_tokens"] if not t["content"].startswith("<0x")]
        out = tokenizers.Tokenizer.from_str(json.dumps(document))
    return out


def byte_level(pre, normalizer=None, **options):
    out = train(pre, normalizer, alphabet=BYTES.alphabet(), **options)
    out.decoder = decoders.ByteLevel()
    return out


def sentencepiece(pre, normalizer, strip=True):
    out = train(pre, normalizer, byte_fallback=True)
    parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    out.decoder = decoders.Sequence(parts + ([decoders.Strip(" ", 1, 0)] if strip else []))
    return out


def legacy():
    return normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])


def edit(tokenizer, change):
    document = json.loads(tokenizer.to_str())
    change(document)
    return document


def added(tokenizer, *tokens):
    tokenizer.add_tokens([token for token in tokens if not token.special])
    tokenizer.add_special_tokens([token for token in tokens if token.special])
    return tokenizer


def special(content, **options):
    return AddedToken(content, special=True, **{"normalized": False, **options})


def variants():
    sequence = pre_tokenizers.Sequence
    out = {}
    out["gpt2"] = byte_level(BYTES(add_prefix_space=False))
    out["gpt2_prefix_space"] = byte_level(BYTES(add_prefix_space=True))
    out["smollm"] = byte_level(sequence([pre_tokenizers.Digits(True), BYTES(add_prefix_space=False)]))
    out["digit_runs"] = byte_level(sequence([pre_tokenizers.Digits(False), BYTES(add_prefix_space=False)]))
    out["llama3"] = byte_level(sequence([split(LLAMA3), BYTES(add_prefix_space=False, use_regex=False)]))
    out["qwen2"] = byte_level(sequence([split(QWEN2), BYTES(add_prefix_space=False, use_regex=False)]),
                              normalizers.NFC())
    out["two_splits"] = byte_level(sequence([split(r"\p{N}{1,3}"), split(r"[^\s]+|\s+"), BYTES(False, use_regex=False)]))
    out["no_split"] = byte_level(BYTES(add_prefix_space=False, use_regex=False))

    def ignore_merges(document):
        document["model"]["ignore_merges"] = True
        # Words that merging alone would not reach.
        for word in ("Plain", "\u0120words", "\u0120\u0120\u0120", "Ac"):
            document["model"]["vocab"].setdefault(word, len(document["model"]["vocab"]))
        document["model"]["merges"] = document["model"]["merges"][:150]

    out["ignore_merges"] = edit(out["llama3"], ignore_merges)

    def merges_as_text(document):
        document["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in document["model"]["merges"]]

    def merges_as_pairs(document):
        document["model"]["merges"] = [m.split(" ") if isinstance(m, str) else m for m in document["model"]["merges"]]

    out["merges_as_text"] = edit(out["gpt2"], merges_as_text)
    out["merges_as_pairs"] = edit(out["gpt2"], merges_as_pairs)

    # Bytes that the vocabulary lacks vanish, or become the unknown token.
    def fewer_bytes(document):
        for byte in ("\u0120a", "\u0100", "\u0101", "\u00ff", "\u00e2"):
            gone = {token for token in document["model"]["vocab"] if byte in token}
            document["model"]["vocab"] = {
                token: i for i, token in enumerate(t for t in document["model"]["vocab"] if t not in gone)
            }
            pairs = [m.split(" ") if isinstance(m, str) else m for m in document["model"]["merges"]]
            document["model"]["merges"] = [m for m in pairs if not gone & {m[0], m[1], m[0] + m[1]}]

    def unknown(document):
        fewer_bytes(document)
        document["model"]["vocab"]["<unk>"] = len(document["model"]["vocab"])
        document["model"]["unk_token"] = "<unk>"

    def fused(document):
        unknown(document)
        document["model"]["fuse_unk"] = True

    out["missing_bytes"] = edit(out["gpt2"], fewer_bytes)
    out["unknown_bytes"] = edit(out["gpt2"], unknown)
    out["fused_unknown_bytes"] = edit(out["gpt2"], fused)

    chat = [special("<|im_start|>"), special("<|im_end|>"), special("<|endoftext|>")]
    out["special"] = added(byte_level(BYTES(add_prefix_space=False)), *chat)
    out["lstrip"] = added(byte_level(BYTES(add_prefix_space=False)), special("<s>", lstrip=True),
                          special("<|im_end|>", rstrip=True), special("<|endoftext|>", lstrip=True, rstrip=True))
    out["single_word"] = added(byte_level(BYTES(add_prefix_space=False)),
                               AddedToken("ab", single_word=True, normalized=False),
                               AddedToken("the", single_word=True), AddedToken("x", single_word=True, normalized=False))
    out["overlapping"] = added(byte_level(BYTES(add_prefix_space=False)), AddedToken("ab", normalized=False),
                               AddedToken("bab", normalized=False), AddedToken("aaa", normalized=False),
                               AddedToken("<|im_", normalized=False), special("<|im_start|>"))
    out["nfc_added"] = added(byte_level(BYTES(add_prefix_space=False), normalizers.NFC()),
                             AddedToken("caf\u00e9", normalized=True), AddedToken("nai\u0308ve", normalized=False))
    template = byte_level(BYTES(add_prefix_space=False))
    added(template, *chat)
    pair = [("<|im_start|>", template.token_to_id("<|im_start|>")), ("<|im_end|>", template.token_to_id("<|im_end|>"))]
    template.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single="<|im_start|> $A <|im_end|>", pair="<|im_start|> $A $B",
                                      special_tokens=pair)])
    out["template"] = template

    out["llama2"] = sentencepiece(None, legacy())
    out["llama2_plain"] = sentencepiece(None, normalizers.Replace(" ", "\u2581"), strip=False)
    out["llama2_added"] = added(sentencepiece(None, legacy()), special("<|im_end|>"), AddedToken("the", normalized=True),
                                AddedToken("abab", normalized=False))

    def normalized(document):
        for token in document["added_tokens"]:
            token["normalized"] = True

    out["llama2_normalized"] = edit(out["llama2"], normalized)
    for scheme in ("always", "first", "never"):
        for cut in (True, False):
            metaspace = pre_tokenizers.Metaspace("\u2581", prepend_scheme=scheme, split=cut)
            name = f"metaspace_{scheme}_{'split' if cut else 'whole'}"
            out[name] = sentencepiece(metaspace, None, strip=scheme != "never")
    return out


def main():
    folder = pathlib.Path(sys.argv[1])
    text = AWKWARD.read_bytes().decode()
    for name, tokenizer in variants().items():
        document = tokenizer if isinstance(tokenizer, dict) else json.loads(tokenizer.to_str())
        path = folder / f"{name}.json"
        path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        loaded = tokenizers.Tokenizer.from_file(str(path))
        for parse_special in (0, 1):
            loaded.encode_special_tokens = not parse_special
            ids = loaded.encode(text).ids
            (folder / f"{name}.{parse_special}.ids").write_text("\n".join(map(str, ids)))
            if parse_special == 0:
                (folder / f"{name}.decoded").write_bytes(loaded.decode(ids).encode())


if __name__ == "__main__":
    main()
