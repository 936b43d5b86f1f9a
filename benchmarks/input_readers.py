"""Our reader and others that share its environment, for `input_pipeline.py`."""

from __future__ import annotations

import dataclasses
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import measure
from input_data import BATCH, SIZE, Workload

CLASSIC = {"shear_range": 0.2, "zoom_range": 0.2, "horizontal_flip": True}


def ours(work: Workload) -> measure.Measure:
    """Reads the records of 224 x 224."""
    batches = work.dataset().train(BATCH, cache="none")
    return measure.rate((len(images) for images, _ in batches), warm_up=100)


def ours_classic(work: Workload) -> measure.Measure:
    """Augments each batch as in the training step."""
    import tensorflow as tf

    from cxr_tfds.augmentation.augment import Augment

    layer = Augment("classic", seed=0)
    augment = tf.function(lambda images: layer(images, training=True))
    return measure.rate(len(augment(images)) for images, _ in work.dataset().train(BATCH))


def ours_original(work: Workload) -> measure.Measure:
    """Decodes and fits records of source files while reading."""
    batches = work.dataset("original-source").fitted(SIZE).train(BATCH, cache="none")
    return measure.rate(len(images) for images, _ in batches)


def ours_memory(work: Workload, images: int) -> measure.Measure:
    """Reads the shards several times an epoch, up to `images`, to measure the peak memory."""
    dataset, times = work.dataset(), images // work.images
    dataset = dataclasses.replace(
        dataset,
        shards={"train": dataset.shards["train"] * times},
        shard_sizes={"train": dataset.shard_sizes["train"] * times},
        recorded=None,  # the fingerprint is of each image once
    )
    batches = dataset.train(BATCH, cache="none")
    return measure.rate((len(images) for images, _ in batches), warm_up=12 * work.images // BATCH)


def preadv(work: Workload) -> measure.Measure:
    """Reads each image by `os.preadv` from its shard, as an earlier version of our reader did."""
    import numpy as np
    import tensorflow as tf

    pixels, labels = work.arrays(mapped=True)
    shards, places = [], []
    for path in work.dataset().shards["train"]:
        shards.append(os.open(path, os.O_RDONLY))
        content, start = Path(path).read_bytes(), 0
        while start < len(content):  # length, its checksum, record, its checksum
            (length,) = struct.unpack_from("<Q", content, start)
            image = content.index(pixels[len(places)].tobytes(), start)
            places.append((shards[-1], image))
            start += 12 + length + 4
    labels = tf.constant(labels[:, None], tf.float32)

    def read(index: np.ndarray) -> np.ndarray:
        images = np.empty((len(index), SIZE, SIZE, 1), np.uint8)
        for number, image in zip(index, images, strict=True):
            shard, start = places[number]
            os.preadv(shard, [image], start)
        return images

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(len(places)), seed=(0, number))

        def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            index = order[step * BATCH : (step + 1) * BATCH]
            return tf.numpy_function(read, [index], tf.uint8), tf.gather(labels, index)

        steps = -(-len(places) // BATCH)
        return tf.data.Dataset.range(steps).map(batch, tf.data.AUTOTUNE)

    batches = tf.data.Dataset.range(1 << 62).flat_map(epoch).prefetch(tf.data.AUTOTUNE)
    return measure.rate((len(images) for images, _ in batches), warm_up=100)


def epochs(work: Workload) -> measure.Measure:
    """Trains from the pipeline and from tensors in memory, in turns.

    In one process, because two processes differ by more than the 3 % of interest.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from cxr_tfds.models import build_model

    dataset, steps = work.dataset(), work.epoch_steps
    batches = dataset.train(BATCH)
    images, labels = (tf.constant(array[: steps * BATCH]) for array in work.arrays())
    labels = tf.cast(labels[:, tf.newaxis], tf.float32)
    model = build_model("edge", dataset.shape, 1)
    model.compile(optimizer="adam", loss=keras.losses.BinaryCrossentropy(from_logits=True))

    def timed(fit: Callable[[], object]) -> np.ndarray:
        start = time.perf_counter(), time.process_time()
        fit()
        return np.subtract((time.perf_counter(), time.process_time()), start)

    def from_pipeline() -> np.ndarray:
        return timed(lambda: model.fit(batches, steps_per_epoch=steps, verbose=0))

    def from_memory() -> np.ndarray:
        return timed(lambda: model.fit(images, labels, batch_size=BATCH, verbose=0))

    from_pipeline(), from_memory()  # compiles

    def measured(_: float) -> measure.Figures:
        first, second = from_pipeline(), from_memory()
        third, fourth = from_memory(), from_pipeline()
        time_ratio, cpu_ratio = (first + fourth) / (second + third)
        return {"time_ratio": time_ratio, "cpu_ratio": cpu_ratio}

    return measured


def generator(root: Path, **augment) -> measure.Measure:
    """Reads with ImageDataGenerator, which Keras 3 itself does not export."""
    import tensorflow as tf

    batches = tf.keras.preprocessing.image.ImageDataGenerator(**augment).flow_from_directory(
        root / "train",
        target_size=(SIZE, SIZE),
        color_mode="grayscale",
        class_mode="binary",
        batch_size=BATCH,
    )
    return measure.rate((len(images) for images, _ in batches), warm_up=2)


def keras_directory(root: Path) -> measure.Measure:
    """Reads with keras.utils.image_dataset_from_directory."""
    import keras

    batches = keras.utils.image_dataset_from_directory(
        root / "train",
        image_size=(SIZE, SIZE),
        color_mode="grayscale",
        batch_size=BATCH,
        verbose=False,
    )
    return measure.rate(len(images) for images, _ in batches.repeat())


def plain_tfds(work: Workload) -> measure.Measure:
    """Reads the config `original` as the guide of TFDS does, decoding example by example."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def decode(example: dict) -> tuple:
        image = tf.io.decode_image(example["image"], channels=1, expand_animations=False)
        return tf.image.resize(image, (SIZE, SIZE)), example["label"]

    builder = tfds.builder_from_directory(next(work.folder.glob("built/*/original-source/*")))
    records = builder.as_dataset(split="train", shuffle_files=True)
    batches = (
        records.repeat()
        .shuffle(1000)
        .map(decode, tf.data.AUTOTUNE)
        .batch(BATCH)
        .prefetch(tf.data.AUTOTUNE)
    )
    return measure.rate(len(images) for images, _ in batches)


def gather(work: Workload, *, mapped: bool) -> measure.Measure:
    """Gathers shuffled numbers with NumPy from memory, the upper limit, or from a mapped file."""
    import numpy as np

    images, labels = work.arrays(mapped=mapped)
    rng = np.random.default_rng(0)

    def epoch() -> Iterator[int]:
        order = rng.permutation(len(images))
        for start in range(0, len(order), BATCH):
            index = order[start : start + BATCH]
            yield len((images[index], labels[index])[0])

    return measure.rate(measure.forever(epoch))


def bare_pillow(work: Workload) -> measure.Measure:
    """Only decodes and resizes, on all cores, in random order."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from PIL import Image

    from cxr_tfds.parallel import core_count

    files = sorted((work.originals / "train").glob("*/*"))
    rng = np.random.default_rng(0)

    def load(number: int) -> np.ndarray:
        with Image.open(files[number]) as image:
            image.draft("L", (SIZE, SIZE))
            return np.asarray(image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    def epoch() -> Iterator[int]:
        order = rng.permutation(len(files))
        # Large chunks, so that no core waits for the slowest file.
        for start in range(0, len(order), 8 * BATCH):
            yield len(np.stack(list(pool.map(load, order[start : start + 8 * BATCH]))))

    pool = ThreadPoolExecutor(core_count())
    return measure.rate(measure.forever(epoch), warm_up=1)
