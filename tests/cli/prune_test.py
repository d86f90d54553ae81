"""`prune` on tiny models: what comes out is as sparse as it says, other libraries read it, and bad wishes are refused."""

import json
import signal
import subprocess
import unittest

import numpy as np
from safetensors.numpy import load_file

import command
import tiny_models


def is_layer(name):
    return name.startswith("model.layers.") and name.endswith("_proj.weight")


class Prune(command.CommandTest):
    def setUp(self):
        super().setUp()
        self.model = tiny_models.write_model(self.folder / "model", "llama_tied")
        self.text = self.write("text.txt", tiny_models.make_text(words=600))

    def out(self):
        return self.folder / "out"

    def prune(self, *flags):
        return self.succeed_json("prune", self.model, "-o", self.out(), *flags)

    def test_unstructured(self):
        """Exactly the share that was asked for goes, from every layer; all else is as it was."""
        before = load_file(self.model / "model.safetensors")
        for flags in (("--criterion", "magnitude"), ("--criterion", "random", "--seed", 3),
                      ("--criterion", "wanda", "--calib", self.text), ("--calib", self.text),
                      ("--calib", self.text, "--repair", "obs", "--undo-drift", 0)):
            report = self.prune("--method", "unstructured", "--ratio", 0.3, *flags)
            after = load_file(self.out() / "model.safetensors")
            self.assertEqual(before.keys(), after.keys())
            self.assertEqual(len(report["layers"]), sum(map(is_layer, before)))
            for name, weight in after.items():
                if not is_layer(name):
                    self.assertTrue(np.array_equal(weight, before[name]), name)
                    continue
                self.assertEqual(np.sum(weight == 0), round(0.3 * weight.size), (flags, name))
            self.assertEqual({l["name"] for l in report["layers"]}, {n for n in after if is_layer(n)})
            self.assertEqual(all("relative_error" in l for l in report["layers"]), "--calib" in flags)

    def test_pattern(self):
        """2:4 is in every group of four, recorded in the folder, kept by a second file format and by quantize."""
        self.prune("--method", "2:4", "--calib", self.text)
        for name, weight in load_file(self.out() / "model.safetensors").items():
            if is_layer(name):
                self.assertTrue(np.all(np.sum(weight.reshape(-1, 4) != 0, axis=1) == 2), name)
        record = json.loads((self.out() / "config.json").read_text())["packlight_pruning"]
        self.assertTrue(all(map(is_layer, record["2:4"])))
        self.succeed("export", self.out(), "--format", "gguf", "-o", self.folder / "out.gguf")
        self.succeed("export", self.folder / "out.gguf", "--format", "hf", "-o", self.folder / "again")
        self.assertEqual(json.loads((self.folder / "again/config.json").read_text())["packlight_pruning"], record)
        self.succeed("quantize", self.out(), "-o", self.folder / "out.plk", "--scheme", "int4", "--asym", "--calib", self.text)
        self.succeed("verify", self.folder / "out.plk", "--against", self.out())

    def test_gguf(self):
        report = self.succeed_json("prune", self.model, "-o", self.folder / "out.gguf", "--method", "4:8", "--calib", self.text,
                                   "--protect", "*.0.*")
        self.assertEqual(report["ratio"], 0.5)
        self.assertFalse([l for l in report["layers"] if ".0." in l["name"]])
        self.succeed("eval", self.folder / "out.gguf", "--text", self.text, "--ctx", 64)

    def test_same_bytes(self):
        flags = ("--method", "unstructured", "--ratio", 0.5, "--calib", self.text, "--spread", "owl")
        self.prune(*flags)
        first = (self.out() / "model.safetensors").read_bytes()
        self.prune(*flags, "--max-ram", "0")
        self.assertEqual(first, (self.out() / "model.safetensors").read_bytes())

    def test_bad_wishes(self):
        bad = lambda *flags, needles: self.fail_with("prune", self.model, "-o", self.out(), *flags, needles=needles)
        half = ("--method", "unstructured", "--ratio", 0.5)
        for ratio in ("0", "1", "-0.5", "1.5", "nan"):
            bad("--method", "unstructured", "--ratio", ratio, "--criterion", "magnitude", needles=["ratio", ratio])
        bad("--method", "unstructured", "--criterion", "magnitude", needles=["--ratio"])
        bad("--method", "2:4", "--ratio", 0.3, "--calib", self.text, needles=["--ratio 0.3", "2:4"])
        for method in ("4:4", "5:4", "0:4", "2:", "structured"):
            bad("--method", method, "--criterion", "magnitude", needles=[method])
        bad("--method", "1:7", "--criterion", "magnitude", needles=["q_proj", "128", "1:7"])
        bad(*half, "--criterion", "magnitude", "--protect", "*.nothing.*", needles=["*.nothing.*"])
        bad(*half, "--criterion", "magnitude", "--protect", "*", needles=["no layer"])
        bad(*half, needles=["--calib"])
        bad(*half, "--criterion", "wanda", "--calib", self.text, "--undo-drift", 1, needles=["drift", "repair"])
        bad(*half, "--calib", self.text, "--undo-drift", 2, needles=["drift", "2"])
        bad(*half, "--criterion", "magnitude", "--calib", self.text, needles=["--calib", "magnitude"])
        bad(*half, "--calib", self.write("empty.txt", ""), needles=["empty.txt", "no tokens"])
        bad(*half, "--calib", self.folder / "absent.txt", needles=["absent.txt"])
        bad("--method", "2:4", "--calib", self.text, "--spread", "owl", needles=["2:4", "spread"])
        self.fail_with("prune", self.model, "-o", self.model, *half, "--criterion", "magnitude", needles=["model itself"])
        for place, named in ((self.text, self.text), (self.folder, self.folder), (self.folder / "absent/out", self.folder / "absent"),
                             (self.folder / "absent/out.gguf", self.folder / "absent")):
            # Said before the calibration text, which is wrong too, is looked at.
            self.fail_with("prune", self.model, "-o", place, *half, "--calib", self.folder / "empty.txt", needles=[named])
        self.fail_with("prune", self.model, "-o", self.folder / "out.plk", *half, "--criterion", "magnitude", needles=["out.plk", "gguf"])

    def test_nan_weight(self):
        def poison(weights, config):
            weights["model.layers.1.mlp.up_proj.weight"][3, 5] = np.nan

        model = tiny_models.write_model(self.folder / "poisoned", "llama_tied", edit=poison)
        for flags in (("--criterion", "magnitude"), ("--calib", self.text)):
            self.fail_with("prune", model, "-o", self.out(), "--method", "2:4", *flags,
                           needles=[model, "layers.1.mlp.up_proj", "row 3, column 5", "nan"])

    def test_network(self):
        path = command.CACHE / "models/ppocr/ch_ppocr_mobile_v2.0_cls_infer.onnx"
        if not path.exists():
            self.skipTest("scripts/fetch_ocr fetches the network")
        self.fail_with("prune", path, "-o", self.out(), "--method", "2:4", needles=["network"])

    def test_units_of_a_network(self):
        """What is left is smaller, is what the report says, and is the same to ONNX Runtime as to us."""
        import onnxruntime

        network, small = self.folder / "lenet5.onnx", self.folder / "small.onnx"
        self.succeed("create", "lenet5", "-o", network)
        groups = self.succeed_json("inspect", network, "--groups")
        self.assertTrue(any(g["blocked"] is None and g["units"] == 120 for g in groups))
        x = np.random.default_rng(0).random((40, 1, 28, 28), dtype=np.float32)
        np.save(self.folder / "x.npy", x)
        for flags in (("--criterion", "l1", "--repair", "none", "--ratio", 0.4),
                      ("--data", self.folder / "x.npy", "--target-macs", "250K"),
                      ("--criterion", "random", "--data", self.folder / "x.npy", "--target-params", 30000, "--spread", "uniform")):
            report = self.succeed_json("prune", network, "-o", small, "--method", "structured", *flags)
            self.assertLess(report["after"]["parameters"], report["before"]["parameters"])
            inspected = self.succeed_json("inspect", small, "--input-shape", "1,1,28,28")
            self.assertEqual(inspected["parameters"], report["after"]["parameters"])
            self.assertEqual(inspected["macs"], report["after"]["macs"])
            self.succeed("run", small, "--input", self.folder / "x.npy", "-o", self.folder / "y.npy")
            session = onnxruntime.InferenceSession(small, providers=["CPUExecutionProvider"])
            theirs = session.run(None, {session.get_inputs()[0].name: x})[0]
            self.assertLess(np.abs(np.load(self.folder / "y.npy") - theirs).max(), 1e-4 * np.ptp(theirs) + 1e-6)
        bad = lambda *flags, needles: self.fail_with("prune", network, "-o", self.folder / "bad.onnx", "--method", "structured", *flags, needles=needles)
        for ratio in ("0", "1", "-0.5", "nan"):
            bad("--ratio", ratio, "--criterion", "l1", "--repair", "none", needles=["ratio", ratio])
        bad("--criterion", "l1", "--repair", "none", needles=["--ratio", "--target-macs"])
        bad("--ratio", 0.5, needles=["--data"])
        bad("--ratio", 0.5, "--criterion", "l1", "--repair", "none", "--data", self.folder / "x.npy", needles=["--data", "without effect"])
        bad("--target-params", 10, "--criterion", "l1", "--repair", "none", needles=["cannot be reached"])
        bad("--ratio", 0.5, "--criterion", "l1", "--repair", "none", "--protect", "nothing*", needles=["nothing*"])
        bad("--ratio", 0.5, "--criterion", "wrong", "--repair", "none", needles=["wrong", "l1"])
        bad("--ratio", 0.5, "--calib", self.text, needles=["--calib", "language model"])

    def test_units_of_a_language_model(self):
        """Sizes that differ from layer to layer go through every format, and to the device."""
        report = self.prune("--method", "structured", "--ratio", 0.3, "--calib", self.text, "--keep-multiple", 8)
        self.assertLess(report["after"]["parameters"], report["before"]["parameters"])
        config = json.loads((self.out() / "config.json").read_text())
        self.assertEqual(config["intermediate_size"] if isinstance(config["intermediate_size"], list) else 2 * [config["intermediate_size"]],
                         [g["kept"] for g in report["groups"] if g["kind"] == "channels"])
        original = self.succeed_json("eval", self.out(), "--text", self.text, "--ctx", 64)
        self.succeed("export", self.out(), "--format", "gguf", "-o", self.folder / "small.gguf")
        again = self.succeed_json("eval", self.folder / "small.gguf", "--text", self.text, "--ctx", 64)
        self.assertEqual(original["perplexity"], again["perplexity"])
        self.succeed("quantize", self.out(), "-o", self.folder / "small.plk", "--scheme", "int8", "--scale", "absmax")
        packed = self.succeed_json("eval", self.folder / "small.plk", "--text", self.text, "--ctx", 64)
        self.assertLess(abs(packed["perplexity"] / original["perplexity"] - 1), 0.02)

    def test_blocks(self):
        """Whole blocks go; what is left is a plain model of fewer layers."""
        for criterion in ((), ("--criterion", "perplexity")):
            report = self.prune("--method", "depth", "--ratio", 0.34, "--calib", self.text, *criterion)
            self.assertEqual((report["layers"], report["kept"], len(report["removed"])), (3, 2, 1))
            self.assertEqual(json.loads((self.out() / "config.json").read_text())["num_hidden_layers"], 2)
            before, after = (load_file(folder / "model.safetensors") for folder in (self.model, self.out()))
            gone = report["removed"][0]["layer"]
            last = "mlp.up_proj.weight"
            self.assertTrue(np.array_equal(after[f"model.layers.1.{last}"], before[f"model.layers.{1 if gone == 2 else 2}.{last}"]))
            self.succeed("eval", self.out(), "--text", self.text, "--ctx", 64)
        for flags, needles in ((("--ratio", 0.1, "--calib", self.text), ["0 of 3 blocks"]), (("--ratio", 1), ["--ratio"]),
                               (("--ratio", 0.5), ["influence", "--calib"]),
                               (("--ratio", 0.5, "--calib", self.text, "--spread", "uniform"), ["--spread", "depth"]),
                               (("--ratio", 0.5, "--calib", self.text, "--criterion", "taylor"), ["taylor", "influence"])):
            self.fail_with("prune", self.model, "-o", self.folder / "other", "--method", "depth", *flags, needles=needles)

    def test_interrupted(self):
        """Ctrl-C leaves an earlier output as it was, and nothing beside it."""
        self.prune("--method", "2:4", "--criterion", "magnitude")
        before = self.contents()
        with subprocess.Popen([command.BINARY, "prune", command.SMOLLM, "-o", self.out(), "--method", "2:4", "--calib", self.text],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            self.assertTrue(any("pruning [" in line.lower() for line in process.stderr), "ended before it could be interrupted")
            process.send_signal(signal.SIGINT)
            errors, output = process.stderr.read(), process.stdout.read()
        self.check_failure(subprocess.CompletedProcess([], process.returncode, output, errors), code=130)
        self.assertEqual(self.contents(), before)


if __name__ == "__main__":
    unittest.main()
