"""Models and images of the benchmark `edge.py`."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import measure
import numpy as np

ROOT = Path(__file__).parents[1]
RUN = ROOT / "demo" / "real" / "run"
ORIGINALS = ROOT.parent / "shared" / "data" / "kermany_original" / "chest_xray"
MOBILENET = measure.WORK / "mobilenet-v3-small-int8.tflite"
FOLDER = measure.WORK / "edge_images"
SHAPE, IMAGES, REPRESENTATIVE = (224, 224, 1), 100, 32


def prepare() -> None:
    """Writes the models to compare with to benchmarks/work/. Loads TensorFlow."""
    import keras

    from cxr_tfds.export.convert import to_tflite
    from cxr_tfds.export.variants import with_heatmap
    from cxr_tfds.run_folder import load_model

    images = list(islice(fitted_images(), REPRESENTATIVE))
    if not MOBILENET.is_file():
        network = keras.applications.MobileNetV3Small(
            weights=None, input_shape=SHAPE, classes=1, classifier_activation=None
        )
        MOBILENET.write_bytes(to_tflite(network, "int8", images))
    if not work_path("unpacked.tflite").is_file():
        unpacked = to_tflite(with_heatmap(load_model(RUN)), "int8", images)
        work_path("unpacked.tflite").write_bytes(unpacked)
    if has_onnx() and not work_path("int8.onnx").is_file():
        _write_onnx(load_model(RUN), images)


def has_onnx() -> bool:
    return all(importlib.util.find_spec(name) for name in ("onnxruntime", "tf2onnx"))


def work_path(kind: str) -> Path:
    """Returns a file of this model; another run gets another file."""
    digest = hashlib.sha256((RUN / "model.keras").read_bytes()).hexdigest()
    return measure.WORK / f"edge-{digest[:12]}-{kind}"


def _write_onnx(model: Any, images: list[np.ndarray]) -> None:
    """Writes static int8, per channel, which ONNX Runtime's guide recommends for CNNs."""
    import tensorflow as tf
    import tf2onnx
    from onnxruntime import quantization

    function = tf.function(lambda image: model(image, training=False))
    signature = [tf.TensorSpec((1, *SHAPE), tf.float32, name="image")]
    path = str(measure.WORK / "edge-float32.onnx")
    tf2onnx.convert.from_function(function, signature, output_path=path, opset=17)

    class Reader(quantization.CalibrationDataReader):
        inputs = ({"image": image[np.newaxis].astype(np.float32)} for image in images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.inputs, None)

    qdq = quantization.QuantFormat.QDQ
    quantization.quantize_static(
        path, str(work_path("int8.onnx")), Reader(), quant_format=qdq, per_channel=True
    )


def link_images() -> None:
    """Links 100 radiographs from all parts of the source, or 100 phantoms without a source."""
    if FOLDER.is_dir():
        return
    files = measure.source_files(ORIGINALS)
    FOLDER.mkdir(parents=True)
    for number in range(IMAGES):
        (FOLDER / f"{number:03}.jpeg").symlink_to(files[number * len(files) // IMAGES].resolve())


def fitted_images() -> Iterator[np.ndarray]:
    from cxr_tfds.imaging.pixels import radiograph

    return (radiograph(path.read_bytes(), SHAPE[0]).pixels for path in sorted(FOLDER.iterdir()))
