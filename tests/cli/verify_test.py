"""What `verify` proves: whatever is changed in a package is found."""

import json
import unittest

import command
import tiny_models


def split(data):
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def join(header, tensors):
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    return len(text).to_bytes(8, "little") + text + tensors


class Verify(command.CommandTest):
    def setUp(self):
        super().setUp()
        self.model = tiny_models.write_model(self.folder / "model", "llama_tied")
        self.package = self.make(self.model, "package.plk")

    def make(self, model, name):
        path = self.folder / name
        text = self.write("text.txt", tiny_models.make_text(words=300))
        self.succeed("quantize", model, "-o", path, "--scheme", "w4a8", "--group-size", "32", "--calib", text)
        return path

    def verify(self, package, *arguments):
        result = self.run_command("verify", package, "--json", *arguments)
        return result, json.loads(result.stdout)

    def edited(self, edit):
        header, tensors = split(self.package.read_bytes())
        metadata = json.loads(header["__metadata__"]["packlight"])
        edit(metadata)
        header["__metadata__"]["packlight"] = json.dumps(metadata, separators=(",", ":"))
        return self.write("edited.plk", join(header, tensors))

    def test_sound(self):
        result, findings = self.verify(self.package, "--against", self.model)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(all(findings[part]["ok"] for part in ("checksums", "logits", "recipe")), findings)

    def test_changed_metadata(self):
        for edit in (lambda m: m["config"].update(rope_theta=90000.0),
                     lambda m: m["config"].update(eos_tokens=[5]),
                     lambda m: m["formats"].update(default="int4:g32"),
                     lambda m: m["recipe"].update(unknown=1)):
            result, findings = self.verify(self.edited(edit))
            self.assertEqual(findings["checksums"]["damaged_blocks"], ["metadata"])
            self.check_verify_failure(result, "edited.plk", "metadata")

    def test_changed_weight(self):
        """A package of slightly other weights is sound in itself, but not what its recipe makes of the original."""
        name = "model.layers.0.mlp.down_proj.weight"
        other = tiny_models.write_model(self.folder / "other", "llama_tied",
                                        edit=lambda weights, config: weights[name].__imul__(1.02))
        result, findings = self.verify(self.make(other, "other.plk"), "--against", self.model)
        self.assertTrue(findings["checksums"]["ok"] and findings["logits"]["ok"], findings)
        self.check_verify_failure(result, "other.plk", "recipe")

    def test_another_configuration(self):
        """The same weights with another configuration: found against the original, because it is compared too."""
        other = tiny_models.write_model(self.folder / "other", "llama_tied",
                                        edit=lambda weights, config: config.update(rope_theta=20000.0))
        result, findings = self.verify(self.package, "--against", other)
        self.assertFalse(findings["recipe"]["ok"])
        self.check_verify_failure(result, "rope_theta")

    def check_verify_failure(self, result, *needles):
        self.assertEqual(result.returncode, 1, result.stderr)
        for needle in needles:
            self.assertIn(needle, result.stderr)


if __name__ == "__main__":
    unittest.main()
