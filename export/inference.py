"""Runs models over the images of a built dataset, holding one batch of images at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from cxr_tfds.evaluation.scoring import squeeze_logits
from cxr_tfds.native import suppress_native_stderr
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.sequential import (
    check_labels_unchanged,
    encode_labels,
    field_batches,
    name_corrupt_shard,
)
from cxr_tfds.task import Task

from .edge.runtime import load


def image_batches(dataset: BuiltDataset, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields images uint8 (B, S, S, C) and labels int64 (B,) of a split in stored order.

    The labels of several findings are float32 (B, K): 1, 0, or NaN, which does not count. Raises
    InputError at the end if labels were changed after the dataset was built.
    """
    stored = []
    with name_corrupt_shard(dataset):
        for batch in field_batches(dataset, split, ("image", "label")).as_numpy_iterator():
            labels = batch["label"]
            stored.append(labels)
            if dataset.task is Task.FINDINGS:
                labels = encode_labels(labels, dataset).numpy()
            yield batch["image"], labels
    check_labels_unchanged(dataset, split, np.concatenate(stored))


def predict_split(
    dataset: BuiltDataset,
    split: str,
    predict: Callable[[np.ndarray], dict[str, np.ndarray]],
    advance: Callable[[int], object] = lambda count: None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns labels of a split as `image_batches` yields them, and logits float32 by model.

    The logits are (N,) for two classes, otherwise (N, K). `predict` takes images uint8
    (B, S, S, C) and returns logits (B, K) by model. `advance` takes the number of images of each
    finished batch.
    """
    labels, outputs = [], []
    for images, numbers in image_batches(dataset, split):
        labels.append(numbers)
        outputs.append(predict(images))
        advance(len(images))
    joined = {name: np.concatenate([batch[name] for batch in outputs]) for name in outputs[0]}
    known = np.concatenate(labels)
    if known.ndim == 2:  # several findings, or one of them
        return known, joined
    return known, {name: squeeze_logits(values) for name, values in joined.items()}


def pick_images(dataset: BuiltDataset, split: str, numbers: np.ndarray) -> np.ndarray:
    """Returns the images with these sorted numbers: uint8 (N, S, S, C), in stored order."""
    picked = np.empty((len(numbers), *dataset.shape), np.uint8)
    start = count = 0
    for images, _ in image_batches(dataset, split):
        end = start + len(images)
        inside = numbers[count : np.searchsorted(numbers, end)] - start
        picked[count : count + len(inside)] = images[inside]
        start, count = end, count + len(inside)
        if count == len(numbers):
            break
    return picked


def litert_predictor(flatbuffer: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from uint8 images (N, S, S, C) to what the flatbuffer gives, (N, K)."""
    with suppress_native_stderr():
        # tflite-runtime cannot be loaded into a process that has loaded TensorFlow.
        session = load(flatbuffer, "litert")
    return lambda images: np.stack([session.run(image[np.newaxis]) for image in images])


def run_in_litert(flatbuffer: bytes, images: np.ndarray) -> np.ndarray:
    """Returns logits float32 (N,), or (N, K), or the probabilities of an RGB file (N, K)."""
    return squeeze_logits(litert_predictor(flatbuffer)(images))
