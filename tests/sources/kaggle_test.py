"""Kaggle credentials are found like the kaggle command finds them, and never printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.sources import kaggle

SECRETS = {"username": "ada-lovelace", "key": "0123456789abcdef"}


class Manager:
    """Replaces TFDS's download manager."""

    def __init__(self, result: Path | Exception) -> None:
        self.result = result

    def download_kaggle_data(self, dataset: str) -> Path:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result / dataset


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
    assert kaggle.download(Manager(folder), "owner/name") == folder / "owner/name"


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
