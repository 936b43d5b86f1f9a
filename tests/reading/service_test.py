"""Reading through a tf.data service on loopback."""

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from helpers.splits import load_split

from cxr_tfds import deadline
from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.sequential import name_corrupt_shard
from cxr_tfds.reading.service import check_address, list_workers, served_batches
from cxr_tfds.training.distributed import Devices
from cxr_tfds.training.settings import TrainSettings

pytestmark = pytest.mark.slow

BATCH = 7


def start(*arguments):
    """Starts a server by its documented command; it prints a line when it is ready."""
    return subprocess.Popen(
        [sys.executable, "-m", "cxr_tfds.commands.data_service", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


@contextlib.contextmanager
def service(workers):
    """Yields the address grpc://localhost:PORT of a dispatcher, and its workers."""
    processes = [start("dispatcher", "--port", "0")]
    try:
        target = processes[0].stdout.readline().strip()
        name = target.removeprefix("grpc://")
        processes += [start("worker", "--dispatcher", name) for _ in range(workers)]
        for worker in processes[1:]:
            assert worker.stdout.readline().strip() == f"localhost serves {name}"
        yield target, processes[1:]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture(scope="module")
def address():
    """Address grpc://localhost:PORT of a dispatcher with two workers."""
    with service(2) as (target, _):
        yield target


# Reads batches until it is ended. The main thread waits in TensorFlow, which ignores signals.
_READ = """
import json, os, sys
from cxr_tfds.native import load_tensorflow
load_tensorflow()
from cxr_tfds import deadline
from cxr_tfds.commands.base import Command
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.service import served_batches, watch_service
deadline._GRACE_S = 0.5

def read():
    address = os.environ["ADDRESS"]
    dataset = open_dataset("chest_xray_pneumonia/64", os.environ["DATA_DIR"])
    with watch_service(address):
        for number, _ in enumerate(served_batches(dataset, address, batch_size=7)):
            if number == 100:
                print("reading", flush=True)

Command("read", callback=read)()
"""


def test_a_worker_that_hangs_ends_the_reader(built):
    """The service is its own: other readers would wait for its worker, too."""
    with service(1) as (address, (worker,)):
        (name,) = list_workers(address.removeprefix("grpc://"))
        environment = {"ADDRESS": address, "DATA_DIR": str(built), deadline.TIMEOUT: "5"}
        reader = subprocess.Popen(
            [sys.executable, "-c", _READ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        )
        try:
            assert reader.stdout.readline() == "reading\n"
            worker.send_signal(signal.SIGSTOP)
            _, errors = reader.communicate(timeout=120)
        finally:
            reader.kill()
            reader.communicate()
    assert reader.returncode == 1, errors
    assert (
        f"Error: Server {name} of the data service has not answered for 5 s. Look at its log, "
        "start the service again, then continue with --resume.\n"
    ) in errors


def test_nothing_listens_where_no_dispatcher_is():
    assert list_workers("localhost:9") == []  # discard, where nothing listens


def hashes(images):
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


def test_two_workers_read_every_example_once_in_new_orders(address, dataset):
    whole = load_split(dataset, "train")
    labels = dict(zip(hashes(whole.images), whole.labels, strict=True))
    steps = -(-len(labels) // BATCH)
    tf.random.set_seed(0)  # as training does; epochs must differ nevertheless
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


def test_findings_have_the_targets_of_training(address, findings_data):
    dataset = open_dataset("xray_table/64", findings_data).labelled(
        uncertain="positive", unknown="ignore"
    )
    steps = -(-dataset.sizes["train"] // BATCH)

    def rows(batches):
        return {
            image.tobytes(): target.tolist()
            for images, targets in batches.take(steps).as_numpy_iterator()
            for image, target in zip(images, targets, strict=True)
        }

    served = rows(served_batches(dataset, address, batch_size=BATCH))
    expected = rows(dataset.train(BATCH))
    assert len(served) == dataset.sizes["train"]
    assert served.keys() == expected.keys()
    for image, target in served.items():
        np.testing.assert_array_equal(target, expected[image])


def without_last_record(shard):
    start = end = 0
    data = shard.read_bytes()
    while end < len(data):
        start, end = end, end + 16 + int.from_bytes(data[end : end + 8], "little")
    os.truncate(shard, start)


LOST = "The data service lost examples of chest_xray_pneumonia/64:1.0.0"


@pytest.mark.parametrize(
    ("corrupt", "locally", "message"),
    [
        (
            without_last_record,
            True,
            r"{shard} is corrupt: expected \d+ examples, found \d+\. Remove",
        ),
        (Path.unlink, True, r"{shard} is missing\. Remove .* and build it again"),
        (
            without_last_record,
            False,
            rf"{LOST}\. Every worker must have the same files as this machine",
        ),
        (
            Path.unlink,
            False,
            rf"{LOST}: Failed to get element from worker .*: {{shard}}; No such file .*\. Every",
        ),
        (
            lambda shard: os.truncate(shard, 5000),
            False,
            rf"{LOST}: Failed .* truncated record at .*\. Every",
        ),
    ],
    ids=["record", "shard", "record on worker", "shard on worker", "cut on worker"],
)
def test_lost_examples_are_an_error(address, dataset, own, corrupt, locally, message):
    """Shards are corrupt on this machine as well, or only on the worker."""
    corrupt(shard := Path(own.shards["train"][1]))
    batches = served_batches(own, address, batch_size=BATCH).take(-(-own.sizes["train"] // BATCH))
    with (
        pytest.raises(InputError, match=rf"^{message.format(shard=re.escape(str(shard)))}"),
        name_corrupt_shard(own if locally else dataset),
    ):
        for _ in batches:
            pass


def test_training_through_the_service(address, dataset, tiny_model, tmp_path):
    from cxr_tfds.training.run import run_training

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
    assert run_training(settings, tmp_path / "run")["test"]["images"] == 40


def test_several_devices_are_refused(built, tmp_path):
    from cxr_tfds.training.run import run_training

    settings = TrainSettings(
        dataset="chest_xray_pneumonia/64",
        data_dir=str(built),
        batch_size=8,
        data_service="grpc://localhost:5050",
    )
    two = Devices(SimpleNamespace(num_replicas_in_sync=2))
    with pytest.raises(
        InputError,
        match=r"^--data-service feeds one device, but this run has 2",
    ):
        run_training(settings, tmp_path / "run", devices=two)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "address", ["localhost:5050", "grpc://localhost", "grpc://:5050", "http://localhost:5050", ""]
)
def test_refuses_invalid_addresses(address):
    with pytest.raises(InputError, match="expected grpc://HOST:PORT"):
        check_address(address)
    with pytest.raises(InputError, match="expected grpc://HOST:PORT"):
        TrainSettings(dataset="a/b", data_dir="c", data_service=address)


def test_refuses_an_address_without_a_service(dataset):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with pytest.raises(
        InputError,
        match=f"Cannot connect .* at grpc://localhost:{port}: .* dispatcher --port",
    ):
        served_batches(dataset, f"grpc://localhost:{port}", batch_size=BATCH)
