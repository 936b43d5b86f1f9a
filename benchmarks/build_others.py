"""Other ways to build a dataset, for `build.py`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import measure

SIZE = 224


def make_figures(images: int, start: float, cpu: float) -> measure.Figures:
    """Returns the figures of work since `start` and, in CPU time, since `cpu`."""
    passed, used = time.perf_counter() - start, time.process_time() - cpu
    return {
        "images_per_s": images / passed,
        "cpu_ms": 1000 * used / images,
        "peak_mb": measure.peak_mb(),
    }


def pillow(source: Path) -> measure.Measure:
    """Decodes and resizes on all cores, without checks, and writes nothing."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from PIL import Image

    from cxr_tfds.parallel import core_count

    files = sorted(source.glob("chest_xray/train/*/*"))
    pool = ThreadPoolExecutor(core_count())

    def load(file: Path) -> int:
        with Image.open(file) as image:
            image.draft("L", (SIZE, SIZE))
            grey = image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            return np.asarray(grey).size

    def once(_: float) -> measure.Figures:
        start, cpu = time.perf_counter(), time.process_time()
        return make_figures(sum(1 for _ in pool.map(load, files)), start, cpu)

    return once


def image_folder(source: Path) -> measure.Measure:
    """Reads with TFDS's ImageFolder, which stores nothing, resizes, and writes JPEG records."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def encode(example: dict) -> tf.Tensor:
        grey = tf.image.rgb_to_grayscale(example["image"])
        small = tf.image.resize(grey, (SIZE, SIZE), antialias=True)
        return tf.io.encode_jpeg(tf.cast(small, tf.uint8))

    def records(folder: tfds.ImageFolder) -> Iterator[bytes]:
        images = folder.as_dataset(split="train").map(encode, tf.data.AUTOTUNE).prefetch(64)
        for data in images.as_numpy_iterator():
            feature = {"image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))}
            yield tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()

    def once(_: float) -> measure.Figures:
        folder = tfds.ImageFolder(str(source / "chest_xray"))
        start, cpu = time.perf_counter(), time.process_time()
        images = 0
        with (
            tempfile.TemporaryDirectory(dir=measure.WORK) as out,
            tf.io.TFRecordWriter(f"{out}/train") as writer,
        ):
            for record in records(folder):
                writer.write(record)
                images += 1
        return make_figures(images, start, cpu)

    return once
