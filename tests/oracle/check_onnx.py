"""Reads ONNX files with the onnx package's checker and runs them with ONNX Runtime.

check_onnx.py fixture NAME OUTPUT OPSET       a small model made with onnx.helper
check_onnx.py compare ORIGINAL DIMS FILE...   each FILE against ORIGINAL on seeded random inputs; DIMS: batch=2,length=5
check_onnx.py against DATA FILE...            DATA: a GraphProto whose initializers are inputs and expected outputs
check_onnx.py cases CASES FOLDER              FOLDER/NAME.OPSET.onnx against CASES/NAME/model.onnx on that case's inputs

A line `FILE opset N difference D` each: the largest difference over the range of the output (exit 1 where a file is invalid,
does not run, or differs in names, types or shapes of its outputs). `cases` prints what is wrong and a line of counts.
"""

import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper, numpy_helper

SEED = 7


def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    # By default ONNX Runtime rounds activations to INT8 where it makes DequantizeLinear and MatMul one node.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def random_inputs(runner, dims):
    random = np.random.default_rng(SEED)
    feeds = {}
    for value in runner.get_inputs():
        shape = [d if isinstance(d, int) else dims[d] for d in value.shape]
        if value.type == "tensor(float)":
            feeds[value.name] = random.standard_normal(shape).astype(np.float32)
        elif value.type == "tensor(bool)":
            feeds[value.name] = random.integers(0, 2, shape).astype(bool)
        else:
            kind = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}[value.type]
            feeds[value.name] = random.integers(0, 4, shape).astype(kind)
    return feeds


def difference(got, want):
    """Of the output's range; infinite for another type or shape."""
    if got.dtype != want.dtype or got.shape != want.shape:
        return float("inf")
    if got.size == 0:
        return 0.0
    got, want = got.astype(np.float64), want.astype(np.float64)
    equal = (got == want) | (np.isnan(got) & np.isnan(want))
    finite = want[np.isfinite(want)]
    spread = max(float(finite.max() - finite.min()), float(np.abs(finite).max()), 1e-30) if finite.size else 1.0
    apart = np.where(equal, 0.0, np.abs(np.where(equal, 0.0, got) - np.where(equal, 0.0, want))) / spread
    return float("inf") if np.isnan(apart).any() else float(apart.max())


def opset_of(path):
    return next(o.version for o in onnx.load(path, load_external_data=False).opset_import if not o.domain)


def outputs_of(runner, feeds):
    return {o.name: value for o, value in zip(runner.get_outputs(), runner.run(None, feeds))}


def report(path, feeds, want):
    onnx.checker.check_model(str(path), full_check=True)
    got = outputs_of(session(path), feeds)
    if list(got) != list(want):
        sys.exit(f"{path}: outputs {list(got)}, not {list(want)}")
    largest = max(difference(got[name], want[name]) for name in want)
    print(f"{pathlib.Path(path).name} opset {opset_of(path)} difference {largest:.3g}")


def compare(original, dims, *files):
    dims = {name: int(size) for name, size in (pair.split("=") for pair in dims.split(",") if pair)}
    runner = session(original)
    feeds = random_inputs(runner, dims)
    want = outputs_of(runner, feeds)
    for path in files:
        report(path, feeds, want)


def against(data, *files):
    graph = onnx.GraphProto.FromString(pathlib.Path(data).read_bytes())
    tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for path in files:
        inputs = {i.name for i in session(path).get_inputs()}
        report(path, {n: v for n, v in tensors.items() if n in inputs}, {n: v for n, v in tensors.items() if n not in inputs})


# Where onnx's own inference is at fault: before opset 22 it counts a window that would start in the padding behind the picture;
# ONNX Runtime, at every opset, and this project do not.
INFERENCE_COUNTS_ONE_WINDOW_MORE = {
    f"test_{case}.{opset}.onnx"
    for case in ("averagepool_2d_ceil_last_window_starts_on_pad", "maxpool_2d_ceil_output_size_reduce_by_one")
    for opset in (13, 17)
}


# A branch that is never taken splits 5 elements into 4 parts: onnx's inference makes 2, 2, 2 and -1 of them.
IMPOSSIBLE_SPLIT = {"test_affine_grid_3d_expanded.23.onnx", "test_affine_grid_3d_align_corners_expanded.23.onnx"}


def is_sound(path):
    try:
        onnx.checker.check_model(str(path), full_check=True)
        return True
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False


def cases(folder, rewritten):
    right, wrong, not_run = 0, 0, 0
    for path in sorted(pathlib.Path(rewritten).glob("*.onnx")):
        case = pathlib.Path(folder) / path.name.split(".")[0]
        try:
            onnx.checker.check_model(str(path), full_check=True)
            original = session(case / "model.onnx")
        except Exception as error:  # noqa: BLE001
            by_checker = isinstance(error, (onnx.checker.ValidationError, onnx.shape_inference.InferenceError))
            excused = path.name in INFERENCE_COUNTS_ONE_WINDOW_MORE | IMPOSSIBLE_SPLIT or not is_sound(case / "model.onnx")
            if by_checker and not excused:
                print(f"{path.name}: {str(error).splitlines()[0]}")
                wrong += 1
            else:
                not_run += 1
            continue
        feeds = {}
        for index, value in enumerate(original.get_inputs()):
            feeds[value.name] = numpy_helper.to_array(onnx.load_tensor(str(case / f"input_{index}.pb")))
        try:
            want = outputs_of(original, feeds)
        except Exception:  # noqa: BLE001
            not_run += 1
            continue
        try:
            got = outputs_of(session(path), feeds)
            largest = max((difference(got[name], want[name]) for name in want), default=0.0)
        except Exception as error:  # noqa: BLE001
            print(f"{path.name}: {str(error).splitlines()[0]}")
            wrong += 1
            continue
        # Packlight computes in F32 where the original works in F16 or BF16.
        if largest <= (2e-3 if any(v.dtype.itemsize == 2 for v in want.values()) else 1e-4):
            right += 1
        else:
            print(f"{path.name}: differs by {largest:.3g}")
            wrong += 1
    print(f"onnxruntime: {right} right, {wrong} wrong, {not_run} not run")


def constant(name, values, kind=np.float32):
    return numpy_helper.from_array(np.asarray(values, kind), name)


def fixture_control():
    """An If that sees outer values, one in the other; a Loop that carries, collects and captures; a name used twice."""
    def value(name, shape=None, kind=T.FLOAT):
        return helper.make_tensor_value_info(name, kind, shape)
    node = helper.make_node
    inner = helper.make_graph([node("Sub", ["x", "half"], ["y"])], "inner", [], [value("y")])
    flat = helper.make_graph([node("Identity", ["x"], ["y"])], "flat", [], [value("y")])
    then = helper.make_graph([node("Mul", ["x", "weight"], ["scaled"]), node("If", ["flag2"], ["z"], then_branch=inner, else_branch=flat),
                              node("Add", ["scaled", "z"], ["sum"])], "then", [], [value("sum")])
    other = helper.make_graph([node("Add", ["x", "weight"], ["sum"])], "else", [], [value("sum")])
    body = helper.make_graph([node("Add", ["carried_in", "chosen"], ["carried_out"]), node("Mul", ["carried_out", "half"], ["seen"]),
                              node("Identity", ["go"], ["go_on"])], "body",
                             [value("i", [], T.INT64), value("go", [], T.BOOL), value("carried_in")],
                             [value("go_on", [], T.BOOL), value("carried_out"), value("seen")])
    nodes = [node("If", ["flag"], ["chosen"], name="choice", then_branch=then, else_branch=other),
             node("Loop", ["trips", "", "x"], ["last", "all"], name="repeat", body=body)]
    return helper.make_graph(nodes, "control", [value("x", ["batch", 4]), value("flag", [], T.BOOL), value("flag2", [], T.BOOL)],
                             [value("last", ["batch", 4]), value("all", [3, "batch", 4])],
                             [constant("weight", [1, -2, 3, 0.5]), constant("half", 0.5), constant("trips", 3, np.int64)])


def fixture(name, output, opset):
    opset = int(opset)
    model = helper.make_model(globals()["fixture_" + name](), opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, output)


{"fixture": fixture, "compare": compare, "against": against, "cases": cases}[sys.argv[1]](*sys.argv[2:])
