"""Settings of a training run: one description of each, used by the command, the check and the docs.

Loads neither TensorFlow nor NumPy, so that `cxr-train --help` is quick.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxr_tfds.augmentation.presets import LIMITS, PRESETS, AugmentSettings, augmentation
from cxr_tfds.errors import InputError
from cxr_tfds.models import MODELS
from cxr_tfds.reading import CACHES, POLICIES
from cxr_tfds.reading.service import check_address
from cxr_tfds.run_folder import CONFIG, MODEL, RunConfig
from cxr_tfds.schema import check_fields
from cxr_tfds.task import Task
from cxr_tfds.text import did_you_mean
from cxr_tfds.training.setting import Interval, Setting, check_value, describe, value_type

# Runs from before 2026-11 lack them, the first two only if an image has one class.
_NEWER_SETTINGS = ("uncertain", "unknown", "anonymous")
DEFAULT_RULE = "youden-stress"
_CLASS_WEIGHTS = ("none", "balanced")


def _check_rule(rule: str) -> None:
    from cxr_tfds.metrics.thresholds import check_rule  # loads NumPy

    check_rule(rule)


def parse_class_weights(text: str) -> tuple[float, ...]:
    """Returns the numbers of a `class_weight` setting; empty for "none" and "balanced"."""
    if text in _CLASS_WEIGHTS:
        return ()
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise InputError(
            f"class_weight={text!r}; expected {', '.join(_CLASS_WEIGHTS)}, or one positive number "
            "per class, such as 1,2.5."
        )
    return numbers


_COUNT, _COUNT_OR_ZERO, _FRACTION = Interval(1), Interval(0), Interval(0, 1, open_high=True)
_SOURCE_FILES = "Only for datasets of source files (config `original`)."


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of a run, as `config.json` stores them. Each field holds its description."""

    dataset: str = describe(
        dataclasses.MISSING,
        "Built dataset, such as chest_xray_pneumonia/224. Required unless --config or --resume "
        "provides it.",
        metavar="DATASET/CONFIG",
    )
    data_dir: str = describe(
        dataclasses.MISSING,
        "Folder that contains the built dataset (the --data_dir of `tfds build`).",
        metavar="FOLDER",
        unset="$TFDS_DATA_DIR or ~/tensorflow_datasets",
    )
    target: str = describe(
        "label",
        "Field to learn: `label`, or the finer `finding` (such as bacteria or virus).",
        choices=("label", "finding"),
    )
    uncertain: str = describe(
        "ignore",
        "What an uncertain finding is trained as, if an image may have several: `ignore` leaves it "
        "out of the loss. Metrics leave it out in any case.",
        choices=POLICIES,
    )
    unknown: str = describe(
        "ignore",
        "What a finding that the source does not mention means in every split, if an image may "
        "have several: `ignore` leaves it out of the loss and the metrics.",
        choices=POLICIES,
    )
    model: str = describe("edge", "Network to train; see --list-models.", choices=MODELS)
    weights: str = describe(
        "none",
        "Initial weights: `none` for random weights, `imagenet`, or the path of a file.",
        metavar="none|imagenet|PATH",
    )
    freeze_epochs: int = describe(
        0,
        "Number of epochs at the start that train only the last layer. The epochs after them use a "
        "tenth of the learning rate.",
        _COUNT_OR_ZERO,
    )
    freeze: str | None = describe(
        None,
        "Name of a layer. It and all layers before it keep their initial weights.",
        metavar="LAYER",
        unset="no layer",
    )
    epochs: int = describe(30, "Number of epochs.", _COUNT)
    steps_per_epoch: int | None = describe(
        None, "Number of batches per epoch.", _COUNT, unset="one pass over the training split"
    )
    early_stopping: int = describe(
        0,
        "Stop after this many epochs without a lower validation loss; 0 never stops early.",
        _COUNT_OR_ZERO,
    )
    batch_size: int = describe(
        32, "Number of images per step, over all devices and machines together.", _COUNT
    )
    optimizer: str = describe(
        "adamw", "Optimizer. `adam` does not use --weight-decay.", choices=("adamw", "adam")
    )
    learning_rate: float = describe(
        2e-3, "Peak learning rate.", Interval(0, 1, open_low=True, open_high=True)
    )
    schedule: str = describe(
        "cosine",
        "Learning-rate schedule: `cosine` decays to zero, `plateau` multiplies by 0.3 after 2 "
        "epochs without improvement, `constant` does not change.",
        choices=("cosine", "plateau", "constant"),
    )
    warm_up: float | None = describe(
        None,
        "Fraction of all steps in which the learning rate rises from zero to its peak.",
        _FRACTION,
        unset="0.05 for the cosine schedule, otherwise 0",
    )
    weight_decay: float = describe(1e-3, "Decoupled weight decay of AdamW.", _FRACTION)
    clip_norm: float = describe(
        0.0, "Largest global norm of the gradients; 0 does not clip them.", Interval(0)
    )
    class_weight: str = describe(
        "none",
        "Weight of each class in the loss: `none` for equal weights, `balanced` for weights "
        "inversely proportional to the class sizes, or one number per class, such as 1,2.5. With "
        "several findings an image: one number per finding, the weight of its positive images.",
        check=parse_class_weights,
        metavar="none|balanced|W,W…",
    )
    label_smoothing: float = describe(
        0.0,
        "Fraction of each label that is spread evenly over all classes, or over present and absent "
        "in each of several findings.",
        _FRACTION,
    )
    average: float = describe(
        0.0,
        "Decay of a moving average of the weights, such as 0.99. The average is what is validated "
        "and saved. 0 uses the weights themselves.",
        _FRACTION,
    )
    precision: str = describe(
        "auto",
        "Keras dtype policy. `auto` is mixed_float16 with a GPU since Volta, otherwise float32.",
        choices=("auto", "float32", "mixed_float16", "mixed_bfloat16"),
    )
    augment: str = describe(
        "default", "How strongly training images are augmented.", choices=PRESETS
    )
    augment_changes: dict[str, float | str] = dataclasses.field(
        default_factory=dict,
        metadata={
            "setting": Setting(
                "Replace a value of the --augment preset; repeatable. Numbers are from 0 to "
                f"{', '.join(f'{name} {limit}' for name, limit in LIMITS.items())}. fill is "
                "`nearest`, `constant` or `reflect`.",
                metavar="NAME=VALUE",
                unset="no change",
                option="augment-set",
            )
        },
    )
    threshold_rule: str = describe(
        DEFAULT_RULE,
        "Rule that chooses the decision threshold on the validation split: `youden`, "
        "`youden-stress`, `sensitivity>=X`, or a probability X.",
        check=_check_rule,
        metavar="RULE",
    )
    cache: str = describe(
        "auto",
        "For datasets of source files: `file` keeps the fitted images in a file, `none` decodes in "
        "every epoch, `auto` is `file` if it takes at most a quarter of the free disk space.",
        choices=CACHES,
    )
    cache_dir: str | None = describe(
        None, "Folder for the file of `--cache file`.", metavar="FOLDER", unset="next to the shards"
    )
    data_service: str | None = describe(
        None,
        "Address of a tf.data service to read through.",
        check=check_address,
        metavar="grpc://HOST:PORT",
        unset="read on this machine",
    )
    size: int | None = describe(
        None,
        f"Image side in pixels. {_SOURCE_FILES}",
        Interval(1, 4096),
        unset="the size of the dataset",
    )
    channels: int | None = describe(
        None,
        f"Number of image channels; 3 repeats the grey value. {_SOURCE_FILES}",
        choices=(1, 3),
        unset="the channels of the dataset",
    )
    seed: int = describe(
        0, "Seed of the weights, the image order and the augmentation.", Interval(0, 2**31 - 1)
    )

    anonymous: bool = describe(
        False, "Leave the names of images out of the report, so that it can be passed on."
    )

    def __post_init__(self) -> None:
        check_fields(self)
        for field in dataclasses.fields(self):
            if field.name != "augment_changes":
                check_value(field, getattr(self, field.name))
        augmentation(self.augment, self.augment_changes)
        if self.freeze_epochs >= self.epochs:
            raise InputError(
                f"freeze_epochs={self.freeze_epochs}; expected 0 to {self.epochs - 1}, because at "
                f"least one of the {self.epochs} epochs must train the other layers."
            )
        if self.weights == "none" and (self.freeze_epochs or self.freeze is not None):
            option = "--freeze-epochs" if self.freeze_epochs else "--freeze"
            raise InputError(
                f"{option} keeps trained weights, but --weights none starts from random weights. "
                "Give --weights imagenet or a file."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainSettings:
        """Returns the settings of a mapping, such as the one in a `config.json`."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise InputError(f"Unknown training setting: {did_you_mean(name, known)}")
        for name in ("dataset", "data_dir"):
            if name not in values:
                raise InputError(f"The training setting {name!r} is missing.")
        # Earlier versions could keep images in memory, which changed no result.
        earlier = {"cache": "auto"} if values.get("cache") == "ram" else {}
        return cls(**{**values, **earlier})

    @property
    def augmentation(self) -> AugmentSettings:
        """The preset with its changes."""
        return augmentation(self.augment, self.augment_changes)


def read_run_config(run: Path) -> RunConfig:
    """Reads the config of a run folder and checks its training settings, too.

    Raises:
      MissingData: The folder holds no run.
      InputError: The config is corrupt.
    """
    config = RunConfig.read(run)
    try:
        TrainSettings.from_dict(config.settings)
        newer = _NEWER_SETTINGS[2:] if config.task is Task.FINDINGS else _NEWER_SETTINGS
        for field in dataclasses.fields(TrainSettings):
            if field.name not in (*config.settings, *newer):
                raise InputError(f"The training setting {field.name!r} is missing.")
        is_undecided = config.threshold is None and config.task is not Task.MULTICLASS
        if is_undecided and (run / MODEL).is_file():
            raise InputError("threshold=None; expected a threshold, because the run is finished.")
    except InputError as err:
        raise InputError(f"{run / CONFIG} is corrupt: {err} Train again.") from err
    return config


def settings_table() -> str:
    """Returns the options of `cxr-train` that set a training setting, as a Markdown table."""
    rows = ["| Option | Default | Allowed | Meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(TrainSettings):
        setting: Setting = field.metadata["setting"]
        option = setting.option or field.name.replace("_", "-")
        required = field.default is dataclasses.MISSING
        default = setting.unset or ("required" if required else f"`{field.default}`")
        if value_type(field) == "bool":
            rows.append(f"| `--{option}` | not given | no value | {setting.help} |")
            continue
        allowed = str(setting.interval or "") or ", ".join(
            f"`{value}`" for value in setting.choices or str(setting.metavar).split("|")
        )
        rows.append(f"| `--{option}` | {default} | {allowed} | {setting.help} |")
    return "\n".join(rows) + "\n"
