"""Downloads datasets from Kaggle through TFDS if there are credentials, which are never printed."""

from __future__ import annotations

import json
import logging
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cxr_tfds.deadline import keep_asking
from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.image import Listing

_log = logging.getLogger(__name__)

GET_CREDENTIALS = """\
To download it during the build instead: pip install kaggle, create a token at
https://www.kaggle.com/settings and store it in ~/.kaggle/kaggle.json, in KAGGLE_API_TOKEN, or in
KAGGLE_USERNAME and KAGGLE_KEY."""


def find_credentials() -> list[str]:
    """Returns the secrets that the kaggle command would use; empty without credentials."""
    secrets = [os.environ.get("KAGGLE_API_TOKEN", "")]
    if os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY"):
        secrets += [os.environ["KAGGLE_KEY"], os.environ["KAGGLE_USERNAME"]]
    if given := os.environ.get("KAGGLE_CONFIG_DIR"):
        folders = [Path(given)]
    else:
        config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        folders = [Path("~/.kaggle").expanduser(), Path(config, "kaggle").expanduser()]
    for folder in folders:
        secrets += _read_key_file(folder / "kaggle.json")
        token = folder / "access_token"
        if token.is_file():
            secrets.append(token.read_text(encoding="utf-8", errors="replace").strip())
    return [secret for secret in secrets if secret]


def _read_key_file(path: Path) -> list[str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [str(content["key"]), str(content["username"])]
    except (OSError, ValueError, KeyError, TypeError):  # the kaggle command could not use it either
        return []


def scan_or_download(
    scan: Callable[[Path], Listing],
    source: Path,
    dl_manager: Any,
    dataset: str,
    instructions: str,
) -> tuple[Path, Listing]:
    """Returns the source and its listing; downloads the dataset if the source has no radiographs.

    Args:
      scan: Lists a source.
      source: Where to look first.
      dl_manager: TFDS's `DownloadManager`.
      dataset: OWNER/NAME on Kaggle; "" if it cannot be downloaded from there.
      instructions: How to get the data, for the error message.

    Raises:
      MissingData: The source has no radiographs, and the dataset or the credentials are missing.
      InputError: The source cannot be used, or the download failed.
    """
    try:
        return source, scan(source)
    except MissingData as err:
        message = f"{err}\n\n{instructions}"
    if not dataset:
        raise MissingData(message)
    if not find_credentials():
        raise MissingData(f"{message}\n{GET_CREDENTIALS}")
    _log.warning("No radiographs in %s. Downloading %s from Kaggle.", source, dataset)
    downloaded = download(dl_manager, dataset)
    return downloaded, scan(downloaded)


def download(dl_manager: Any, dataset: str) -> Path:
    """Returns the folder of a downloaded and extracted dataset. Later builds reuse it.

    Args:
      dl_manager: TFDS's `DownloadManager`.
      dataset: OWNER/NAME on Kaggle.

    Raises:
      InputError: The kaggle command is missing or failed, or the download ended early.
    """
    if shutil.which("kaggle") is None:
        raise InputError(
            f"Found Kaggle credentials, but not the kaggle command to download {dataset}. "
            "Install it: pip install kaggle"
        )
    secrets = find_credentials()
    pattern = f"*{dataset.replace('/', '_')}*"  # TFDS adds a prefix while the folder is incomplete
    has_grown = _watch_size(Path(dl_manager.download_dir), f"{pattern}/**/*")
    try:
        with keep_asking(
            lambda: [dataset],
            lambda _: has_grown(),
            what="Kaggle, which sends {},",
            advice="Check the connection to www.kaggle.com, then start again.",
        ):
            folder = Path(dl_manager.download_kaggle_data(dataset))
    except Exception as err:  # TFDS passes on the failure in various exceptions
        reason = str(err).strip()
        for secret in sorted(secrets, key=len, reverse=True):
            reason = reason.replace(secret, "[hidden]")
        # Not chained: the traceback would print the original message.
        raise InputError(f"Kaggle could not provide {dataset}:\n{reason}") from None
    _check_complete(folder, dataset)
    return folder


def _watch_size(folder: Path, pattern: str) -> Callable[[], bool]:
    """Returns a function that checks whether the files have changed in size since it was called."""
    before = -1

    def has_changed() -> bool:
        nonlocal before
        previous, before = before, sum(path.lstat().st_size for path in folder.glob(pattern))
        return before != previous

    return has_changed


def _check_complete(folder: Path, dataset: str) -> None:
    """Removes a download that ended early: TFDS does not extract such a zip, but would reuse it."""
    incomplete = [path for path in folder.glob("*.zip") if not zipfile.is_zipfile(path)]
    if incomplete:
        size = sum(path.stat().st_size for path in incomplete) / 1e6
        shutil.rmtree(folder)
        raise InputError(
            f"Kaggle sent only a part of {dataset} ({size:,.1f} MB), which was removed. Check the "
            "connection to www.kaggle.com and the free space of the disk, then start again."
        )
