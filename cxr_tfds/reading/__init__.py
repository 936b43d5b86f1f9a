"""Reading built datasets as batches. Importing the package does not load TensorFlow."""

from __future__ import annotations

import dataclasses
import math

from cxr_tfds.errors import InputError

# Where fitted images of source files are kept, see `BuiltDataset.train`.
CACHES = ("auto", "file", "none")
# The target that an uncertain or unknown finding becomes; NaN does not count.
POLICIES = {"ignore": math.nan, "positive": 1.0, "negative": 0.0}


@dataclasses.dataclass(frozen=True)
class Shard:
    """The share of each epoch that one of several readers takes.

    Readers with the same seed and different shards share every epoch. Their batches with the same
    number are disjoint and together make up the batch of a single reader whose batch size is
    `count` times larger. Every reader yields the same number of batches and none of them is empty:
    if the last batch would leave readers without images, it is padded with the first images of the
    epoch.

    Attributes:
      index: Number of this reader's first shard, from 0.
      count: Number of shards of all readers together.
      devices: Number of devices this reader feeds. It yields the batches of the shards `index`,
        `index` + 1, … in turn, one for each device.

    Raises:
      InputError: The reader's shards are not within 0 to `count` - 1.
    """

    index: int = 0
    count: int = 1
    devices: int = 1

    def __post_init__(self) -> None:
        if self.devices < 1 or not 0 <= self.index <= self.count - self.devices:
            raise InputError(
                f"shard {self.index} of {self.count} for {self.devices} devices; expected at least "
                "1 device and an index from 0 to count - devices."
            )
