"""The config of every builder: how the images of a dataset are stored and split."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import tensorflow_datasets as tfds

from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import check_fit
from cxr_tfds.reading.names import config_option, named_settings

SPLIT_POLICIES = ("patient", "source")
BAD_IMAGE_POLICIES = ("error", "skip")
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
        "source" keeps the source's splits.
      on_bad_image: "error" stops the build if a file cannot be used and lists all such files;
        "skip" leaves them out, lists them in `bad_images.csv` and counts them in the metadata.

    Raises:
      InputError: A value is not allowed, or contradicts the name, see `named_settings`.
    """

    size: int | None = 224
    channels: int = 1
    fit: str = "stretch"
    split: str = "patient"
    on_bad_image: str = "error"

    def __new__(cls, *args: Any, **settings: Any) -> RadiographConfig:
        """Checks the names of the settings, for better messages than Python's."""
        known = [field.name for field in dataclasses.fields(cls)]
        ours = [name for name in known if name not in _TFDS_FIELDS]
        if unknown := ", ".join(sorted(settings.keys() - set(known))):
            raise InputError(
                f"Unknown config setting {unknown}; expected any of {', '.join(ours)}."
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
        for name, allowed in (("split", SPLIT_POLICIES), ("on_bad_image", BAD_IMAGE_POLICIES)):
            if (value := getattr(self, name)) not in allowed:
                raise InputError(f"{name}={value!r}; expected one of {', '.join(allowed)}.")
        if not isinstance(self.name, str) or not CONFIG_NAME.fullmatch(self.name):
            raise InputError(
                f"Config name {self.name!r}; expected letters, digits, '-', '_' or '.', such as "
                '"224-rgb".'
            )
        for setting, named in named_settings(self.name).items():
            if (value := getattr(self, setting)) != named:
                raise InputError(
                    f"Config {self.name!r} has {setting}={value!r}. Use the settings of its name, "
                    f"{config_option(self.name)}, or choose another name."
                )

    def stored(self) -> dict[str, Any]:
        """Returns the settings in the metadata, on which datasets of one name must agree."""
        return {name: getattr(self, name) for name in ("size", "channels", "fit", "split")}
