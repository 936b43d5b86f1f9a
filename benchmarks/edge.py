"""What the exported model costs on a device: latency, start, memory, size, and what int8 loses.

Run: python benchmarks/edge.py (about 3 minutes). It takes the run and the files that
`make demo SOURCE=FOLDER/chest_xray EPOCHS=12` leaves in demo/real, and the device environment
.venv-edge that `make test` creates. Everything runs on one thread, one image at a time. With onnxruntime
and tf2onnx installed (extra `bench`) there is a row for ONNX Runtime int8, too.
"""

from __future__ import annotations

import hashlib
import importlib.util
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

import measure
import numpy as np

ROOT = Path(__file__).parents[1]
RUN, EXPORT = ROOT / "demo" / "real" / "run", ROOT / "demo" / "real" / "export"
DEVICE = ROOT / ".venv-edge" / "bin" / "cxr-infer"
ORIGINALS = ROOT.parent / "shared" / "data" / "kermany_original" / "chest_xray"
MOBILENET = measure.WORK / "mobilenet-v3-small-int8.tflite"
FOLDER = measure.WORK / "edge_images"
SHAPE, IMAGES, CALIBRATION = (224, 224, 1), 100, 32


def prepare() -> None:
    """Writes what the contenders run and read to benchmarks/work/. Loads TensorFlow."""
    import keras

    from cxr_tfds.export.convert import to_tflite
    from cxr_tfds.run_folder import load_model

    pixels = [image for image, _ in zip(_fitted(), range(CALIBRATION), strict=False)]
    if not MOBILENET.is_file():
        body = keras.applications.MobileNetV3Small(
            weights=None,
            input_shape=SHAPE,
            classes=1,
            classifier_activation=None,
            include_preprocessing=True,
        )
        MOBILENET.write_bytes(to_tflite(body, "int8", pixels))
    if _onnx_installed() and not _onnx().is_file():
        _write_onnx(load_model(RUN), pixels)


def _onnx() -> Path:
    """The file of this very model: another run is written anew."""
    digest = hashlib.sha256((RUN / "model.keras").read_bytes()).hexdigest()
    return measure.WORK / f"edge-int8-{digest[:12]}.onnx"


def _write_onnx(model: Any, pixels: list[np.ndarray]) -> None:
    """Static int8, per channel: what ONNX Runtime's own guide recommends for CNNs."""
    import tensorflow as tf
    import tf2onnx
    from onnxruntime import quantization

    function = tf.function(lambda image: model(image, training=False))
    signature = [tf.TensorSpec((1, *SHAPE), tf.float32, name="image")]
    whole = _onnx().with_name("edge-float32.onnx")
    tf2onnx.convert.from_function(
        function, input_signature=signature, output_path=str(whole), opset=17
    )

    class Reader(quantization.CalibrationDataReader):
        images = iter(pixels)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {"image": image[np.newaxis].astype(np.float32)}

    quantization.quantize_static(
        str(whole),
        str(_onnx()),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
    )


def link_images(source: Path) -> None:
    """A folder of so many radiographs as they come: real ones, phantoms where there are none."""
    if FOLDER.is_dir():
        return
    files = measure.source_files(source)
    FOLDER.mkdir(parents=True)
    for number in range(IMAGES):
        (FOLDER / f"{number:03}.jpeg").symlink_to(files[number * len(files) // IMAGES].resolve())


def _fitted() -> Any:
    from cxr_tfds.imaging.pixels import radiograph

    return (radiograph(path.read_bytes(), SHAPE[0]).pixels for path in sorted(FOLDER.iterdir()))


def latency(infer: Callable[[np.ndarray], Any]) -> measure.Measure:
    """Milliseconds of one image, pixels uint8 (1, S, S, 1), already decoded."""
    images = [image[np.newaxis] for image in islice(_fitted(), 16)]
    for image in images:
        infer(image)

    def run(seconds: float) -> measure.Figures:
        taken, end = [], time.perf_counter() + seconds
        while (before := time.perf_counter()) < end:
            infer(images[len(taken) % len(images)])
            taken.append(time.perf_counter() - before)
        return {"ms": 1000 * statistics.median(taken), "peak_mb": measure.peak_mb()}

    return run


def of_runtime(name: str, model: Path) -> measure.Measure:
    from cxr_tfds.export.edge import runtime

    return latency(runtime.load(model.read_bytes(), name).run)


def of_keras() -> measure.Measure:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from cxr_tfds.run_folder import load_model

    model = load_model(RUN)
    return latency(lambda image: model.predict(image, verbose=0))


def of_onnx() -> measure.Measure:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(_onnx()), options, providers=["CPUExecutionProvider"]
    )
    return latency(lambda image: session.run(None, {"image": image.astype(np.float32)}))


def folder() -> measure.Measure:
    """`cxr-infer predict FOLDER` inside this process, loading the model included, against the same work alone."""
    from cxr_tfds.export.edge.classifier import Classifier
    from cxr_tfds.export.edge.command import cli

    model = EXPORT / "run-int8.tflite"
    arguments = ["predict", "--model", str(model), "--csv", str(FOLDER)]

    def command() -> None:
        sys.stdout = io.StringIO()
        try:
            cli.main(arguments, standalone_mode=False)
        finally:
            sys.stdout = sys.__stdout__

    classifier = Classifier(model)
    files = sorted(FOLDER.iterdir())

    def alone() -> None:
        for path in files:
            classifier(path)

    def run(seconds: float) -> measure.Figures:
        taken: dict[str, list[float]] = {"command": [], "alone": []}
        for _ in range(2):
            for name, work in (("command", command), ("alone", alone)):
                before = time.perf_counter()
                work()
                taken[name].append((time.perf_counter() - before) / len(files))
        return {f"{name}_ms": 1000 * min(times) for name, times in taken.items()}

    return run


def start(repeats: int) -> measure.Figures:
    """Process start to the printed answer for one image on the device environment, and its peak memory."""
    command = [DEVICE, "predict", "--model", EXPORT / "run-int8.tflite", FOLDER / "000.jpeg"]
    times, peaks = [], []
    for _ in range(repeats + 1):
        before = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        times.append(time.perf_counter() - before)
        peaks.append(
            usage.ru_maxrss / 1024
        )  # of the child: this process loads no TensorFlow and is smaller
        if status:
            sys.exit(f"{DEVICE.relative_to(ROOT)} failed; make it anew with `make test`.")
    return {"s": statistics.median(times[1:]), "peak_mb": max(peaks)}


def images_that_differ() -> int:
    """How many of the images become other pixels on the device environment than here."""
    done = subprocess.run(
        [DEVICE.with_name("python"), "-c", _PIXELS, FOLDER, str(SHAPE[0])],
        capture_output=True,
        text=True,
        check=True,
    )
    here = [hashlib.sha256(pixels).hexdigest() for pixels in _fitted()]
    return sum(one != other for one, other in zip(here, done.stdout.split(), strict=True))


_PIXELS = """
import hashlib, pathlib, sys
from cxr_tfds.imaging.pixels import radiograph
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    print(hashlib.sha256(radiograph(path.read_bytes(), int(sys.argv[2])).pixels).hexdigest())
"""


def _onnx_installed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("onnxruntime", "tf2onnx"))


def contenders() -> dict[str, Callable[[], measure.Measure]]:
    int8, float32 = EXPORT / "run-int8.tflite", EXPORT / "run-float32.tflite"
    found: dict[str, Callable[[], measure.Measure]] = {}
    for name in ("litert", "tflite-runtime"):
        found[f"{name} int8"] = lambda name=name: of_runtime(name, int8)
        found[f"{name} float32"] = lambda name=name: of_runtime(name, float32)
        found[f"{name} MobileNetV3-small int8"] = lambda name=name: of_runtime(name, MOBILENET)
    found["Keras predict"] = of_keras
    if _onnx_installed():
        found["ONNX Runtime int8"] = of_onnx
    return found


def report(
    times: dict[str, measure.Figures], files: measure.Figures, started: measure.Figures
) -> None:
    """Prints the table of latencies and the figures beside what issue 6 asks for."""
    rows: list[tuple[str, ...]] = [("one image, one thread", "ms", "÷ LiteRT int8", "peak MB")]
    least = times["litert int8"]["ms"]
    rows += [
        (n, f"{f['ms']:.2f}", f"{f['ms'] / least:.2f}", f"{f['peak_mb']:.0f}")
        for n, f in times.items()
    ]
    measure.print_table(rows)
    exported = {
        file["path"]: file for file in json.loads((EXPORT / "export.json").read_text())["files"]
    }
    int8, float32 = exported["run-int8.tflite"], exported["run-float32.tflite"]
    test = int8["comparisons"]["test"]
    measure.print_verdicts(
        [
            (
                f"AUC lost from Keras to int8, {test['images']} test images",
                test["auc_keras"] - test["auc"],
                "<=",
                0.002,
            ),
            ("decisions equal, int8 and Keras, test", test["agreement"], ">=", 0.99),
            ("size of int8 ÷ float32", int8["size_bytes"] / float32["size_bytes"], "<=", 0.30),
            ("int8 file, KB", int8["size_bytes"] / 1000, "<=", 450),
            ("LiteRT int8 ÷ LiteRT float32", least / times["litert float32"]["ms"], "<=", 0.8),
            (
                "int8 ÷ MobileNetV3-small int8, LiteRT",
                least / times["litert MobileNetV3-small int8"]["ms"],
                "<=",
                1.0,
            ),
            (
                "predict on a folder ÷ decode + fit + invoke",
                files["command_ms"] / files["alone_ms"],
                "<=",
                1.1,
            ),
            ("start to answer, tflite-runtime, s", started["s"], "<=", 0.5),
            ("its peak memory, MB", started["peak_mb"], "<=", 80),
            (
                f"of {IMAGES} images, those with other pixels on the device",
                images_that_differ(),
                "<=",
                0,
            ),
        ]
    )


def main() -> None:
    arguments = measure.options(__doc__).parse_args()
    if missing := [
        path for path in (RUN / "model.keras", EXPORT / "export.json", DEVICE) if not path.exists()
    ]:
        names = ", ".join(path.relative_to(ROOT).as_posix() for path in missing)
        sys.exit(f"{names} missing. Make it with: make demo SOURCE=FOLDER/chest_xray EPOCHS=12")
    if arguments.only == "prepare":
        prepare()
    elif arguments.only == "folder":
        measure.serve(folder())
    elif arguments.only:
        measure.serve(contenders()[arguments.only]())
    else:
        link_images(ORIGINALS)
        measure.run_once(__file__, "prepare")
        seconds, repeats = arguments.seconds, arguments.repeats
        times = measure.in_turns(__file__, contenders(), repeats=repeats, seconds=seconds)
        files = measure.in_turns(__file__, ["folder"], repeats=repeats, seconds=seconds)["folder"]
        report(times, files, start(repeats))


if __name__ == "__main__":
    main()
