"""Kaggle credentials are found like the kaggle command finds them, and never printed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from cxr_tfds import deadline
from cxr_tfds.deadline import TIMEOUT, deadlines
from cxr_tfds.errors import InputError
from cxr_tfds.sources import kaggle

SECRETS = {"username": "ada-lovelace", "key": "0123456789abcdef"}


class Manager:
    """Replaces TFDS's download manager."""

    download_dir = Path("nowhere")

    def __init__(self, result: Path | Exception) -> None:
        self.result = result
        if isinstance(result, Path):
            self.download_dir = result

    def download_kaggle_data(self, dataset: str) -> Path:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result / dataset.replace("/", "_")


class Download(Manager):
    """Downloads as TFDS does, with the kaggle command on PATH."""

    def __init__(self, folder: Path) -> None:
        import tensorflow  # noqa: F401 (takes longer than the deadline)
        from tensorflow_datasets.core.download import kaggle as tfds_kaggle

        self.download_dir, self.tfds = folder, tfds_kaggle

    def download_kaggle_data(self, dataset: str) -> Path:
        return Path(self.tfds.download_kaggle_data(dataset, self.download_dir))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def _command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaggle.shutil, "which", lambda name: f"/bin/{name}")


def test_finds_no_credentials(folder: Path) -> None:
    assert kaggle.find_credentials() == []


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"username": "ada"}', "not json"])
def test_ignores_a_file_without_credentials(content: str, folder: Path) -> None:
    (folder / "kaggle.json").write_text(content, encoding="utf-8")
    assert kaggle.find_credentials() == []


def test_finds_credentials(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "kaggle.json").write_text(json.dumps(SECRETS), encoding="utf-8")
    assert set(kaggle.find_credentials()) == set(SECRETS.values())
    (folder / "kaggle.json").unlink()
    (folder / "access_token").write_text("KGAT_token\n", encoding="utf-8")
    assert kaggle.find_credentials() == ["KGAT_token"]
    (folder / "access_token").unlink()
    monkeypatch.setenv("KAGGLE_KEY", "key")
    assert kaggle.find_credentials() == []  # useless without a user name
    monkeypatch.setenv("KAGGLE_USERNAME", "ada")
    assert set(kaggle.find_credentials()) == {"key", "ada"}
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token")
    assert set(kaggle.find_credentials()) == {"key", "ada", "token"}


def test_finds_credentials_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_CONFIG_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert kaggle.find_credentials() == []
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle/kaggle.json").write_text(json.dumps(SECRETS), encoding="utf-8")
    assert set(kaggle.find_credentials()) == set(SECRETS.values())


@pytest.mark.usefixtures("_command")
def test_returns_the_download_folder(folder: Path) -> None:
    assert kaggle.download(Manager(folder), "owner/name") == folder / "owner_name"


@pytest.mark.usefixtures("_command")
def test_hides_credentials_of_a_failed_download(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (folder / "kaggle.json").write_text(json.dumps(SECRETS), encoding="utf-8")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "0123456789abcdef-and-more")
    failing = Manager(RuntimeError(f"401 for {SECRETS}, token 0123456789abcdef-and-more"))
    with pytest.raises(InputError) as caught:
        kaggle.download(failing, "owner/name")
    assert str(caught.value) == (
        "Kaggle could not provide owner/name:\n"
        "401 for {'username': '[hidden]', 'key': '[hidden]'}, token [hidden]"
    )
    assert caught.value.__suppress_context__
    printed = caplog.text + "".join(capfd.readouterr())
    assert not [secret for secret in (*SECRETS.values(), "and-more") if secret in printed]


def test_reports_a_missing_kaggle_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaggle.shutil, "which", lambda name: None)
    with pytest.raises(
        InputError,
        match=r"not the kaggle command to download owner/name.*pip install kaggle",
    ):
        kaggle.download(Manager(folder), "owner/name")


# A kaggle command that sends something at each of some intervals in seconds, then ends.
_KAGGLE = """#!{python} -IS
import os, sys, time
from pathlib import Path
folder = Path(sys.argv[sys.argv.index("--path") + 1])
Path("{started}").write_text(str(os.getpid()))
with (folder / "name.zip").open("wb") as file:
    for seconds in {seconds}:
        file.write(b"PK" * 100)
        file.flush()
        time.sleep(seconds)
sys.exit({code})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "code", "message"),
    [
        (
            (0, 600),
            0,
            r"^Kaggle, which sends owner/name, has not answered for 2 s\. Check the connection",
        ),
        ((0,), 1, "^Kaggle could not provide owner/name:\n.*Error for command: kaggle datasets"),
        # Longer than the deadline in all, but it never stalls.
        (
            (0.25,) * 12,
            0,
            r"^Kaggle sent only a part of owner/name \(0\.0 MB\), which was removed\. Check the",
        ),
    ],
    ids=["stalls", "drops", "ends early"],
)
def test_a_download_that_stalls_or_drops_leaves_nothing(
    seconds: tuple[float, ...],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started, script = tmp_path / "started", tmp_path / "bin" / "kaggle"
    script.parent.mkdir()
    text = _KAGGLE.format(python=sys.executable, started=started, seconds=seconds, code=code)
    script.write_text(text, encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(TIMEOUT, "2")
    monkeypatch.setattr(deadline, "_PAUSE_S", 0.05)
    (folder := tmp_path / "downloads").mkdir()
    manager = Download(folder)
    with pytest.raises(InputError, match=message), deadlines():
        kaggle.download(manager, "owner/name")
    assert not list(folder.iterdir())
    with pytest.raises(ProcessLookupError):  # the command was ended
        os.kill(int(started.read_text(encoding="utf-8")), 0)
