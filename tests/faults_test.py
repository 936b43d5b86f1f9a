"""Tests what a power failure, a full disk and a broken disk leave of everything that is published.

The calls of the operating system are logged, and made to fail, by a library that is loaded with
LD_PRELOAD (`helpers/faults.c`). It shows the order of the calls; it does not cut the power.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.faults import FaultyProcess

QUICK = ["json", "set", "folder", "plot", "history", "page", "phantom"]
SLOW = ["model", "checkpoint", "scalars", "export", "build"]  # they load TensorFlow
ALL = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
# What fails, and after how many bytes or calls.
FAULTS = [
    ("open", errno.EACCES, 0),
    ("open", errno.EROFS, 0),
    ("write", errno.ENOSPC, 0),
    ("write", errno.EDQUOT, 8),
    ("write", errno.EIO, 0),
    ("fsync", errno.EIO, 0),
    ("fsync", errno.ENOSPC, 0),
    ("rename", errno.EROFS, 0),
    ("rename", errno.EIO, 0),
]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyProcess]:
    process = FaultyProcess(tmp_path_factory.mktemp("faults"))
    yield process
    process.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "downloads" not in path.parts
    }


def published(calls: list[list[str]], folder: Path) -> list[int]:
    """Returns the positions of the renames that give a file or folder its final name."""
    return [
        position
        for position, (call, *paths) in enumerate(calls)
        if call == "rename"
        and not any(part in paths[1] for part in (".writing-", "incomplete."))
        and paths[1].startswith(str(folder))
    ]


@pytest.mark.parametrize("name", ALL)
def test_everything_is_flushed_before_and_after_its_renaming(
    faulty: FaultyProcess, folder: Path, name: str
) -> None:
    for version in (1, 2):  # a new one, and one that replaces another
        calls = faulty.call("fault_steps:run", name, str(folder), version)
        renames = published(calls, folder)
        assert renames
        for position in renames:
            _, temporary, final = calls[position]
            written = _written_below(calls[:position], temporary)
            assert written, calls
            for path, last in written.items():
                assert ["fsync", path] in calls[last:position], f"{path} was not flushed"
            inside = {str(each) for path in written for each in Path(path).parents}
            for parent in (each for each in inside if each.startswith(temporary)):
                assert ["fsync", parent] in calls[:position], f"{parent} was not flushed"
            parent = str(Path(final).parent)
            assert ["fsync", parent] in calls[position:], f"{parent} was not flushed"


def _written_below(calls: list[list[str]], temporary: str) -> dict[str, int]:
    """Returns the paths below `temporary` that were written, under their last names.

    TFDS writes into a temporary folder of its own and renames it.
    """
    written: dict[str, int] = {}
    for position, (call, *paths) in enumerate(calls):
        if call == "write":
            written[paths[0]] = position
        elif call == "rename":
            old, new = paths
            written = {
                new + path.removeprefix(old) if path.startswith(old) else path: last
                for path, last in written.items()
            }
        elif call == "unlink":
            written.pop(paths[0], None)
    return {path: last for path, last in written.items() if path.startswith(temporary)}


@pytest.mark.parametrize(("call", "code", "after"), FAULTS)
@pytest.mark.parametrize("name", ALL)
def test_a_failure_leaves_the_old_content(
    faulty: FaultyProcess, folder: Path, name: str, call: str, code: int, after: int
) -> None:
    faulty.call("fault_steps:run", name, str(folder), 1)
    before = contents(folder)
    failed: list[Any] = [name, str(folder), 2, call, str(folder), code, after]
    message, is_explained = faulty.call("fault_steps:run_failing", *failed)
    assert is_explained, message
    assert "[Errno" not in message
    assert ".writing-" not in message
    assert f": {folder}" in message  # which file or folder
    if code in (errno.ENOSPC, errno.EDQUOT):
        assert "The disk mounted at / has" in message or "MB free now" in message
    after_failure = contents(folder)
    if name == "checkpoint":  # files of the new epoch may be complete before another fails
        assert before.items() <= after_failure.items()
    else:
        assert after_failure == before
    assert not [path for path in after_failure if ".writing-" in path or "incomplete." in path]
    faulty.call("fault_steps:run", name, str(folder), 2)  # nothing is in the way
    assert contents(folder) != before
