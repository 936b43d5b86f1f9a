"""Reading through a tf.data service on loopback."""

import hashlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from cxr_tfds.errors import InputError
from cxr_tfds.reading.in_order import load_split, name_corrupt_shard
from cxr_tfds.reading.service import check_address, served_batches
from cxr_tfds.training.distributed import Devices
from cxr_tfds.training.settings import TrainSettings

BATCH = 7


def start(*arguments):
    """A server as its documented command starts it; it prints a line once it serves."""
    return subprocess.Popen(
        [sys.executable, "-m", "cxr_tfds.reading.service", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


@pytest.fixture(scope="module")
def address():
    """grpc://localhost:PORT of a dispatcher with two workers."""
    processes = [start("dispatcher", "--port", "0")]
    try:
        target = processes[0].stdout.readline().strip()
        processes += [
            start("worker", "--dispatcher", target.removeprefix("grpc://")) for _ in range(2)
        ]
        for worker in processes[1:]:
            assert (
                worker.stdout.readline().strip()
                == f"localhost serves {target.removeprefix('grpc://')}"
            )
        yield target
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()
            process.stdout.close()


def hashes(images):
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


def test_two_workers_lose_no_example_repeat_none_and_shuffle_anew(address, dataset):
    whole = load_split(dataset, "train")
    labels = dict(zip(hashes(whole.images), whole.labels, strict=True))
    steps = -(-len(labels) // BATCH)
    tf.random.set_seed(0)  # as training does: it must not make the epochs alike
    batches = served_batches(dataset, address, batch_size=BATCH).take(3 * steps).as_numpy_iterator()
    orders, first = set(), set()
    for _ in range(3):
        seen = []
        for _ in range(steps):
            images, targets = next(batches)
            np.testing.assert_array_equal(
                targets.ravel(), [labels[image] for image in hashes(images)]
            )
            seen += hashes(images)
        assert sorted(seen) == sorted(labels)
        orders.add(tuple(seen))
        first.add(frozenset(seen[:BATCH]))
    assert len(orders) == len(first) == 3


def without_last_record(shard):
    start = end = 0
    data = shard.read_bytes()
    while end < len(data):
        start, end = end, end + 16 + int.from_bytes(data[end : end + 8], "little")
    os.truncate(shard, start)


LOST = "the data service did not give every example of chest_xray_pneumonia/64:1.0.0"


@pytest.mark.parametrize(
    ("damage", "here", "said"),
    [
        (
            without_last_record,
            True,
            r"{shard} is damaged: it holds \d+ examples, \d+ were written\. Remove",
        ),
        (Path.unlink, True, r"{shard} is missing\. Remove .* and build it again"),
        (
            without_last_record,
            False,
            rf"{LOST}: some were lost\. Each worker must have the files of this machine",
        ),
        (
            Path.unlink,
            False,
            rf"{LOST}: Failed to get element from worker .*: {{shard}}; No such file or directory\. Each",
        ),
        (
            lambda shard: os.truncate(shard, 5000),
            False,
            rf"{LOST}: Failed .* truncated record at .*\. Each",
        ),
    ],
    ids=["a record", "a shard", "a record there", "a shard there", "cut there"],
)
def test_examples_lost_by_a_worker_are_an_error(address, dataset, own, damage, here, said):
    """Whether the shards of this machine are damaged as well, or those of the worker alone."""
    damage(shard := Path(own.shards["train"][1]))
    batches = served_batches(own, address, batch_size=BATCH).take(-(-own.sizes["train"] // BATCH))
    with (
        pytest.raises(InputError, match=rf"^{said.format(shard=re.escape(str(shard)))}"),
        name_corrupt_shard(own if here else dataset),
    ):
        for _ in batches:
            pass


def test_training_through_the_service(address, dataset, tiny_model, tmp_path):
    from cxr_tfds.training.run import train

    data_dir = dataset.shards["train"][0].partition("/chest_xray_pneumonia/")[0]
    settings = TrainSettings(
        dataset="chest_xray_pneumonia/64",
        data_dir=data_dir,
        model=tiny_model,
        augment="none",
        epochs=1,
        batch_size=8,
        data_service=address,
    )
    assert train(settings, tmp_path / "run")["test"]["images"] == 40


def test_several_devices_are_refused(built, tmp_path):
    """Epochs would not end where passes over the data do."""
    from cxr_tfds.training.run import train

    settings = TrainSettings(
        dataset="chest_xray_pneumonia/64",
        data_dir=str(built),
        batch_size=8,
        data_service="grpc://localhost:5050",
    )
    two = Devices(SimpleNamespace(num_replicas_in_sync=2))
    with pytest.raises(
        InputError,
        match=r"^--data-service serves one device; there are 2, which read parts of their",
    ):
        train(settings, tmp_path / "run", devices=two)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "address", ["localhost:5050", "grpc://localhost", "grpc://:5050", "http://localhost:5050", ""]
)
def test_an_address_that_is_none(address):
    with pytest.raises(InputError, match="expected grpc://HOST:PORT"):
        check_address(address)
    with pytest.raises(InputError, match="expected grpc://HOST:PORT"):
        TrainSettings(dataset="a/b", data_dir="c", data_service=address)


def test_nothing_answers(dataset):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with pytest.raises(
        InputError,
        match=f"no data service answers at grpc://localhost:{port}: .* dispatcher --port",
    ):
        served_batches(dataset, f"grpc://localhost:{port}", batch_size=BATCH)
