"""How the images of a dataset are stored and split: the config of every builder."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import tensorflow_datasets as tfds

from cxr_tfds.building.tfds_command import fail
from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import check_fit
from cxr_tfds.reading.names import config_option, named_settings

SPLIT_POLICIES = ("patient", "source")
BAD_IMAGE_POLICIES = ("error", "skip")
CONFIG_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")  # it becomes a folder
_FIELDS_OF_TFDS = {field.name for field in dataclasses.fields(tfds.core.BuilderConfig)} - {"name"}


@dataclasses.dataclass(eq=False, kw_only=True)
class RadiographConfig(tfds.core.BuilderConfig):
    """How the images of a dataset are stored and split.

    Attributes:
      size: S of the stored (S, S, channels) uint8 tensor, pixels; None stores the source files as they
        are (config `original`), to be fitted when they are read.
      channels: 1, or 3 to repeat the grey value.
      fit: "stretch", "pad" or "crop", see `cxr_tfds.imaging.pixels.radiograph`.
      split: "patient" cuts validation from train and the source's own validation, whole patients at
        a time; "source" keeps the splits as they came.
      on_bad_image: "error" builds nothing if a file cannot be used and names them all; "skip" leaves them
        out, writes `bad_images.csv` beside the dataset and their number into its metadata.

    Raises:
      InputError: a value is not allowed, or the name says something else, see `named_settings`.
    """

    size: int | None = 224
    channels: int = 1
    fit: str = "stretch"
    split: str = "patient"
    on_bad_image: str = "error"

    def __new__(cls, *args: Any, **settings: Any) -> RadiographConfig:
        """Says what settings there are, which Python does not."""
        known = [field.name for field in dataclasses.fields(cls)]
        ours = [name for name in known if name not in _FIELDS_OF_TFDS]
        if odd := ", ".join(sorted(settings.keys() - set(known))):
            fail(InputError(f"a config has no setting {odd}; expected some of {', '.join(ours)}."))
        if settings and not args and "name" not in settings:
            fail(
                InputError(
                    f'a config needs a name: {{"name": "mine", {json.dumps(settings, default=str)[1:]}'
                )
            )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        try:
            self.check()
        except InputError as err:
            fail(err)

    def check(self) -> None:
        """Raises:
        InputError: as the class says.
        """
        if self.size is not None:
            check_fit(self.size, self.channels, self.fit)
        elif (self.channels, self.fit) != (1, "stretch"):
            raise InputError(
                "source files are stored as they are; give channels and fit when they are read."
            )
        for name, allowed in (("split", SPLIT_POLICIES), ("on_bad_image", BAD_IMAGE_POLICIES)):
            if (value := getattr(self, name)) not in allowed:
                raise InputError(f"{name}={value!r}; expected one of {', '.join(allowed)}.")
        if not isinstance(self.name, str) or not CONFIG_NAME.fullmatch(self.name):
            raise InputError(
                f"config name {self.name!r}; expected letters, digits, '-', '_' or '.', as in \"224-rgb\"."
            )
        for setting, said in named_settings(self.name).items():
            if (given := getattr(self, setting)) != said:
                raise InputError(
                    f"config {self.name!r} has {setting}={given!r}. Write what its name says, "
                    f"{config_option(self.name)}, or choose another name."
                )

    def stored(self) -> dict[str, Any]:
        """The settings a dataset is made by, as its metadata keep them; two of one name must agree in them."""
        return {name: getattr(self, name) for name in ("size", "channels", "fit", "split")}
