"""What `--profile` measures: stages, waits for batches, and GPUs."""

import contextlib
import sys
import time
from types import SimpleNamespace

import pytest
import tensorflow as tf

from cxr_tfds.run_profile import CHECKPOINTS, FIRST_STEP, READING, START, STEP
from cxr_tfds.training import gpu
from cxr_tfds.training.gpu import GpuMeter
from cxr_tfds.training.profile import Profile

PAUSE = 0.05


class Learner:
    """Takes batches as the compiled step does."""

    def __init__(self, profile):
        self.phase = 1
        self.step = tf.function(lambda batches: profile.next_batch(batches)[1])

    def steps_done(self):
        return 0

    def augment(self, images):
        return tf.cast(images, tf.float32)

    def uses_xla(self):
        return False


def slow_batches(pauses):
    def read():
        for pause in pauses:
            time.sleep(pause)
            yield tf.zeros((2, 4, 4, 1), tf.uint8), tf.zeros((2, 1))

    spec = (tf.TensorSpec((2, 4, 4, 1), tf.uint8), tf.TensorSpec((2, 1), tf.float32))
    return iter(tf.data.Dataset.from_generator(read, output_signature=spec))


def test_a_step_waits_for_its_batch():
    profile = Profile()
    profile.begin()
    learner, batches = Learner(profile), slow_batches([0.1, PAUSE, PAUSE, PAUSE, 0])
    with profile.stage(STEP):
        for _ in range(4):
            profile.step(learner, batches)
        learner.phase = 2  # whose first step is compiled anew
        profile.step(learner, batches)
    profile.time_augmentation(learner, slow_batches([0]))
    table = profile.table()
    assert table["steps"] == 3
    assert table["batches_ready"] == 0
    assert table["seconds"][READING] >= 2 * PAUSE
    assert table["seconds"][FIRST_STEP] >= 0.1
    assert table["augmentation_ms"] > 0
    assert table["bottleneck"].startswith("Reading: the step waits ")
    assert (table["gpus"], table["gpu"], table["gpu_bytes"]) == ([], None, None)


def test_counts_the_batches_that_are_ready():
    profile = Profile()
    profile.begin()
    learner, batches = Learner(profile), slow_batches([0] * 5)
    with profile.stage(STEP):
        for _ in range(5):
            profile.step(learner, batches)
            time.sleep(PAUSE)
    assert profile.table()["batches_ready"] > 0


def test_every_second_belongs_to_one_stage(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "process_time", lambda: now[0] / 2)
    profile = Profile()

    def work(seconds):
        now[0] += seconds

    work(1)
    with profile.stage(STEP):
        work(2)
        with contextlib.suppress(KeyboardInterrupt), profile.stage(CHECKPOINTS):
            work(4)
            raise KeyboardInterrupt
        work(8)
    work(16)
    profile.begin()
    seconds = {stage: value for stage, value in profile.table()["seconds"].items() if value}
    assert seconds == {START: 17, STEP: 10, CHECKPOINTS: 4}


def test_without_a_profile_the_step_takes_its_batch_itself():
    profile = Profile(wanted=False)
    profile.begin()
    profile.step(Learner(profile), batches := slow_batches([0, 0]))
    profile.time_augmentation(None, batches)  # takes none
    assert len(list(batches)) == 1


@pytest.fixture
def one_gpu(monkeypatch):
    config = SimpleNamespace(
        list_physical_devices=lambda kind: ["the GPU"],
        experimental=SimpleNamespace(
            get_device_details=lambda device: {"device_name": "NVIDIA H100"},
            get_memory_info=lambda name: {"peak": {"GPU:0": 3 << 30}[name]},
        ),
    )
    monkeypatch.setattr(gpu, "tf", SimpleNamespace(config=config))


def test_samples_a_gpu_once_a_second(one_gpu, monkeypatch):
    asked = []

    class NVMLError(Exception):
        pass

    def utilization(handle):
        asked.append(handle)
        return SimpleNamespace(gpu=40 * len(asked))

    library = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 4,
        nvmlDeviceGetHandleByIndex=lambda index: f"handle {index}",
        nvmlDeviceGetHandleByUUID=lambda name: f"handle of {name}",
        nvmlDeviceGetUtilizationRates=utilization,
    )
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    monkeypatch.setitem(sys.modules, "pynvml", library)
    meter = GpuMeter()
    for now[0] in (100.5, 101.5, 102, 102.6):
        meter.sample()
    assert asked == ["handle 2"] * 2
    assert (meter.names, meter.peak_bytes()) == (["NVIDIA H100"], 3 << 30)
    assert meter.busy() == pytest.approx((0.4 + 0.8) / 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1f,GPU-2e")
    assert gpu._open_handles() == ["handle of GPU-1f", "handle of GPU-2e"]


def test_a_gpu_without_the_library_of_nvidia(one_gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meter = GpuMeter()
    meter.sample()
    assert (meter.busy(), meter.peak_bytes()) == (None, 3 << 30)
