"""Tests that two processes do not write one folder, and that no lock outlives its process."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.locks import holder

from cxr_tfds import locks
from cxr_tfds.errors import InputError
from cxr_tfds.files import complete_folder
from cxr_tfds.locks import LOCK, lock_folder, lock_path

LOCKS = [lock_folder, lock_path]

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


@pytest.mark.parametrize("lock", LOCKS)
def test_the_second_writer_learns_who_the_first_is(
    lock: Callable[..., Any], tmp_path: Path
) -> None:
    with (
        holder(lock, tmp_path / "run") as process,
        pytest.raises(
            InputError,
            match=rf"run is being written by process {process.pid} on \S+ since "
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: -c \w+ .*run\. Wait until it has finished",
        ),
        lock(tmp_path / "run"),
    ):
        pytest.fail("locked twice")


@pytest.mark.parametrize("lock", LOCKS)
def test_a_killed_holder_does_not_block(lock: Callable[..., Any], tmp_path: Path) -> None:
    with holder(lock, tmp_path / "run") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name.endswith(LOCK) for path in left] == [True]
    with lock(tmp_path / "run") as is_locked:
        assert is_locked
    assert not list(tmp_path.rglob(f"*{LOCK}"))


@pytest.mark.parametrize("lock", LOCKS)
def test_another_thread_is_refused(lock: Callable[..., Any], tmp_path: Path) -> None:
    refused: list[InputError] = []

    def lock_again() -> None:
        try:
            with lock(tmp_path / "run"):
                pass
        except InputError as err:
            refused.append(err)

    with lock(tmp_path / "run"):
        thread = threading.Thread(target=lock_again)
        thread.start()
        thread.join()
    assert len(refused) == 1


def test_steps_of_one_command_may_lock_its_folder_again(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with lock_folder(tmp_path / "out"):
        with lock_folder(tmp_path / "link"), lock_folder(tmp_path / "out/run"):
            pass
        with holder(lock_folder, tmp_path / "out/run"):  # the inner locks have ended
            pass


def test_a_folder_that_is_being_replaced_is_not_replaced_again(tmp_path: Path) -> None:
    with complete_folder(tmp_path / "x") as new:
        new.mkdir()
        again = complete_folder(tmp_path / "x")
        with pytest.raises(InputError, match="x is being written by process"), again:
            pass


@needs_fork
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_worker_does_not_keep_the_lock_of_its_killed_parent(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with lock_folder(tmp_path / "run"):
        child = os.fork()
        if not child:
            os.close(writing)
            os.read(reading, 1)  # lives until the test has ended
            os._exit(0)
        ((_, held),) = locks._held.items()
        os.close(os.dup(held.handle))
        os.close(held.handle)  # as the end of this process does
        with holder(lock_folder, tmp_path / "run"):
            pass
        locks._held.clear()
    os.close(writing)
    os.close(reading)
    os.waitpid(child, 0)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_reported_and_used(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(code, "refused")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    stale = tmp_path / "incomplete.0123abcd-77_1.0.0"
    stale.mkdir()
    with complete_folder(tmp_path / "1.0.0") as new:
        new.mkdir()
        assert stale.exists()  # it may belong to another process
    assert "has no locks. Do not start another command" in caplog.text
    with lock_folder(tmp_path) as is_locked, lock_folder(tmp_path) as again:
        assert (is_locked, again) == (False, False)


def test_a_lock_file_removed_by_its_last_holder_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = locks._try_lock

    def remove_first(handle: int) -> bool:
        monkeypatch.setattr(locks, "_try_lock", flock)
        (tmp_path / LOCK).unlink()
        return flock(handle)

    monkeypatch.setattr(locks, "_try_lock", remove_first)
    with lock_folder(tmp_path):
        assert (tmp_path / LOCK).exists()
        with pytest.raises(AssertionError), holder(lock_folder, tmp_path):
            pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"process": 1}'])
def test_a_holder_that_is_not_known_is_another_process(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK).write_text(text, encoding="utf-8")
    assert locks._read_holder(tmp_path / LOCK) == "another process"


def test_a_lock_removes_the_folders_that_stay_empty(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with lock_folder(tmp_path / "a/b"), lock_folder(tmp_path / "mine"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_names_the_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = r"^Not a directory: .*/file/run\. A part of the path is a file\."
    with pytest.raises(InputError, match=message), lock_folder(tmp_path / "file/run"):
        pass
