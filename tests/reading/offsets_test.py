"""Positions of images in the shards, their file, and reading images from there."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers.splits import load_split

from cxr_tfds.reading import cache
from cxr_tfds.reading.offsets import BatchMemory, find_offsets, image_head, map_images
from cxr_tfds.reading.records import digest_split


def search():
    raise AssertionError("the file of the offsets should be used")


def count_open_files():
    return len(list(Path("/dev/fd").iterdir()))


def read_all(paths, sizes, offsets):
    read = map_images(paths, sizes, offsets)
    return [image.tobytes() for image in read(np.arange(sum(sizes)))]


@pytest.mark.parametrize("size", [0, 1, 90, 127, 128, 16_370, 50_176, 3_000_000])
def test_head_is_what_protobuf_writes(size):
    image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[bytes(size)]))
    features = tf.train.Features(feature={"image": image}).SerializeToString()
    entry = features[features.index(b"\n\x05image") :]
    assert image_head(size) == entry[: len(entry) - size]


def test_build_stores_the_positions_of_all_images(dataset):
    for split, paths in dataset.shards.items():
        sizes = dataset.shard_sizes[split]
        offsets = find_offsets(paths, sizes, split, search)
        np.testing.assert_array_equal(offsets, digest_split(paths, sizes).offsets)
        images = load_split(dataset, split).images
        assert read_all(paths, sizes, offsets) == [image.tobytes() for image in images]
        order = np.array([3, 0, 3])
        found = [image.tobytes() for image in map_images(paths, sizes, offsets)(order)]
        assert found == [images[i].tobytes() for i in order]


@pytest.mark.parametrize(
    "change",
    [
        lambda offsets: None,
        lambda offsets: offsets[:-1],
        lambda offsets: offsets.astype(np.int32),
        lambda offsets: offsets[::-1],
        lambda offsets: np.add(offsets, [1, 0]),
        lambda offsets: np.add(offsets, [0, 1]),
        lambda offsets: np.subtract(offsets, [2**40, 0]),
        lambda offsets: np.add(offsets, [0, 2**40]),
        lambda offsets: np.concatenate([offsets[:1], offsets[:-1]]),
        lambda offsets: np.array([{}], object),
    ],
    ids=[
        "missing", "short", "int32", "reversed", "later", "longer", "before the file",
        "behind the file", "twice", "pickled",
    ],
)  # fmt: skip
def test_offsets_that_do_not_belong_to_the_shards_are_found_again(own, change):
    path = own.folder / "test.offsets.npy"
    content, stored = path.read_bytes(), np.load(path)
    path.unlink()
    if (changed := change(stored)) is not None:
        np.save(path, changed, allow_pickle=True)
    paths, sizes = own.shards["test"], own.shard_sizes["test"]
    found = find_offsets(paths, sizes, "test", lambda: digest_split(paths, sizes).offsets)
    np.testing.assert_array_equal(found, stored)
    assert path.read_bytes() == content


def test_offsets_of_a_file_that_cannot_be_written_stay_in_memory(own):
    path = own.folder / "test.offsets.npy"
    stored = np.load(path)
    path.unlink()
    path.mkdir()  # also root cannot replace it
    paths, sizes = own.shards["test"], own.shard_sizes["test"]
    np.testing.assert_array_equal(find_offsets(paths, sizes, "test", lambda: stored), stored)


def test_memory_is_used_again_only_after_its_batch_is_released():
    memory, images = BatchMemory(), np.arange(48, dtype=np.uint8).reshape(4, 12)
    first = memory.copy(iter(images[:2]), (2, 2, 6))
    second = memory.copy(iter(images[2:]), (2, 2, 6))
    np.testing.assert_array_equal([*first, *second], images.reshape(4, 2, 6))
    place = second.ctypes.data
    assert place % 64 == 0
    del second
    smaller = memory.copy(iter(images[1:2]), (1, 2, 6))
    assert smaller.ctypes.data == place
    larger = memory.copy(iter(images), (4, 2, 6))
    np.testing.assert_array_equal(
        [*first, *smaller, *larger], images[[0, 1, 1, 0, 1, 2, 3]].reshape(7, 2, 6)
    )


def test_batches_that_are_kept_do_not_change(dataset):
    batches = list(dataset.train(4).take(60))
    again = dataset.train(4)
    for (kept, _), (images, _) in zip(batches, again, strict=False):
        np.testing.assert_array_equal(kept, images)


def test_opening_a_dataset_does_not_search(dataset, monkeypatch):
    monkeypatch.setattr(cache, "digest_split", None)
    assert next(iter(dataset.train(4)))[0].shape == (4, 64, 64, 1)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="needs /dev/fd")
def test_reader_closes_its_files(dataset):
    paths, sizes = dataset.shards["test"], dataset.shard_sizes["test"]
    before = count_open_files()
    read = map_images(paths, sizes, find_offsets(paths, sizes, "test", search))
    assert count_open_files() == before + len(paths)
    del read
    assert count_open_files() == before
