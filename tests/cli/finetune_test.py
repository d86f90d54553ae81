"""`finetune` on a tiny model: the loss falls, zeros of a pruned model stay, a stopped run goes on to the same bits."""

import shutil
import signal
import subprocess
import time
import unittest

import numpy as np
from safetensors.numpy import load_file

import command
import tiny_models


class Finetune(command.CommandTest):
    def setUp(self):
        super().setUp()
        self.model = tiny_models.write_model(self.folder / "model", "llama_tied")
        self.text = self.write("text.txt", tiny_models.make_text(words=600))

    def finetune(self, name, *flags, model=None):
        return self.succeed_json("finetune", model or self.model, "--text", self.text, "-o", self.folder / name,
                                 "--ctx", 32, "--tokens", 4096, "--lr", 0.003, "--threads", 1, *flags)

    def test_loss_falls(self):
        for flags in ((), ("--lora", 4)):
            report = self.finetune("out", *flags, "--valid", self.text, "--valid-every", 2048)
            curve = report["curve"]
            self.assertEqual([point["tokens"] for point in curve], [0, 2048, 4096])
            self.assertLess(curve[2]["perplexity"], 0.9 * curve[0]["perplexity"])
            evaluation = self.succeed_json("eval", self.folder / "out", "--text", self.text, "--ctx", 32, "--chunks", 8)
            self.assertAlmostEqual(evaluation["perplexity"], curve[2]["perplexity"], delta=0.02 * curve[2]["perplexity"])
            shutil.rmtree(self.folder / "out")

    def test_zeros_stay(self):
        self.succeed("prune", self.model, "-o", self.folder / "pruned", "--method", "2:4", "--criterion", "magnitude")
        before = load_file(self.folder / "pruned/model.safetensors")
        self.finetune("out", model=self.folder / "pruned")
        after = load_file(self.folder / "out/model.safetensors")
        name = "model.layers.1.mlp.up_proj.weight"
        self.assertTrue(np.all(after[name][before[name] == 0] == 0))
        self.assertFalse(np.array_equal(after[name], before[name]))

    def test_interrupted(self):
        whole = self.finetune("whole")
        command_line = [command.BINARY, "finetune", self.model, "--text", self.text, "-o", self.folder / "stopped", "--ctx", "32",
                        "--tokens", "4096", "--lr", "0.003", "--threads", "1"]
        process = subprocess.Popen(list(map(str, command_line)), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(1.2)
        process.send_signal(signal.SIGINT)
        code = process.wait()
        checkpoint = self.folder / "stopped.checkpoint"
        if code == 0:
            self.skipTest("it was done before it was stopped")
        self.assertNotEqual(code, 0)
        self.assertFalse((self.folder / "stopped").exists())
        self.finetune("stopped")
        self.assertFalse(checkpoint.exists())
        a, b = (load_file(self.folder / n / "model.safetensors") for n in ("whole", "stopped"))
        for key in a:
            self.assertTrue(np.array_equal(a[key], b[key]), key)
        self.assertEqual(whole["steps"], 4096 // (32 * 4))

    def test_bad_wishes(self):
        self.fail_with("finetune", self.model, "--text", self.write("short.txt", "one"), "-o", self.folder / "out",
                            needles=["window", "512"])
        self.fail_with("finetune", self.model, "--text", self.text, "-o", self.folder / "out.plk", needles=["out.plk"])
        self.fail_with("finetune", self.model, "--text", self.text, "-o", self.folder / "out", "--ctx", 32, "--lora", 4,
                            "--lora-target", "nothing*", needles=["'nothing*'"])


if __name__ == "__main__":
    unittest.main()
