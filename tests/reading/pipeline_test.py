"""Batches: exact epochs, orders that depend on seed and epoch only, and corrupt shards."""

import dataclasses
import hashlib
import itertools
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from helpers.splits import load_split

from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
from cxr_tfds.building.config import RadiographConfig
from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import radiograph
from cxr_tfds.reading import CACHES, Shard, pipeline
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.sequential import name_corrupt_shard, read_columns

pytestmark = pytest.mark.slow

BATCH = 9  # does not divide any split: the last batch is smaller


def content(images):
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


def epochs(dataset, count, **settings):
    """Returns the hashes of the images in order and their labels, for each epoch."""
    settings = {"batch_size": BATCH, "seed": 0} | settings
    steps = -(-dataset.sizes["train"] // settings["batch_size"])
    batches = dataset.train(**settings).take(count * steps).as_numpy_iterator()
    found = []
    for _ in range(count):
        batches_of_epoch = [next(batches) for _ in range(steps)]
        images, labels = (np.concatenate(parts) for parts in zip(*batches_of_epoch, strict=True))
        found.append((content(images), labels))
    return found


def orders(dataset, count, **settings):
    return [hashes for hashes, _ in epochs(dataset, count, **settings)]


def test_every_epoch_has_every_example_once_in_a_new_order(dataset):
    whole = load_split(dataset, "train")
    labels = dict(zip(content(whole.images), whole.labels, strict=True))
    assert len(labels) == len(whole.images)  # all images differ
    stored = list(labels)
    found = epochs(dataset, 3)
    for hashes, targets in found:
        assert sorted(hashes) == sorted(stored)
        np.testing.assert_array_equal(targets.ravel(), [labels[image] for image in hashes])
    seen = [stored, *(hashes for hashes, _ in found)]
    assert len({tuple(hashes) for hashes in seen}) == 4
    for one, other in itertools.pairwise(seen):  # few images keep their place
        assert sum(a == b for a, b in zip(one, other, strict=True)) < len(stored) / 5


def test_orders_depend_on_the_seed(dataset):
    first = orders(dataset, 2, seed=3)
    assert orders(dataset, 2, seed=3) == first
    other = orders(dataset, 2, seed=4)
    assert not {tuple(order) for order in first} & {tuple(order) for order in other}


def test_orders_do_not_depend_on_the_global_seed(dataset):
    found = []
    for seed in (0, 1):
        tf.random.set_seed(seed)
        drawn = float(tf.random.uniform(()))
        tf.random.set_seed(seed)
        found.append(orders(dataset, 2))
        assert float(tf.random.uniform(())) == drawn  # the global generator is unchanged
    assert found[0] == found[1]


@pytest.mark.parametrize("shard", [Shard(), Shard(1, 2), Shard(0, 3, 2), Shard(0, 3, 3)])
def test_first_batch_continues_an_uninterrupted_run(dataset, shard):
    def draw(first, count):
        batches = dataset.train(BATCH, first_batch=first, shard=shard).take(count)
        return [content(images) for images, _ in batches.as_numpy_iterator()]

    epoch = math.ceil(dataset.sizes["train"] / (BATCH * shard.count)) * shard.devices
    uninterrupted = draw(0, 3 * epoch)
    for first in (1, epoch - 1, epoch, epoch + 2, 2 * epoch - 1):
        assert draw(first, epoch) == uninterrupted[first : first + epoch]


def test_one_shard_is_shuffled_by_seed_and_epoch(built):
    dataset = open_dataset("chest_xray_pneumonia/64", built)
    assert len(dataset.shards["train"]) == 1
    seen = [tuple(order) for seed in range(3) for order in orders(dataset, 3, seed=seed)]
    assert len(set(seen)) == 9


def test_training_batches_are_uint8_images_and_float_labels(dataset):
    sizes = []
    for images, labels in dataset.train(BATCH).take(8):
        assert images.dtype == tf.uint8
        assert images.shape[1:] == (64, 64, 1)
        assert labels.dtype == tf.float32
        assert labels.shape == (images.shape[0], 1)
        assert set(labels.numpy().ravel()) <= {0.0, 1.0}
        sizes.append(images.shape[0])
    train = dataset.sizes["train"]
    whole = train // BATCH
    assert sizes[: whole + 1] == [BATCH] * whole + [train % BATCH]


def test_training_and_evaluation_batches_have_the_same_structure(dataset):
    three = dataset.targeted("finding")
    for data, classes in ((dataset, 1), (three, 3)):
        expected = (
            tf.TensorSpec((None, 64, 64, 1), tf.uint8),
            tf.TensorSpec((None, classes), tf.float32),
        )
        assert data.train(BATCH).element_spec == expected
        assert data.batches("test").element_spec == expected


def test_labels_of_more_than_two_classes_are_one_hot(dataset):
    three = dataset.targeted("finding")
    findings = load_split(dataset, "test").findings
    assert set(findings) == {0, 1, 2}
    labels = [labels for _, labels in three.batches("test", 7).as_numpy_iterator()]
    np.testing.assert_array_equal(np.concatenate(labels), np.eye(3, dtype=np.float32)[findings])


def test_largest_batch_is_the_complete_split(dataset):
    train = dataset.sizes["train"]
    assert len(orders(dataset, 1, batch_size=train)[0]) == train
    for size in (0, train + 1):
        with pytest.raises(
            InputError,
            match=rf"^batch size {size}; expected 1 to {train}, the number of images in split",
        ):
            dataset.train(size)


def test_refuses_an_unknown_cache(dataset):
    with pytest.raises(InputError, match=r"^cache='disk'; expected one of auto, file, none\.$"):
        dataset.train(BATCH, cache="disk")


def test_fitted_images_have_no_cache(dataset, tmp_path):
    first, *others = (orders(dataset, 2, cache=cache, cache_dir=tmp_path) for cache in CACHES)
    assert others == [first, first]
    assert list(tmp_path.iterdir()) == []


def test_every_cache_of_source_files_gives_the_same_batches(original, tmp_path):
    source = original.fitted(32)
    first, *others = (orders(source, 2, cache=cache, cache_dir=tmp_path) for cache in CACHES)
    assert others == [first, first]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("spare", [0, -4])
def test_auto_takes_at_most_a_quarter_of_the_free_disk_space(
    original, tmp_path, monkeypatch, spare
):
    source = original.fitted(16)
    size, usage = 16 * 16 * source.sizes["train"], shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=4 * size + spare))
    source.train(BATCH, cache_dir=tmp_path / "cache")
    assert (tmp_path / "cache").exists() == (spare == 0)


def test_missing_split_error_names_the_others(dataset):
    without = dataclasses.replace(dataset, shard_sizes={"train": [3], "validation": [2]})
    message = r"has no split 'test'; it has train \(3 images\), validation \(2 images\)\.$"
    for call in (
        lambda: without.batches("test"),
        lambda: load_split(without, "test"),
        lambda: without.train(1, split="test"),
    ):
        with pytest.raises(InputError, match=message):
            call()


@pytest.mark.parametrize("sizes", [[], [0]])
def test_empty_split_is_an_error(dataset, sizes):
    empty = dataclasses.replace(dataset, shard_sizes=dataset.shard_sizes | {"train": sizes})
    for call in (load_split, lambda *of: read_columns(*of, "label")):
        with pytest.raises(
            InputError,
            match=r"^chest_.* has no example in split 'train'; it has train \(0 images\), ",
        ):
            call(empty, "train")
    with pytest.raises(InputError, match="has no example in split 'train'"):
        empty.train(1)


def test_evaluation_reads_in_stored_order(dataset):
    def ids(batch_size):
        batches = dataset.batches("test", batch_size, with_ids=True).as_numpy_iterator()
        return [text.decode() for *_, ids in batches for text in ids["image_id"]]

    assert ids(7) == ids(7) == ids(64)
    assert len(set(ids(7))) == dataset.sizes["test"]


def test_columns_are_the_ids_of_the_batches(dataset):
    columns = read_columns(dataset, "test", "label", "finding", "image_id", "patient_id")
    _, labels, findings, image_ids, patient_ids = load_split(dataset, "test")
    np.testing.assert_array_equal(columns["label"], labels)
    np.testing.assert_array_equal(columns["finding"], findings)
    assert columns["image_id"].tolist() == image_ids
    assert columns["patient_id"].tolist() == patient_ids


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_batches_hold_what_was_built(dataset, phantom, split):
    loaded = load_split(dataset, split)
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
    """Returns where the records of a TFRecord file begin."""
    found = [0]
    while found[-1] < len(data):
        found.append(found[-1] + 16 + int.from_bytes(data[found[-1] : found[-1] + 8], "little"))
    return found[:-1]


def changed_at(byte):
    """Returns the message about a shard whose record at `byte` is corrupt."""

    def message(data):
        first = starts(data)
        example = sum(start <= byte(len(data)) for start in first)
        return (
            rf"is corrupt: example {example} of {len(first)}, at byte {first[example - 1]}, "
            "was changed or cut"
        )

    return message


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (lambda data: data[:-10], changed_at(lambda size: size - 10)),
        (lambda data: data[: len(data) // 3], changed_at(lambda size: size // 3)),
        (flip, changed_at(lambda size: 5000)),
        # TensorFlow reports no error: the split ends early.
        (
            lambda data: data[: starts(data)[-1]],
            lambda data: (
                f"is corrupt: expected {len(starts(data))} examples, found {len(starts(data)) - 1}"
            ),
        ),
        (
            lambda data: b"",
            lambda data: f"is corrupt: expected {len(starts(data))} examples, found 0",
        ),
        (lambda data: None, lambda data: "is missing"),
    ],
    ids=["cut", "cut to a third", "bit", "record missing", "empty", "gone"],
)
def test_names_a_corrupt_shard(own, corrupt, message):
    shard = Path(own.shards["train"][2])
    content = shard.read_bytes()
    left = corrupt(content)
    shard.unlink()
    if left is not None:
        shard.write_bytes(left)
    folder = re.escape(str(shard.parent))
    text = rf"^{re.escape(str(shard))} {message(content)}\. Remove {folder} and build it again\."
    with pytest.raises(InputError, match=text):
        read_columns(own, "train", "label")
    with pytest.raises(InputError, match=text), name_corrupt_shard(own):
        load_split(own, "train")
    with pytest.raises(InputError, match=text):
        own.train(BATCH)
    assert len(load_split(own, "test").images) == own.sizes["test"]  # unchanged


def test_other_errors_of_tensorflow_are_unchanged(dataset):
    for kind in (tf.errors.FailedPreconditionError, tf.errors.NotFoundError):
        with pytest.raises(kind, match="else"), name_corrupt_shard(dataset):
            raise kind(None, None, "something else")


def test_batches_of_shards_add_up_to_those_of_one_reader(dataset):
    def drawn(size, count, *shard):
        batches = dataset.train(size, shard=Shard(*shard))
        return [content(images) for images, _ in batches.take(count).as_numpy_iterator()]

    size = dataset.sizes["train"] // 8  # the last batch of an epoch is smaller
    alone = drawn(3 * size, 6)
    readers = [drawn(size, 6, index, 3) for index in range(3)]
    # A reader for two devices yields their batches in turn.
    in_turn = drawn(size, 12, 0, 3, 2)
    assert [in_turn[0::2], in_turn[1::2]] == readers[:2]
    for number, batch in enumerate(alone):
        parts = [reader[number] for reader in readers]
        assert sorted(image for part in parts for image in part) == sorted(batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_no_shard_has_an_empty_batch(dataset):
    size = (dataset.sizes["train"] - 1) // 3  # one image remains for the first of three readers
    readers = []
    for index in range(3):
        batches = dataset.train(size, shard=Shard(index, 3))
        readers.append([content(images) for images, _ in batches.take(2).as_numpy_iterator()])
    left = dataset.sizes["train"] - 3 * size
    last = [reader[1] for reader in readers]
    assert [len(batch) for batch in last] == [1, 1, 1]
    first = [image for reader in readers for image in reader[0]]
    assert [image in first for (image,) in last] == [number >= left for number in range(3)]


@pytest.mark.parametrize("values", [(2, 2), (-1, 1), (0, 0), (1, 2, 2), (0, 1, 0)])
def test_refuses_a_shard_outside_the_count(values):
    with pytest.raises(InputError, match=rf"^shard {values[0]} of {values[1]} for .* expected at"):
        Shard(*values)


def test_batch_size_counts_for_all_shards(dataset):
    with pytest.raises(InputError, match="batch size"):
        dataset.train(dataset.sizes["train"], shard=Shard(0, 2))


@pytest.fixture(scope="module")
def original(phantom, tmp_path_factory):
    """The phantom with source files stored unchanged."""
    data_dir = tmp_path_factory.mktemp("original")
    builder = Builder(data_dir=data_dir, config=RadiographConfig(name="original", size=None))
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=phantom))
    return open_dataset("chest_xray_pneumonia/original", data_dir)


def test_source_files_are_stored_unchanged(original, phantom):
    records = tf.data.TFRecordDataset(original.shards["test"])
    for record in records:
        features = tf.train.Example.FromString(record.numpy()).features.feature
        name = features["image_id"].bytes_list.value[0].decode()
        assert features["image"].bytes_list.value[0] == (phantom / "chest_xray" / name).read_bytes()


@pytest.mark.parametrize(
    ("size", "channels", "fit"), [(64, 1, "stretch"), (40, 3, "pad"), (97, 1, "crop")]
)
def test_source_files_are_fitted_by_the_pixel_function(original, phantom, size, channels, fit):
    fitted = original.fitted(size, channels=channels, fit=fit)
    examples = load_split(fitted, "test")
    for image_id, image in zip(examples.image_ids, examples.images, strict=True):
        data = (phantom / "chest_xray" / image_id).read_bytes()
        np.testing.assert_array_equal(
            image, radiograph(data, size, channels=channels, fit=fit).pixels
        )


def test_source_files_give_the_same_training_images(original, dataset):
    fitted = original.fitted(64)
    assert sorted(orders(fitted, 1, cache="none")[0]) == sorted(orders(dataset, 1)[0])


def test_refuses_to_resize_fitted_images(dataset):
    with pytest.raises(
        InputError,
        match="holds images of 64 x 64; only the config `original` can be read at another",
    ):
        dataset.fitted(128)


def test_batches_are_copied_to_a_single_accelerator(dataset, monkeypatch):
    batches = dataset.train(BATCH)
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
