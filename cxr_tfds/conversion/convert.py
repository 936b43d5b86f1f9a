"""Writes a built dataset in another form, complete or not at all."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from cxr_tfds import __version__
from cxr_tfds.conversion.stored import StoredDataset
from cxr_tfds.errors import InputError
from cxr_tfds.files import check_new_folder, complete_folder, write_json
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.schema import Count, read_json
from cxr_tfds.text import did_you_mean

FORMATS = ("folder", "parquet", "webdataset", "arrayrecord")
SPLIT_INTO_PARTS = ("parquet", "webdataset")  # the others take no `part_bytes`
PART_BYTES = 500_000_000
SETTINGS_FILE = "data_export.json"


class _Settings(TypedDict):
    exported_by: str
    dataset: str
    fingerprint: str
    format: str
    labels: list[str]
    examples: dict[str, Count]
    files: list[str]


def convert_dataset(
    dataset: BuiltDataset,
    form: str,
    out: Path,
    *,
    overwrite: bool = False,
    part_bytes: int = PART_BYTES,
    progress: Callable[[int], object] | None = None,
) -> Counter[tuple[str, str]]:
    """Writes all examples of a dataset to `out`, which appears when all are written.

    `out`/data_export.json holds the name and fingerprint of the dataset and the names of the files.

    Args:
      dataset: The dataset.
      form: One of FORMATS.
      out: The folder to write.
      overwrite: Whether to replace a folder that this function wrote.
      part_bytes: Approximate size of a file of "parquet" and "webdataset", before compression.
      progress: Called with 1 after each example.

    Returns:
      (split, class name) to the number of examples; the class is "" in a dataset of findings.

    Raises:
      InputError: A value is not allowed, `out` holds something that must not be replaced, a shard
        is corrupt, or the disk is full.
      ModuleNotFoundError: The library of the form is not installed.
    """
    if form not in FORMATS:
        raise InputError(f"The form {did_you_mean(form, FORMATS)}")
    if part_bytes < 1:
        raise InputError(f"part_bytes={part_bytes}; expected 1 or more.")
    out = out.resolve()
    module = importlib.import_module(f"cxr_tfds.conversion.{form}")  # imports its library
    stored = StoredDataset(dataset, progress)
    with complete_folder(out) as new:
        _check_replaceable(out, overwrite=overwrite)
        new.mkdir()
        getattr(module, f"write_{form}")(stored, new, part_bytes)
        _write_settings(new, dataset, form)
    return stored.counts


def _check_replaceable(out: Path, *, overwrite: bool) -> None:
    check_new_folder(out, overwrite=overwrite)
    if not out.exists() or not (found := {path.name for path in out.iterdir()}):
        return
    try:
        settings = read_json(out / SETTINGS_FILE, _Settings, "")
    except (OSError, InputError) as err:
        raise InputError(
            f"{out} contains no valid {SETTINGS_FILE}, so `cxr-data export` did not write it and "
            f"does not replace it. Choose another folder. ({err})"
        ) from err
    written = {SETTINGS_FILE, *settings["files"]}
    if foreign := sorted(found - written):
        raise InputError(
            f"{out} also contains {', '.join(foreign[:10])}, which `cxr-data export` did not "
            "write. Move it away or choose another folder."
        )


def _write_settings(folder: Path, dataset: BuiltDataset, form: str) -> None:
    write_json(
        folder / SETTINGS_FILE,
        {
            "exported_by": f"cxr-tfds {__version__}",
            "dataset": dataset.name,
            "fingerprint": dataset.fingerprint,
            "format": form,
            "labels": list(dataset.labels),
            "examples": dataset.sizes,
            "files": sorted(path.name for path in folder.iterdir()),
        },
    )
