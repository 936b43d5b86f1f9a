"""Decodes the images of a dataset on the cores of this machine or on a Dask cluster.

Both are a `concurrent.futures.Executor` and give the same bytes in the same order. The Beam
pipeline, which also writes the records on its workers, is in `cxr_tfds.building.beam`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from cxr_tfds.building.fitting import FitSettings, fit_file
from cxr_tfds.deadline import keep_asking
from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.imaging.pixels import DecodeResult
from cxr_tfds.parallel import abandon_on_error, all_cores, core_count, ordered_map
from cxr_tfds.regular_files import read_or_explain
from cxr_tfds.sources import SourcePath

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")

EXECUTOR = "CXR_TFDS_EXECUTOR"
CONNECT_SECONDS = 10.0
# A task costs Dask milliseconds wherever it runs: with 8, 16 and 32 images a task the building
# process spent 0.65, 0.37 and 0.31 ms an image; a thread with 1 and 4 images a task 0.05 and
# 0.01 ms (x86-64, 2 cores, 2026-11).
IMAGES_PER_TASK = 16
IMAGES_PER_THREAD_TASK = 4
_LOOK_AT_LOGS = "Look at the logs of its scheduler and workers, then build again."
_NOISY = ("distributed.batched", "distributed.client", "tornado.application")
TASKS_PER_THREAD = 3  # in flight: one runs, the others wait on the worker


def scheduler_address() -> str | None:
    """Returns HOST:PORT of the Dask scheduler in CXR_TFDS_EXECUTOR, or None if it is not set.

    Raises:
      InputError: The value is not dask://HOST:PORT.
    """
    value = os.environ.get(EXECUTOR, "")
    if not value:
        return None
    parts = urlsplit(value)
    with contextlib.suppress(ValueError):  # `port` raises it for a port that is not a number
        if parts.scheme == "dask" and parts.hostname and parts.port and parts.path in ("", "/"):
            return parts.netloc
    raise InputError(
        f"{EXECUTOR}={value!r}; expected dask://HOST:PORT, the address of a Dask scheduler. "
        "Unset it to build on this machine only."
    )


def fit_all(files: Sequence[SourcePath], settings: FitSettings) -> Iterator[DecodeResult]:
    """Yields the result of `fit_file` for each file, in order, with bounded work in flight.

    Raises:
      InputError: As `map_files`.
    """
    return map_files(files, partial(fit_file, settings=settings))


def map_files(
    files: Sequence[SourcePath], function: Callable[[SourcePath | bytes | BadImage], T]
) -> Iterator[T]:
    """Yields `function(file)` for each file, in order, with bounded work in flight.

    Args:
      files: Source files.
      function: Called on the workers, where it is imported by name. Workers that do not see the
        source call it with the file's content, or with the reason why it cannot be read.

    Raises:
      InputError: CXR_TFDS_EXECUTOR names a cluster that cannot be used, or workers died repeatedly
        on the same images.
    """
    if (address := scheduler_address()) is None:
        with abandon_on_error(all_cores()) as executor:
            yield from _distribute(files, function, executor, core_count(), IMAGES_PER_THREAD_TASK)
        return
    if not files:
        return
    with _connect(address) as client, _watch_cluster(client, address):
        # Workers that see the source read it themselves; otherwise they get the bytes.
        shared = _check_workers(client, files[0])
        inputs: Iterable[SourcePath | bytes | BadImage] = (
            files if shared else map(read_or_explain, files)
        )
        threads = sum(client.nthreads().values())
        with client.get_executor(pure=False) as executor, _explain_lost_cluster(address):
            yield from _distribute(inputs, function, executor, threads, IMAGES_PER_TASK)


def _distribute(
    files: Iterable[SourcePath | bytes | BadImage],
    function: Callable[[SourcePath | bytes | BadImage], T],
    executor: Executor,
    threads: int,
    images_per_task: int,
) -> Iterator[T]:
    remaining = iter(files)
    tasks = iter(lambda: list(itertools.islice(remaining, images_per_task)), [])
    call = partial(_fit_several, function=function)
    for results in ordered_map(call, tasks, executor, in_flight=TASKS_PER_THREAD * threads):
        yield from results


def _fit_several(
    files: list[SourcePath | bytes | BadImage],
    function: Callable[[SourcePath | bytes | BadImage], T],
) -> list[T]:
    return [function(file) for file in files]


@contextlib.contextmanager
def _connect(address: str) -> Iterator[Client]:
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise InputError(
            f"{EXECUTOR} names a Dask scheduler, but Dask is not installed. "
            "Install it with: pip install 'cxr-tfds[dask]'"
        ) from None
    try:
        client = Client(f"tcp://{address}", timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, asyncio.TimeoutError) as err:
        raise InputError(
            f"No Dask scheduler answers at {address} within {CONNECT_SECONDS:g} s. "
            "Start one with: dask scheduler"
        ) from err
    with _without_tracebacks(), client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except asyncio.TimeoutError as err:  # in Python 3.10, not the built-in TimeoutError
            raise InputError(
                f"The Dask scheduler at {address} has no workers. "
                f"Start some with: dask worker tcp://{address}"
            ) from err
        yield client


@contextlib.contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Hides what Dask's client logs about a lost scheduler: our error explains it in one line."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger in loggers:
            logger.disabled = False


def _watch_cluster(client: Client, address: str) -> contextlib.AbstractContextManager[None]:
    """Returns a block that ends with an error if the scheduler or a worker no longer answers.

    Dask would wait without end for a scheduler, or for a worker that hangs. If a worker dies, the
    others take over its work; without any, nothing answers.
    """
    return keep_asking(
        lambda: [address],
        lambda _: bool(client.run(core_count)),  # on each worker, in a thread that does not decode
        what="The Dask cluster at {}",
        advice=_LOOK_AT_LOGS,
    )


@contextlib.contextmanager
def _explain_lost_cluster(address: str) -> Iterator[None]:
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    try:
        yield
    except (CancelledError, CommClosedError) as err:
        raise InputError(f"The Dask scheduler at {address} was lost. {_LOOK_AT_LOGS}") from err
    except KilledWorker as err:
        raise InputError(
            f"Dask gave up on some images because every worker that took them died ({err}). "
            "The usual reason is too little memory; see the workers' logs."
        ) from err


def list_versions() -> dict[str, str]:
    """Returns the versions of this process that decide the pixels."""
    import PIL
    from PIL import features

    from cxr_tfds import __version__

    versions = {
        "cxr-tfds": __version__,
        "Pillow": PIL.__version__,
        "libjpeg": str(features.version("jpg")),
    }
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        versions["pydicom"] = importlib.metadata.version("pydicom")
    return versions


def _inspect_worker(file: SourcePath) -> tuple[dict[str, str], bool]:
    """Returns the versions that decide the pixels, and whether this process can open `file`."""
    versions = list_versions()
    try:
        file.read_bytes()
    except BadImage:
        return versions, True
    except OSError:
        return versions, False
    return versions, True


def _check_workers(client: Client, file: SourcePath) -> bool:
    """Returns whether every worker sees the source.

    Raises:
      InputError: A worker lacks cxr-tfds, or would produce different pixels.
    """
    local, _ = _inspect_worker(file)
    try:
        answers = client.run(_inspect_worker, file)
    except Exception as err:  # whatever the import on the worker raised
        raise InputError(
            f"A Dask worker cannot run cxr-tfds ({type(err).__name__}: {err}). "
            "Install the same cxr-tfds on every worker."
        ) from err
    for worker, (versions, _) in answers.items():
        if versions != local:
            raise InputError(
                f"The Dask worker {worker} has {_format(versions)}, but this machine has "
                f"{_format(local)}. The pixels would differ. Install the same versions on every "
                "worker."
            )
    return all(shared for _, shared in answers.values())


def _format(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
