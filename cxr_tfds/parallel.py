"""Work on all cores with bounded memory: one seam, any `concurrent.futures.Executor`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Enough that a slow item does not leave the other workers idle, few enough that memory stays small.
IN_FLIGHT_PER_CORE = 8


def core_count() -> int:
    """Cores this process may use, which in a container are fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def all_cores() -> Executor:
    """A pool over this machine's cores. Threads serve: Pillow decodes and resizes outside the GIL."""
    return ThreadPoolExecutor(max_workers=core_count(), thread_name_prefix="decode")


def ordered_map(
    function: Callable[[T], R],
    items: Iterable[T],
    executor: Executor,
    *,
    in_flight: int | None = None,
) -> Iterator[R]:
    """Results in the order of `items`, with at most `in_flight` of them under way at any time.

    By default as many as keep this machine's cores busy; an executor on other machines says how many.
    """
    most = in_flight or IN_FLIGHT_PER_CORE * core_count()
    under_way: deque[Future[R]] = deque()
    try:
        for item in items:
            under_way.append(executor.submit(function, item))
            if len(under_way) >= most:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()
