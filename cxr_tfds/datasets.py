"""Finding a built dataset and what it says of itself."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import re
from pathlib import Path

from cxr_tfds.errors import InputError, MissingData

SPLITS = ("train", "validation", "test")
_ENTRY_POINTS = "cxr_tfds.datasets"
_NAME = re.compile(r"(?P<dataset>[a-z][a-z0-9_]*)/(?P<config>[^/:]+)(?::(?P<version>\d+\.\d+\.\d+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def default_data_dir() -> Path:
    """Where TFDS puts datasets unless told otherwise."""
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


@dataclasses.dataclass(frozen=True)
class DatasetName:
    """`dataset/config`, with `:version` where one is named; the newest version otherwise."""

    dataset: str
    config: str
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> DatasetName:
        """Raises:
        InputError: `text` is not `dataset/config` or `dataset/config:1.2.3`.
        """
        match = _NAME.fullmatch(text if "/" in text else f"{text}/224")
        if match is None:
            raise InputError(f"{text!r}; expected DATASET/CONFIG such as chest_xray_pneumonia/224.")
        return cls(**match.groupdict())

    def __str__(self) -> str:
        return f"{self.dataset}/{self.config}" + (f":{self.version}" if self.version else "")


def known_datasets(data_dir: Path) -> list[str]:
    """Names of the datasets that can be built or stand in `data_dir`."""
    names = {entry.name for entry in importlib.metadata.entry_points(group=_ENTRY_POINTS)}
    if data_dir.is_dir():
        names |= {path.parents[2].name for path in data_dir.glob("*/*/*/dataset_info.json")}
    return sorted(names)


def build_line(name: DatasetName, data_dir: Path) -> str:
    """The command that builds `name`."""
    config = ""
    if name.config != "224":
        size = f', "size": {name.config}' if name.config.isdigit() else ""
        config = f' --config \'{{"name": "{name.config}"{size}}}\''
    return (
        f"tfds build {name.dataset} --imports cxr_tfds.builders "
        f"--data_dir {data_dir} --manual_dir FOLDER_OF_THE_IMAGES{config}"
    )


@dataclasses.dataclass(frozen=True)
class BuiltDataset:
    """A dataset on disk.

    Attributes:
      name: dataset/config:version.
      shape: (S, S, C) of the stored uint8 images.
      labels: class names, the negative class first.
      fit: how source images were fitted to S x S, see `cxr_tfds.pixels`.
      fingerprint: SHA-256 over all records; two datasets with the same one hold the same examples.
      shards: split to its files, in order.
      sizes: split to its number of examples.
    """

    name: str
    shape: tuple[int, int, int]
    labels: tuple[str, ...]
    fit: str
    fingerprint: str
    shards: dict[str, list[str]]
    sizes: dict[str, int]

    def check_split(self, split: str) -> None:
        """Raises:
        InputError: the dataset has no such split, or no example in it.
        """
        if not self.sizes.get(split):
            has = ", ".join(f"{s} ({n} images)" for s, n in self.sizes.items())
            raise InputError(f"{self.name} has no split {split!r}; it has {has}.")


def open_dataset(name: DatasetName, data_dir: Path) -> BuiltDataset:
    """Reads what a built dataset says of itself; its builder's code is not needed.

    Raises:
      MissingData: it is not built in `data_dir`, or a shard is missing; the message holds the
        command that builds it.
      InputError: it was not written by a builder of cxr-tfds.
    """
    folder = data_dir / name.dataset / name.config
    version = name.version or _newest(folder)
    if version is None or not (folder / version / "dataset_info.json").is_file():
        raise MissingData(f"{name} is not built in {data_dir}. Build it with:\n  {build_line(name, data_dir)}")
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder / version)
    info = builder.info
    if not info.metadata or "fingerprint" not in info.metadata:
        raise InputError(f"{folder / version} was not built by cxr-tfds (its metadata holds no fingerprint).")
    splits = {s: info.splits[s] for s in SPLITS if s in info.splits}
    shards = {split: [str(path) for path in splits[split].filepaths] for split in splits}
    for path in (path for paths in shards.values() for path in paths):
        if not Path(path).is_file():
            raise MissingData(
                f"{path} is missing. Remove {folder / version} and build it again:\n  {build_line(name, data_dir)}"
            )
    return BuiltDataset(
        name=f"{name.dataset}/{name.config}:{version}",
        shape=tuple(info.features["image"].shape),
        labels=tuple(info.features["label"].names),
        fit=info.metadata["fit"],
        fingerprint=info.metadata["fingerprint"],
        shards=shards,
        sizes={split: splits[split].num_examples for split in splits},
    )


def _newest(folder: Path) -> str | None:
    versions = [path.name for path in folder.glob("*") if _VERSION.fullmatch(path.name)]
    return max(versions, key=lambda v: tuple(map(int, v.split("."))), default=None)
