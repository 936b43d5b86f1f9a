"""Tests that an error of the operating system is recognized in whatever a library makes of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.os_errors import WriteFailed, explain_os_error, explain_writing, find_os_error
from cxr_tfds.temporary import INCOMPLETE, TEMPORARY, final_name

HDF5 = "Can't write data (errno = 28, error message = 'No space left on device', buf = 0x7f)"


def chained(err: Exception) -> Exception:
    try:
        try:
            raise err
        except Exception as cause:
            raise RuntimeError("failed to finalize") from cause
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize(
    ("err", "code"),
    [
        (OSError(errno.EDQUOT, "x"), errno.EDQUOT),
        (chained(OSError(errno.ENOSPC, "x")), errno.ENOSPC),
        (chained(ValueError("a/b; Read-only file system")), errno.EROFS),
        (RuntimeError("/a/b; Permission denied"), errno.EACCES),
        (OSError(errno.ENOSPC, HDF5), errno.ENOSPC),
        (chained(RuntimeError(HDF5)), errno.ENOSPC),
        (chained(PermissionError(errno.EACCES, "x")), None),  # may have been handled
        (chained(ValueError("a/b; Permission denied")), None),
        (ValueError("no space"), None),
    ],
)
def test_finds_the_error_in_objects_texts_and_causes(err: Exception, code: int | None) -> None:
    found = find_os_error(err)
    assert (found and found.errno) == code
    assert (explain_os_error(err) is None) == (code is None)
    assert "error message" not in str(found)


def test_takes_the_file_from_a_text(tmp_path: Path) -> None:
    err = RuntimeError(f"{tmp_path}/a b.tfrecord; No space left on device")
    message = explain_os_error(err)
    assert message is not None
    assert message.startswith(f"No space left on device: {tmp_path}/a b.tfrecord. The disk mounted")


@pytest.mark.parametrize(
    ("needed", "text"),
    [(None, "free now. Free some"), (999, "; the file needs 999 bytes. "), (2**21, " 2.1 MB. ")],
)
def test_states_what_is_needed(tmp_path: Path, needed: int | None, text: str) -> None:
    with (
        pytest.raises(
            WriteFailed, match=r"^No space left on device: .*/new/x\. The disk"
        ) as caught,
        explain_writing(tmp_path / "new" / "x", needed),
    ):
        raise OSError(errno.ENOSPC, "x")
    assert text in str(caught.value)
    assert f"mounted at {tmp_path.anchor}" in str(caught.value)


@pytest.mark.parametrize(
    "err",
    [
        InputError("a setting"),
        KeyError("x"),
        PermissionError(errno.EACCES, "x", "/source/image.png"),  # was being read
        OSError(errno.ECONNRESET, "x"),
    ],
)
def test_other_errors_are_not_about_the_file(tmp_path: Path, err: Exception) -> None:
    with pytest.raises(type(err)) as caught, explain_writing(tmp_path / "x"):
        raise err
    assert caught.value is err


@pytest.mark.parametrize(
    ("name", "final"),
    [
        (f"out/{TEMPORARY}0123abcd-77-89abcdef-x.png", "out/x.png"),
        (f"{INCOMPLETE}0123abcd-77_1.0.0{os.sep}new{os.sep}a", f"1.0.0{os.sep}a"),
        (f"{TEMPORARY}table", f"{TEMPORARY}table"),
    ],
)
def test_temporary_names_are_not_for_people(name: str, final: str) -> None:
    assert final_name(name) == final
