"""Watches what a run depends on while it trains: other machines, a data service, and files."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from cxr_tfds.deadline import FILE_ADVICE, keep_asking
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.service import watch_service
from cxr_tfds.training.distributed import Devices, watch_machines
from cxr_tfds.training.settings import TrainSettings


@contextlib.contextmanager
def watch_others(
    settings: TrainSettings, dataset: BuiltDataset, run: Path, devices: Devices
) -> Iterator[None]:
    """Ends the block with an error if something that the run needs no longer answers."""
    # One shard at a time: a dataset may have thousands.
    shards = itertools.cycle(dataset.shards["train"])
    written = (str(run),) if devices.is_chief else ()
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            keep_asking(
                lambda: (next(shards), *written), can_be_opened, what="{}", advice=FILE_ADVICE
            )
        )
        if devices.others:
            stack.enter_context(watch_machines(devices.others))
        if settings.data_service is not None:
            stack.enter_context(watch_service(settings.data_service))
        yield


def can_be_opened(path: str) -> bool:
    """Returns True, also for a path that is missing, unless its disk hangs: then it never returns.

    Opening asks the server of a network share even if the content is in memory.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDONLY))
    return True
