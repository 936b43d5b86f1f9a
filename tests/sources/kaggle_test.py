"""Kaggle credentials: found where the kaggle command finds them, and never printable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.sources import kaggle

SECRETS = {"username": "ada-lovelace", "key": "0123456789abcdef"}


class Manager:
    """Stands for TFDS's download manager."""

    def __init__(self, answer: Path | Exception) -> None:
        self.answer = answer

    def download_kaggle_data(self, dataset: str) -> Path:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer / dataset


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def _command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaggle.shutil, "which", lambda name: f"/bin/{name}")


def test_without_credentials_there_are_none(folder: Path) -> None:
    assert kaggle.find_credentials() == []


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"username": "ada"}', "not json"])
def test_a_file_without_credentials(content: str, folder: Path) -> None:
    (folder / "kaggle.json").write_text(content, encoding="utf-8")
    assert kaggle.find_credentials() == []


def test_where_credentials_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "kaggle.json").write_text(json.dumps(SECRETS), encoding="utf-8")
    assert set(kaggle.find_credentials()) == set(SECRETS.values())
    (folder / "kaggle.json").unlink()
    (folder / "access_token").write_text("KGAT_token\n", encoding="utf-8")
    assert kaggle.find_credentials() == ["KGAT_token"]
    (folder / "access_token").unlink()
    monkeypatch.setenv("KAGGLE_KEY", "key")
    assert kaggle.find_credentials() == []  # of use with a user name only
    monkeypatch.setenv("KAGGLE_USERNAME", "ada")
    assert set(kaggle.find_credentials()) == {"key", "ada"}
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token")
    assert set(kaggle.find_credentials()) == {"key", "ada", "token"}


def test_the_home_folder_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_CONFIG_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert kaggle.find_credentials() == []
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle/kaggle.json").write_text(json.dumps(SECRETS), encoding="utf-8")
    assert set(kaggle.find_credentials()) == set(SECRETS.values())


@pytest.mark.usefixtures("_command")
def test_a_download_gives_its_folder(folder: Path) -> None:
    assert kaggle.download(Manager(folder), "owner/name") == folder / "owner/name"


@pytest.mark.usefixtures("_command")
def test_a_failed_download_shows_no_credential(
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
    expected = "Kaggle did not give owner/name:\n401 for {'username': '[hidden]', 'key': '[hidden]'}, token [hidden]"
    assert str(caught.value) == expected
    assert caught.value.__suppress_context__
    printable = caplog.text + "".join(capfd.readouterr())
    assert not [secret for secret in (*SECRETS.values(), "and-more") if secret in printable]


def test_without_the_command_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaggle.shutil, "which", lambda name: None)
    with pytest.raises(
        InputError,
        match=r"not the kaggle command that would download owner/name.*pip install kaggle",
    ):
        kaggle.download(Manager(folder), "owner/name")
