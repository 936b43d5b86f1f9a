"""The config of every builder: how the images of a dataset are stored and split."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from os import PathLike
from typing import Any

import tensorflow_datasets as tfds

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.pixels import check_fit
from cxr_tfds.reading.names import DEFAULT_CONFIG, config_option, named_settings
from cxr_tfds.sources import ReaderSettings
from cxr_tfds.sources.config_json import propose_config, repeat_settings
from cxr_tfds.sources.origin import ORIGIN_TEXTS
from cxr_tfds.sources.settings import list_changed, without_folders
from cxr_tfds.text import suggest

SPLIT_POLICIES = ("patient", "source")
FOLD = re.compile(r"fold:(\d+)/(\d+)")  # the split policy "fold:0/5"
BAD_IMAGE_POLICIES = ("error", "skip")
CONFLICT_POLICIES = ("error", "leave_out")
CONFIG_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")  # it becomes a folder
_TFDS_FIELDS = {field.name for field in dataclasses.fields(tfds.core.BuilderConfig)} - {"name"}


@dataclasses.dataclass(eq=False, kw_only=True)
class RadiographConfig(tfds.core.BuilderConfig):
    """How the images of a dataset are stored and split.

    Attributes:
      size: S of the stored (S, S, channels) uint8 tensor, in pixels. None stores the source files
        unchanged (config `original`); they are fitted when they are read.
      channels: 1, or 3 to repeat the grey value.
      fit: "stretch", "pad" or "crop", see `cxr_tfds.imaging.pixels.radiograph`.
      split: "patient" cuts validation from train and the source's own validation by patient;
        "source" keeps the source's splits; "fold:0/5" takes the first of five stratified folds as
        test, and cuts validation from the others.
      on_bad_image: "error" stops the build if a file cannot be used and lists all such files;
        "skip" leaves them out, lists them in `bad_images.csv` and counts them in the metadata.
      on_conflict: "error" stops the build if identical images have different labels, or are in the
        source's test split and outside it; "leave_out" leaves out the former, and keeps the latter
        in the test split only.
      bits: Bits of the values in images of more than 8 bits that do not declare them.
      window: Center and width of the source values to show, or lung, mediastinum or bone.
      percentile: Percentiles of each image that become black and white. Of bits, window and
        percentile at most one is given, see `cxr_tfds.imaging.grey_levels.GreyLevels`.
      licence: The licence of the images. None reads it, like the setting `description`, from a
        README next to the images.
      population: Whom the images show, such as "adults of one hospital". None reads the README.

    Raises:
      InputError: A value is not allowed, or contradicts the name, see `named_settings`.
    """

    size: int | None = 224
    channels: int = 1
    fit: str = "stretch"
    split: str = "patient"
    on_bad_image: str = "error"
    on_conflict: str = "error"
    bits: int | None = None
    window: Any = None
    percentile: Any = None
    licence: str | None = None
    population: str | None = None

    def __new__(cls, *args: Any, **settings: Any) -> RadiographConfig:
        """Checks the names of the settings, for better messages than Python's."""
        known = [field.name for field in dataclasses.fields(cls)]
        ours = [*(name for name in known if name not in _TFDS_FIELDS), "description"]
        if unknown := ", ".join(sorted(settings.keys() - set(known))):
            raise InputError(
                f"Unknown config setting {unknown}; expected any of {', '.join(ours)}."
                + suggest(unknown, ours)
            )
        if settings and not args and "name" not in settings:
            example = json.dumps({"name": "mine"} | settings, default=str)
            raise InputError(f"The config has no name; expected for example {example}.")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Checks the settings."""
        self.check()

    def check(self) -> None:
        """Checks the settings; subclasses extend it.

        Raises:
          InputError: A value is not allowed.
        """
        if self.size is not None:
            check_fit(self.size, self.channels, self.fit)
        elif (self.channels, self.fit) != (1, "stretch"):
            raise InputError(
                "The config stores source files unchanged: leave channels and fit out, and give "
                "them when you read the dataset."
            )
        _ = self.grey_levels  # checks bits, window and percentile
        allowed = {"on_bad_image": BAD_IMAGE_POLICIES, "on_conflict": CONFLICT_POLICIES}
        for name, policies in allowed.items():
            if (value := getattr(self, name)) not in policies:
                raise InputError(f"{name}={value!r}; expected one of {', '.join(policies)}.")
        for name in ORIGIN_TEXTS:
            if not isinstance(value := getattr(self, name), str | None):
                raise InputError(f"{name}={value!r}; expected text.")
        fold = FOLD.fullmatch(self.split) if isinstance(self.split, str) else None
        if self.split not in SPLIT_POLICIES and not (fold and int(fold[1]) < int(fold[2]) > 1):
            raise InputError(
                f"split={self.split!r}; expected one of {', '.join(SPLIT_POLICIES)}, or a fold: "
                '"fold:0/5" to "fold:4/5".'
            )
        if not isinstance(self.name, str) or not CONFIG_NAME.fullmatch(self.name):
            raise InputError(
                f"Config name {self.name!r}; expected letters, digits, '-', '_' or '.', such as "
                '"224-rgb".'
            )
        for setting, named in named_settings(self.name).items():
            if (value := getattr(self, setting)) != named:
                with repeat_settings(self.list_given()):
                    option = config_option(self.name)
                raise InputError(
                    f"Config {self.name!r} has {setting}={value!r}. Use the settings of its name, "
                    f"{option}, or choose another name."
                )

    def list_given(self) -> dict[str, Any]:
        """Returns the settings that differ from the defaults, as JSON holds them."""
        own = {"name", "description"}
        # The name and the description of the listed config are not the user's.
        hidden = _TFDS_FIELDS | own if self.name == DEFAULT_CONFIG else _TFDS_FIELDS - own
        return {name: value for name, value in list_changed(self).items() if name not in hidden}

    def origin_texts(self) -> dict[str, str]:
        """Returns the texts on the origin of the images that the user gave."""
        given = self.list_given()
        return {name: given[name] for name in ORIGIN_TEXTS if given.get(name)}

    def reader_settings(self, dataset: ReaderSettings) -> ReaderSettings:
        """Returns the settings of the dataset; `SourceConfig` replaces those that are given."""
        return dataset

    @property
    def grey_levels(self) -> GreyLevels:
        """How values of more than 8 bits become grey values; the range is not yet measured."""
        return GreyLevels(self.bits, self.window, self.percentile)

    def stored(self) -> dict[str, Any]:
        """Returns the settings in the metadata, on which datasets of one name must agree."""
        settings = {name: getattr(self, name) for name in ("size", "channels", "fit", "split")}
        levels = self.grey_levels.to_metadata()
        return settings | {name: levels[name] for name in ("bits", "window", "percentile")}

    def check_metadata(
        self, stored: Mapping[str, Any], folder: PathLike[str], max_examples: int | None
    ) -> None:
        """Compares the metadata of a dataset on disk with this config.

        Args:
          stored: The metadata.
          folder: The folder of the dataset, for messages.
          max_examples: The limit of examples per split that was asked for, if any.

        Raises:
          InputError: The dataset was built with other settings.
        """
        known = {**stored.get("origin", {}), **stored}
        for name, value in (self.stored() | self.origin_texts()).items():
            if known.get(name) != value:
                raise InputError(
                    f"{folder} was built with {name}={known.get(name)!r}, but this config has "
                    f"{value!r}. Give the config another name, or build again with --overwrite."
                )
        if stored.get("bad_images") and self.on_bad_image == "error":
            raise InputError(
                f"{folder} was built without {stored['bad_images']} unusable images (see "
                "bad_images.csv), but this config requires all images. Give the config another "
                "name, or build again with --overwrite."
            )
        if stored.get("conflicting_images") and self.on_conflict == "error":
            raise InputError(
                f"{folder} was built without {stored['conflicting_images']} identical images that "
                "contradict each other, but this config does not leave any out. Give the config "
                "another name, or build again with --overwrite."
            )
        if stored.get("max_examples_per_split") not in (None, max_examples):
            raise InputError(
                f"{folder} holds only {stored['max_examples_per_split']} examples of each split "
                "(--max_examples_per_split). Build the complete dataset with --overwrite."
            )


def check_choice(config: Any, listed: Mapping[str, tfds.core.BuilderConfig], builder: str) -> None:
    """Checks the config that a builder was given, by its name or as one of its own.

    Raises:
      InputError: `config` names none of the `listed` ones, or is another one with such a name.
    """
    if isinstance(config, str) and config not in listed:
        option = config_option(config if CONFIG_NAME.fullmatch(config) else "512")
        raise InputError(
            f"{builder} lists no config {config!r}. Give its settings:\n  tfds build "
            f"{builder} --imports cxr_tfds.builders --manual_dir FOLDER {option}"
        )
    if isinstance(config, RadiographConfig) and listed.get(config.name, config) is not config:
        with repeat_settings(config.list_given()):
            option = propose_config()
        raise InputError(
            f"The name {config.name!r} belongs to a listed config with its own settings. "
            f"Choose another name: {option}"
        )


# `on_conflict` is a setting of every config.
_READER_FIELDS = [
    field.name for field in dataclasses.fields(ReaderSettings) if field.name != "on_conflict"
]


class SourceConfig(
    dataclasses.make_dataclass(  # type: ignore[misc]
        "SourceConfig",
        [(name, Any, None) for name in _READER_FIELDS],
        bases=(RadiographConfig,),
        eq=False,
        kw_only=True,
    )
):
    """Adds the fields of `ReaderSettings`: how the source is read.

    None keeps the setting of the dataset. `exclude` adds to its patterns.

    Raises:
      InputError: A value is not allowed, see `RadiographConfig` and `ReaderSettings`.
    """

    def reader_settings(self, dataset: ReaderSettings) -> ReaderSettings:
        """Returns the settings of the dataset, with the given ones in their place."""
        own = {name: getattr(self, name) for name in _READER_FIELDS}
        given = {name: value for name, value in own.items() if value is not None}
        if "exclude" in given and isinstance(given["exclude"], list | tuple):
            given["exclude"] = [*dataset.exclude, *given["exclude"]]
        return dataclasses.replace(dataset, on_conflict=self.on_conflict, **given)

    def stored(self) -> dict[str, Any]:
        """Returns the settings that identify the dataset, without the folders of this machine."""
        own = {name: without_folders(getattr(self, name)) for name in _READER_FIELDS}
        return super().stored() | {
            name: list(value) if isinstance(value, tuple) else value for name, value in own.items()
        }
