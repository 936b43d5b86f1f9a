"""The file of a cached split: its content, and that a corrupt one is never read."""

import errno
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers.splits import load_split

from cxr_tfds.errors import InputError
from cxr_tfds.reading import cache


def read(dataset, folder):
    """Returns the images of train, read through the file."""
    gather = cache.in_file(dataset, "train", folder)
    return gather(tf.range(dataset.sizes["train"])).numpy()


@pytest.fixture(scope="module")
def cached(dataset, tmp_path_factory):
    """Folder of a valid cache. Read only."""
    folder = tmp_path_factory.mktemp("cache")
    cache.in_file(dataset, "train", folder)
    return folder


def test_file_is_an_array_of_the_split_and_written_once(dataset, cached):
    (path,) = cached.iterdir()
    assert path.name == f"{dataset.fingerprint[:16]}-train-64x64x1-stretch.npy"
    examples = load_split(dataset, "train")
    np.testing.assert_array_equal(np.load(path), examples.images)
    written = path.stat()
    np.testing.assert_array_equal(read(dataset, cached), examples.images)
    assert path.stat() == written


@pytest.mark.parametrize(
    "corrupt",
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
def test_corrupt_file_is_written_again(dataset, cached, tmp_path, caplog, corrupt):
    (path,) = cached.iterdir()
    (tmp_path / path.name).write_bytes(corrupt(path.read_bytes()))
    images = read(dataset, tmp_path)
    np.testing.assert_array_equal(images, np.load(path))
    assert caplog.messages == [f"Cache file {tmp_path / path.name} is corrupt; writing it again."]
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_names_a_folder_without_free_space(dataset, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(
        InputError, match=rf"{tmp_path} has 0\.0 GB free; the cache of train takes .* --cache-dir"
    ):
        read(dataset, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_names_a_folder_whose_disk_fails_while_writing(dataset, tmp_path, monkeypatch, code):
    def batches(*arguments, **settings):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(cache, "field_batches", batches)
    message = (
        f"{tmp_path} cannot be used ({os.strerror(code)}); the cache of train takes 0.0 GB. "
        "Choose another folder with --cache-dir"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        read(dataset, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_removes_an_unfinished_file(own, tmp_path):
    shard = Path(own.shards["train"][1])
    os.truncate(shard, shard.stat().st_size - 100)
    with pytest.raises(InputError, match="is corrupt"):
        read(own, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
