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
import importlib.util
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import measure
import numpy as np

ROOT = Path(__file__).parents[1]
RUN, EXPORT = ROOT / "demo" / "real" / "run", ROOT / "demo" / "real" / "export"
INT8, FLOAT32 = EXPORT / "run-int8.tflite", EXPORT / "run-float32.tflite"
DEVICE = ROOT / ".venv-edge" / "bin" / "cxr-infer"
ORIGINALS = ROOT.parent / "shared" / "data" / "kermany_original" / "chest_xray"
MOBILENET = measure.WORK / "mobilenet-v3-small-int8.tflite"
FOLDER = measure.WORK / "edge_images"
SHAPE, IMAGES, REPRESENTATIVE = (224, 224, 1), 100, 32


def prepare() -> None:
    """Writes MobileNetV3-small and the ONNX model to benchmarks/work/. Loads TensorFlow."""
    import keras

    from cxr_tfds.export.convert import to_tflite
    from cxr_tfds.run_folder import load_model

    images = list(islice(_fitted_images(), REPRESENTATIVE))
    if not MOBILENET.is_file():
        network = keras.applications.MobileNetV3Small(
            weights=None, input_shape=SHAPE, classes=1, classifier_activation=None
        )
        MOBILENET.write_bytes(to_tflite(network, "int8", images))
    if _has_onnx() and not _onnx_path().is_file():
        _write_onnx(load_model(RUN), images)


def _has_onnx() -> bool:
    return all(importlib.util.find_spec(name) for name in ("onnxruntime", "tf2onnx"))


def _onnx_path() -> Path:
    """Returns the file of this model; another run gets another file."""
    digest = hashlib.sha256((RUN / "model.keras").read_bytes()).hexdigest()
    return measure.WORK / f"edge-int8-{digest[:12]}.onnx"


def _write_onnx(model: Any, images: list[np.ndarray]) -> None:
    """Writes static int8, per channel, which ONNX Runtime's guide recommends for CNNs."""
    import tensorflow as tf
    import tf2onnx
    from onnxruntime import quantization

    function = tf.function(lambda image: model(image, training=False))
    signature = [tf.TensorSpec((1, *SHAPE), tf.float32, name="image")]
    path = str(_onnx_path().with_name("edge-float32.onnx"))
    tf2onnx.convert.from_function(function, signature, output_path=path, opset=17)

    class Reader(quantization.CalibrationDataReader):
        inputs = ({"image": image[np.newaxis].astype(np.float32)} for image in images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.inputs, None)

    qdq = quantization.QuantFormat.QDQ
    quantization.quantize_static(
        path, str(_onnx_path()), Reader(), quant_format=qdq, per_channel=True
    )


def link_images() -> None:
    """Links 100 radiographs, evenly spread over the source, or phantoms if there is no source."""
    if FOLDER.is_dir():
        return
    files = measure.source_files(ORIGINALS)
    FOLDER.mkdir(parents=True)
    for number in range(IMAGES):
        (FOLDER / f"{number:03}.jpeg").symlink_to(files[number * len(files) // IMAGES].resolve())


def _fitted_images() -> Iterator[np.ndarray]:
    from cxr_tfds.imaging.pixels import radiograph

    return (radiograph(path.read_bytes(), SHAPE[0]).pixels for path in sorted(FOLDER.iterdir()))


def latency(infer: Callable[[np.ndarray], Any]) -> measure.Measure:
    """Measures the milliseconds for one decoded image, uint8 (1, S, S, 1)."""
    images = [image[np.newaxis] for image in islice(_fitted_images(), 16)]
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
    session = onnxruntime.InferenceSession(str(_onnx_path()), options, providers=providers)
    return latency(lambda image: session.run(None, {"image": image.astype(np.float32)}))


def folder() -> measure.Measure:
    """Measures `cxr-infer predict FOLDER` in this process, and decode, fit and invoke alone."""
    from cxr_tfds.export.edge.classifier import Classifier
    from cxr_tfds.export.edge.command import cli

    arguments = ["predict", "--model", str(INT8), "--csv", str(FOLDER)]
    classifier, files = Classifier(INT8), sorted(FOLDER.iterdir())

    def run_command() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            cli.main(arguments, standalone_mode=False)

    def run_classifier() -> None:
        for path in files:
            classifier(path)

    def run(seconds: float) -> measure.Figures:
        times: dict[str, list[float]] = {"command_ms": [], "alone_ms": []}
        for _ in range(2):
            for name, work in zip(times, (run_command, run_classifier), strict=True):
                before = time.perf_counter()
                work()
                times[name].append(1000 * (time.perf_counter() - before) / len(files))
        return {name: min(values) for name, values in times.items()}

    return run


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


def different_images() -> int:
    """Returns how many images have other pixels in the device environment than here."""
    command = [DEVICE.with_name("python"), "-c", _DIGESTS, FOLDER, str(SHAPE[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    digests = [hashlib.sha256(pixels).hexdigest() for pixels in _fitted_images()]
    return sum(one != other for one, other in zip(digests, done.stdout.split(), strict=True))


_DIGESTS = """
import hashlib, pathlib, sys
from cxr_tfds.imaging.pixels import radiograph
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    print(hashlib.sha256(radiograph(path.read_bytes(), int(sys.argv[2])).pixels).hexdigest())
"""


def contenders() -> dict[str, Callable[[], measure.Measure]]:
    """Returns what is measured in turns, by name."""
    models = {"int8": INT8, "float32": FLOAT32, "MobileNetV3-small int8": MOBILENET}
    found: dict[str, Callable[[], measure.Measure]] = {
        f"{runtime} {name}": functools.partial(runtime_latency, runtime, model)
        for runtime in ("litert", "tflite-runtime")
        for name, model in models.items()
    }
    found["Keras predict"] = keras_latency
    if _has_onnx():
        found["ONNX Runtime int8"] = onnx_latency
    return found


def report(
    times: dict[str, measure.Figures], files: measure.Figures, started: measure.Figures
) -> None:
    """Prints the latencies, and measured numbers next to the required ones."""
    int8_ms = times["litert int8"]["ms"]
    rows: list[tuple[str, ...]] = [("one image, one thread", "ms", "÷ LiteRT int8", "peak MB")]
    rows += [
        (name, f"{row['ms']:.2f}", f"{row['ms'] / int8_ms:.2f}", f"{row['peak_mb']:.0f}")
        for name, row in times.items()
    ]
    measure.print_table(rows)
    results = json.loads((EXPORT / "export.json").read_text())["files"]
    exported = {row["path"]: row for row in results}
    int8, float32 = exported[INT8.name], exported[FLOAT32.name]
    test = int8["comparisons"]["test"]
    lost = test["auc_keras"] - test["auc"]
    mobilenet_ms = times["litert MobileNetV3-small int8"]["ms"]
    float32_ms = times["litert float32"]["ms"]
    command = files["command_ms"] / files["alone_ms"]
    measure.print_verdicts(
        [
            (f"AUC lost from Keras to int8, {test['images']} test images", lost, "<=", 0.002),
            ("agreement of int8 and Keras, test", test["agreement"], ">=", 0.99),
            ("size of int8 ÷ float32", int8["size_bytes"] / float32["size_bytes"], "<=", 0.30),
            ("int8 file, KB", int8["size_bytes"] / 1000, "<=", 450),
            ("LiteRT int8 ÷ LiteRT float32", int8_ms / float32_ms, "<=", 0.8),
            ("int8 ÷ MobileNetV3-small int8, LiteRT", int8_ms / mobilenet_ms, "<=", 1.0),
            ("predict on a folder ÷ decode + fit + invoke", command, "<=", 1.1),
            ("start to prediction, tflite-runtime, s", started["s"], "<=", 0.5),
            ("its peak memory, MB", started["peak_mb"], "<=", 80),
            (f"images of {IMAGES} with other pixels on the device", different_images(), "<=", 0),
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
        prepare()
    elif arguments.only:
        measure.serve(folder() if arguments.only == "folder" else contenders()[arguments.only]())
    else:
        seconds, repeats = (0.01, 1) if arguments.toy else (arguments.seconds, arguments.repeats)
        link_images()
        measure.run_once(__file__, "prepare")
        times = measure.in_turns(__file__, contenders(), repeats=repeats, seconds=seconds)
        files = measure.in_turns(__file__, ["folder"], repeats=repeats, seconds=seconds)["folder"]
        report(times, files, start(repeats))


if __name__ == "__main__":
    main()
