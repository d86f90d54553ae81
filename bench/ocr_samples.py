"""Inputs for the PP-OCRv4 networks that are made here: rendered lines and pages, and the peer that is calibrated on the same ones."""

import pathlib
import random
import sys

import harness as h
import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONTS = pathlib.Path("/usr/share/fonts/truetype/dejavu")


def lines(count, seed, held_out=False):
    """Texts of 15 to 40 characters, of the first half of the words or (held_out) of the second."""
    h.run([h.SOURCE_DIR / "scripts/fetch_text"])
    if len(list(FONTS.glob("DejaVu*.ttf"))) < 2:
        sys.exit(f"error: {FONTS} has no fonts to render lines with: apt-get install fonts-dejavu")
    words = " ".join((h.CACHE / "text" / name).read_text(errors="ignore") for name in ("faq.txt", "history.txt")).split()
    words = [w for w in words if w.isascii() and len(w) < 20]
    words = words[len(words) // 2 :] if held_out else words[: len(words) // 2]
    draw = random.Random(seed)
    while count > 0:
        start, text, wanted = draw.randrange(len(words)), "", draw.randint(15, 40)
        while len(text) < wanted:
            text += (" " if text else "") + words[start % len(words)]
            start += 1
        yield draw, text[:40].strip()
        count -= 1


def render(draw, text):
    """A line of text as recognition takes it: [1, 3, 48, width]."""
    font = ImageFont.truetype(str(draw.choice(sorted(FONTS.glob("DejaVu*.ttf"))[1:])), draw.randint(20, 40))
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("RGB", (right - left + 12, bottom - top + 12), tuple(draw.randint(200, 255) for _ in range(3)))
    ImageDraw.Draw(image).text((6 - left, 6 - top), text, font=font, fill=tuple(draw.randint(0, 80) for _ in range(3)))
    image = image.resize((max(8, round(image.width * 48 / image.height)), 48), Image.BILINEAR)
    pixels = np.asarray(image, np.float32)[..., ::-1] + np.random.default_rng(draw.getrandbits(32)).normal(0, 4, (48, image.width, 1))
    return np.ascontiguousarray(((np.clip(pixels, 0, 255) / 255 - 0.5) / 0.5).astype(np.float32).transpose(2, 0, 1)[None])


def write_lines(folder, count, seed, held_out=False):
    folder.mkdir()
    for i, (draw, text) in enumerate(lines(count, seed, held_out)):
        np.save(folder / f"{i:05d}.npy", render(draw, text))
    return folder


def peer(model, calibration, output):
    """ONNX Runtime's quantize_static, per channel, Conv and MatMul."""
    import onnx
    from onnx import version_converter
    from onnxruntime import quantization as q
    onnx.save(version_converter.convert_version(onnx.load(model), 17), output)
    q.quant_pre_process(str(output), str(output), skip_symbolic_shape=True)

    class Reader(q.CalibrationDataReader):
        files = iter(sorted(calibration.iterdir()))

        def get_next(self):
            file = next(self.files, None)
            return None if file is None else {"x": np.load(file)}

    q.quantize_static(str(output), str(output), Reader(), per_channel=True, op_types_to_quantize=["Conv", "MatMul"],
                      activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8)


def write_pages(folder, count, seed, side=640):
    """Pages of text as detection takes them: [1, 3, side, side]."""
    folder.mkdir()
    mean, deviation = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    for i in range(count):
        page = Image.new("RGB", (side, side), "white")
        for y, (draw, text) in zip(range(10, side - 40, 46), lines(20, seed + i)):
            font = ImageFont.truetype(str(draw.choice(sorted(FONTS.glob("DejaVu*.ttf"))[1:])), draw.randint(16, 34))
            ImageDraw.Draw(page).text((draw.randint(5, side // 3), y), text, font=font, fill=tuple(draw.randint(0, 80) for _ in range(3)))
        pixels = (np.asarray(page, np.float32) / 255 - mean) / deviation
        np.save(folder / f"{i:05d}.npy", np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
    return folder
