"""Writes tiny random language models as Hugging Face folders, one per variant of the Llama family, with real tokenizers.

    tiny_models.py FOLDER VARIANT [DTYPE]      VARIANT: see VARIANTS; DTYPE: F32 (default), F16, BF16

The weights are large enough that logits spread by several units: a mistake in rotary angles, biases, head mapping or masks
then changes the perplexity by far more than rounding does.
"""

import json
import pathlib
import random
import sys

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN, LAYERS = 128, 4, 2, 32, 192, 3

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

VARIANTS = {
    "llama_tied": dict(model_type="llama", architecture="LlamaForCausalLM", tied=True, tokenizer="smollm"),
    "llama_untied": dict(model_type="llama", architecture="LlamaForCausalLM", tied=False, tokenizer="gpt2"),
    "llama3_rope": dict(
        model_type="llama",
        architecture="LlamaForCausalLM",
        tied=True,
        tokenizer="llama3",
        rope_theta=10000.0,
        # Trained on 64 positions: the windows of the tests lie beyond.
        rope_scaling=dict(
            rope_type="llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
    ),
    "mistral": dict(model_type="mistral", architecture="MistralForCausalLM", tied=False, tokenizer="spm"),
    "qwen2": dict(model_type="qwen2", architecture="Qwen2ForCausalLM", tied=True, tokenizer="qwen2", bias=True),
}

WORDS = """the of and to in a is that for it as was with be by on not he his but at are this have from or had an they
which one you were all her she there would their we him been has when who will no more if out so up said what its about
than into them can only other time new some could these two may first then do any like my now over such our man me even
most made after also did many off before must well back through years much where your way down should because long each
just state those people too mister good make how very day world still own see men work life here while last might house
great old year against place again water light small number river mountain engine letter window garden paper number""".split()


def make_text(seed=7, words=3000):
    """English-looking prose: sentences of common words, some numbers and punctuation."""
    rng = random.Random(seed)
    lines, line = [], []
    while words > 0:
        sentence = [rng.choice(WORDS) for _ in range(rng.randint(4, 14))]
        if rng.random() < 0.2:
            sentence.insert(rng.randrange(len(sentence)), str(rng.randint(1, 2999)))
        words -= len(sentence)
        line.append(" ".join(sentence).capitalize() + rng.choice(".....!?"))
        if len(line) >= rng.randint(2, 6):
            lines.append(" ".join(line))
            line = []
    return "\n\n".join(lines) + "\n"


def byte_level(split, normalizer, specials):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([make_text()], trainer)
    return json.loads(tokenizer.to_str())


def sentencepiece():
    """The form in which Llama 2 and Mistral folders hold a SentencePiece vocabulary."""
    learner = tokenizers.Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    learner.train_from_iterator([make_text()], trainers.BpeTrainer(vocab_size=220, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    # Merged pieces in the order of their merges, then single characters: the order of a SentencePiece vocabulary.
    ranked = ["".join(m) if isinstance(m, list) else m.replace(" ", "") for m in learned["merges"]]
    pieces += ranked + sorted({*map(chr, range(33, 127)), *learned["vocab"]} - set(ranked))
    # SentencePiece joins any two neighbours whose union is a piece, best piece first: every split of a piece is a merge.
    ids = {p: i for i, p in enumerate(pieces)}
    splits = lambda p: [(p[:i], p[i:]) for i in range(1, len(p)) if p[:i] in ids and p[i:] in ids]
    merges = [list(m) for p in ranked for m in sorted(splits(p), key=lambda m: (ids[m[0]], ids[m[1]]))]
    special = [
        dict(id=i, content=pieces[i], single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
        for i in range(3)
    ]
    replace = lambda a, b: dict(type="Replace", pattern=dict(String=a), content=b)
    return dict(
        version="1.0",
        truncation=None,
        padding=None,
        added_tokens=special,
        normalizer=dict(type="Sequence", normalizers=[dict(type="Prepend", prepend="▁"), replace(" ", "▁")]),
        pre_tokenizer=None,
        post_processor=dict(
            type="TemplateProcessing",
            single=[dict(SpecialToken=dict(id="<s>", type_id=0)), dict(Sequence=dict(id="A", type_id=0))],
            pair=[dict(SpecialToken=dict(id="<s>", type_id=0)), dict(Sequence=dict(id="A", type_id=0)),
                  dict(SpecialToken=dict(id="<s>", type_id=1)), dict(Sequence=dict(id="B", type_id=1))],
            special_tokens={"<s>": dict(id="<s>", ids=[1], tokens=["<s>"])},
        ),
        decoder=dict(
            type="Sequence",
            decoders=[replace("▁", " "), dict(type="ByteFallback"), dict(type="Fuse"),
                      dict(type="Strip", content=" ", start=1, stop=0)],
        ),
        model=dict(
            type="BPE", dropout=None, unk_token="<unk>", continuing_subword_prefix=None, end_of_word_suffix=None,
            fuse_unk=True, byte_fallback=True, ignore_merges=False,
            vocab=ids, merges=merges,
        ),
    )


def make_tokenizer(kind):
    """tokenizer.json, tokenizer_config.json, id of begin and of end."""
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    bare = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = lambda pattern: pre_tokenizers.Sequence(
        [pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated"), bare]
    )
    if kind == "spm":
        config = dict(tokenizer_class="LlamaTokenizer", add_bos_token=True, add_eos_token=False,
                      bos_token="<s>", eos_token="</s>", unk_token="<unk>")
        return sentencepiece(), config, 1, 2
    if kind == "smollm":
        digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain])
        tokenizer = byte_level(digits, None, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
        return tokenizer, dict(tokenizer_class="GPT2Tokenizer", bos_token="<|im_start|>", eos_token="<|im_end|>"), 1, 2
    if kind == "gpt2":
        tokenizer = byte_level(plain, None, ["<|endoftext|>"])
        config = dict(tokenizer_class="GPT2Tokenizer", bos_token="<|endoftext|>", eos_token="<|endoftext|>")
        return tokenizer, config, 0, 0
    if kind == "llama3":
        tokenizer = byte_level(split(LLAMA3_PATTERN), None, ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
        tokenizer["model"]["ignore_merges"] = True
        begin = dict(SpecialToken=dict(id="<|begin_of_text|>", type_id=0))
        tokenizer["post_processor"] = dict(
            type="TemplateProcessing",
            single=[begin, dict(Sequence=dict(id="A", type_id=0))],
            pair=[begin, dict(Sequence=dict(id="A", type_id=0)), begin, dict(Sequence=dict(id="B", type_id=1))],
            special_tokens={"<|begin_of_text|>": dict(id="<|begin_of_text|>", ids=[0], tokens=["<|begin_of_text|>"])},
        )
        config = dict(tokenizer_class="PreTrainedTokenizerFast", bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")
        return tokenizer, config, 0, 2
    tokenizer = byte_level(split(QWEN2_PATTERN), normalizers.NFC(), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    config = dict(tokenizer_class="Qwen2Tokenizer", add_bos_token=False, bos_token=None, eos_token="<|im_end|>")
    return tokenizer, config, None, 2


def make_weights(variant, vocab, seed, ffn=FFN):
    rng = np.random.default_rng(seed)
    normal = lambda shape, std: (rng.standard_normal(shape) * std).astype(np.float32)
    linear = lambda rows, cols: normal((rows, cols), 1.4 / np.sqrt(cols))
    weights = {"model.embed_tokens.weight": normal((vocab, HIDDEN), 2.0 / np.sqrt(HIDDEN))}
    for layer in range(LAYERS):
        p = f"model.layers.{layer}."
        for name, rows in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            weights[f"{p}self_attn.{name}_proj.weight"] = linear(rows * HEAD_DIM, HIDDEN)
            if variant.get("bias"):
                weights[f"{p}self_attn.{name}_proj.bias"] = normal((rows * HEAD_DIM,), 0.7)
        weights[f"{p}self_attn.o_proj.weight"] = linear(HIDDEN, HEADS * HEAD_DIM)
        weights[f"{p}mlp.gate_proj.weight"] = linear(ffn, HIDDEN)
        weights[f"{p}mlp.up_proj.weight"] = linear(ffn, HIDDEN)
        weights[f"{p}mlp.down_proj.weight"] = linear(HIDDEN, ffn)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{p}{norm}.weight"] = 1 + normal((HIDDEN,), 0.2)
    weights["model.norm.weight"] = 1 + normal((HIDDEN,), 0.2)
    if not variant["tied"]:
        weights["lm_head.weight"] = normal((vocab, HIDDEN), 2.0 / np.sqrt(HIDDEN))
    return weights


def write_safetensors(path, weights, dtype):
    """By hand: numpy has no bfloat16."""
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, w in weights.items():
        if dtype == "BF16":
            bits = w.view(np.uint32).astype(np.uint64)
            blob = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
        else:
            blob = w.astype({"F32": np.float32, "F16": np.float16}[dtype]).tobytes()
        header[name] = dict(dtype=dtype, shape=list(w.shape), data_offsets=[offset, offset + len(blob)])
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def write_model(folder, variant_name, dtype="F32", seed=1, edit=None, ffn=FFN):
    """`edit(weights, config)` may change both before they are written."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    variant = VARIANTS[variant_name]
    tokenizer, tokenizer_config, bos, eos = make_tokenizer(variant["tokenizer"])
    vocab = len(tokenizer["model"]["vocab"])
    config = dict(
        architectures=[variant["architecture"]],
        model_type=variant["model_type"],
        hidden_size=HIDDEN,
        intermediate_size=ffn,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        vocab_size=vocab,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_theta=variant.get("rope_theta", 10000.0),
        rope_scaling=variant.get("rope_scaling"),
        hidden_act="silu",
        tie_word_embeddings=variant["tied"],
        bos_token_id=bos,
        eos_token_id=eos,
        torch_dtype={"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[dtype],
    )
    if variant["model_type"] == "mistral":
        config["sliding_window"] = None
    if variant["model_type"] == "qwen2":
        config["use_sliding_window"] = False
    weights = make_weights(variant, vocab, seed, ffn)
    if edit:
        edit(weights, config)
    write_safetensors(folder / "model.safetensors", weights, dtype)
    for name, content in (("config.json", config), ("tokenizer.json", tokenizer), ("tokenizer_config.json", tokenizer_config)):
        (folder / name).write_text(json.dumps(content, ensure_ascii=False))
    return folder


if __name__ == "__main__":
    write_model(*sys.argv[1:])
