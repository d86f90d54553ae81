"""Makes the files that tests/data/oracle_test.cpp reads, with NumPy and Pillow, and what must come out.

Usage: make_data.py FOLDER
"""

import pathlib
import sys

import numpy as np
from PIL import Image

folder = pathlib.Path(sys.argv[1])
rng = np.random.default_rng(1)

# Arrays of every type, both orders: name, and beside it the same as little-endian C order.
truth = {}
for code in ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?"]:
    for order in "<>":
        values = rng.integers(0, 2 if code == "?" else 100, (3, 4, 5)).astype(np.dtype(code).newbyteorder(order))
        for layout in "CF":
            name = f"{code.replace('?', 'b1')}_{'le' if order == '<' else 'be'}_{layout}"
            np.save(folder / f"{name}.npy", np.asarray(values, order=layout))
            (folder / f"{name}.bin").write_bytes(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes())
            truth[name] = np.asarray(values, order=layout)
np.savez(folder / "stored.npz", **truth)
np.savez_compressed(folder / "deflated.npz", **truth)

# Pictures: smooth, so that JPEG's loss is small against what is compared (its decoding by another decoder).
y, x = np.mgrid[0:37, 0:53]
rgb = np.stack([x * 4, y * 6, (x + y) * 2], -1).astype(np.uint8)
gray = ((x * 3 + y * 2) % 256).astype(np.uint8)
Image.fromarray(rgb).save(folder / "rgb.png")
Image.fromarray(gray).save(folder / "gray.png")
Image.fromarray(np.concatenate([rgb, gray[..., None]], -1)).save(folder / "rgba.png")
Image.fromarray(rgb).quantize(64).save(folder / "palette.png")
Image.fromarray(gray.astype(np.uint16) * 257).save(folder / "gray16.png")
Image.fromarray(rgb).save(folder / "rgb.jpg", quality=95, subsampling=0)
Image.fromarray(rgb).save(folder / "progressive.jpg", quality=95, subsampling=0, progressive=True)
Image.fromarray(gray).save(folder / "gray.jpg", quality=95)
for path in sorted(folder.glob("*.png")) + sorted(folder.glob("*.jpg")):
    image = Image.open(path)
    if path.name == "gray16.png":
        pixels = gray
    else:
        pixels = np.asarray(image if image.mode == "L" else image.convert("RGB"))
    path.with_suffix(path.suffix + ".bin").write_bytes(pixels.tobytes())
(folder / "luma.bin").write_bytes(np.asarray(Image.fromarray(rgb).convert("L")).tobytes())

# Bilinear resizing with half-pixel centres, by ONNX Runtime.
import onnx
import onnxruntime
from onnx import TensorProto, helper

for height, width in [(20, 20), (74, 60), (5, 111)]:
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear",
                            coordinate_transformation_mode="half_pixel")
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 3, height, width])
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 37, 53])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, height, width])], [sizes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    out = session.run(None, {"x": rgb.transpose(2, 0, 1)[None].astype(np.float32)})[0]
    (folder / f"resize_{height}_{width}.bin").write_bytes(out[0].transpose(1, 2, 0).tobytes())
