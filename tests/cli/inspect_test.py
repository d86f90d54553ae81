"""What `packlight inspect` says about each format, against what the test itself wrote."""

import unittest

import command
import tiny_models


class Inspect(command.CommandTest):
    def setUp(self):
        super().setUp()
        self.model = tiny_models.write_model(self.folder / "model", "llama_untied")

    def check_architecture(self, result):
        a = result["architecture"]
        self.assertEqual(
            (a["family"], a["layers"], a["hidden_size"], a["heads"], a["kv_heads"], a["head_dim"], a["ffn_size"]),
            ("llama", tiny_models.LAYERS, tiny_models.HIDDEN, tiny_models.HEADS, tiny_models.KV_HEADS,
             tiny_models.HEAD_DIM, tiny_models.FFN),
        )
        self.assertFalse(a["tied_embeddings"])
        # Keys and values, F16, of every KV head of every layer.
        self.assertEqual(result["kv_bytes_per_token"]["f16"], 2 * 2 * 3 * 2 * 32)
        self.assertEqual(result["tokenizer"]["vocab_size"], a["vocab_size"])
        self.assertEqual(result["tokenizer"]["eos"], "<|endoftext|>")

    def tensor(self, result, name):
        return next(t for t in result["tensors"] if t["name"] == name)

    def test_hf_folder(self):
        result = self.succeed_json("inspect", self.model)
        self.check_architecture(result)
        up = self.tensor(result, "model.layers.1.mlp.up_proj.weight")
        self.assertEqual((up["dtype"], up["shape"], up["bytes"]), ("F32", [192, 128], 192 * 128 * 4))
        self.assertEqual(result["bits_per_weight"], 32)
        self.assertIn("model.layers.1.mlp.up_proj.weight", self.succeed("inspect", self.model))

    def test_gguf(self):
        path = self.folder / "model.gguf"
        self.succeed("export", self.model, "--format", "gguf", "-o", path)
        result = self.succeed_json("inspect", path)
        self.check_architecture(result)
        self.assertEqual(self.tensor(result, "blk.2.ffn_down.weight")["shape"], [128, 192])
        self.assertIn("blk.2.ffn_down.weight", self.succeed("inspect", path))

    def test_package(self):
        path = self.folder / "model.plk"
        self.succeed("quantize", self.model, "-o", path, "--scheme", "w4a8", "--group-size", 32, "--scale", "absmax")
        result = self.succeed_json("inspect", path)
        self.check_architecture(result)
        up = self.tensor(result, "model.layers.1.mlp.up_proj.weight")
        # Half a byte a weight and an F16 scale per 32: 12 row tiles of 16.
        self.assertEqual((up["dtype"], up["bytes"]), ("w4a8:g32", 192 * 128 // 2 + 192 * 4 * 2))
        self.assertEqual(result["package"]["size_bytes"], path.stat().st_size)
        self.assertIn("recipe", self.succeed("inspect", path))

    def test_compressed_folder(self):
        package, folder = self.folder / "model.plk", self.folder / "compressed"
        self.succeed("quantize", self.model, "-o", package, "--scheme", "int4", "--group-size", 32, "--scale", "absmax")
        self.succeed("export", package, "--format", "hf", "-o", folder)
        result = self.succeed_json("inspect", folder)
        # Packed words and scales are no parameters of their own.
        self.assertEqual(result["parameters"], self.succeed_json("inspect", self.model)["parameters"])
        up = self.tensor(result, "model.layers.1.mlp.up_proj.weight")
        self.assertEqual((up["dtype"], up["shape"]), ("INT4", [192, 128]))
        # Half a byte a weight, an F16 scale per 32, the shape as two I64.
        self.assertEqual(up["bytes"], 192 * 128 // 2 + 192 * 4 * 2 + 16)

    def test_graph(self):
        text = self.succeed("inspect", self.model, "--graph")
        for word in ("RMSNormalization", "RotaryEmbedding", "Attention", "model.layers.2.mlp.up_proj.weight", "logits"):
            self.assertIn(word, text)


if __name__ == "__main__":
    unittest.main()
