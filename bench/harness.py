"""What the comparison scripts share: where programs and models are, running them, and reading llama.cpp's figures."""

import hashlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

SOURCE_DIR = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("PACKLIGHT_CACHE", SOURCE_DIR / ".cache")).resolve()
PACKLIGHT = pathlib.Path(os.environ.get("PACKLIGHT", SOURCE_DIR / "build/release/packlight"))
VENV = CACHE / "venv"  # scripts/setup --tests makes it: ONNX Runtime, NumPy, readers of other formats
if (VENV / "bin/python").exists() and pathlib.Path(sys.prefix).resolve() != VENV.resolve():
    os.execv(VENV / "bin/python", [str(VENV / "bin/python"), *sys.argv])
WORK = CACHE / "bench"  # models made for comparisons; kept, so that a second run is quick
CALIBRATION_BYTES = 400_000  # of the end of the text; the figures use its beginning
CALIBRATION_TOKENS = 8192
CONTEXT = 512


def say(text):
    print(f"== {text}", file=sys.stderr, flush=True)


def run(command, **options):
    """Runs a command and returns its standard output; its failure is ours, with what it said."""
    words = [str(word) for word in command]
    result = subprocess.run(words, capture_output=True, text=True, errors="replace", **options)
    if result.returncode != 0:
        sys.exit(f"error: {' '.join(words)}\n{result.stdout[-2000:]}{result.stderr[-4000:]}")
    return result.stdout


def packlight(*arguments):
    """Runs a verb with --json and returns its result."""
    return json.loads(run([PACKLIGHT, *arguments, "--json"]))


def original():
    return pathlib.Path(run([SOURCE_DIR / "scripts/fetch_model"]).strip())


def newest_input(inputs):
    return max(pathlib.Path(path).stat().st_mtime for path in inputs)


def make(output, inputs, recipe):
    """Calls recipe(path of a temporary file) unless `output` is newer than every input; returns `output`."""
    output = pathlib.Path(output)
    if not output.exists() or output.stat().st_mtime < newest_input(inputs):
        output.parent.mkdir(parents=True, exist_ok=True)
        part = output.with_name(output.stem + ".part" + output.suffix)
        say(f"making {output.name}")
        recipe(part)
        part.rename(output)
    return output


def package(name, model, *flags, calibration=None):
    """A package of `model` made with these flags of `packlight quantize`; one calibrated on another text is another file."""
    if calibration:
        flags = [*flags, "--calib", calibration, "--calib-tokens", CALIBRATION_TOKENS]
        name += "-" + hashlib.sha256(pathlib.Path(calibration).read_bytes()).hexdigest()[:8]
    return make(WORK / f"{name}.plk", [PACKLIGHT, PACKLIGHT.with_name("packlight-compress"), model],
                lambda part: run([PACKLIGHT, "quantize", model, "-o", part, *flags]))


def split_text(text):
    """(the whole text, a file of its last 400 kB to calibrate with)."""
    data = pathlib.Path(text).read_bytes()
    start = max(len(data) // 2, len(data) - CALIBRATION_BYTES)
    while start < len(data) and data[start] & 0xC0 == 0x80:  # not inside a UTF-8 character
        start += 1
    WORK.mkdir(parents=True, exist_ok=True)
    calibration = WORK / f"{pathlib.Path(text).stem}-calibration.txt"
    if not calibration.exists() or calibration.read_bytes() != data[start:]:
        calibration.write_bytes(data[start:])
    return pathlib.Path(text), calibration


# llama.cpp

def llama(tool):
    path = CACHE / "llama/bin" / f"llama-{tool}"
    if not path.exists():
        run([SOURCE_DIR / "bench/llama_peer"])
    return path


def llama_quantized(model, kind, imatrix=None):
    """`model` dequantized to F32 and, unless that is the kind, quantized again by llama-quantize."""
    dense = make(WORK / "llama-F32.gguf", [model],
                 lambda part: run([llama("quantize"), "--allow-requantize", model, part, "F32", 2]))
    if kind == "F32":
        return dense
    flags = ["--imatrix", imatrix] if imatrix else []
    name = f"llama-{kind}{'-imatrix' if imatrix else ''}.gguf"
    return make(WORK / name, [dense, *([imatrix] if imatrix else [])], lambda part: run([llama("quantize"), *flags, dense, part, kind, 2]))


def llama_imatrix(model, calibration, chunks):
    return make(WORK / "llama-imatrix.gguf", [model, calibration],
                lambda part: run([llama("imatrix"), "-m", model, "-f", calibration, "-o", part, "-c", CONTEXT,
                                  "--chunks", chunks, "-t", 2]))


def llama_perplexity(model, text, chunks, base_logits=None, save_logits=None):
    """perplexity, and with base_logits also kl_divergence and top1_agreement (0 to 1); seconds: the run's."""
    command = [llama("perplexity"), "-m", model, "-f", text, "-c", CONTEXT, "-b", CONTEXT, "-t", 2, "--chunks", chunks]
    if base_logits:
        command += ["--kl-divergence", "--kl-divergence-base", base_logits]
    if save_logits:
        command += ["--save-all-logits", save_logits]
    # Its log is written by a thread that is now and then stopped at exit before the last line is out: run it again then.
    last_line = r"Same top p:" if base_logits else r"Final estimate: PPL"
    for _ in range(3):
        start = time.monotonic()
        result = subprocess.run([str(word) for word in command], capture_output=True, text=True, errors="replace")
        seconds = time.monotonic() - start
        output = result.stdout + result.stderr
        if result.returncode != 0 or re.search(last_line, output):
            break

    def figure(pattern):
        match = re.search(pattern, output)
        if result.returncode != 0 or not match:
            sys.exit(f"error: {' '.join(map(str, command))}\n{output[-4000:]}")
        return float(match.group(1))

    if base_logits:
        return {"perplexity": figure(r"Mean PPL\(Q\)\s*:\s*([\d.]+)"),
                "kl_divergence": figure(r"Mean\s+KLD:\s*([\d.]+)"),
                "top1_agreement": figure(r"Same top p:\s*([\d.]+)") / 100, "seconds": seconds}
    return {"perplexity": figure(r"Final estimate: PPL = ([\d.]+)"), "seconds": seconds}


def llama_bench(model, prompt, generate):
    """(prefill, decode) tokens/s of one run on two threads."""
    rows = json.loads(run([llama("bench"), "-m", model, "-p", prompt, "-n", generate, "-t", 2, "-r", 1, "-o", "json"]))
    by_kind = {("decode" if row["n_gen"] else "prefill"): row["avg_ts"] for row in rows}
    return by_kind["prefill"], by_kind["decode"]


# Output

def peak_rss_mb(command):
    """Runs a command and returns (its peak resident memory in MB, seconds)."""
    start = time.monotonic()
    with open(os.devnull, "w") as null:
        process = subprocess.Popen([str(word) for word in command], stdout=null, stderr=subprocess.PIPE)
        message = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"error: {' '.join(map(str, command))}\n{message.decode(errors='replace')[-4000:]}")
    return usage.ru_maxrss * 1024 / 1e6, time.monotonic() - start


def size_mb(path):
    return pathlib.Path(path).stat().st_size / 1e6


def spread(values):
    """'median (lowest to highest)'."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def print_table(header, rows):
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print_row(row)


def print_row(row):
    print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)
