"""Where the images of a dataset are decoded and fitted: on this machine's cores or on a Dask cluster.

Both are a `concurrent.futures.Executor`, and both give the same bytes in the same order. The Beam
pipeline, which writes the records on its workers as well, is in `cxr_tfds.building.beam`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cxr_tfds.building.fitting import Fitted, Fitting, Readable, carry, fit_file
from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.parallel import all_cores, core_count, ordered_map

if TYPE_CHECKING:
    from distributed import Client

EXECUTOR = "CXR_TFDS_EXECUTOR"
CONNECT_SECONDS = 10.0
# A task costs Dask milliseconds wherever it runs: of 8, 16 and 32 images a task the building process spent 0.65,
# 0.37 and 0.31 ms an image; a thread, of 1 and 4 images, 0.05 and 0.01 ms (x86-64, 2 cores, 2026-11).
IMAGES_PER_TASK = 16
IMAGES_PER_THREAD_TASK = 4
TASKS_PER_THREAD = 3  # under way: one that runs, others that are already there


def scheduler_address() -> str | None:
    """HOST:PORT of the Dask scheduler named by the environment variable CXR_TFDS_EXECUTOR; None without it.

    Raises:
      InputError: its value is not dask://HOST:PORT.
    """
    value = os.environ.get(EXECUTOR, "")
    if not value:
        return None
    parts = urlsplit(value)
    try:
        whole = (
            parts.scheme == "dask" and parts.hostname and parts.port and not parts.path.strip("/")
        )
    except ValueError:  # a port that is none
        whole = False
    if not whole:
        raise InputError(
            f"{EXECUTOR}={value!r}; expected dask://HOST:PORT, the address of a Dask scheduler. "
            "Unset it to build on this machine alone."
        )
    return parts.netloc


def fit_all(files: Sequence[Readable], fitting: Fitting) -> Iterator[Fitted | BadImage]:
    """What to store of each of `files`, in their order, with bounded work under way.

    Raises:
      InputError: CXR_TFDS_EXECUTOR names a cluster that cannot be used, see `_connected`, or workers
        ended again and again while they held the same images.
    """
    if (address := scheduler_address()) is None:
        with all_cores() as executor:
            yield from _spread(files, fitting, executor, core_count(), IMAGES_PER_THREAD_TASK)
        return
    if not files:
        return
    with _connected(address) as client:
        seen = _check_workers(client, files[0])
        # Where the workers see the source they read it themselves; else its bytes are sent to them.
        sent: Iterable[Readable] = files if seen else map(carry, files)
        threads = sum(client.nthreads().values())
        with client.get_executor(pure=False) as executor, _giving_up_plainly():
            yield from _spread(sent, fitting, executor, threads, IMAGES_PER_TASK)


def _spread(
    files: Iterable[Readable],
    fitting: Fitting,
    executor: Executor,
    threads: int,
    images_per_task: int,
) -> Iterator[Fitted | BadImage]:
    remaining = iter(files)
    tasks = iter(lambda: list(itertools.islice(remaining, images_per_task)), [])
    fit = partial(_fit_several, fitting=fitting)
    for fitted in ordered_map(fit, tasks, executor, in_flight=TASKS_PER_THREAD * threads):
        yield from fitted


def _fit_several(files: list[Readable], fitting: Fitting) -> list[Fitted | BadImage]:
    return [fit_file(file, fitting) for file in files]


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Client]:
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise InputError(
            f"{EXECUTOR} names a Dask scheduler, and Dask is not installed here. "
            "Install it with: pip install 'cxr-tfds[dask]'"
        ) from None
    try:
        client = Client(f"tcp://{address}", timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, asyncio.TimeoutError) as err:
        raise InputError(
            f"No Dask scheduler answers at {address} within {CONNECT_SECONDS:g} s. Start one with: dask scheduler"
        ) from err
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except asyncio.TimeoutError as err:  # Python 3.10 has two of that name
            raise InputError(
                f"The Dask scheduler at {address} has no worker. Start some with: dask worker tcp://{address}"
            ) from err
        yield client


@contextlib.contextmanager
def _giving_up_plainly() -> Iterator[None]:
    from distributed.scheduler import KilledWorker

    try:
        yield
    except KilledWorker as err:
        raise InputError(
            f"Dask gave up on some images: every worker that took them ended ({err}). "
            "Look at the workers' logs; memory is the usual reason."
        ) from err


def _look(file: Readable) -> tuple[dict[str, str | None], bool]:
    """On a worker: the versions that decide over pixels, and whether it sees the source."""
    import PIL
    from PIL import features

    from cxr_tfds import __version__

    versions = {
        "cxr-tfds": __version__,
        "Pillow": PIL.__version__,
        "libjpeg": features.version("jpg"),
    }
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        versions["pydicom"] = importlib.metadata.version("pydicom")
    try:
        file.read_bytes()
    except OSError:
        return versions, False
    except BadImage:
        pass  # it is seen
    return versions, True


def _check_workers(client: Client, file: Readable) -> bool:
    """Whether every worker sees the source.

    Raises:
      InputError: a worker lacks cxr-tfds, or would make other pixels.
    """
    here, _ = _look(file)
    try:
        answers = client.run(_look, file)
    except Exception as err:  # whatever the import there raised
        raise InputError(
            f"A Dask worker cannot run cxr-tfds ({type(err).__name__}: {err}). "
            "Install the same cxr-tfds on every worker."
        ) from err
    for worker, (versions, _) in answers.items():
        if versions != here:
            raise InputError(
                f"The Dask worker {worker} has {_listed(versions)}; here is {_listed(here)}. The dataset would hold "
                "other pixels. Install the same versions on every worker."
            )
    return all(seen for _, seen in answers.values())


def _listed(versions: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
