"""Peak memory of an export with 1,000 and with 100,000 validation images.

Run: python benchmarks/export_memory.py (about 10 minutes on two cores). Each size is measured in a
process of its own. It converts an untrained `edge` network to int8 and compares its logits with the
Keras model's on drawn images of 224 x 224, read from TFRecord shards, as `cxr-export` does.
"""

from __future__ import annotations

import argparse
import functools
import json
import time

import measure
import numpy as np
from measure import Column, Target

from cxr_tfds.memory import peak_mb
from cxr_tfds.reading.datasets import BuiltDataset

SHAPE, SPLIT = (224, 224, 1), "validation"


def draw_dataset(images: int) -> BuiltDataset:
    """Returns a dataset of noise with one split; its shards are one file of 1,000 images."""
    import tensorflow as tf

    in_shard = min(images, 1000)
    path = measure.WORK / f"export-memory-{in_shard}.tfrecord"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for number in range(in_shard):
                pixels = rng.integers(0, 256, SHAPE, np.uint8).tobytes()
                writer.write(_example(pixels, number % 2))
    shards = images // in_shard
    return BuiltDataset(
        name="drawn",
        shape=SHAPE,
        labels=("NORMAL", "PNEUMONIA"),
        fit="stretch",
        fingerprint="",
        shards={SPLIT: [str(path)] * shards},
        shard_sizes={SPLIT: [in_shard] * shards},
    )


def _example(pixels: bytes, label: int) -> bytes:
    from tensorflow import train

    features = {
        "image": train.Feature(bytes_list=train.BytesList(value=[pixels])),
        "label": train.Feature(int64_list=train.Int64List(value=[label])),
    }
    return train.Example(features=train.Features(feature=features)).SerializeToString()


def compare_logits(images: int) -> measure.Figures:
    """Compares the models on a split of so many images; returns peak_mb and seconds."""
    from cxr_tfds.export.check import Reference, judge
    from cxr_tfds.export.convert import to_tflite
    from cxr_tfds.export.inference import litert_predictor, pick_images, predict_split
    from cxr_tfds.export.measure import sample_numbers
    from cxr_tfds.models import build_model

    dataset = draw_dataset(images)
    model = build_model("edge", SHAPE, 1)
    flatbuffer = to_tflite(model, "int8", pick_images(dataset, SPLIT, np.arange(32)))
    predict = {"Keras": model.predict_on_batch, "int8": litert_predictor(flatbuffer)}
    start = time.perf_counter()
    labels, logits = predict_split(
        dataset, SPLIT, lambda batch: {name: run(batch) for name, run in predict.items()}
    )
    judge({SPLIT: Reference(labels, logits["Keras"], 0.5)}, {SPLIT: logits["int8"]})
    pick_images(dataset, SPLIT, sample_numbers(images))  # which every runtime runs
    return {"peak_mb": peak_mb(), "seconds": time.perf_counter() - start}


def main() -> None:
    """Runs the benchmark, or one size of it in a child process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="Check that the script runs.")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(compare_logits(arguments.only)))
        return
    sizes = (64, 640) if arguments.toy else (1_000, 100_000)
    found = {
        size: measure.measure_once(
            __file__, str(size), functools.partial(compare_logits, size), arguments
        )
        for size in sizes
    }
    result = measure.Report(__file__, is_toy=arguments.toy)
    result.table(
        [Column("validation images"), Column("peak MB", ",.0f"), Column("s", ".0f")],
        [(f"{size:,}", row["peak_mb"], row["seconds"]) for size, row in found.items()],
    )
    few, many = (found[size]["peak_mb"] for size in sizes)
    result.targets([Target("peak memory of many ÷ few", many / few, "<=", 1.1)])
    result.save()


if __name__ == "__main__":
    main()
