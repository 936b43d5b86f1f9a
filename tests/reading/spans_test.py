"""Positions of images in the shards, and reading images from there."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers.splits import load_split

from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.spans import Spans, file_reader, find_images, pixel_reader


def bytes_feature(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def serialized(image, names, label=300):
    """Returns a serialized Example whose features have the order of `names`."""
    entries = b""
    for name in names:
        feature = {
            "image": bytes_feature(image),
            "patient_id": bytes_feature(image[:40]),  # the beginning of the image occurs twice
            "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        }[name]
        entries += tf.train.Features(feature={name: feature}).SerializeToString()
    length = len(entries)
    varint = b""
    while True:
        length, low = length >> 7, length & 0x7F
        varint += bytes([low | (0x80 if length else 0)])
        if not length:
            return b"\x0a" + varint + entries


@pytest.mark.parametrize("size", [0, 1, 127, 128, 50_176])
@pytest.mark.parametrize(
    "names",
    [("image", "patient_id", "label"), ("label", "patient_id", "image"), ("image", "label")],
)
def test_finds_an_image_of_any_size_at_any_place_of_the_example(size, names, tmp_path):
    images = [np.random.default_rng(size).bytes(size), bytes(size)]
    path = str(tmp_path / "shard")
    with tf.io.TFRecordWriter(path) as writer:
        for image in images:
            writer.write(serialized(image, names))
    spans, labels = find_images([path])
    assert file_reader([path], spans)(np.array([1, 0])) == images[::-1]
    np.testing.assert_array_equal(labels, [300, 300])


def test_record_without_an_image_is_an_error(tmp_path):
    path = str(tmp_path / "shard")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(serialized(b"x", ("label", "patient_id")))
    with pytest.raises(tf.errors.InvalidArgumentError, match="image"):
        find_images([path])


@pytest.fixture
def shards(tmp_path):
    """Paths of two shards with 3 and 2 records, and their images."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
    paths = [str(tmp_path / name) for name in ("a", "b")]
    for path, part in zip(paths, (range(3), range(3, 5)), strict=True):
        with tf.io.TFRecordWriter(path) as writer:
            for number in part:
                writer.write(serialized(images[number].tobytes(), ("label", "image"), label=number))
    return paths, images


def test_reads_any_order_of_several_shards(shards):
    paths, images = shards
    spans, labels = find_images(paths)
    np.testing.assert_array_equal(labels, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(spans.shard, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(spans.length, [16] * 5)
    order = np.array([4, 0, 2, 2, 3])
    np.testing.assert_array_equal(pixel_reader(paths, spans, (4, 4, 1))(order), images[order])
    assert file_reader(paths, spans)(order) == [images[i].tobytes() for i in order]


def test_reads_without_preadv(shards, monkeypatch):
    paths, images = shards
    monkeypatch.delattr(os, "preadv")
    order = np.array([4, 0, 2, 2, 3])
    np.testing.assert_array_equal(
        pixel_reader(paths, find_images(paths)[0], (4, 4, 1))(order), images[order]
    )
    os.truncate(paths[1], 40)
    with pytest.raises(OSError, match="ended early"):
        pixel_reader(paths, Spans(*np.array([[1], [30], [16]])), (4, 4, 1))(np.array([0]))


def test_shard_cut_while_reading_is_an_error(shards):
    paths, _ = shards
    read = pixel_reader(paths, find_images(paths)[0], (4, 4, 1))
    os.truncate(paths[1], 40)
    with pytest.raises(OSError, match="b ended early: it was changed while it was read"):
        read(np.array([4]))


@pytest.mark.slow
def test_reader_closes_its_files(shards):
    paths, _ = shards
    before = len(list(Path("/dev/fd").iterdir()))
    reader = pixel_reader(paths, find_images(paths)[0], (4, 4, 1))
    assert len(list(Path("/dev/fd").iterdir())) == before + 2
    del reader
    gc.collect()
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_finds_the_images_of_a_built_dataset(built):
    dataset = open_dataset("chest_xray_pneumonia/64", built)
    spans, labels = find_images(dataset.shards["test"], "finding")
    assert isinstance(spans, Spans)
    images = pixel_reader(dataset.shards["test"], spans, dataset.shape)(np.arange(40))
    np.testing.assert_array_equal(images, load_split(dataset, "test").images)
    np.testing.assert_array_equal(labels, load_split(dataset, "test").findings)
