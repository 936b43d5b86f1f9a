"""Measures an exported model on a device: latency, start, memory, size, and what int8 loses.

Run: python benchmarks/edge.py (about 3 minutes). It needs the run and the files that
`make demo SOURCE=FOLDER/chest_xray EPOCHS=12` writes to demo/real, and the device environment
.venv-edge that `make test` creates. Everything runs on one thread, one image at a time. With
onnxruntime and tf2onnx (extra `bench`), ONNX Runtime int8 is measured as well.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import edge_models
import measure
import numpy as np
from tables import Column, Report, Target

ROOT = edge_models.ROOT
RUN, EXPORT = edge_models.RUN, ROOT / "demo" / "real" / "export"
INT8, FLOAT32 = EXPORT / "run-int8.tflite", EXPORT / "run-float32.tflite"
DEVICE = ROOT / ".venv-edge" / "bin" / "cxr-infer"
FOLDER, SHAPE = edge_models.FOLDER, edge_models.SHAPE


def latency(infer: Callable[[np.ndarray], Any]) -> measure.Measure:
    """Measures the milliseconds for one decoded image, uint8 (1, S, S, 1)."""
    images = [image[np.newaxis] for image in islice(edge_models.fitted_images(), 16)]
    for image in images:
        infer(image)

    def run(seconds: float) -> measure.Figures:
        times, end = [], time.perf_counter() + seconds
        while (before := time.perf_counter()) < end:
            infer(images[len(times) % len(images)])
            times.append(time.perf_counter() - before)
        return {"ms": 1000 * statistics.median(times), "peak_mb": measure.peak_mb()}

    return run


def runtime_latency(name: str, model: Path) -> measure.Measure:
    """Measures a `.tflite` in LiteRT or tflite-runtime."""
    from cxr_tfds.export.edge import runtime

    return latency(runtime.load(model.read_bytes(), name).run)


def keras_latency() -> measure.Measure:
    """Measures `model.predict` of the run."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from cxr_tfds.run_folder import load_model

    model = load_model(RUN)
    return latency(lambda image: model.predict(image, verbose=0))


def onnx_latency() -> measure.Measure:
    """Measures the ONNX model in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(
        str(edge_models.work_path("int8.onnx")), options, providers=providers
    )
    return latency(lambda image: session.run(None, {"image": image.astype(np.float32)}))


def folder() -> measure.Measure:
    """Measures three things with the same files on all cores, in milliseconds an image.

    `cxr-infer predict FOLDER` in this process, bare Pillow that decodes and fits, and bare Pillow
    with the interpreter behind it.
    """
    from cxr_tfds.export.edge import runtime
    from cxr_tfds.export.edge.command import cli
    from cxr_tfds.parallel import all_cores

    arguments = ["predict", "--model", str(INT8), "--csv", str(FOLDER)]
    session, files = runtime.load(INT8.read_bytes(), "litert"), sorted(FOLDER.iterdir())

    def run_command() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            cli.main(arguments, standalone_mode=False)

    def decode_all() -> None:
        with all_cores() as pool:
            for _ in pool.map(_decode_bare, files):
                pass

    def decode_and_infer() -> None:
        with all_cores() as pool:
            for pixels in pool.map(_decode_bare, files):
                session.run(pixels)

    def run(seconds: float) -> measure.Figures:
        work = {"command_ms": run_command, "bare_ms": decode_all, "infer_ms": decode_and_infer}
        times: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(2):
            for name, function in work.items():
                before = time.perf_counter()
                function()
                times[name].append(1000 * (time.perf_counter() - before) / len(files))
        return {name: min(values) for name, values in times.items()}

    return run


def _decode_bare(path: Path) -> np.ndarray:
    """Returns pixels uint8 (1, S, S, 1), decoded and fitted with Pillow alone."""
    from PIL import Image

    data = path.read_bytes()
    image: Any = Image.open(io.BytesIO(data))
    image.draft("L", SHAPE[:2])
    image.decodermaxblock = len(data)  # as the pixel function sets it
    grey = image.convert("L").resize(SHAPE[:2], Image.Resampling.BILINEAR)
    return np.asarray(grey)[np.newaxis, ..., np.newaxis]


def start(repeats: int) -> measure.Figures:
    """Measures from process start to the printed prediction on the device, and peak memory."""
    command = [DEVICE, "predict", "--model", INT8, FOLDER / "000.jpeg"]
    times, peaks = [], []
    for _ in range(repeats + 1):
        before = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        times.append(time.perf_counter() - before)
        peaks.append(usage.ru_maxrss / 1024)  # of the child; this process is smaller
        if status:
            sys.exit(f"{DEVICE.relative_to(ROOT)} failed; create it again with `make test`.")
    return {"s": statistics.median(times[1:]), "peak_mb": max(peaks)}


def bare_start(repeats: int) -> measure.Figures:
    """Measures the imports of NumPy, Pillow and the interpreter, and the load of the model."""
    command = [DEVICE.with_name("python"), "-c", _BARE, INT8]
    times = []
    for _ in range(repeats + 1):
        before = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - before)
    return {"s": statistics.median(times[1:])}


_BARE = """
import sys
import numpy
from PIL import Image
from tflite_runtime.interpreter import Interpreter
Interpreter(sys.argv[1], num_threads=1).allocate_tensors()
"""


def different_images() -> int:
    """Returns how many images have other pixels in the device environment than here."""
    command = [DEVICE.with_name("python"), "-c", _DIGESTS, FOLDER, str(SHAPE[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    digests = [hashlib.sha256(pixels).hexdigest() for pixels in edge_models.fitted_images()]
    return sum(one != other for one, other in zip(digests, done.stdout.split(), strict=True))


_DIGESTS = """
import hashlib, pathlib, sys
from cxr_tfds.imaging.pixels import radiograph
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    print(hashlib.sha256(radiograph(path.read_bytes(), int(sys.argv[2])).pixels).hexdigest())
"""


def contenders() -> dict[str, Callable[[], measure.Measure]]:
    """Returns what is measured in turns, by name."""
    models = {"int8": INT8, "float32": FLOAT32, "MobileNetV3-small int8": edge_models.MOBILENET}
    found: dict[str, Callable[[], measure.Measure]] = {
        f"{runtime} {name}": functools.partial(runtime_latency, runtime, model)
        for runtime in ("litert", "tflite-runtime")
        for name, model in models.items()
    }
    found["litert int8, columns not packed"] = functools.partial(
        runtime_latency, "litert", edge_models.work_path("unpacked.tflite")
    )
    found["Keras predict"] = keras_latency
    if edge_models.has_onnx():
        found["ONNX Runtime int8"] = onnx_latency
    return found


def report(
    written: Report,
    times: dict[str, measure.Figures],
    files: measure.Figures,
    started: measure.Figures,
    bare: measure.Figures,
) -> None:
    """Adds the latencies, and measured numbers next to the required ones."""
    ms, infer = Column("ms", ".2f", spread=True), files["infer_ms"]
    int8_ms = times["litert int8"]["ms"]
    columns = Column("one image, one thread"), ms, Column("÷ LiteRT int8", ".2f"), Column("peak MB")
    written.table(
        [*columns[:3], columns[3]._replace(format=".0f")],
        [(name, row["ms"], row["ms"] / int8_ms, row["peak_mb"]) for name, row in times.items()],
    )
    written.table(
        [Column("a folder, all cores"), ms._replace(title="ms an image")],
        [
            ("cxr-infer predict", files["command_ms"]),
            ("Pillow decodes and fits", files["bare_ms"]),
            ("the same with the interpreter", infer),
        ],
    )
    results = json.loads((EXPORT / "export.json").read_text())["files"]
    exported = {row["path"]: row for row in results}
    int8, float32 = exported[INT8.name], exported[FLOAT32.name]
    test = int8["comparisons"]["test"]
    lost = test["auc_keras"] - test["auc"]
    unpacked_ms = times["litert int8, columns not packed"]["ms"]
    float32_ms = times["litert float32"]["ms"]
    mobilenet_ms = times["litert MobileNetV3-small int8"]["ms"]
    kept, kept_all = files["bare_ms"] / files["command_ms"], infer / files["command_ms"]
    written.note(
        f"The imports of NumPy, Pillow and tflite-runtime and the load of the model take "
        f"{bare['s']:.3f} s of a start."
    )
    written.targets(
        [
            Target(f"AUC lost from Keras to int8, {test['images']} test images", lost, "<=", 0.002),
            Target("agreement of int8 and Keras, test", test["agreement"], ">=", 0.99),
            Target("size of int8 ÷ float32", int8["size_bytes"] / float32["size_bytes"], "<=", 0.3),
            Target("int8 file, KB", int8["size_bytes"] / 1000, "<=", 450),
            Target("LiteRT int8 ÷ LiteRT float32", int8_ms / float32_ms, "<=", 0.8),
            Target("int8 ÷ int8 without packed columns", int8_ms / unpacked_ms, "<=", 0.9, True),
            Target("int8 ÷ MobileNetV3-small int8, LiteRT", int8_ms / mobilenet_ms, "<=", 1.0),
            Target("decode and fit ÷ predict on a folder", kept, ">=", 0.95, True),
            Target("decode, fit and infer ÷ predict on a folder", kept_all, ">=", 0.95),
            Target("start to prediction, tflite-runtime, s", started["s"], "<=", 0.12, True),
            Target("its peak memory, MB", started["peak_mb"], "<=", 45, True),
            Target(
                f"images of {edge_models.IMAGES} with other pixels on the device",
                different_images(),
                "<=",
                0,
            ),
        ]
    )


def main() -> None:
    """Runs the benchmark, or one contender in a child process."""
    arguments = measure.options(__doc__).parse_args()
    needed = (RUN / "model.keras", EXPORT / "export.json", DEVICE)
    if missing := [path.relative_to(ROOT).as_posix() for path in needed if not path.exists()]:
        sys.exit(
            f"{', '.join(missing)} missing. Write them with: "
            "make demo SOURCE=FOLDER/chest_xray EPOCHS=12"
        )
    if arguments.only == "prepare":
        edge_models.prepare()
    elif arguments.only:
        measure.serve(folder() if arguments.only == "folder" else contenders()[arguments.only]())
    else:
        seconds, repeats = (0.01, 1) if arguments.toy else (arguments.seconds, arguments.repeats)
        edge_models.link_images()
        measure.run_once(__file__, "prepare")
        times = measure.in_turns(__file__, contenders(), repeats=repeats, seconds=seconds)
        files = measure.in_turns(__file__, ["folder"], repeats=repeats, seconds=seconds)["folder"]
        written = Report(__file__, is_toy=arguments.toy)
        report(written, times, files, start(repeats), bare_start(repeats))
        written.save()


if __name__ == "__main__":
    main()
