"""Batches: every example once an epoch, orders from seed and epoch alone, damage named."""

import dataclasses
import hashlib
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
from cxr_tfds.building.config import RadiographConfig
from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import radiograph
from cxr_tfds.reading import cache, pipeline
from cxr_tfds.reading import in_order as reading
from cxr_tfds.reading.datasets import DatasetName, open_dataset

NAME = DatasetName.parse("chest_xray_pneumonia/64")
BATCH = 9  # divides no split: the last batch is smaller


def content(images):
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


def epochs(dataset, count, **settings):
    """Image hashes in order and their labels, by epoch."""
    settings = {"batch_size": BATCH, "seed": 0, "cache": "ram"} | settings
    steps = -(-dataset.sizes["train"] // settings["batch_size"])
    batches = pipeline.train_batches(dataset, **settings).take(count * steps).as_numpy_iterator()
    found = []
    for _ in range(count):
        of_epoch = [next(batches) for _ in range(steps)]
        images, labels = (np.concatenate(parts) for parts in zip(*of_epoch, strict=True))
        found.append((content(images), labels))
    return found


def orders(dataset, count, **settings):
    return [hashes for hashes, _ in epochs(dataset, count, **settings)]


@pytest.mark.parametrize("cache", ["ram", "file", "none"])
def test_every_epoch_holds_every_example_once_in_a_new_order(dataset, cache):
    whole = reading.load_split(dataset, "train")
    labels = dict(zip(content(whole.images), whole.labels, strict=True))
    assert len(labels) == len(whole.images)  # no image twice
    stored = list(labels)
    found = epochs(dataset, 3, cache=cache)
    for hashes, targets in found:
        assert sorted(hashes) == sorted(stored)
        np.testing.assert_array_equal(targets.ravel(), [labels[image] for image in hashes])
    seen = [stored, *(hashes for hashes, _ in found)]
    assert len({tuple(hashes) for hashes in seen}) == 4
    for one, other in itertools.pairwise(seen):  # well mixed: few images keep their place
        assert sum(a == b for a, b in zip(one, other, strict=True)) < len(stored) / 5


@pytest.mark.parametrize("cache", ["ram", "file", "none"])
def test_the_seed_decides_the_orders(dataset, cache):
    first = orders(dataset, 2, cache=cache, seed=3)
    assert orders(dataset, 2, cache=cache, seed=3) == first
    other = orders(dataset, 2, cache=cache, seed=4)
    assert not {tuple(order) for order in first} & {tuple(order) for order in other}


@pytest.mark.parametrize("cache", ["ram", "file", "none"])
def test_the_global_seed_does_not(dataset, cache):
    found = []
    for seed in (0, 1):
        tf.random.set_seed(seed)
        drawn = float(tf.random.uniform(()))
        tf.random.set_seed(seed)
        found.append(orders(dataset, 2, cache=cache))
        assert float(tf.random.uniform(())) == drawn  # nor is it changed
    assert found[0] == found[1]


@pytest.mark.parametrize("cache", ["ram", "file", "none"])
def test_starting_at_an_epoch_gives_what_an_uninterrupted_run_sees(dataset, cache):
    uninterrupted = orders(dataset, 4, cache=cache)
    assert orders(dataset, 2, cache=cache, first_epoch=2) == uninterrupted[2:]


def test_one_shard_is_shuffled_differently_by_each_seed_and_epoch(built):
    dataset = open_dataset(NAME, built)
    assert len(dataset.shards["train"]) == 1
    seen = [
        tuple(order) for seed in range(3) for order in orders(dataset, 3, cache="none", seed=seed)
    ]
    assert len(set(seen)) == 9


@pytest.mark.parametrize("cache", ["ram", "file", "none"])
def test_batches_are_uint8_images_and_targets(dataset, cache):
    sizes = []
    for images, labels in pipeline.train_batches(
        dataset, batch_size=BATCH, seed=0, cache=cache
    ).take(8):
        assert images.dtype == tf.uint8
        assert images.shape[1:] == (64, 64, 1)
        assert labels.dtype == tf.float32
        assert labels.shape == (images.shape[0], 1)
        assert set(labels.numpy().ravel()) <= {0.0, 1.0}
        sizes.append(images.shape[0])
    train = dataset.sizes["train"]
    whole = train // BATCH
    assert sizes[: whole + 1] == [BATCH] * whole + [train % BATCH]


def test_labels_of_more_than_two_classes_are_class_numbers(dataset):
    three = dataclasses.replace(dataset, labels=("NORMAL", "BACTERIA", "VIRUS"))
    for where in ("ram", "none"):
        _, labels = next(iter(pipeline.train_batches(three, batch_size=BATCH, seed=0, cache=where)))
        assert labels.dtype == tf.int64
        assert labels.shape == (BATCH,)


def test_a_batch_may_be_the_whole_split_and_no_more(dataset):
    train = dataset.sizes["train"]
    assert len(orders(dataset, 1, batch_size=train)[0]) == train
    for size in (0, train + 1):
        with pytest.raises(
            InputError,
            match=rf"^batch size {size}; expected 1 to {train}, the images of split 'train'",
        ):
            pipeline.train_batches(dataset, batch_size=size, seed=0)


def test_an_unknown_cache_is_refused(dataset):
    with pytest.raises(
        InputError, match=r"^cache='disk'; expected one of auto, ram, file, none\.$"
    ):
        pipeline.train_batches(dataset, batch_size=BATCH, seed=0, cache="disk")


@pytest.mark.parametrize(("spare", "expected"), [(0, ["in_memory"]), (-4, ["in_records"])])
def test_auto_caches_what_fits_into_a_quarter_of_the_free_memory(
    dataset, monkeypatch, spare, expected
):
    size = 64 * 64 * dataset.sizes["train"]
    monkeypatch.setattr(cache, "free_memory", lambda: 4 * size + spare)
    used = []
    for name in ("in_memory", "in_records"):
        gather = getattr(cache, name)
        monkeypatch.setattr(
            pipeline, name, lambda *to, gather=gather, name=name: used.append(name) or gather(*to)
        )
    orders(dataset, 1, cache="auto")
    assert used == expected


def test_every_cache_gives_the_same_batches(dataset, original, tmp_path):
    for source in (dataset, original.fitted(32)):
        first, *others = (
            orders(source, 2, cache=where, cache_dir=tmp_path) for where in ("ram", "file", "none")
        )
        assert others == [first, first]


def test_a_missing_split_is_named_with_those_there_are(dataset):
    without = dataclasses.replace(dataset, shard_sizes={"train": [3], "validation": [2]})
    message = r"has no split 'test'; it has train \(3 images\), validation \(2 images\)\.$"
    for call in (
        lambda: reading.eval_batches(without, "test"),
        lambda: reading.load_split(without, "test"),
        lambda: pipeline.train_batches(without, batch_size=1, seed=0, split="test"),
    ):
        with pytest.raises(InputError, match=message):
            call()


@pytest.mark.parametrize("sizes", [[], [0]])
def test_a_split_without_example_is_named(dataset, sizes):
    empty = dataclasses.replace(dataset, shard_sizes=dataset.shard_sizes | {"train": sizes})
    for call in (reading.load_split, cache.labels_of):
        with pytest.raises(
            InputError,
            match=r"^chest_.* has no example in split 'train'; it has train \(0 images\), ",
        ):
            call(empty, "train")
    with pytest.raises(InputError, match="has no example in split 'train'"):
        pipeline.train_batches(empty, batch_size=1, seed=0)


def test_measuring_reads_in_the_order_of_the_records(dataset):
    def ids(batch_size):
        batches = reading.eval_batches(dataset, "test", batch_size=batch_size, fields=("image_id",))
        return [text for batch in batches.as_numpy_iterator() for text in batch["image_id"]]

    assert ids(7) == ids(7) == ids(64)
    assert [text.decode() for text in ids(7)] == reading.load_split(dataset, "test").image_ids
    assert len(set(ids(7))) == dataset.sizes["test"]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_loaded_split_is_what_was_built(dataset, phantom, split):
    loaded = reading.load_split(dataset, split)
    assert loaded.images.shape == (dataset.sizes[split], 64, 64, 1)
    assert loaded.images.dtype == np.uint8
    for pixels, label, finding, image_id, patient_id in zip(*loaded, strict=True):
        source = phantom / "chest_xray" / image_id.replace("validation/", "val/")
        np.testing.assert_array_equal(pixels, radiograph(source.read_bytes(), 64).pixels)
        assert label == (source.parent.name == "PNEUMONIA")
        assert (finding > 0) == (label == 1)
        assert patient_id


def flip(data):
    return data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]


def starts(data):
    """Where the records of a TFRecord file begin: length and its checksum, content and its checksum."""
    found = [0]
    while found[-1] < len(data):
        found.append(found[-1] + 16 + int.from_bytes(data[found[-1] : found[-1] + 8], "little"))
    return found[:-1]


def at(byte):
    """What is said of a shard whose record at `byte` is damaged."""

    def said(data):
        first = starts(data)
        example = sum(start <= byte(len(data)) for start in first)
        return rf"is damaged: example {example} of {len(first)}, at byte {first[example - 1]}, is not as it was written"

    return said


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:-10], at(lambda size: size - 10)),
        (lambda data: data[: len(data) // 3], at(lambda size: size // 3)),
        (flip, at(lambda size: 5000)),
        # No error to TensorFlow: the split just ends early.
        (
            lambda data: data[: starts(data)[-1]],
            lambda data: (
                f"is damaged: it holds {len(starts(data)) - 1} examples, {len(starts(data))} were written"
            ),
        ),
        (
            lambda data: b"",
            lambda data: f"is damaged: it holds 0 examples, {len(starts(data))} were written",
        ),
        (lambda data: None, lambda data: "is missing"),
    ],
    ids=["cut", "cut to a third", "bit", "record missing", "empty", "gone"],
)
def test_a_damaged_shard_is_named(own, damage, said):
    shard = Path(own.shards["train"][2])
    whole = shard.read_bytes()
    left = damage(whole)
    shard.unlink()
    if left is not None:
        shard.write_bytes(left)
    message = rf"^{re.escape(str(shard))} {said(whole)}\. Remove {re.escape(str(shard.parent))} and build it again\."
    with pytest.raises(InputError, match=message):
        reading.load_split(own, "train")
    with pytest.raises(InputError, match=message):
        pipeline.train_batches(own, batch_size=BATCH, seed=0, cache="ram")
    with pytest.raises(InputError, match=message), reading.name_corrupt_shard(own):
        list(pipeline.train_batches(own, batch_size=BATCH, seed=0, cache="none").take(20))
    assert len(reading.load_split(own, "test").images) == own.sizes["test"]  # untouched


def test_other_errors_of_tensorflow_stay_what_they_are(dataset):
    for kind in (tf.errors.FailedPreconditionError, tf.errors.NotFoundError):
        with pytest.raises(kind, match="else"), reading.name_corrupt_shard(dataset):
            raise kind(None, None, "something else")


@pytest.mark.parametrize("cache", ["ram", "file", "none"])
def test_workers_batches_add_up_to_those_of_one_reader(dataset, cache):
    def drawn(size, count, **place):
        batches = pipeline.train_batches(dataset, batch_size=size, seed=0, cache=cache, **place)
        return [content(images) for images, _ in batches.take(count).as_numpy_iterator()]

    size = dataset.sizes["train"] // 8  # the last batch of an epoch is smaller
    alone = drawn(3 * size, 6)
    of_workers = [drawn(size, 6, worker=worker, workers=3) for worker in range(3)]
    # The first process has two devices, and gives their batches in turn.
    in_turn = drawn(size, 12, worker=0, workers=3, parts=2)
    assert [in_turn[0::2], in_turn[1::2]] == of_workers[:2]
    for number, whole in enumerate(alone):
        parts = [part[number] for part in of_workers]
        assert sorted(image for part in parts for image in part) == sorted(whole)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_no_worker_has_an_empty_batch(dataset):
    size = (dataset.sizes["train"] - 1) // 3  # one image is left over, for the first of three
    workers = []
    for worker in range(3):
        batches = pipeline.train_batches(dataset, batch_size=size, seed=0, worker=worker, workers=3)
        workers.append([content(images) for images, _ in batches.take(2).as_numpy_iterator()])
    left = dataset.sizes["train"] - 3 * size
    last = [part[1] for part in workers]
    assert [len(part) for part in last] == [1, 1, 1]
    first = [image for part in workers for image in part[0]]
    assert [image in first for (image,) in last] == [number >= left for number in range(3)]


def test_a_worker_that_is_none_is_refused(dataset):
    with pytest.raises(
        InputError, match=r"worker=2 of 2, parts=1; expected a worker from 0 to workers - parts\."
    ):
        pipeline.train_batches(dataset, batch_size=1, seed=0, worker=2, workers=2)
    with pytest.raises(InputError, match="batch size"):
        pipeline.train_batches(dataset, batch_size=dataset.sizes["train"], seed=0, workers=2)


@pytest.fixture(scope="module")
def original(phantom, tmp_path_factory):
    """The phantom's files as they are."""
    data_dir = tmp_path_factory.mktemp("original")
    builder = Builder(data_dir=data_dir, config=RadiographConfig(name="original", size=None))
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=phantom))
    return open_dataset(DatasetName.parse("chest_xray_pneumonia/original"), data_dir)


def test_source_files_are_stored_untouched(original, phantom):
    records = tf.data.TFRecordDataset(original.shards["test"])
    for record in records:
        features = tf.train.Example.FromString(record.numpy()).features.feature
        name = features["image_id"].bytes_list.value[0].decode()
        assert features["image"].bytes_list.value[0] == (phantom / "chest_xray" / name).read_bytes()


@pytest.mark.parametrize(
    ("size", "channels", "fit"), [(64, 1, "stretch"), (40, 3, "pad"), (97, 1, "crop")]
)
def test_source_files_are_fitted_by_the_one_pixel_function(original, phantom, size, channels, fit):
    fitted = original.fitted(size, channels=channels, fit=fit)
    examples = reading.load_split(fitted, "test")
    for image_id, image in zip(examples.image_ids, examples.images, strict=True):
        data = (phantom / "chest_xray" / image_id).read_bytes()
        np.testing.assert_array_equal(
            image, radiograph(data, size, channels=channels, fit=fit).pixels
        )


@pytest.mark.parametrize("cache", ["ram", "file", "none"])
def test_source_files_train_as_fitted_ones_do(original, dataset, cache):
    fitted = original.fitted(64)
    assert sorted(orders(fitted, 1, cache=cache)[0]) == sorted(orders(dataset, 1, cache=cache)[0])
    assert orders(fitted, 2, cache=cache) == orders(fitted, 2, cache=cache)


def test_fitted_images_keep_their_size(dataset):
    with pytest.raises(
        InputError,
        match="holds images of 64 x 64; only the config `original` can be read at another",
    ):
        dataset.fitted(128)


def test_batches_go_to_the_one_accelerator(dataset, monkeypatch):
    batches = pipeline.train_batches(dataset, batch_size=BATCH, seed=0)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])
    assert pipeline.to_accelerator(batches) is batches
    one = [type("Device", (), {"name": "/CPU:0"})]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: one)
    for (ahead, _), (plain, _) in zip(
        pipeline.to_accelerator(batches).take(3), batches.take(3), strict=True
    ):
        np.testing.assert_array_equal(ahead, plain)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: one * 2)
    assert pipeline.to_accelerator(batches) is batches
