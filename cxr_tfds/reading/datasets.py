"""Finding a built dataset and what it says of itself."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import os
import re
import shlex
from pathlib import Path

from cxr_tfds.errors import InputError, MissingData

SPLITS = ("train", "validation", "test")
RECORD_BYTES = 16  # a TFRecord's length and checksums, beside its content
_ENTRY_POINTS = "cxr_tfds.datasets"
_NAME = re.compile(
    r"(?P<dataset>[a-z][a-z0-9_]*)/(?P<config>[^/:]+)(?::(?P<version>\d+\.\d+\.\d+))?"
)
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_DEFAULT_CONFIG = "224"
_FITTED_SIZE = 224  # of source files, unless another is asked for
_NO_FINDING = "none"
# What a word in a config's name stands for.
_NAME_WORDS: dict[str, tuple[str, int | str | None]] = {
    "original": ("size", None),
    "rgb": ("channels", 3),
    "pad": ("fit", "pad"),
    "crop": ("fit", "crop"),
    "source": ("split", "source"),
}


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
        match = _NAME.fullmatch(text if "/" in text else f"{text}/{_DEFAULT_CONFIG}")
        if match is None:
            raise InputError(f"{text!r}; expected DATASET/CONFIG such as chest_xray_pneumonia/224.")
        return cls(**match.groupdict())

    def __str__(self) -> str:
        return f"{self.dataset}/{self.config}" + (f":{self.version}" if self.version else "")


def buildable_datasets() -> dict[str, str]:
    """Names of the datasets that can be built, each with the package of its builder."""
    return {
        entry.name: entry.value
        for entry in sorted(importlib.metadata.entry_points(group=_ENTRY_POINTS))
    }


def known_datasets(data_dir: Path) -> list[str]:
    """Names of the datasets that can be built or stand in `data_dir`."""
    names = set(buildable_datasets())
    if data_dir.is_dir():
        names |= {path.parents[2].name for path in data_dir.glob("*/*/*/dataset_info.json")}
    return sorted(names)


def named_settings(config: str) -> dict[str, int | str | None]:
    """The settings a config's name stands for: "512-rgb" is size 512 and channels 3."""
    words = config.split("-")
    size: dict[str, int | str | None] = {"size": int(words[0])} if words[0].isdecimal() else {}
    return size | dict(_NAME_WORDS[word] for word in words if word in _NAME_WORDS)


def config_option(config: str) -> str:
    """What to give to `tfds build` for the config of that name; "" for the default."""
    if config == _DEFAULT_CONFIG:
        return ""
    return f"--config {shlex.quote(json.dumps({'name': config} | named_settings(config)))}"


def build_line(name: DatasetName, data_dir: Path) -> str:
    """The command that builds `name`."""
    return (
        f"tfds build {name.dataset} --imports cxr_tfds.builders --data_dir {shlex.quote(str(data_dir))} "
        f"--manual_dir FOLDER_OF_THE_IMAGES {config_option(name.config)}"
    ).rstrip()


@dataclasses.dataclass(frozen=True)
class BuiltDataset:
    """A dataset on disk.

    Attributes:
      name: dataset/config:version.
      shape: (S, S, C) of the uint8 images it gives.
      labels: class names of what is learned, the negative class first.
      fit: how source images were fitted to S x S, see `cxr_tfds.imaging.pixels`.
      fingerprint: SHA-256 over all records; two datasets with the same one hold the same examples.
      shards: split to its files, in order.
      shard_sizes: split to the number of examples in each of its files.
      encoded: whether it stores source files (config `original`), which are fitted when they are read.
      findings: names of the findings, such as bacteria and virus, finer than the labels; none where it has none.
      target: the field that is read as the label: "label" or "finding".
    """

    name: str
    shape: tuple[int, int, int]
    labels: tuple[str, ...]
    fit: str
    fingerprint: str
    shards: dict[str, list[str]]
    shard_sizes: dict[str, list[int]]
    encoded: bool = False
    findings: tuple[str, ...] = ()
    target: str = "label"

    def targeted(self, target: str) -> BuiltDataset:
        """The dataset with the field `target`, "label" or "finding", read as its label wherever it is read.

        Raises:
          InputError: it has no findings.
        """
        if target == self.target:
            return self
        if target != "finding" or len(self.findings) < 2:
            raise InputError(
                f"{self.name} has no target {target!r}; it has {len(self.findings)} findings and a label."
            )
        # An image without a finding is one of the negative class.
        labels = tuple(self.labels[0] if name == _NO_FINDING else name for name in self.findings)
        return dataclasses.replace(self, target=target, labels=labels)

    def fitted(self, size: int, *, channels: int = 1, fit: str = "stretch") -> BuiltDataset:
        """A dataset of source files, read at another size, number of channels or fit.

        Raises:
          InputError: the images were fitted when the dataset was built, or a value is out of range.
        """
        if not self.encoded:
            raise InputError(
                f"{self.name} holds images of {self.shape[0]} x {self.shape[1]}; only the config `original` can be "
                f"read at another size. Build the size you want with: {config_option(str(size)) or 'config 224'}"
            )
        from cxr_tfds.imaging.pixels import (
            check_fit,  # NumPy and Pillow, which `--help` does without
        )

        check_fit(size, channels, fit)
        return dataclasses.replace(self, shape=(size, size, channels), fit=fit)

    @property
    def sizes(self) -> dict[str, int]:
        """Split to its number of examples."""
        return {split: sum(sizes) for split, sizes in self.shard_sizes.items()}

    def check_split(self, split: str) -> None:
        """Raises:
        InputError: the dataset has no such split, or no example in it.
        """
        if not self.sizes.get(split):
            has = ", ".join(f"{s} ({n} images)" for s, n in self.sizes.items())
            lacks = "example in split" if split in self.sizes else "split"
            raise InputError(f"{self.name} has no {lacks} {split!r}; it has {has}.")


def open_dataset(name: DatasetName, data_dir: Path) -> BuiltDataset:
    """Reads what a built dataset says of itself; its builder's code is not needed.

    Raises:
      MissingData: it is not built in `data_dir`, or a shard is missing; the message holds the
        command that builds it.
      InputError: it was not written by a builder of cxr-tfds, its description is damaged, or a shard is
        not whole.
    """
    folder = data_dir / name.dataset / name.config
    version = name.version or _newest(folder)
    if version is None or not (folder / version / "dataset_info.json").is_file():
        others = ", ".join(sorted(path.parent.name for path in folder.glob("*/dataset_info.json")))
        found = f" (there is {others})" if others else ""
        raise MissingData(
            f"{name} is not built in {data_dir}{found}. Build it with:\n  {build_line(name, data_dir)}"
        )
    import tensorflow_datasets as tfds

    again = f"Remove {folder / version} and build it again:\n  {build_line(name, data_dir)}"
    try:
        info = tfds.builder_from_directory(folder / version).info
        metadata = info.metadata or {}
    except Exception as err:  # TFDS, protobuf and json each raise their own
        raise InputError(f"{folder / version} cannot be read as a dataset: {err}\n{again}") from err
    if "fingerprint" not in metadata:
        raise InputError(
            f"{folder / version} was not built by cxr-tfds (its metadata holds no fingerprint)."
        )
    if part := metadata.get("max_examples_per_split"):
        logging.getLogger(__name__).warning(
            "%s holds only %d examples of each split (--max_examples_per_split).",
            folder / version,
            part,
        )
    splits = {s: info.splits[s] for s in SPLITS if s in info.splits}
    shards = {split: [str(path) for path in splits[split].filepaths] for split in splits}
    for path in (path for paths in shards.values() for path in paths):
        if not Path(path).is_file():
            raise MissingData(f"{path} is missing. {again}")
    for split, paths in shards.items():
        stored = sum(Path(path).stat().st_size for path in paths)
        wanted = splits[split].num_bytes + RECORD_BYTES * splits[split].num_examples
        if stored != wanted:
            raise InputError(
                f"The shards of {split} in {folder / version} have {stored:,} bytes; expected {wanted:,}, "
                f"so they were not copied whole. {again}"
            )
    if not (folder / version / "label.labels.txt").is_file():  # TFDS would go on with "0" and "1"
        raise MissingData(
            f"{folder / version / 'label.labels.txt'}, the class names, is missing. {again}"
        )
    encoded = info.features["image"].shape == ()
    return BuiltDataset(
        name=f"{name.dataset}/{name.config}:{version}",
        shape=(_FITTED_SIZE, _FITTED_SIZE, 1) if encoded else tuple(info.features["image"].shape),
        labels=tuple(info.features["label"].names),
        fit=metadata["fit"],
        fingerprint=metadata["fingerprint"],
        shards=shards,
        shard_sizes={split: list(splits[split].shard_lengths) for split in splits},
        encoded=encoded,
        findings=tuple(info.features["finding"].names) if "finding" in info.features else (),
    )


def _newest(folder: Path) -> str | None:
    versions = [path.name for path in folder.glob("*") if _VERSION.fullmatch(path.name)]
    return max(versions, key=lambda v: tuple(map(int, v.split("."))), default=None)
