"""What a training run is determined by; loads no TensorFlow."""

from __future__ import annotations

import dataclasses

from cxr_tfds.errors import InputError
from cxr_tfds.models import MODELS
from cxr_tfds.presets import PRESETS, AugmentSettings, augmentation
from cxr_tfds.service import check_address

CACHES = ("auto", "ram", "file", "none")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
MAX_SEED = 2**31 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of a run, as `config.json` stores them.

    Attributes:
      dataset: dataset/config.
      data_dir: where it was built.
      model: a name of `cxr_tfds.models.MODELS`.
      epochs: passes over the training split.
      batch_size: images a step.
      learning_rate: peak of the schedule: linear warm-up, then cosine to zero.
      weight_decay: decoupled, of AdamW.
      precision: Keras dtype policy; "auto" is mixed_float16 with a GPU, float32 without.
      augment: a name of `cxr_tfds.presets.PRESETS`.
      augment_changes: values of the preset to replace, see `cxr_tfds.presets.AugmentSettings`.
      size: side the images are read at, for a dataset of source files (config `original`) only.
      cache: "auto", "ram", "file" or "none", see `cxr_tfds.pipeline.train_batches`.
      cache_dir: where the file of cache "file" goes; beside the shards if None.
      data_service: grpc://HOST:PORT of a tf.data service to read through, see `cxr_tfds.service`.
      seed: 0 to 2147483647, of the weights, the order of the images and the augmentation.

    Raises:
      InputError: a value is out of its range.
    """

    dataset: str
    data_dir: str
    model: str = "edge"
    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    precision: str = "auto"
    augment: str = "default"
    augment_changes: dict[str, float | str] = dataclasses.field(default_factory=dict)
    size: int | None = None
    cache: str = "auto"
    cache_dir: str | None = None
    data_service: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise InputError(f"epochs={self.epochs}, batch_size={self.batch_size}; expected at least 1 of each.")
        if not 0 < self.learning_rate < 1 or not 0 <= self.weight_decay < 1:
            raise InputError(
                f"learning_rate={self.learning_rate}, weight_decay={self.weight_decay}; "
                "expected 0 < learning rate < 1 and 0 <= weight decay < 1."
            )
        if not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"seed={self.seed}; expected 0 to {MAX_SEED}.")
        choices = {"model": MODELS, "precision": PRECISIONS, "augment": PRESETS, "cache": CACHES}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name}={getattr(self, name)!r}; expected one of {', '.join(allowed)}.")
        augmentation(self.augment, self.augment_changes)
        if self.data_service is not None:
            check_address(self.data_service)

    @property
    def augmentation(self) -> AugmentSettings:
        """The preset with its changes."""
        return augmentation(self.augment, self.augment_changes)
