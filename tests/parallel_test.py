"""The ordered map: order, bounds, errors."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest

from cxr_tfds import parallel
from cxr_tfds.parallel import IN_FLIGHT_PER_CORE, all_cores, core_count, ordered_map


def test_results_have_the_order_of_the_items() -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.02 if number % 7 == 0 else 0)
        return number * number

    with ThreadPoolExecutor(4) as pool:
        assert list(ordered_map(slow_at_first, range(100), pool)) == [n * n for n in range(100)]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_fewer_items_than_threads(count: int) -> None:
    with all_cores() as pool:
        assert list(ordered_map(str, range(count), pool)) == [str(n) for n in range(count)]


def test_reads_items_only_as_needed() -> None:
    """The source may be endless, and memory does not grow with it."""
    taken = 0

    def count() -> Iterator[int]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield number

    most = IN_FLIGHT_PER_CORE * core_count()
    with all_cores() as pool:
        results = ordered_map(lambda n: n, count(), pool)
        for number in range(50):
            assert next(results) == number
            assert taken <= number + most
        results.close()  # type: ignore[attr-defined]


def test_error_comes_in_order_and_stops_the_rest() -> None:
    started: list[int] = []

    def fails_at_five(number: int) -> int:
        started.append(number)
        if number == 5:
            raise ValueError("number 5")
        return number

    with ThreadPoolExecutor(2) as pool:
        results = ordered_map(fails_at_five, range(10_000), pool)
        assert list(itertools.islice(results, 5)) == [0, 1, 2, 3, 4]
        with pytest.raises(ValueError, match="number 5"):
            next(results)
    assert len(started) < 100


def test_error_of_the_source_is_raised() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("disk gone")

    with ThreadPoolExecutor(2) as pool, pytest.raises(OSError, match="disk gone"):
        list(ordered_map(str, broken(), pool))


def test_stopping_early_cancels_pending_items() -> None:
    release = threading.Event()
    done: list[int] = []

    def wait(number: int) -> int:
        if number:
            release.wait(10)
        done.append(number)
        return number

    with ThreadPoolExecutor(1) as pool:
        results = ordered_map(wait, range(1000), pool)
        assert next(results) == 0
        results.close()  # type: ignore[attr-defined]
        release.set()
    assert len(done) <= 2  # the first and the one that was running


def test_takes_any_executor() -> None:
    class AtOnce(Executor):
        def submit(self, fn, /, *args, **kwargs) -> Future:  # type: ignore[no-untyped-def]
            future: Future = Future()
            future.set_result(fn(*args, **kwargs))
            return future

    assert list(ordered_map(abs, [-1, 2, -3], AtOnce())) == [1, 2, 3]


def test_core_count_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert core_count() >= 1
    monkeypatch.delattr(parallel.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: None)
    assert core_count() == 1
