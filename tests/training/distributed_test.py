"""Several devices and machines learn what one device learns, resume, and report a lost machine."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from cxr_tfds.deadline import TIMEOUT, serves
from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.training import distributed
from cxr_tfds.training import run as training
from cxr_tfds.training.cluster import Cluster, read_cluster, wait_for_all
from cxr_tfds.training.distributed import Devices, open_devices
from cxr_tfds.training.settings import TrainSettings

# Trains on one device, on two logical ones, or as a machine of TF_CONFIG, as its argument says.
_TRAIN = """
import contextlib, dataclasses, json, os, shutil, sys
from pathlib import Path
from cxr_tfds.native import load_tensorflow
load_tensorflow()
import numpy as np
import tensorflow as tf
wanted = json.loads(sys.argv[1])
if wanted["devices"] > 1:
    (cpu,) = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration()] * wanted["devices"]
    tf.config.set_logical_device_configuration(cpu, logical)
from keras import Input, Model, layers
from cxr_tfds import models
from cxr_tfds.training import run as training
from cxr_tfds.training.distributed import Devices
from cxr_tfds.training.profile import Profile
from cxr_tfds.errors import InputError
from cxr_tfds.training.settings import TrainSettings

def small(shape, outputs):
    pixels = Input(shape)
    x = layers.Conv2D(4, 5, strides=4, use_bias=False)(layers.Rescaling(1 / 255)(pixels))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", use_bias=False)(x))
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, y]))
    return Model(pixels, layers.Dense(outputs, dtype="float32")(x))

models.MODELS["small"] = models.ModelEntry(small, "drawn for tests", 32, None, (64, 64, 1), 0, 0)
states = []
class Stop(Exception):
    pass

class Learner(training.Learner):
    stops_at = None

    def step(self, batches):
        step = self.steps_done()
        if step == self.stops_at:
            raise Stop
        if step == wanted.get("waits_at"):
            print("waiting", flush=True)
            sys.stdin.readline()
        super().step(batches)

    def take_loss(self):
        states.append(self.state()[: -len(self.generators)])  # each machine draws its own numbers
        return super().take_loss()

training.Learner = Learner
training.finish_run = lambda *_: {}

def train(run, devices, resume=False):
    profile, more = Profile(), {"resume": resume, "devices": devices}
    training.run_training(settings, run, checkpoint_every="1ms", profile=profile, **more)
    assert 0 <= profile.table()["batches_ready"] <= 1
    np.savez(f"{wanted['state']}-{run.name}.npz", *states[-1])

runs = {"one": None}
if wanted["devices"] > 1:
    names = [f"CPU:{i}" for i in range(wanted["devices"])]
    runs["two"] = Devices(tf.distribute.MirroredStrategy(names))
if wanted.get("mixed"):
    runs["mixed"] = runs["two"]
settings, resume = TrainSettings(**wanted["settings"]), wanted.get("resume", False)
try:
    for name, devices in runs.items():
        run = Path(wanted["run"]) / name
        if name == "mixed":
            settings = dataclasses.replace(settings, precision="mixed_float16")
        train(run, devices, resume)
        if name == "two" and wanted.get("resumes"):
            # Again, interrupted in the second epoch and resumed, also on one device.
            Learner.stops_at = 4
            with contextlib.suppress(Stop):
                train(run.with_name("resumed"), devices)
            Learner.stops_at = None
            shutil.copytree(run.with_name("resumed"), run.with_name("elastic"))
            train(run.with_name("resumed"), devices, resume=True)
            train(run.with_name("elastic"), None, resume=True)
except InputError as err:
    print(err, file=sys.stderr)
    sys.exit(1)
"""


@pytest.fixture
def start(built, tmp_path):
    """Returns a function that starts a training process; kills the processes at the end."""
    started = []
    settings = {
        "model": "small",
        "dataset": "chest_xray_pneumonia/64",
        "data_dir": str(built),
        "epochs": 2,
        "batch_size": 26,  # of 66 images: the last batch is smaller
        "learning_rate": 1e-5,
        "schedule": "constant",
        "clip_norm": 1.0,
        "average": 0.9,
        "augment": "none",
    }

    def begin(name, devices=1, cluster=None, worker=0, changes=(), **wanted):
        wanted = {
            "run": str(tmp_path / name),
            "state": str(tmp_path / f"{name}-{worker}"),
            **wanted,
        }
        wanted |= {"devices": devices, "settings": settings | dict(changes)}
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        if cluster:
            task = {"type": "worker", "index": worker}
            environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": cluster}, "task": task})
        process = subprocess.Popen(
            [sys.executable, "-c", _TRAIN, json.dumps(wanted)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def end(process):
    _, errors = process.communicate(timeout=180)
    return process.returncode, errors


def free_addresses(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def state(path):
    with np.load(path) as arrays:
        return [arrays[key] for key in arrays.files]


def assert_near(one, other, of_largest=0.02):
    """Checks that each array differs by at most a fraction of its largest value.

    The arrays are weights, moments and averages. They differ by rounding, which Adam enlarges.
    """
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(
            mine, theirs, rtol=0, atol=of_largest * np.abs(theirs).max() + 1e-9
        )


@pytest.mark.slow
def test_two_devices_and_two_machines_learn_what_one_device_learns(start, tmp_path):
    addresses = free_addresses(2)
    # Both wait in the second epoch, after its first step is saved, until one of them is killed.
    workers = [start("cluster", cluster=addresses, worker=i, waits_at=4) for i in range(2)]
    for worker in workers:
        assert worker.stdout.readline() == "waiting\n", worker.communicate()[1]
    workers[1].send_signal(signal.SIGKILL)
    workers[0].stdin.write("\n")
    workers[0].stdin.flush()
    code, errors = end(workers[0])
    assert code == 1, errors
    assert "Another machine of TF_CONFIG no longer answers. Start the same command" in errors
    assert (tmp_path / "cluster" / "one" / "checkpoint" / "epoch-1-step-1.npz").is_file()

    addresses = free_addresses(2)
    workers = [start("cluster", cluster=addresses, worker=i, resume=True) for i in range(2)]
    for worker in workers:
        code, errors = end(worker)
        assert code == 0, errors
    code, errors = end(start("local", devices=2, resumes=True))
    assert code == 0, errors
    chief, other = (state(tmp_path / f"cluster-{worker}-one.npz") for worker in range(2))
    for mine, theirs in zip(chief, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    alone = state(tmp_path / "local-0-one.npz")
    assert_near(chief, alone)
    two, resumed = (state(tmp_path / f"local-0-{name}.npz") for name in ("two", "resumed"))
    assert_near(two, alone)
    for mine, theirs in zip(resumed, two, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert_near(state(tmp_path / "local-0-elastic.npz"), alone)


@pytest.mark.parametrize("mixup", [0.0, 0.3])
def test_a_resumed_run_gets_the_same_images_on_any_number_of_devices(built, mixup):
    settings = TrainSettings(
        dataset="chest_xray_pneumonia/64",
        data_dir=str(built),
        batch_size=26,
        augment_changes={"mixup": mixup},
    )
    dataset = open_dataset(settings.dataset, built)

    def batches(count, first):
        devices = Devices(SimpleNamespace(num_replicas_in_sync=count))
        stream = training._batches(settings, dataset, devices, first).as_numpy_iterator()
        while True:
            parts = [next(stream)[0] for _ in range(count)]
            images = [part[0] if mixup else part for part in parts]
            yield sorted(image.tobytes() for part in images for image in part)

    whole = list(itertools.islice(batches(1, 0), 8))
    for count, first in ((1, 4), (2, 0), (2, 4), (2, 5)):
        assert list(itertools.islice(batches(count, first), 3)) == whole[first : first + 3]


@pytest.mark.slow
def test_two_devices_average_over_the_findings_that_count(start, tmp_path, findings_data):
    changes = {"dataset": "xray_table/64", "data_dir": str(findings_data)}
    code, errors = end(start("local", devices=2, changes=changes, mixed=True))
    assert code == 0, errors
    names = ("one", "two", "mixed")
    one, two, mixed = (state(tmp_path / f"local-0-{name}.npz") for name in names)
    assert_near(two, one)
    # The loss scale and its counters are in front of the optimizer. Gradients of float16 differ by
    # up to an eighth here; a wrong scale would halve or double them.
    weights, scale = 12, len(mixed) - len(one)
    assert scale > 0
    assert_near(mixed[:weights] + mixed[weights + scale :], one, of_largest=0.3)


def test_refuses_a_batch_that_cannot_be_divided():
    class Strategy:
        num_replicas_in_sync = 3

    devices = Devices(Strategy())
    devices.check_batch_size(33)
    with pytest.raises(
        InputError,
        match="batch_size=32; expected a multiple of 3, the number of devices, such as 30 or",
    ):
        devices.check_batch_size(32)


@pytest.mark.parametrize(("gpus", "mirrored"), [(0, False), (1, False), (2, True)])
def test_uses_all_gpus_of_the_machine(monkeypatch, gpus, mirrored):
    class Mirrored:
        num_replicas_in_sync = 2

    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setattr(
        distributed.tf.config, "list_logical_devices", {"GPU": ["GPU"] * gpus}.__getitem__
    )
    monkeypatch.setattr(distributed.tf.distribute, "MirroredStrategy", Mirrored)
    devices = open_devices()
    assert isinstance(devices.strategy, Mirrored) == mirrored
    assert (devices.replicas, devices.local_replicas) == ((2, 2) if mirrored else (1, 1))
    assert devices.is_chief


CLUSTER = {"worker": ["a:1", "b:1"]}


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({"cluster": CLUSTER, "task": {"type": "worker", "index": 1}}, (1, ("a:1", "b:1"))),
        (
            {"cluster": CLUSTER | {"chief": ["c:1"]}, "task": {"type": "worker", "index": 0}},
            (1, ("c:1", "a:1", "b:1")),
        ),
        ({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}, None),
    ],
)
def test_reads_the_cluster(config, place, monkeypatch):
    assert read_cluster("") is None
    assert read_cluster(json.dumps(config)) == place
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert read_cluster() == place


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        json.dumps({"cluster": CLUSTER}),
        json.dumps({"cluster": {"worker": ["a", "b"]}, "task": {"type": "worker", "index": 0}}),
        json.dumps({"cluster": CLUSTER, "task": {"type": "worker", "index": 2}}),
        json.dumps({"cluster": CLUSTER | {"ps": ["c:1"]}, "task": {"type": "worker", "index": 0}}),
    ],
)
def test_refuses_an_invalid_cluster(text):
    with pytest.raises(
        InputError, match=r"^Invalid TF_CONFIG .*; expected .*the same cluster on every machine"
    ):
        read_cluster(text)


def test_waits_for_the_other_machines(capsys):
    own, other = free_addresses(2)
    cluster = Cluster(0, (own, other))
    wait = threading.Thread(target=wait_for_all, args=(cluster,), daemon=True)
    wait.start()
    wait.join(timeout=0.5)
    assert wait.is_alive()
    with socket.create_server(("", int(other.rpartition(":")[2]))):
        wait.join(timeout=30)
    assert not wait.is_alive()
    assert capsys.readouterr().err == f"waiting for {other}\n"


# Joins a cluster and waits in TensorFlow for a machine that has answered once and was lost then.
_JOIN = """
import threading, time
from cxr_tfds.native import load_tensorflow
load_tensorflow()
from cxr_tfds import deadline
from cxr_tfds.commands.base import Command, Interrupted
from cxr_tfds.training import distributed
deadline._GRACE_S = 0.5
wait_for_all = distributed.wait_for_all

def wait_and_tell(cluster):
    wait_for_all(cluster)
    print("joining", flush=True)

def join():
    try:
        with deadline.sigterm_as_interrupt("Interrupted."):
            distributed.open_devices()
    except KeyboardInterrupt:
        raise Interrupted("Interrupted.")

distributed.wait_for_all = wait_and_tell
Command("join", callback=join)()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "seconds", "codes", "message"),
    [
        (
            None,
            "3",
            {1},
            "Machine {} of TF_CONFIG has not answered for 3 s. Start the same command",
        ),
        # 1 if TensorFlow returns to Python in time, as it does now and then
        (signal.SIGTERM, "600", {1, 143}, "Interrupted.\n"),
    ],
)
def test_the_wait_for_a_lost_machine_ends(number, seconds, codes, message):
    own, other = free_addresses(2)
    cluster = {"cluster": {"worker": [own, other]}, "task": {"type": "worker", "index": 0}}
    settings = {"TF_CPP_MIN_LOG_LEVEL": "3", TIMEOUT: seconds, "TF_CONFIG": json.dumps(cluster)}
    with subprocess.Popen(
        [sys.executable, "-c", _JOIN],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            with socket.create_server(("localhost", int(other.rpartition(":")[2]))):
                assert process.stdout.readline() == "joining\n"
            if number:
                while not serves(own):  # TensorFlow listens, and waits
                    time.sleep(0.1)
                process.send_signal(number)
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode in codes, errors
    assert "Error: " + message.format(other) in errors


def test_names_a_machine_that_does_not_answer():
    addresses = tuple(free_addresses(2))
    with pytest.raises(
        InputError,
        match=f"^No answer from {addresses[1]} of TF_CONFIG in 0 s. Start the same command",
    ):
        wait_for_all(Cluster(0, addresses), seconds=0)
    with socket.create_server(("", 0)) as taken:
        own = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"cannot listen at its address in TF_CONFIG, {own}: "):
            wait_for_all(Cluster(0, (own, addresses[1])), seconds=0)
