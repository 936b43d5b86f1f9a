"""Tests what is left of files and folders after errors, kills and other writers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cxr_tfds import files
from cxr_tfds.errors import InputError
from cxr_tfds.files import complete_file, complete_folder, write_files, write_json
from cxr_tfds.locks import LOCK, lock_folder
from cxr_tfds.temporary import writer_name


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def writer_that_ended() -> str:
    """Returns the part of a temporary name for a process that has ended."""
    code = "from cxr_tfds.temporary import writer_name; print(writer_name())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_complete_file_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    target = tmp_path / "config.json"
    for before in ({}, {"config.json": "old"}):
        write_files({tmp_path / name: text for name, text in before.items()})
        with pytest.raises(ZeroDivisionError), complete_file(target) as temporary:
            temporary.write_text(f"half of it {1 / 0}", encoding="utf-8")
        assert contents(tmp_path) == before


def test_complete_file_replaces_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "config.json"
    for text in ("old", "new"):
        with complete_file(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
            assert target.exists() == (text == "new")
    assert contents(tmp_path) == {"config.json": "new"}


def test_writers_of_one_file_do_not_interfere(tmp_path: Path) -> None:
    target = tmp_path / "best.weights.h5"
    with complete_file(target) as slow:
        slow.write_text("half", encoding="utf-8")
        with complete_file(target) as quick:
            quick.write_text("quick", encoding="utf-8")
        assert target.read_text(encoding="utf-8") == "quick"
        assert slow.read_text(encoding="utf-8") == "half"
    assert slow.name.endswith(target.name)  # Keras and NumPy need the suffix
    assert contents(tmp_path) == {target.name: "half"}


def test_no_file_of_a_set_is_replaced_before_all_are_written(tmp_path: Path) -> None:
    old = {"a.txt": "old", "b/c.txt": "old"}
    (tmp_path / "b").mkdir()
    write_files({tmp_path / name: text for name, text in old.items()})
    new: dict[Path, Any] = {tmp_path / "a.txt": "new", tmp_path / "b/c.txt": None}
    with pytest.raises(TypeError):
        write_files(new)
    assert contents(tmp_path) == old


@pytest.mark.parametrize("clean", ["write", "lock"])
def test_removes_what_killed_writers_left(tmp_path: Path, clean: str) -> None:
    ended = f".writing-{writer_that_ended()}-01234567-a.npy"
    living = f".writing-{writer_name()}-01234567-a.npy"
    elsewhere = ".writing-fedcba98-1-01234567-a.npy"  # on another machine
    for name in (ended, living, elsewhere, ".writing-table"):
        (tmp_path / name).write_text("half", encoding="utf-8")
        os.utime(tmp_path / name, (0, 0))  # the age does not count
    kept = {living, elsewhere, ".writing-table"}
    if clean == "write":
        write_json(tmp_path / "b.json", {})
        kept.add("b.json")
    else:  # who holds the lock is the only writer
        with lock_folder(tmp_path):
            pass
        kept = {".writing-table"}
    assert set(contents(tmp_path)) == kept


def test_a_folder_is_complete_or_absent(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "dataset"

    def write(new: Path, text: object) -> None:
        (new / "deep").mkdir(parents=True)
        (new / "deep/file").write_text(text, encoding="utf-8")  # type: ignore[arg-type]

    for text in ("first", "second"):
        with complete_folder(folder) as new:
            write(new, text)
    with pytest.raises(TypeError), complete_folder(folder) as new:
        write(new, None)
    assert contents(tmp_path) == {"new/dataset/deep/file": "second"}
    with pytest.raises(InputError, match="No such file"), complete_folder(folder):
        pass  # nothing was written
    assert contents(tmp_path) == {"new/dataset/deep/file": "second"}
    assert [path.name for path in folder.parent.iterdir()] == ["dataset"]


def test_an_error_removes_the_parents_it_created(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), complete_folder(tmp_path / "a/b/c"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["incomplete.0123abcd-77_1.0.0", "incomplete.ABCDEF_1.0.0"])
def test_restores_the_folder_that_a_killed_writer_was_replacing(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "replaced").mkdir(parents=True)
    (tmp_path / name / "replaced/file").write_text("old", encoding="utf-8")
    (tmp_path / "incomplete.0123abcd-77_other_1.0.0").mkdir()  # being written by another process
    with pytest.raises(ZeroDivisionError), complete_folder(tmp_path / "1.0.0"):
        raise ZeroDivisionError
    assert contents(tmp_path / "1.0.0") == {"file": "old"}
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["1.0.0", "incomplete.0123abcd-77_other_1.0.0"]


@pytest.mark.parametrize("own", [LOCK, f".x{LOCK}", ".writing-0123abcd-1-01234567-a", None])
def test_only_files_of_others_make_a_folder_used(tmp_path: Path, own: str | None) -> None:
    (tmp_path / (own or "notes.txt")).touch()
    if own:
        files.check_new_folder(tmp_path, overwrite=False)
        return
    with pytest.raises(InputError, match="exists and is not empty"):
        files.check_new_folder(tmp_path, overwrite=False)
