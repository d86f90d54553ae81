"""ONNX networks from the command line: the PP-OCR models beside ONNX Runtime, and networks made, trained and measured."""

import signal
import subprocess
import time
import unittest

import command
import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from PIL import Image, ImageDraw, ImageFont

OCR = command.CACHE / "models" / "ppocr"
MNIST = command.CACHE / "mnist"

MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def page(height, width, lines):
    """A picture of dark text on white as the OCR networks take it: [1, 3, height, width]."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(12, height // lines - 10))
    for line in range(lines):
        draw.text((6, 4 + line * height // lines), f"Line {line} of 12345 words", fill="black", font=font)
    pixels = (np.asarray(image, np.float32) / 255 - MEAN) / DEVIATION
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def run_onnxruntime(path, feeds):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


class Network(command.CommandTest):
    def array(self, name, values):
        path = self.folder / name
        np.save(path, values)
        return path

    def check_ocr(self, name, pictures):
        """The executor, and the simplified export in ONNX Runtime, within 1e-4 of the output's range."""
        model, exported = OCR / name, self.folder / "exported.onnx"
        self.succeed("export", model, "--format", "onnx", "-o", exported)
        onnx.checker.check_model(str(exported), full_check=True)
        written = onnx.load(exported).graph  # of one level: these networks have no subgraphs
        used = {name for node in written.node for name in node.input} | {output.name for output in written.output}
        self.assertEqual([one.name for one in written.initializer if one.name not in used], [])
        for x in pictures:
            want = run_onnxruntime(model, {"x": x})[0]
            bound = 1e-4 * (want.max() - want.min())
            self.succeed("run", model, "--input", self.array("x.npy", x), "-o", self.folder / "y.npy")
            for got in (np.load(self.folder / "y.npy"), run_onnxruntime(exported, {"x": x})[0]):
                self.assertEqual(got.shape, want.shape)
                self.assertLessEqual(np.abs(got - want).max(), bound)
        shape = ",".join(map(str, pictures[0].shape))
        self.assertTrue(self.succeed_json("verify", exported, "--against", model, "--input-shape", shape)["ok"])

    def test_ocr_detection(self):
        self.check_ocr("ch_PP-OCRv4_det_infer.onnx", [page(320, 224, 6), page(96, 160, 3)])

    def test_ocr_recognition(self):
        self.check_ocr("ch_PP-OCRv4_rec_infer.onnx", [page(48, 320, 1), np.concatenate([page(48, 161, 1)] * 2)])

    def test_ocr_direction(self):
        self.check_ocr("ch_ppocr_mobile_v2.0_cls_infer.onnx", [page(48, 192, 1), np.concatenate([page(48, 192, 1)] * 3)])

    def check_package(self, name, pictures):
        """A package of the network in the runtime itself: ONNX Runtime's outputs, and what verify, inspect and bench say."""
        model, package = OCR / name, self.folder / "network.plk"
        report = self.succeed_json("export", model, "--format", "plk", "-o", package)
        self.assertEqual(report["bytes"], package.stat().st_size)
        self.assertLess(report["nodes"], report["nodes_before"])
        for x in pictures:
            want = run_onnxruntime(model, {"x": x})[0]
            self.succeed("run", package, "--input", self.array("x.npy", x), "-o", self.folder / "y.npy")
            got = np.load(self.folder / "y.npy")
            self.assertEqual(got.shape, want.shape)
            self.assertLessEqual(np.abs(got - want).max(), 1e-4 * (want.max() - want.min()))
        shape = ",".join(map(str, pictures[0].shape))
        found = self.succeed_json("verify", package, "--against", model, "--input-shape", shape)
        self.assertEqual([found[part]["ok"] for part in ("checksums", "runtime", "original")], [True] * 3)
        inspected = self.succeed_json("inspect", package, "--input-shape", shape)
        measured = self.succeed_json("bench", package, "--input-shape", shape, "--repetitions", 2, "--threads", 1, "--profile")
        for bytes_of in ("arena_bytes", "prepared_bytes"):
            self.assertEqual(measured[bytes_of], inspected["package"][bytes_of])
        self.assertEqual(measured["package_bytes"], package.stat().st_size)
        self.assertGreaterEqual(measured["latency_ms"], measured["latency_ms_min"])
        # A node that is several in the package has their names.
        self.assertEqual(sum(1 + one["node"].count("+") for one in measured["profile"]["nodes"]), report["nodes"])
        self.assertAlmostEqual(sum(one["share"] for one in measured["profile"]["nodes"]), 1, places=6)
        self.assertGreater(inspected["macs"], 0)
        return package

    def test_package_detection(self):
        package = self.check_package("ch_PP-OCRv4_det_infer.onnx", [page(320, 224, 6), page(96, 160, 3)])
        again = self.folder / "again.onnx"
        self.succeed("export", package, "--format", "onnx", "--as-is", "-o", again)  # and back
        onnx.checker.check_model(str(again), full_check=True)
        x = page(96, 160, 3)
        want = run_onnxruntime(OCR / "ch_PP-OCRv4_det_infer.onnx", {"x": x})[0]
        self.assertLessEqual(np.abs(run_onnxruntime(again, {"x": x})[0] - want).max(), 1e-4)

    def test_package_direction(self):
        self.check_package("ch_ppocr_mobile_v2.0_cls_infer.onnx", [page(48, 192, 1), np.concatenate([page(48, 192, 1)] * 3)])

    def test_package_recognition(self):
        package = self.check_package("ch_PP-OCRv4_rec_infer.onnx", [page(48, 320, 1)])
        self.assertIn("character", self.succeed_json("inspect", package)["metadata"])

    def test_package_remembers_how_pictures_become_inputs(self):
        model, package = self.folder / "lenet5.onnx", self.folder / "lenet5.plk"
        self.succeed("create", "lenet5", "-o", model, "--seed", 3)
        (self.folder / "lenet5.yaml").write_text("preprocess: {resize: [28, 28], scale: 0.5, mean: 20, std: 4}\n")
        random = np.random.default_rng(1)
        pixels = random.integers(0, 256, (28, 28)).astype(np.uint8)
        Image.fromarray(pixels).save(self.folder / "digit.png")
        self.succeed("export", model, "--format", "plk", "-o", package)
        (self.folder / "lenet5.yaml").unlink()
        x = ((pixels.astype(np.float32) * 0.5 - 20) / 4)[None, None]
        want = run_onnxruntime(model, {"input": x})[0]
        out = self.folder / "y.npy"
        report = self.succeed_json("run", package, "--input", self.folder / "digit.png", "-o", out, "--labels", 3)
        self.assertLessEqual(np.abs(np.load(out) - want).max(), 1e-4 * (want.max() - want.min()))
        best = np.argsort(-want[0])[:3].tolist()
        self.assertEqual([label["class"] for label in report["outputs"][0]["labels"][0]], best)
        self.assertIn(f"class {best[0]}", self.succeed("run", package, "--input", self.folder / "digit.png", "--labels", 1))

    def test_how_pictures_become_inputs_goes_from_file_to_file(self):
        """What --preprocess said of the calibration pictures stays with the package and the ONNX file, whatever lies beside."""
        model, quantized, package = (self.folder / name for name in ("lenet5.onnx", "q.onnx", "q.plk"))
        self.succeed("create", "lenet5", "-o", model, "--seed", 3)
        used, beside = self.write("p.yaml", "preprocess: {channels: gray, scale: 0.5, mean: 20, std: 4}\n"), self.folder / "lenet5.yaml"
        beside.write_text("preprocess: {channels: gray, scale: 2, mean: 1, std: 3}\n")
        pictures, out = self.folder / "pictures", self.folder / "y.npy"
        pictures.mkdir()
        pixels = np.random.default_rng(1).integers(0, 256, (28, 28)).astype(np.uint8)
        Image.fromarray(pixels).save(pictures / "digit.png")
        x = self.array("x.npy", ((pixels.astype(np.float32) * 0.5 - 20) / 4)[None, None])
        flags = ["--wbits", 8, "--activations", "none", "--preprocess", used]
        self.succeed("quantize", model, "-o", package, *flags)
        self.succeed("quantize", model, "-o", quantized, *flags, "--data", pictures)
        beside.unlink()
        again, back = self.folder / "again.plk", self.folder / "back.onnx"
        self.succeed("export", quantized, "--format", "plk", "-o", again)
        self.succeed("export", again, "--format", "onnx", "-o", back)
        for written in (package, quantized, again, back):
            with self.subTest(written=written.name):
                self.succeed("run", written, "--input", x, "-o", out)
                want = np.load(out)
                self.succeed("run", written, "--input", pictures / "digit.png", "-o", out)
                self.assertLessEqual(np.abs(np.load(out) - want).max(), 1e-5 * np.abs(want).max())
        # Arrays that are inputs already need none of it.
        np.savez(self.folder / "x.npz", input=np.load(x), labels=np.int64([3]))
        self.assertEqual(self.succeed_json("eval", quantized, "--data", self.folder / "x.npz")["samples"], 1)
        self.fail_with("eval", quantized, "--data", self.folder / "x.npz", "--preprocess", used, needles=["no pictures"])
        # A file beside the model comes first.
        (self.folder / "q.yaml").write_text("preprocess: {channels: gray, scale: 2, mean: 1, std: 3}\n")
        self.succeed("run", quantized, "--input", pictures / "digit.png", "-o", out)
        self.assertGreater(np.abs(np.load(out) - want).max(), 1e-2 * np.abs(want).max())

    def test_bad_packages(self):
        model, package, out = self.folder / "mlp.onnx", self.folder / "mlp.plk", self.folder / "out.onnx"
        self.succeed("create", "mlp", "-o", model, "--input", "1x2x2", "--classes", 3)
        self.succeed("export", model, "--format", "plk", "-o", package)
        x = self.array("x.npy", np.zeros((2, 1, 2, 2), np.float32))
        data = self.folder / "data.npz"
        np.savez(data, input=np.zeros((4, 1, 2, 2), np.float32), labels=np.zeros(4, np.int64))
        for arguments, needles in [
            (["run", package, "-p", "Hi"], ["--prompt", "a network"]),
            (["run", package, "--input", x, "--temp", 0.5], ["--temp", "a language model's option"]),
            (["run", package], ["--input"]),
            (["run", package, "--input", f"y={x}"], ["no input 'y'", "input"]),
            (["run", package, "--input", self.array("f64.npy", np.zeros((1, 1, 2, 2)))], ["F64", "F32"]),
            (["run", package, "--input", self.array("flat.npy", np.zeros((1, 4), np.float32))], ["[1, 4]", "1, 2, 2"]),
            (["run", package, "--input", self.write("broken.png", b"no picture")], ["broken.png"]),
            (["run", command.SMOLLM, "--input", x], ["--input", "a network's option"]),
            (["bench", package, "--batch", 2], ["--batch", "a language model's option"]),
            (["bench", package, "--input-shape", "1,4"], ["[1, 4]"]),
            (["eval", package, "--text", x], ["--data"]),
            (["quantize", package, "-o", self.folder / "q.plk"], ["--scheme"]),
            (["export", package, "--format", "gguf", "-o", out], ["--format onnx", "--format plk"]),
            (["verify", package, "--against", command.SMOLLM], ["language model"]),
        ]:
            with self.subTest(arguments=arguments):
                self.fail_with(*arguments, needles=needles)
        whole = bytearray(package.read_bytes())
        whole[-5] ^= 1
        damaged = self.write("damaged.plk", bytes(whole))
        self.check_failure(self.run_command("verify", damaged), "damaged.plk", "differ from their checksum", prints=True)
        for arguments in (["eval", damaged, "--data", data], ["export", damaged, "--format", "onnx", "-o", out],
                          ["inspect", damaged], ["verify", model, "--against", damaged]):
            self.fail_with(*arguments, needles=["damaged.plk", "differ from their checksum"])
        for size in (1, 100, len(whole) // 2, len(whole) - 1):
            self.fail_with("run", self.write("cut.plk", bytes(whole[:size])), "--input", x, needles=["cut.plk"])

    def test_inspect_counts_as_it_should(self):
        result = self.succeed_json("inspect", OCR / "ch_PP-OCRv4_rec_infer.onnx", "--input-shape", "1,3,48,320")
        model = onnx.load(OCR / "ch_PP-OCRv4_rec_infer.onnx")
        floats = sum(numpy_helper.to_array(a.t).size for n in model.graph.node if n.op_type == "Constant"
                     for a in n.attribute if a.t.data_type == onnx.TensorProto.FLOAT)
        # Integer constants (axes, shapes) are few.
        self.assertLess(abs(result["parameters"] - floats), 200)
        conv = next(layer for layer in result["layers"] if layer["name"] == "p2o.Conv.0")
        self.assertEqual(conv["macs"], 24 * 160 * 16 * 3 * 3 * 3)  # stride 2, 3 to 16 channels, 3 x 3
        self.assertIn("character", result["metadata"])
        self.assertGreater(result["peak_activation_bytes"], 24 * 160 * 16 * 4)

    def test_mnist(self):
        model, trained = self.folder / "lenet5.onnx", self.folder / "trained.onnx"
        self.assertEqual(self.succeed_json("create", "lenet5", "-o", model)["parameters"], 61706)
        report = self.succeed_json("train", model, "--data", MNIST, "-o", trained, "--epochs", 1, "--lr", 0.05)
        self.assertGreater(report["validation"]["top1"], 0.97)
        images = np.fromfile(MNIST / "t10k-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 1, 28, 28)[:500]
        x, labels = images.astype(np.float32) / 255, np.fromfile(MNIST / "t10k-labels-idx1-ubyte", np.uint8)[8:508]
        logits = run_onnxruntime(trained, {"input": x})[0]
        np.savez(self.folder / "some.npz", input=x, labels=labels.astype(np.int64))
        self.assertEqual(self.succeed_json("eval", trained, "--data", MNIST)["samples"], 10000)  # not those it was trained on
        measured = self.succeed_json("eval", trained, "--data", self.folder / "some.npz", "--against", trained)
        self.assertAlmostEqual(measured["top1"], (logits.argmax(1) == labels).mean(), places=6)
        self.assertEqual((measured["agreement"], measured["samples"]), (1, 500))
        package = self.folder / "trained.plk"
        self.succeed("export", trained, "--format", "plk", "-o", package)
        shipped = self.succeed_json("eval", package, "--data", self.folder / "some.npz", "--against", trained)
        self.assertEqual((shipped["top1"], shipped["top5"]), (measured["top1"], measured["top5"]))
        self.assertEqual((shipped["agreement"], shipped["samples"]), (1, 500))
        self.assertLess(shipped["output_difference"], 1e-5)

    def test_quantize(self):
        """The quantized file in ONNX Runtime is what eval measures; a folder of arrays of different sizes calibrates."""
        model, trained, packed = (self.folder / name for name in ("lenet5.onnx", "trained.onnx", "q.onnx"))
        self.succeed("create", "lenet5", "-o", model)
        self.succeed("train", model, "--data", MNIST, "-o", trained, "--epochs", 1, "--lr", 0.05)
        images = np.fromfile(MNIST / "t10k-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 1, 28, 28)
        labels = np.fromfile(MNIST / "t10k-labels-idx1-ubyte", np.uint8)[8:]
        x = images.astype(np.float32) / 255
        test = self.folder / "test.npz"
        np.savez(test, input=x, labels=labels.astype(np.int64))
        exact = self.succeed_json("eval", trained, "--data", test)["top1"]
        for flags in (["--scheme", "int8"], ["--scheme", "int8", "--activations", "uint8", "--regions"],
                      ["--scheme", "int4", "--first-last", "int8", "--adaround", "--adaround-iterations", 300]):
            with self.subTest(flags=flags):
                report = self.succeed_json("quantize", trained, "-o", packed, "--data", MNIST, "--samples", 200, *flags)
                self.assertEqual(report["int8_mac_share"], 1)
                self.assertEqual(len(report["layers"]), 5)
                onnx.checker.check_model(str(packed), full_check=True)
                measured = self.succeed_json("eval", packed, "--data", test, "--against", trained)
                logits = run_onnxruntime(packed, {"input": x})[0]
                self.assertLess(abs((logits.argmax(1) == labels).mean() - measured["top1"]), 5e-4)
                self.assertLess(exact - measured["top1"], 0.005)
        metadata = {p.key: p.value for p in onnx.load(packed).metadata_props}
        self.assertIn('"precision":"w4a8"', metadata["packlight.quantization"])

    def test_quantize_on_samples_of_different_sizes(self):
        weights = [numpy_helper.from_array(np.random.default_rng(1).standard_normal((4, 1, 3, 3)).astype(np.float32), "w")]
        model = self.model([helper.make_node("Conv", ["x", "w"], ["y"], name="conv")], name="free.onnx",
                           inputs=(("x", ["n", 1, "h", "w_"]),), initializers=weights)
        samples = self.folder / "samples"
        samples.mkdir()
        for width in (5, 9, 12):
            np.save(samples / f"{width}.npy", np.random.default_rng(width).standard_normal((1, 1, 6, width)).astype(np.float32))
        report = self.succeed_json("quantize", model, "-o", self.folder / "q.onnx", "--scheme", "int8", "--data", samples)
        self.assertEqual(report["recipe"]["samples"], 3)
        np.save(samples / "two.npy", np.zeros((2, 1, 6, 6), np.float32))
        self.fail_with("quantize", model, "-o", self.folder / "q.onnx", "--scheme", "int8", "--data", samples,
                       needles=["two.npy", "batch dimension of 1"])

    def test_batches_are_as_large_as_the_network_takes(self):
        """Every verb measures a network of a fixed batch, and one whose samples differ in size."""
        random = np.random.default_rng(1)
        weights = [numpy_helper.from_array(random.standard_normal((4, 3)).astype(np.float32), "w")]
        nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"], name="fc")]
        fixed = self.model(nodes, name="fixed.onnx", inputs=(("x", [2, 1, 2, 2]),), initializers=weights)
        data, other = self.folder / "data.npz", self.folder / "other.npz"
        np.savez(data, x=random.standard_normal((6, 1, 2, 2)).astype(np.float32), labels=np.arange(6) % 3)
        np.savez(other, x=np.zeros((6, 1, 2, 3), np.float32), labels=np.arange(6) % 3)
        out = self.folder / "out.onnx"
        int8 = ["quantize", fixed, "-o", out, "--scheme", "int8", "--data", data]
        for goal in ("top1=100", "agreement=0"):
            report = self.succeed_json(*int8, "--correct-until", goal, "--valid", data)
            self.assertTrue(report["correction"]["met"])
            self.assertIn("adaround_iterations", report["recipe"])  # repairs may use it
        trained = self.succeed_json(*int8, "--qat", 1, "--crop-pad", 0, "--seed", 4)
        self.assertEqual(trained["training"]["steps"], 3)
        self.assertEqual((trained["recipe"]["qat"]["batch_size"], trained["recipe"]["seed"]), (2, 4))
        # The recipe says what was looked at: whole batches, by which seed, and by how many threads.
        recipe = self.succeed_json(*int8, "--samples", 3, "--seed", 7, "--threads", 1, "--bias-correct")["recipe"]
        self.assertEqual([recipe[key] for key in ("samples", "batch_size", "seed", "threads", "data", "bias_samples")],
                         [4, 2, 7, 1, "data.npz", 128])
        self.assertEqual(self.succeed_json("eval", fixed, "--data", data)["samples"], 6)
        probed = self.succeed_json("probe", fixed, "--sensitivity", "--data", data, "--valid", data)
        self.assertIn("metric_change", probed["layers"][0])
        train = ["train", fixed, "-o", out, "--data", data, "--batch-size", 2, "--epochs", 1]
        self.assertIn("top1", self.succeed_json(*train, "--valid", data)["validation"])
        # Held-out samples that do not fit are told before the first step, which fails here.
        np.savez(data, x=np.full((6, 1, 2, 2), np.nan, np.float32), labels=np.arange(6) % 3)
        self.fail_with(*train, "--valid", other, needles=["[2, 1, 2, 3]"])

        kernel = [numpy_helper.from_array(random.standard_normal((4, 1, 3, 3)).astype(np.float32), "w")]
        conv = [helper.make_node("Conv", ["x", "w"], ["c"], name="conv"), helper.make_node("GlobalAveragePool", ["c"], ["p"]),
                helper.make_node("Flatten", ["p"], ["y"])]
        free = self.model(conv, name="free.onnx", inputs=(("x", ["n", 1, "h", "w_"]),), initializers=kernel)
        lines = self.folder / "lines"
        lines.mkdir()
        for width in (5, 9, 12):
            np.save(lines / f"{width}.npy", random.standard_normal((1, 1, 6, width)).astype(np.float32))
        judged = self.succeed_json("quantize", free, "-o", out, "--scheme", "int8", "--data", lines,
                                   "--correct-until", "agreement=1", "--valid", lines)
        self.assertTrue(judged["correction"]["met"])
        self.assertEqual(self.succeed_json("eval", free, "--data", lines, "--against", free)["agreement"], 1)
        # One score a sample is no class.
        single = self.model([helper.make_node("ReduceMax", ["x"], ["m"], axes=[1, 2, 3], keepdims=0),
                             helper.make_node("Unsqueeze", ["m", "axis"], ["column"]),
                             helper.make_node("MatMul", ["column", "w"], ["y"], name="fc")], name="single.onnx",
                            inputs=(("x", ["n", 1, "h", "w_"]),),
                            initializers=[numpy_helper.from_array(np.ones((1, 1), np.float32), "w"),
                                          numpy_helper.from_array(np.int64([1]), "axis")])
        self.fail_with("quantize", single, "-o", out, "--scheme", "int8", "--data", lines, "--correct-until", "agreement=1",
                       "--valid", lines, needles=["'g'", "several scores"])

    def test_quantize_knows_the_blank_of_a_recognizer(self):
        """Class 0 is read at every step: the label [0] where 2 is the blank, and nothing where 0 is."""
        weight = [numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")]
        model = self.model([helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")], name="read.onnx",
                           inputs=(("x", ["n", 4, 3]),), initializers=weight)
        data, out = self.folder / "data.npz", self.folder / "q.onnx"
        np.savez(data, x=np.tile(np.float32([20, 0, 0]), (6, 4, 1)), labels=np.zeros((6, 1), np.int64))
        report = self.succeed_json("quantize", model, "-o", out, "--scheme", "int8", "--data", data, "--qat", 1, "--blank", 2)
        self.assertLess(report["training"]["losses"][0], 0.01)
        self.assertEqual(report["recipe"]["qat"]["blank"], 2)

    def test_repairs_reach_the_budget(self):
        """Two bits ruin the network; repairs end where they were asked to, and the file says what they did."""
        model, trained, out = (self.folder / name for name in ("lenet5.onnx", "trained.onnx", "q.onnx"))
        self.succeed("create", "lenet5", "-o", model)
        self.succeed("train", model, "--data", MNIST, "-o", trained, "--epochs", 1)
        budget = ["quantize", trained, "-o", out, "--wbits", 2, "--data", MNIST, "--samples", 200, "--adaround-iterations", 100,
                  "--correct-until", "agreement=0.995", "--valid", MNIST, "--valid-samples", 1000]
        text = self.succeed(*budget)
        self.assertRegex(text, r"repair +before +after +share read")
        self.assertRegex(text, r"output of the network: [0-9.]+ dB")
        report = self.succeed_json(*budget)
        self.assertTrue(report["correction"]["met"])
        for repair in report["correction"]["repairs"]:
            self.assertTrue(repair["kept"] or repair["repair"] not in ("int8", "float"))
        measured = self.succeed_json("eval", out, "--data", MNIST, "--against", trained, "--samples", 1000)
        self.assertEqual(measured["agreement"], report["correction"]["after"])
        recipe = report["recipe"]
        precisions = {layer["name"]: layer["precision"] for layer in report["layers"]}
        alike = len(set(precisions.values())) == 1
        self.assertEqual(recipe["precision"], next(iter(precisions.values())) if alike else "mixed")
        self.assertEqual(recipe.get("layers"), None if alike else precisions)
        self.assertIn(["int8"], [repairs[-1:] for repairs in recipe["repairs"].values()])
        # Rounding is what such a file differs by, and no failure.
        verified = self.succeed_json("verify", out, "--against", trained)
        self.assertIsNone(verified["ok"])
        self.assertGreater(verified["largest_difference"], 1e-3)
        self.fail_with("train", out, "--data", MNIST, "-o", model.with_name("again.onnx"), needles=["[train]", "quantized already"])

    def test_bytes_and_pictures_say_how_they_become_inputs(self):
        model = self.folder / "lenet5.onnx"
        self.succeed("create", "lenet5", "-o", model)
        pixels = np.random.default_rng(1).integers(0, 256, (6, 1, 28, 28)).astype(np.uint8)
        labels = np.arange(6)
        np.savez(self.folder / "bytes.npz", input=pixels, labels=labels)
        np.savez(self.folder / "floats.npz", input=pixels.astype(np.float32) / 255, labels=labels)
        for verb in (["eval"], ["train", "-o", self.folder / "t.onnx"], ["probe", "--sensitivity"],
                     ["quantize", "-o", self.folder / "q.onnx", "--scheme", "int8"]):
            self.fail_with(verb[0], model, *verb[1:], "--data", self.folder / "bytes.npz", needles=["bytes", "scale", ".yaml"])
        want = self.succeed_json("eval", model, "--data", self.folder / "floats.npz", "--against", model)
        used = self.write("p.yaml", "preprocess: {scale: 0.00392157}\n")
        got = self.succeed_json("eval", model, "--data", self.folder / "bytes.npz", "--preprocess", used)
        self.assertEqual(got["top1"], want["top1"])
        pictures = self.folder / "pictures"
        pictures.mkdir()
        for i, one in enumerate(pixels):
            Image.fromarray(one[0]).save(pictures / f"{i}.png")
        told = self.run_command("eval", model, "--data", pictures, "--against", model)
        self.assertEqual(told.returncode, 0, told.stderr)
        self.assertIn("gray / 255 in their own size", told.stderr)
        self.assertIn("lenet5.yaml", told.stderr)
        told = self.run_command("run", model, "--input", pictures / "0.png")
        self.assertIn("gray / 255 in its own size", told.stderr)
        self.write("lenet5.yaml", "preprocess: {resize: [20, 20]}\n")
        self.fail_with("run", model, "--input", pictures / "0.png", needles=["[1, 1, 20, 20]", ".yaml", "resize"])
        self.fail_with("eval", model, "--data", pictures, "--against", model, needles=["[6, 1, 20, 20]", ".yaml", "resize"])
        self.write("lenet5.yaml", "preprocess: {scale: 0.5}\n")
        self.assertRegex(self.run_command("eval", model, "--data", pictures, "--against", model).stderr, "as '.*lenet5.yaml' says")
        out, package = self.folder / "y.npy", self.folder / "l.plk"
        self.succeed("export", model, "--format", "plk", "-o", package)
        x = pixels[:1].astype(np.float32) * 0.00392157
        expected = run_onnxruntime(model, {"input": x})[0]
        for one in (model, package):
            self.succeed("run", one, "--input", pictures / "0.png", "--preprocess", used, "-o", out)
            self.assertLessEqual(np.abs(np.load(out) - expected).max(), 1e-4 * (expected.max() - expected.min()))

    def test_labels_of_a_recognizer_are_what_it_reads(self):
        reader = onnx.load(self.model([helper.make_node("Identity", ["x"], ["y"])], name="r.onnx", inputs=(("x", [1, 5, 4]),)))
        scores = np.eye(4, dtype=np.float32)[[[1, 1, 0, 3, 2]]]
        x, package = self.array("x.npy", scores), self.folder / "r.plk"
        for characters, text in ((None, None), ("a\nb", "a b")):
            if characters:
                entry = reader.metadata_props.add()
                entry.key, entry.value = "character", characters
                onnx.save(reader, self.folder / "r.onnx")
            self.succeed("export", self.folder / "r.onnx", "--format", "plk", "-o", package, "--as-is")
            for one in (self.folder / "r.onnx", package):
                read = self.succeed_json("run", one, "--input", x, "--labels", 1)["outputs"][0]["readings"]
                self.assertEqual(read, [{"classes": [1, 3, 2], **({"text": text} if text else {})}])
        flat = self.model([helper.make_node("Identity", ["x"], ["y"])], name="f.onnx", inputs=(("x", [4]),))
        self.fail_with("run", flat, "--input", self.array("f.npy", np.zeros(4, np.float32)), "--labels", 1, needles=["--labels", "[4]"])
        cut = self.write("cut.plk", package.read_bytes()[:-100])
        self.assertNotIn("language model", self.fail_with("run", cut, "--input", x, needles=["cut.plk"]).stderr)
        self.assertIn("Identity", self.succeed_json("inspect", self.folder / "r.onnx", "--graph")["graph"])

    def test_bad_quantize(self):
        model, out = self.folder / "mlp.onnx", self.folder / "q.onnx"
        self.succeed("create", "mlp", "-o", model, "--input", "1x2x2", "--classes", 3)
        good = self.array("good.npy", np.ones((4, 1, 2, 2), np.float32))
        nan = self.array("nan.npy", np.full((4, 1, 2, 2), np.nan, np.float32))
        bytes_ = self.array("bytes.npy", np.ones((4, 1, 2, 2), np.uint8))
        int8 = ["--scheme", "int8"]
        self.fail_with("quantize", model, "-o", self.folder / "nowhere" / "q.onnx", *int8, "--data", self.folder / "none.npz",
                       needles=["no folder", "nowhere"])
        for arguments, needles in [
            ([*int8], ["mlp.onnx", "calibration samples are needed", "--data"]),
            ([*int8, "--data", nan], ["nan.npy", "is nan at element 0"]),
            ([*int8, "--data", bytes_], ["'input'", "bytes", "scale", ".yaml"]),
            (["--scheme", "int4", "--data", good, "--opset", 17], ["opset 17", "21"]),
            ([*int8, "--data", good, "--valid-samples", 3], ["--valid-samples", "no effect"]),
            ([*int8, "--data", self.array("none.npy", np.ones((0, 1, 2, 2), np.float32))], ["zero samples"]),
            (["--data", good], ["--scheme or --wbits"]),
            ([*int8, "--data", good, "--override", "conv*=int4"], ["'conv*'", "fc1"]),
            ([*int8, "--data", good, "--override", "fc1=int1"], ["'int1'"]),
            ([*int8, "--data", good, "--group-size", "64"], ["--group-size"]),
            ([*int8, "--dynamic", "--observer", "mse"], ["--observer", "--dynamic"]),
            (["--wbits", 2, "--data", good, "--sensitivity", good], ["--wbits", "--sensitivity"]),
            *[([*int8, "--data", good, *idle], [idle[0], "no effect", needed]) for idle, needed in [
                (["--lr", 0.1], "--qat"), (["--shift", 2], "--qat"), (["--temperature", 4], "--qat"),
                (["--qat-observe", 2, "--qat", 1], "ste"), (["--valid", good], "--correct-until"),
                (["--valid", good, "--correct-until", "sqnr=3"], "sqnr"), (["--adaround-iterations", 9], "--adaround"),
                (["--percentile", 99], "--observer"), (["--abits", 4, "--activations", "none"], "--activations"),
                (["--blank", 1], "--qat")]],
            ([*int8, "--activations", "none", "--samples", 4], ["--samples", "--data"]),
            ([*int8, "--dynamic", "--activations", "uint8"], ["--activations", "--dynamic"]),
        ]:
            with self.subTest(needles=needles):
                self.fail_with("quantize", model, "-o", out, *arguments, needles=needles)
                self.assertFalse(out.exists())
        self.fail_with("quantize", model, "-o", self.folder / "q.txt", *int8, "--data", good, needles=["q.txt", ".onnx"])
        self.fail_with("quantize", model, "-o", self.folder / "q.plk", *int8, "--data", good, "--opset", 21, needles=["--opset", ".onnx"])
        train = ["train", model, "-o", out, "--data", good]
        for idle in (["--label-smoothing", 0.1, "--loss", "mse"], ["--momentum", 0.5, "--optimizer", "adamw"], ["--blank", 1]):
            self.fail_with(*train, *idle, needles=[idle[0], "no effect"])
        for architecture, idle in (("lenet5", ["--width", 2]), ("resnet8", ["--hidden", "4"])):
            self.fail_with("create", architecture, "-o", out, *idle, needles=[idle[0], "no effect"])

    def small_data(self):
        random = np.random.default_rng(0)
        labels = random.integers(0, 4, 600)
        x = random.standard_normal((600, 1, 12, 12)).astype(np.float32)
        x[np.arange(600), 0, labels * 3] += 2
        np.savez(self.folder / "data.npz", input=x, labels=labels.astype(np.int64))
        return self.folder / "data.npz"

    def test_interrupted_training_goes_on_with_the_same_bits(self):
        data, model = self.small_data(), self.folder / "resnet8.onnx"
        self.succeed("create", "resnet8", "-o", model, "--input", "1x12x12", "--classes", 4)
        flags = ["--data", data, "--epochs", 6, "--batch-size", 16, "--optimizer", "adamw", "--lr", 0.002, "--threads", 1]
        whole, resumed = self.folder / "whole.onnx", self.folder / "resumed.onnx"
        self.succeed("train", model, "-o", whole, *flags)
        arguments = [command.BINARY, *map(str, ["train", model, "-o", resumed, *flags])]
        process = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for line in process.stderr:
            if line.startswith("epoch 2"):
                process.send_signal(signal.SIGINT)
                break
        _, error = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, error)
        self.assertFalse(resumed.exists())
        checkpoint = self.folder / "resumed.onnx.checkpoint"
        self.assertTrue(checkpoint.exists())
        self.fail_with("train", model, "-o", resumed, *flags[:3], 7, *flags[4:], needles=["another training", "--restart"])
        self.succeed("train", model, "-o", resumed, *flags)
        self.assertFalse(checkpoint.exists())
        self.assertEqual(whole.read_bytes(), resumed.read_bytes())

    def test_another_training_is_no_interrupted_one(self):
        random, spec = np.random.default_rng(0), self.folder / "pictures.yaml"
        spec.write_text("preprocess: {scale: 0.01}\n")
        model, output, data = self.folder / "mlp.onnx", self.folder / "trained.onnx", self.folder / "pictures.npz"
        np.savez(data, input=random.integers(0, 256, (600, 12, 12), np.uint8), labels=random.integers(0, 4, 600))
        create = ["create", "mlp", "-o", model, "--input", "1x12x12", "--classes", 4]
        self.succeed(*create)
        flags = ["train", model, "-o", output, "--data", data, "--preprocess", spec, "--threads", 1, "--epochs", 300]
        process = subprocess.Popen([command.BINARY, *map(str, flags)], stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if line.startswith("epoch 1"):
                process.send_signal(signal.SIGINT)
                break
        process.communicate(timeout=60)
        checkpoint = self.folder / "trained.onnx.checkpoint"
        self.assertTrue(checkpoint.exists())
        refused = dict(needles=["another training", "--restart"])
        spec.write_text("preprocess: {scale: 0.02}\n")
        self.fail_with(*flags, **refused)
        spec.write_text("preprocess: {scale: 0.01}\n")
        self.succeed(*create, "--seed", 5)
        self.fail_with(*flags, **refused)

    def model(self, nodes, name="bad.onnx", inputs=(("x", [2, 2]),), outputs=("y",), initializers=(), opset=17, kind=1,
              sparse=()):
        graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info(n, kind, s) for n, s in inputs],
                                  [helper.make_tensor_value_info(n, 1, None) for n in outputs], list(initializers))
        graph.sparse_initializer.extend(sparse)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        path = self.folder / name
        path.write_bytes(model.SerializeToString())
        return path

    def test_bad_networks(self):
        relu = helper.make_node("Relu", ["x"], ["y"], name="act")
        big = onnx.TensorProto(name="w", data_type=1, dims=[1 << 20, 1 << 20], raw_data=b"0123456789")
        weight = numpy_helper.from_array(np.zeros((2, 2), np.float32), "w")
        sparse = helper.make_sparse_tensor(helper.make_tensor("w", 1, [1], [1.0]), helper.make_tensor("at", 7, [1], [0]), [2, 2])
        external = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=1)
        external.external_data.add(key="location", value="../../etc/passwd")
        add = helper.make_node("Add", ["x", "w"], ["y"], name="sum")
        cases = [
            (dict(nodes=[helper.make_node("Relu", ["z"], ["y"], name="a"), helper.make_node("Relu", ["y"], ["z"], name="b")]), ["cyclic"]),
            (dict(nodes=[helper.make_node("Relu", ["missing"], ["y"], name="act")]), ["act", "missing"]),
            (dict(nodes=[relu, helper.make_node("Sigmoid", ["x"], ["y"], name="again")]), ["again", "'y' is made twice"]),
            (dict(nodes=[helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
                  initializers=[numpy_helper.from_array(np.zeros((3, 3), np.float32), "w")]), ["conv"]),
            (dict(nodes=[add], initializers=[big]), ["'w'", "takes 4398046511104 bytes, the file has 10"]),
            (dict(nodes=[add], initializers=[external]), ["'w'", "outside the model's folder"]),
            (dict(nodes=[helper.make_node("Frobnicate", ["x"], ["y"], name="odd")]), ["odd", "Frobnicate", "not supported"]),
            (dict(nodes=[helper.make_node("Relu", ["x"], ["y"], name="odd", domain="com.example")]), ["odd", "com.example"]),
            (dict(nodes=[relu], opset=6), ["opset 6", "7 to 23"]),
            (dict(nodes=[relu], opset=24), ["opset 24", "7 to 23"]),
            (dict(nodes=[relu], kind=onnx.TensorProto.STRING), ["'x'", "strings"]),
            (dict(nodes=[relu], outputs=("nowhere",)), ["nowhere"]),
            (dict(nodes=[relu], inputs=(("x", [2, 2]), ("x", [2, 2]))), ["two graph inputs are named 'x'"]),
            (dict(nodes=[add], initializers=[weight, weight]), ["two initializers are named 'w'"]),
            (dict(nodes=[add], initializers=[helper.make_tensor("w", onnx.TensorProto.STRING, [1], [b"a"])]), ["'w'", "STRING"]),
            (dict(nodes=[add], sparse=[sparse]), ["'w' is sparse"]),
            (dict(nodes=[helper.make_node("Constant", [], ["w"], name="constant", sparse_value=sparse), add]), ["constant", "sparse"]),
            (dict(nodes=[relu], inputs=(("x", [0, 2]),)), ["'x' is declared [0, 2]", "a batch of zero"]),
        ]
        x = self.array("x.npy", np.ones((2, 2), np.float32))
        for arguments, needles in cases:
            bad = self.model(**arguments)
            for verb in (["inspect", bad], ["run", bad, "--input", x], ["export", bad, "--format", "onnx", "-o", self.folder / "out.onnx"]):
                with self.subTest(needles=needles, verb=verb[0]):
                    self.fail_with(*verb, needles=["bad.onnx", *needles])
        any_batch = self.model([relu], name="any.onnx", inputs=(("x", ["n", 2]),))
        for values, needles in [(np.ones((0, 2), np.float32), ["[0, 2]", "holds nothing"]),
                                (np.ones((2, 3), np.float32), ["[2, 3]", "'x' takes [n, 2]"])]:
            self.fail_with("run", any_batch, "--input", self.array("x.npy", values), needles=needles)
        whole = self.model([relu], name="good.onnx").read_bytes()
        for size in (1, len(whole) // 2, len(whole) - 1):
            self.fail_with("inspect", self.write("cut.onnx", whole[:size]), needles=["cut.onnx"])

    def test_bad_data(self):
        model = self.folder / "mlp.onnx"
        self.succeed("create", "mlp", "-o", model, "--input", "1x2x2", "--classes", 3)
        x, output = np.zeros((4, 1, 2, 2), np.float32), self.folder / "out.onnx"

        def data(name, **arrays):
            np.savez(self.folder / name, **arrays)
            return self.folder / name

        for arrays, needles in [
            (dict(input=x, labels=np.zeros(3, np.int64)), ["4", "3"]),
            (dict(input=x, labels=np.full(4, 3)), ["label 3", "3 classes"]),
            (dict(input=x, labels=np.zeros(4, np.float32)), ["class"]),
            (dict(input=x[:0], labels=np.zeros(0, np.int64)), ["zero samples"]),
            (dict(input=np.zeros((4, 1, 3, 3), np.float32), labels=np.zeros(4, np.int64)), ["'input'", "[batch, 1, 2, 2]"]),
            (dict(input=np.full_like(x, np.nan), labels=np.zeros(4, np.int64)), ["bad.npz", "is nan at element 0"]),
        ]:
            with self.subTest(needles=needles):
                result = self.run_command("train", model, "--data", data("bad.npz", **arrays), "-o", output, "--batch-size", 2)
                self.check_failure(result, *needles)
                self.assertFalse(output.exists())
        self.fail_with("create", "vgg", "-o", output, needles=["'vgg'", "mlp, lenet5, resnet8, resnet20, mobilenet"])
        self.fail_with("run", model, "--input", self.array("x.npy", x.astype(np.float64)), needles=["F64", "F32"])
        self.fail_with("export", model, "--format", "gguf", "-o", output, needles=["--format onnx"])


if __name__ == "__main__":
    unittest.main()
