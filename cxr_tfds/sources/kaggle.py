"""Kaggle's datasets, downloaded through TFDS where credentials are found. Credentials are never shown."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from cxr_tfds.errors import InputError

GET_CREDENTIALS = (
    "Or let the build download it: pip install kaggle, and put a token of https://www.kaggle.com/settings in "
    "~/.kaggle/kaggle.json, in KAGGLE_API_TOKEN, or in KAGGLE_USERNAME and KAGGLE_KEY."
)
_HIDDEN = "[hidden]"


def credentials() -> list[str]:
    """The secrets the kaggle command would use, to be kept out of messages; empty without credentials."""
    environment = os.environ
    secrets = [environment[name] for name in ("KAGGLE_API_TOKEN",) if environment.get(name)]
    if environment.get("KAGGLE_USERNAME") and environment.get("KAGGLE_KEY"):
        secrets += [environment["KAGGLE_KEY"], environment["KAGGLE_USERNAME"]]
    for folder in _config_folders():
        secrets += _of_file(folder / "kaggle.json")
        token = folder / "access_token"
        if token.is_file():
            secrets.append(token.read_text(encoding="utf-8", errors="replace").strip())
    return [secret for secret in secrets if secret]


def _config_folders() -> list[Path]:
    if given := os.environ.get("KAGGLE_CONFIG_DIR"):
        return [Path(given)]
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return [Path("~/.kaggle").expanduser(), Path(config, "kaggle").expanduser()]


def _of_file(path: Path) -> list[str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [str(content["key"]), str(content["username"])]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ):  # absent, or nothing the kaggle command could use
        return []


def download(dl_manager: Any, dataset: str) -> Path:
    """Downloads and unpacks a dataset below TFDS's download folder, once; later builds find it there.

    Args:
      dl_manager: TFDS's `DownloadManager`.
      dataset: OWNER/NAME on Kaggle.

    Raises:
      InputError: the kaggle command is missing or failed; no credential is in the message.
    """
    if shutil.which("kaggle") is None:
        raise InputError(
            f"Kaggle credentials are there, but not the kaggle command that would download {dataset}. "
            "Install it with: pip install kaggle"
        )
    secrets = credentials()
    try:
        return Path(dl_manager.download_kaggle_data(dataset))
    except Exception as err:  # TFDS raises what the command made of it
        reason = hidden(str(err).strip(), secrets)
        # Not chained: the original would be printed with what it says.
        raise InputError(f"Kaggle did not give {dataset}:\n{reason}") from None


def hidden(text: str, secrets: list[str]) -> str:
    """`text` without any of the secrets."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text
