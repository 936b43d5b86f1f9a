"""Finds the folder of a dataset, or explains where it may be instead."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from cxr_tfds.errors import MissingData
from cxr_tfds.reading.names import DatasetName, build_line, built_configs, default_data_dir

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_LEVELS = 3  # of data_dir/dataset/config/version
_MOST_NAMES = 10  # in a message


def find_folder(name: DatasetName, data_dir: Path) -> Path:
    """Returns the folder of a version, the newest one if none is named.

    Raises:
      MissingData: The dataset is not built in `data_dir`.
    """
    folder = data_dir / name.dataset / name.config
    versions = (path.name for path in folder.glob("*") if _VERSION.fullmatch(path.name))
    newest = max(versions, key=lambda v: tuple(map(int, v.split("."))), default=None)
    version = name.version or newest
    if version is None or not (folder / version / "dataset_info.json").is_file():
        raise explain_not_built(name, data_dir)
    return folder / version


def explain_not_built(name: DatasetName, data_dir: Path) -> MissingData:
    """Returns the error for a dataset that is not in `data_dir`, with what works instead."""
    folder = data_dir / name.dataset / name.config
    versions = ", ".join(sorted(path.parent.name for path in folder.glob("*/dataset_info.json")))
    problem = f"{name} is not built in {data_dir}" + (f" (found {versions})" if versions else "")
    if found := _find_elsewhere(name, data_dir):
        return MissingData(
            f"{problem}, but in {found}. Add this option:\n  --data-dir {shlex.quote(str(found))}"
        )
    message = f"{problem}. Build it with:\n  {build_line(name, data_dir)}"
    if not data_dir.is_dir():
        message += (
            f"\n{data_dir} does not exist. If the datasets were moved, give their new folder with "
            "--data-dir."
        )
    elif built := built_configs(data_dir):
        message += f"\nBuilt there: {', '.join(built[:_MOST_NAMES])}."
    return MissingData(message)


def _find_elsewhere(name: DatasetName, data_dir: Path) -> Path | None:
    """Returns a likely folder that has the dataset: above or below `data_dir`, or a default."""
    given, absolute = [*data_dir.parents], [*data_dir.absolute().parents]
    candidates = (given + absolute[len(given) :])[:_LEVELS]
    candidates += [data_dir / "data", Path("data"), default_data_dir()]
    pattern = f"{name.dataset}/{name.config}/{name.version or '*'}/dataset_info.json"
    return next((folder for folder in candidates if any(folder.glob(pattern))), None)
