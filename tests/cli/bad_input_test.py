"""What the command does with bad input: one line of error that names file, tensor and rule; no crash, no half-written output, no
earlier output lost, no temporary file left."""

import os
import resource
import signal
import subprocess
import unittest

import numpy as np

import command
import tiny_models

QUANTIZE = ("--scheme", "int4", "--group-size", "32", "--scale", "absmax")
UP = "model.layers.1.mlp.up_proj.weight"


class BadInput(command.CommandTest):
    def model(self, name="model", variant="llama_tied", **options):
        return tiny_models.write_model(self.folder / name, variant, **options)

    def package(self, model):
        path = self.folder / "model.plk"
        self.succeed("quantize", model, "-o", path, *QUANTIZE)
        return path

    def text(self):
        return self.write("text.txt", tiny_models.make_text(words=300))

    def out(self):
        return self.folder / "out.plk"

    def test_bad_flags(self):
        model = self.model()
        self.check_failure(self.run_command(), "subcommand")
        self.check_failure(self.run_command("eval", model), "--text")
        self.fail_with("eval", model, "--text", self.text(), "--ctx", "two", needles=["--ctx"])
        self.fail_with("eval", model, "--text", self.text(), "--chunks", "-1", needles=["--chunks"])
        self.fail_with("quantize", model, "-o", self.out(), "--scheme", "int5", "--group-size", 32, needles=["int5"])
        self.fail_with("frobnicate", needles=["frobnicate"])
        # The mistake is named, not what it makes missing.
        self.fail_with("quantize", model, "-o", self.out(), "--schem", "w4a8",
                       needles=["'--schem' is no option", "packlight quantize --help"])
        self.fail_with("eval", model, "more", "--text", self.text(), needles=["'more' is one argument too many"])
        self.fail_with("run", model, "-p", "Hi", "-n", "-5", needles=["--max-tokens", "-5"])

    def test_not_a_model(self):
        for name, content in (("empty", b""), ("noise", bytes(range(256)) * 40), ("text.txt", b"Once upon a time\n")):
            path = self.write(name, content)
            for arguments in (["inspect", path], ["eval", path, "--text", self.text()], ["verify", path],
                              ["quantize", path, "-o", self.out(), *QUANTIZE],
                              ["export", path, "--format", "gguf", "-o", self.folder / "out.gguf"],
                              ["run", path, "-p", "Hi"]):
                self.fail_with(*arguments, needles=[name])
        self.fail_with("inspect", self.folder / "absent.gguf", needles=["absent.gguf"])
        (self.folder / "bare").mkdir()
        self.fail_with("inspect", self.folder / "bare", needles=["bare"])

    def test_truncated_gguf(self):
        whole = self.folder / "whole.gguf"
        self.succeed("export", self.model(), "--format", "gguf", "-o", whole)
        data = whole.read_bytes()
        text = self.text()
        for size in (0, 3, 4, 8, 20, 24, 31, 100, 3000, len(data) // 2, len(data) - 1):
            cut = self.write("cut.gguf", data[:size])
            self.fail_with("eval", cut, "--text", text, needles=["cut.gguf"])
        self.fail_with("inspect", self.write("cut.gguf", b"GGUX" + data[4:]), needles=["cut.gguf"])
        huge = data[:8] + (2**63).to_bytes(8, "little") + data[16:]
        self.fail_with("inspect", self.write("cut.gguf", huge), needles=["cut.gguf"])

    def test_missing_tensor(self):
        model = self.model(edit=lambda weights, config: weights.pop(UP))
        self.fail_with("quantize", model, "-o", self.out(), *QUANTIZE, needles=[UP])
        self.fail_with("eval", model, "--text", self.text(), needles=[UP])

    def test_wrong_shape(self):
        model = self.model(edit=lambda weights, config: config.update(intermediate_size=224))
        self.fail_with("quantize", model, "-o", self.out(), *QUANTIZE, needles=["mlp", "224"])

    def test_nan_weight(self):
        def poison(weights, config):
            weights[UP][3, 5] = np.nan

        model = self.model(edit=poison)
        self.fail_with("quantize", model, "-o", self.out(), *QUANTIZE, needles=[model, UP, "nan"])
        self.fail_with("eval", model, "--text", self.text(), "--ctx", 64, needles=[model, UP, "finite"])

        def overflow(weights, config):
            weights[UP][3, 5] = np.inf

        self.fail_with("quantize", self.model(edit=overflow), "-o", self.out(), *QUANTIZE, needles=[UP, "inf"])

    def test_impossible_group(self):
        model = self.model()
        for size in ("100", "0", "-32", "33", "9999999999999999999999", "rows", ""):
            self.fail_with("quantize", model, "-o", self.out(), "--scheme", "int4", "--group-size", size, needles=["group"])

    def test_text_without_tokens(self):
        model, empty = self.model(), self.write("empty.txt", "")
        self.fail_with("eval", model, "--text", empty, needles=["empty.txt", "no tokens"])
        self.fail_with("eval", model, "--text", self.write("line.txt", "\n"), needles=["line.txt", "no tokens"])
        self.fail_with("eval", model, "--text", self.folder / "absent.txt", needles=["absent.txt"])
        binary = self.write("binary.txt", b"Once\0upon a time")
        self.fail_with("eval", model, "--text", binary, needles=["binary.txt", "no plain text", "byte 4"])
        self.fail_with("quantize", model, "-o", self.out(), "--scheme", "int4", "--group-size", 32, "--calib", binary,
                       needles=["binary.txt", "no plain text", "byte 4"])
        self.fail_with("quantize", model, "-o", self.out(), "--scheme", "int4", "--group-size", 32, "--calib", empty,
                       needles=["empty.txt"])

    def test_short_text(self):
        self.fail_with("eval", self.model(), "--text", self.write("short.txt", "Only a few words."),
                       needles=["fewer than one chunk of 512"])

    def test_different_vocabularies(self):
        self.fail_with("eval", self.model(), "--text", self.text(), "--against", self.model("other", "mistral"),
                       needles=["vocabular"])

    def test_damaged_package(self):
        package = self.package(self.model())
        self.succeed("verify", package)
        data = bytearray(package.read_bytes())
        data[len(data) // 2] ^= 0x10
        damaged = self.write("damaged.plk", bytes(data))
        result = self.run_command("verify", damaged)
        self.check_failure(result, "damaged.plk", "model.layers", prints=True)
        self.fail_with("export", damaged, "--format", "gguf", "-o", self.folder / "out.gguf",
                       needles=["damaged.plk", "model.layers", "checksum"])
        for size in (0, 7, 8, 100, len(data) // 3, len(data) - 1):
            self.fail_with("run", self.write("cut.plk", bytes(data[:size])), "-p", "Hi", needles=["cut.plk"])

    def writers(self):
        """Each command that writes, with its output's name and whether it writes a folder."""
        model = self.model()
        package = self.package(model)
        return [
            (["quantize", model, *QUANTIZE], "out.plk", False),
            (["export", package, "--format", "gguf"], "out.gguf", False),
            (["export", package, "--format", "hf"], "out_hf", True),
        ]

    def test_full_disk(self):
        for arguments, name, folder in self.writers():
            # No file may grow beyond 20 kB: writes fail halfway as on a full disk.
            limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
            target = self.folder / name
            if not folder:
                target.write_text("an earlier output")
            self.fail_with(*arguments, "-o", target, preexec_fn=limit, needles=[name])
            if folder:
                self.assertFalse(target.exists(), "a half-written folder")

    def test_unwritable_output(self):
        for arguments, name, _ in self.writers():
            self.fail_with(*arguments, "-o", self.folder / "absent" / "deeper" / name, needles=["absent"])
        occupied = self.folder / "occupied"
        occupied.mkdir()
        (occupied / "kept").write_text("kept")
        for arguments, _, folder in self.writers():
            if not folder:
                self.fail_with(*arguments, "-o", occupied, needles=["occupied"])

    @unittest.skipUnless(command.SMOLLM.exists(), "needs the model that scripts/setup fetches")
    def test_interrupted(self):
        target = self.out()
        target.write_text("an earlier output")
        text = self.text()
        before = self.contents()
        with subprocess.Popen(
            [command.BINARY, "quantize", command.SMOLLM, "-o", target, "--scheme", "w4a8", "--group-size", "32", "--calib", text],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            self.assertTrue(any("rounding [" in line for line in process.stderr), "ended before it could be interrupted")
            process.send_signal(signal.SIGINT)
            errors, output = process.stderr.read(), process.stdout.read()
        self.check_failure(subprocess.CompletedProcess([], process.returncode, output, errors), code=130)
        self.assertEqual(self.contents(), before)

    def test_wrong_kind(self):
        model = self.model()
        package = self.package(model)
        self.fail_with("run", model, "-p", "Hi", needles=["package"])
        self.fail_with("bench", model, needles=["package"])
        self.fail_with("verify", model, needles=["package"])
        self.fail_with("quantize", package, "-o", self.out(), *QUANTIZE, needles=["packed", "quantize the original"])

    def test_hostile_name(self):
        name = "model.layers.0.\x1b[31m\nfake: all is well"
        model = self.model(edit=lambda weights, config: weights.update({name: np.zeros((2, 2), np.float32)}))
        result = self.run_command("quantize", model, "-o", self.out(), *QUANTIZE)
        self.check_failure(result)
        self.assertNotIn("\x1b", result.stderr)

    def test_own_output(self):
        gguf = self.folder / "model.gguf"
        self.succeed("export", self.model(), "--format", "gguf", "-o", gguf)
        self.fail_with("quantize", gguf, "-o", gguf, *QUANTIZE, needles=["model.gguf", "the model itself"])
        self.fail_with("export", gguf, "--format", "gguf", "-o", gguf, needles=["model.gguf", "the model itself"])

    def test_full_standard_output(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run([command.BINARY, "inspect", self.model(), "--json"], stdout=full, stderr=subprocess.PIPE,
                                    text=True, timeout=60)
        self.assertEqual(result.returncode, 1)
        self.assertIn("No space left", result.stderr)
        self.assertNotIn("internal", result.stderr)

    def test_too_long_a_window(self):
        model = self.model(edit=lambda weights, config: config.update(max_position_embeddings=128))
        text = self.write("long.txt", tiny_models.make_text(words=900))
        self.fail_with("eval", model, "--text", text, "--ctx", 256, needles=[model, "256", "128 positions"])
        package = self.package(model)
        self.fail_with("eval", package, "--text", text, "--ctx", 256, needles=[package, "256", "128 positions"])
        self.fail_with("bench", package, "-p", 129, needles=[package, "129", "128 positions"])
        self.succeed("quantize", model, "-o", self.out(), "--scheme", "w4a8", "--group-size", 32, "--calib", text)

    def test_name_not_utf8(self):
        gguf = self.folder / "model.gguf"
        self.succeed("export", self.model(), "--format", "gguf", "-o", gguf)
        data = gguf.read_bytes()
        start = data.index(b"general.name") + len("general.name") + 4 + 8
        bad = self.write("bad.gguf", data[:start] + b"\xff" + data[start + 1 :])
        for arguments in (["inspect", bad], ["quantize", bad, "-o", self.out(), *QUANTIZE]):
            self.fail_with(*arguments, needles=["bad.gguf", "general.name"])

    def test_sliding_window(self):
        """llama.cpp ignores the window, so a GGUF must not reach beyond it."""
        def edit(weights, config):
            config.update(sliding_window=64, max_position_embeddings=512)

        model, gguf = self.model(variant="mistral", edit=edit), self.folder / "model.gguf"
        self.fail_with("export", model, "--format", "gguf", "-o", gguf, needles=[model, "sliding window", "--context 64"])
        self.succeed("export", model, "--format", "gguf", "-o", gguf, "--context", 64)
        self.assertEqual(self.succeed_json("inspect", gguf)["architecture"]["max_positions"], 64)
        self.fail_with("export", model, "--format", "gguf", "-o", gguf, "--context", 513, needles=["513", "512 positions"])


if __name__ == "__main__":
    unittest.main()
