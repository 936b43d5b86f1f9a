"""Reading through a tf.data service on loopback."""

import hashlib
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
from cxr_tfds.building.builder import RadiographConfig
from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import DatasetName, open_dataset
from cxr_tfds.reading.in_order import load_split
from cxr_tfds.reading.service import check_address, served_batches
from cxr_tfds.training.settings import TrainSettings


def start(*arguments):
    """A server as its documented command starts it, and the line it prints once it serves."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cxr_tfds.reading.service", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return process, process.stdout.readline().strip()


@pytest.fixture(scope="module")
def address():
    """grpc://localhost:PORT of a dispatcher with two workers."""
    processes = []
    dispatcher, target = start("dispatcher", "--port", "0")
    processes.append(dispatcher)
    try:
        for _ in range(2):
            worker, line = start("worker", "--dispatcher", target.removeprefix("grpc://"))
            processes.append(worker)
            assert line == f"localhost serves {target.removeprefix('grpc://')}"
        yield target
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture(scope="module")
def dataset(phantom, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("served")
    builder = Builder(data_dir=data_dir, config=RadiographConfig(name="64", size=64))
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=phantom, num_shards=5))
    return open_dataset(DatasetName.parse("chest_xray_pneumonia/64"), data_dir)


def hashes(images):
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


def test_two_workers_lose_no_example_and_repeat_none(address, dataset):
    whole = load_split(dataset, "train")
    labels = dict(zip(hashes(whole.images), whole.labels, strict=True))
    steps = -(-len(labels) // 7)
    batches = served_batches(dataset, address, batch_size=7, seed=0).take(3 * steps).as_numpy_iterator()
    for _ in range(3):
        seen = []
        for _ in range(steps):
            images, targets = next(batches)
            np.testing.assert_array_equal(targets.ravel(), [labels[image] for image in hashes(images)])
            seen += hashes(images)
        assert sorted(seen) == sorted(labels)


def test_training_through_the_service(address, dataset, tmp_path):
    from cxr_tfds.training.run import train

    data_dir = dataset.shards["train"][0].partition("/chest_xray_pneumonia/")[0]
    settings = TrainSettings(
        dataset="chest_xray_pneumonia/64", data_dir=data_dir, epochs=1, batch_size=8, data_service=address
    )
    assert train(settings, tmp_path / "run")["test"]["images"] == 40


@pytest.mark.parametrize("address", ["localhost:5050", "grpc://localhost", "grpc://:5050", "http://localhost:5050", ""])
def test_an_address_that_is_none(address):
    with pytest.raises(InputError, match="expected grpc://HOST:PORT"):
        check_address(address)
    with pytest.raises(InputError, match="expected grpc://HOST:PORT"):
        TrainSettings(dataset="a/b", data_dir="c", data_service=address)


def test_nothing_answers(dataset):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=f"no data service answers at grpc://localhost:{port}: .* dispatcher --port"):
        served_batches(dataset, f"grpc://localhost:{port}", batch_size=7, seed=0)
