"""How busy the GPUs of this process are, and their memory."""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

import tensorflow as tf

_PERIOD_S = 1.0  # of NVIDIA's own measurement


class GpuMeter:
    """Samples the GPUs once a second; without a GPU it does nothing.

    How busy they are needs the package nvidia-ml-py.
    """

    def __init__(self) -> None:
        self.names = [
            tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
            for gpu in tf.config.list_physical_devices("GPU")
        ]
        self._handles = _open_handles() if self.names else []
        self._samples: list[float] = []
        self._sampled_at = time.monotonic()

    def sample(self) -> None:
        """Takes a sample if the last one is a second old."""
        if not self._handles or time.monotonic() - self._sampled_at < _PERIOD_S:
            return
        import pynvml

        self._sampled_at = time.monotonic()
        rates = [pynvml.nvmlDeviceGetUtilizationRates(handle) for handle in self._handles]
        self._samples += [rate.gpu / 100 for rate in rates]

    def busy(self) -> float | None:
        """Returns the fraction of the time in which the GPUs computed, or None if unknown."""
        return statistics.fmean(self._samples) if self._samples else None

    def peak_bytes(self) -> int | None:
        """Returns the largest memory on one GPU, or None without a GPU."""
        info = tf.config.experimental.get_memory_info
        return max((info(f"GPU:{i}")["peak"] for i in range(len(self.names))), default=None)


def _open_handles() -> list[Any]:
    """Returns NVIDIA's handle of each GPU of this process, or none if they cannot be asked."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        every = range(pynvml.nvmlDeviceGetCount())
        chosen = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
        return [
            pynvml.nvmlDeviceGetHandleByIndex(int(each))
            if str(each).isdecimal()
            else pynvml.nvmlDeviceGetHandleByUUID(each)
            for each in chosen or every
        ]
    except pynvml.NVMLError:  # a driver that does not answer
        return []
