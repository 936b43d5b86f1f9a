"""What a training run is determined by; loads no TensorFlow."""

from __future__ import annotations

import dataclasses
import math

from cxr_tfds.augmentation.presets import PRESETS, AugmentSettings, augmentation
from cxr_tfds.errors import InputError
from cxr_tfds.models import MODELS
from cxr_tfds.reading import CACHES
from cxr_tfds.reading.service import check_address

PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
TARGETS = ("label", "finding")
OPTIMIZERS = ("adamw", "adam")
SCHEDULES = ("cosine", "plateau", "constant")
CLASS_WEIGHTS = ("none", "balanced")  # or one number for each class
DEFAULT_RULE = "youden-stress"
MAX_SEED = 2**31 - 1
_CHOICES = {
    "model": MODELS,
    "precision": PRECISIONS,
    "augment": PRESETS,
    "cache": CACHES,
    "target": TARGETS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of a run, as `config.json` stores them.

    Attributes:
      dataset: dataset/config.
      data_dir: where it was built.
      target: what is learned: "label", or "finding" such as NORMAL, bacteria, virus.
      model: a name of `cxr_tfds.models.MODELS`.
      weights: what the model starts from: "none" (drawn), "imagenet", or the path of a file of weights.
      freeze_epochs: so many epochs first train nothing but the head; the others then go on at a tenth
        of the learning rate, see `cxr_tfds.training.phases`.
      freeze: name of a layer; it and all before it keep their weights in the other epochs, too.
      epochs: passes over the training split, or over `steps_per_epoch` batches.
      steps_per_epoch: batches an epoch; None: as many as hold every image once.
      early_stopping: ends after so many epochs without a lower validation loss; 0: never.
      batch_size: images a step, on all devices and machines together.
      optimizer: "adamw" or "adam"; Adam takes no weight decay.
      learning_rate: peak of the schedule.
      schedule: "cosine" to zero, "plateau" (times 0.3 after 2 epochs without a lower validation loss,
        not below 1e-6) or "constant".
      warm_up: part of all steps in which the rate rises from zero; None: 0.05 before a cosine, else 0.
      weight_decay: decoupled, of AdamW.
      clip_norm: gradients are scaled down to this norm, over all of them together; 0: never.
      class_weight: of the images' losses: "none", "balanced" (N / (classes x images of the class)) or a
        number for each class, such as "1,2.5".
      label_smoothing: part of each label that is spread over all classes.
      average: decay of the moving average of the weights, which is then what is validated, kept and
        exported; 0: the weights themselves are.
      precision: Keras dtype policy; "auto" is mixed_float16 with a GPU, float32 without.
      augment: a name of `cxr_tfds.augmentation.presets.PRESETS`.
      augment_changes: values of the preset to replace, see `cxr_tfds.augmentation.presets.AugmentSettings`.
      size, channels: what images are read at, for a dataset of source files (config `original`) only.
      threshold_rule: how the threshold is chosen on validation, see `cxr_tfds.metrics.thresholds`.
      cache: "auto", "ram", "file" or "none", see `cxr_tfds.reading.pipeline.train_batches`.
      cache_dir: where the file of cache "file" goes; beside the shards if None.
      data_service: grpc://HOST:PORT of a tf.data service to read through, see `cxr_tfds.reading.service`.
      seed: 0 to 2147483647, of the weights, the order of the images and the augmentation.

    Raises:
      InputError: a value is out of its range, or does not go with another.
    """

    dataset: str
    data_dir: str
    target: str = "label"
    model: str = "edge"
    weights: str = "none"
    freeze_epochs: int = 0
    freeze: str | None = None
    epochs: int = 30
    steps_per_epoch: int | None = None
    early_stopping: int = 0
    batch_size: int = 32
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    warm_up: float | None = None
    weight_decay: float = 1e-3
    clip_norm: float = 0.0
    class_weight: str = "none"
    label_smoothing: float = 0.0
    average: float = 0.0
    precision: str = "auto"
    augment: str = "default"
    augment_changes: dict[str, float | str] = dataclasses.field(default_factory=dict)
    size: int | None = None
    channels: int | None = None
    threshold_rule: str = DEFAULT_RULE
    cache: str = "auto"
    cache_dir: str | None = None
    data_service: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name}={getattr(self, name)!r}; expected one of {', '.join(allowed)}."
                )
        self._check_numbers()
        self._check_fine_tuning()
        class_weights(self.class_weight)
        augmentation(self.augment, self.augment_changes)
        if self.channels not in (None, 1, 3):
            raise InputError(f"channels={self.channels}; expected 1 or 3.")
        if self.data_service is not None:
            check_address(self.data_service)
        if self.threshold_rule != DEFAULT_RULE:
            from cxr_tfds.metrics.thresholds import check_rule  # NumPy, which `--help` does without

            check_rule(self.threshold_rule)

    def _check_numbers(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise InputError(
                f"epochs={self.epochs}, batch_size={self.batch_size}; expected at least 1 of each."
            )
        if self.steps_per_epoch is not None and self.steps_per_epoch < 1:
            raise InputError(f"steps_per_epoch={self.steps_per_epoch}; expected at least 1.")
        if self.early_stopping < 0 or not 0 <= self.clip_norm < math.inf:
            raise InputError(
                f"early_stopping={self.early_stopping}, clip_norm={self.clip_norm}; expected at least 0 of each."
            )
        if not 0 < self.learning_rate < 1 or not 0 <= self.weight_decay < 1:
            raise InputError(
                f"learning_rate={self.learning_rate}, weight_decay={self.weight_decay}; "
                "expected 0 < learning rate < 1 and 0 <= weight decay < 1."
            )
        for name in ("label_smoothing", "average", "warm_up"):
            if (value := getattr(self, name)) is not None and not 0 <= value < 1:
                raise InputError(f"{name}={value}; expected 0 <= {name} < 1.")
        if not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"seed={self.seed}; expected 0 to {MAX_SEED}.")

    def _check_fine_tuning(self) -> None:
        if not 0 <= self.freeze_epochs < self.epochs:
            raise InputError(
                f"freeze_epochs={self.freeze_epochs}; expected 0 to {self.epochs - 1}, so that of {self.epochs} epochs "
                "one is left for the rest of the model."
            )
        if self.weights == "none" and (self.freeze_epochs or self.freeze is not None):
            option = "--freeze-epochs" if self.freeze_epochs else "--freeze"
            raise InputError(
                f"{option} keeps layers as they were learned before; with --weights none they hold random numbers. "
                "Give --weights imagenet or a file."
            )

    @property
    def augmentation(self) -> AugmentSettings:
        """The preset with its changes."""
        return augmentation(self.augment, self.augment_changes)


def class_weights(text: str) -> tuple[float, ...]:
    """The numbers of `class_weight`, one for each class; none for "none" and "balanced".

    Raises:
      InputError: it is neither of these nor positive numbers separated by commas.
    """
    if text in CLASS_WEIGHTS:
        return ()
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise InputError(
            f"class_weight={text!r}; expected {', '.join(CLASS_WEIGHTS)}, or a positive number for each class, "
            "such as 1,2.5."
        )
    return numbers
