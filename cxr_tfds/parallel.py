"""Work on all cores with bounded memory, through any `concurrent.futures.Executor`."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Enough that a slow item does not leave other threads idle, few enough to keep memory small.
IN_FLIGHT_PER_CORE = 8


def core_count() -> int:
    """Returns the number of cores this process may use; a container may have less than all."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def all_cores() -> Executor:
    """Returns a pool of one thread per core. Pillow decodes and resizes without the GIL."""
    return ThreadPoolExecutor(max_workers=core_count(), thread_name_prefix="decode")


@contextlib.contextmanager
def abandon_on_error(executor: Executor) -> Iterator[Executor]:
    """Closes an executor at the end of the block; after an error without waiting for its tasks.

    One of them may read from a network share that does not answer.
    """
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()


def ordered_map(
    function: Callable[[T], R],
    items: Iterable[T],
    executor: Executor,
    *,
    in_flight: int | None = None,
) -> Iterator[R]:
    """Yields `function(item)` in the order of `items`, which are read only as far as needed.

    `in_flight` is the largest number of items submitted at a time. The default keeps this machine's
    cores busy; set it for an executor on other machines.
    """
    limit = in_flight or IN_FLIGHT_PER_CORE * core_count()
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) >= limit:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
