"""Names of datasets and configs, and the command that builds one. Loads no TensorFlow."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import re
import shlex
from pathlib import Path

from cxr_tfds.errors import InputError
from cxr_tfds.sources.config_json import propose_config

_ENTRY_POINTS = "cxr_tfds.datasets"
_NAME = re.compile(
    r"(?P<dataset>[a-z][a-z0-9_]*)/(?P<config>[^/:]+)(?::(?P<version>\d+\.\d+\.\d+))?"
)
DEFAULT_CONFIG = "224"
# Words in the name of a config and the settings they stand for.
_NAME_WORDS: dict[str, tuple[str, int | str | None]] = {
    "original": ("size", None),
    "rgb": ("channels", 3),
    "pad": ("fit", "pad"),
    "crop": ("fit", "crop"),
    "source": ("split", "source"),
}


def default_data_dir() -> Path:
    """Returns the folder where TFDS puts datasets by default."""
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


@dataclasses.dataclass(frozen=True)
class DatasetName:
    """The name `dataset/config` of a built dataset, optionally with `:version`.

    Without a version it means the newest one.
    """

    dataset: str
    config: str
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> DatasetName:
        """Parses `dataset`, `dataset/config` or `dataset/config:1.2.3`.

        Raises:
          InputError: `text` has another form.
        """
        match = _NAME.fullmatch(text if "/" in text else f"{text}/{DEFAULT_CONFIG}")
        if match is None:
            raise InputError(
                f"Invalid dataset name {text!r}; expected DATASET/CONFIG such as "
                "chest_xray_pneumonia/224."
            )
        return cls(**match.groupdict())

    def __str__(self) -> str:
        return f"{self.dataset}/{self.config}" + (f":{self.version}" if self.version else "")


def buildable_datasets() -> dict[str, str]:
    """Returns the names of the installed dataset builders, each with its package."""
    return {
        entry.name: entry.value
        for entry in sorted(importlib.metadata.entry_points(group=_ENTRY_POINTS))
    }


def known_datasets(data_dir: Path) -> list[str]:
    """Returns the names of the datasets that can be built or exist in `data_dir`."""
    names = set(buildable_datasets())
    if data_dir.is_dir():
        names |= {path.parents[2].name for path in data_dir.glob("*/*/*/dataset_info.json")}
    return sorted(names)


def built_configs(data_dir: Path) -> list[str]:
    """Returns the names `dataset/config` of the datasets that are built in `data_dir`."""
    folders = {path.parents[1] for path in data_dir.glob("*/*/*/dataset_info.json")}
    return sorted(f"{folder.parent.name}/{folder.name}" for folder in folders)


def named_settings(config: str) -> dict[str, int | str | None]:
    """Returns the settings that the name of a config implies.

    For example, "512-rgb" implies size 512 and 3 channels.
    """
    words = config.split("-")
    size: dict[str, int | str | None] = {"size": int(words[0])} if words[0].isdecimal() else {}
    return size | dict(_NAME_WORDS[word] for word in words if word in _NAME_WORDS)


def config_option(config: str) -> str:
    """Returns the option of `tfds build` that selects a config; "" for the default one."""
    if config == DEFAULT_CONFIG:
        return ""
    return propose_config(name=config, **named_settings(config))


def build_line(name: DatasetName, data_dir: Path) -> str:
    """Returns the command that builds `name`."""
    return (
        f"cxr-data build FOLDER_OF_THE_IMAGES --dataset {name.dataset} "
        f"--data-dir {shlex.quote(str(data_dir))} {config_option(name.config)}"
    ).rstrip()
