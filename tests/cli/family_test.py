"""Every variant of the Llama family against llama.cpp: the same tiny random model through our executor and, exported to GGUF,
through llama-perplexity; dense tensors and the quantized package survive the way through the formats."""

import os
import re
import subprocess
import sys
import unittest

import gguf
import numpy as np

import command
import tiny_models

CONTEXT, CHUNKS = 128, 16
LLAMA_PERPLEXITY = command.CACHE / "llama" / "bin" / "llama-perplexity"


def tensors_of(path):
    return {t.name: (t.tensor_type, t.shape.tolist(), t.data.tobytes()) for t in gguf.GGUFReader(path).tensors}


class Family(command.CommandTest):
    def perplexity(self, model):
        result = self.succeed_json("eval", model, "--text", self.text, "--ctx", CONTEXT, "--chunks", CHUNKS)
        self.assertEqual(result["tokens"], CONTEXT * CHUNKS)
        return result["perplexity"]

    def llama_perplexity(self, model):
        arguments = [LLAMA_PERPLEXITY, "-m", model, "-f", self.text, "-c", CONTEXT, "-b", CONTEXT, "-t", 2]
        environment = dict(os.environ, LD_LIBRARY_PATH=str(LLAMA_PERPLEXITY.parent))
        # Its log is written by a thread that, on a busy machine, is now and then stopped at exit before the last line is out.
        for _ in range(5):
            result = subprocess.run([*map(str, arguments), "--chunks", str(CHUNKS)], capture_output=True, text=True,
                                    timeout=240, env=environment)
            self.assertEqual(result.returncode, 0, result.stderr[-2000:])
            found = re.search(r"PPL = ([0-9.]+)", result.stdout + result.stderr)
            if found:
                return float(found[1])
        self.fail(f"llama-perplexity printed no result in five runs: {result.stderr[-2000:]}")

    def check_ratio(self, ours, theirs, bound):
        self.assertLess(abs(ours / theirs - 1), bound, f"ours {ours}, llama.cpp {theirs}")

    def check_round_trip(self, model, dtype):
        """Folder to GGUF to folder to GGUF restores every tensor bit for bit."""
        first, back, second = (self.folder / f"{dtype}.{name}" for name in ("gguf", "back", "again.gguf"))
        self.succeed("export", model, "--format", "gguf", "-o", first)
        self.succeed("export", first, "--format", "hf", "-o", back)
        self.succeed("export", back, "--format", "gguf", "-o", second)
        self.check_equal(tensors_of(first), tensors_of(second))
        self.check_equal(self.safetensors(model), self.safetensors(back))

    def check_equal(self, want, got):
        """Tensors by name, without printing megabytes where they differ."""
        self.assertEqual(sorted(want), sorted(got))
        for name in want:
            self.assertEqual(want[name][:2], got[name][:2], name)
            self.assertTrue(want[name][2] == got[name][2], name)

    @staticmethod
    def safetensors(folder):
        """Matrices as stored; vectors, which GGUF holds in F32 whatever the matrices are, widened to that."""
        data = (folder / "model.safetensors").read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = command.json.loads(data[8 : 8 + size])
        header.pop("__metadata__", None)
        tensors = {}
        for name, t in header.items():
            dtype, blob = t["dtype"], data[8 + size :][slice(*t["data_offsets"])]
            if len(t["shape"]) == 1 and dtype != "F32":
                bits = np.frombuffer(blob, np.uint16)
                wide = bits.view(np.float16).astype(np.float32) if dtype == "F16" else bits.astype(np.uint32) << 16
                dtype, blob = "F32", wide.tobytes()
            tensors[name] = (dtype, t["shape"], blob)
        return tensors

    def check_variant(self, variant):
        self.text = self.write("text.txt", tiny_models.make_text(seed=3, words=1800))
        folder = tiny_models.write_model(self.folder / "model", variant)
        ours = self.perplexity(folder)
        for dtype in ("F16", "BF16"):
            self.check_round_trip(tiny_models.write_model(self.folder / dtype, variant, dtype), dtype)
        self.check_round_trip(folder, "F32")
        exported = self.folder / "F32.gguf"
        self.assertAlmostEqual(self.perplexity(exported) / ours, 1, delta=1e-6)
        self.check_ratio(ours, self.llama_perplexity(exported), 0.002)
        self.check_package(folder)

    def check_package(self, folder):
        package, exported = self.folder / "model.plk", self.folder / "package.gguf"
        self.succeed("quantize", folder, "-o", package, "--scheme", "w4a8", "--group-size", 32, "--calib", self.text,
                     "--calib-tokens", 512)
        self.succeed("verify", package, "--against", folder)
        self.succeed("export", package, "--format", "gguf", "-o", exported)
        self.check_ratio(self.perplexity(package), self.llama_perplexity(exported), 0.005)

    def test_llama_tied(self):
        self.check_variant("llama_tied")

    def test_llama_untied(self):
        self.check_variant("llama_untied")

    def test_llama3_rope(self):
        self.check_variant("llama3_rope")

    def test_mistral(self):
        self.check_variant("mistral")

    def test_qwen2(self):
        self.check_variant("qwen2")


if __name__ == "__main__":
    unittest.main()
