"""The file of a cached split: what it holds, and that nothing but that is ever read from it."""

import errno
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cxr_tfds.errors import InputError
from cxr_tfds.reading import cache
from cxr_tfds.reading.in_order import load_split


def read(dataset, folder):
    """The images of train in the file, and the labels that come with them."""
    gather, labels = cache.in_file(dataset, "train", folder)
    return gather(tf.range(dataset.sizes["train"])).numpy(), labels.numpy()


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """Folder of a cache. Read it, never write to it."""
    folder = tmp_path_factory.mktemp("cache")
    cache.in_file(dataset, "train", folder)
    return folder


def test_the_file_is_an_array_of_the_split_and_written_once(dataset, whole):
    (path,) = whole.iterdir()
    assert path.name == f"{dataset.fingerprint[:16]}-train-64x64x1-stretch.npy"
    examples = load_split(dataset, "train")
    np.testing.assert_array_equal(np.load(path), examples.images)
    written = path.stat()
    images, labels = read(dataset, whole)
    np.testing.assert_array_equal(images, examples.images)
    np.testing.assert_array_equal(labels, examples.labels)
    assert path.stat() == written


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: bytes(4),  # the checksum of nothing
        lambda data: b"garbage",
        lambda data: bytes(len(data)),
        lambda data: data[:-1000] + bytes(1000),
        lambda data: data[:128] + bytes(len(data) - 132) + data[-4:],
        lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
    ],
    ids=[
        "cut",
        "half",
        "empty",
        "four zeros",
        "garbage",
        "zeros",
        "zeros at the end",
        "no image",
        "bit",
    ],
)
def test_a_damaged_file_is_written_again(dataset, whole, tmp_path, caplog, damage):
    (path,) = whole.iterdir()
    (tmp_path / path.name).write_bytes(damage(path.read_bytes()))
    images, _ = read(dataset, tmp_path)
    np.testing.assert_array_equal(images, np.load(path))
    assert caplog.messages == [
        f"{tmp_path / path.name} is not as it was written, and is written again."
    ]
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_folder_without_room_is_named(dataset, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(
        InputError, match=rf"{tmp_path} has 0\.0 GB free; the cache of train takes .* --cache-dir"
    ):
        read(dataset, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_disk_that_cannot_be_written_to_any_more_is_named(dataset, tmp_path, monkeypatch, code):
    def batches(*arguments, **settings):
        yield {"image": np.zeros((1, 64, 64, 1), np.uint8)}
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(cache, "numpy_batches", batches)
    said = rf"{tmp_path} cannot be used ({os.strerror(code)}); the cache of train takes 0.0 GB. Give another folder"
    with pytest.raises(InputError, match=re.escape(said)):
        read(dataset, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_finished_is_not_left(own, tmp_path):
    shard = Path(own.shards["train"][1])
    os.truncate(shard, shard.stat().st_size - 100)
    with pytest.raises(InputError, match="is damaged"):
        read(own, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_labels_come_with_the_images(dataset, monkeypatch):
    """Not by a scan of their own, where the images are read anyway."""
    monkeypatch.setattr(cache, "labels_of", None)
    expected = load_split(dataset, "train").labels
    for source in (cache.in_memory, cache.in_records):
        np.testing.assert_array_equal(source(dataset, "train")[1], expected)
