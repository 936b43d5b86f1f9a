"""The run folder: what `cxr-train` writes and `cxr-evaluate` and `cxr-export` read.

Loads no TensorFlow before a model is loaded.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from cxr_tfds.errors import InputError, MissingData, first_line
from cxr_tfds.files import complete_file, write_json
from cxr_tfds.run_profile import PROFILE
from cxr_tfds.run_tables import MetricsTable, StressTable, find_contradiction, find_half_interval
from cxr_tfds.schema import (
    AtLeastOne,
    Fit,
    GreyLevelSettings,
    Origin,
    Probability,
    Temperature,
    Text,
    fit_schema,
    parse_json,
    read_json,
)
from cxr_tfds.task import Task

FORMAT = 2
CONFIG, MODEL, HISTORY = "config.json", "model.keras", "history.csv"
METRICS, STRESS = "metrics.json", "stress.json"
REPORT, CARD, PICTURES, CHECKPOINT = "report.html", "MODEL_CARD.md", "pictures", "checkpoint"
TENSORBOARD = "tensorboard"
# What `cxr_tfds.report` writes to the folder of pictures.
_OWN_PICTURES = (
    "accuracy", "confusion", "correct-[0-9]*", "errors", "false-negatives",
    "false-negatives-[0-9]*", "false-positives", "false-positives-[0-9]*", "loss", "metrics",
    "precision-recall", "profile", "reliability", "roc", "scores", "stress", "thresholds",
)  # fmt: skip

# They run what the file contains, or a model of another library.
_CODE_LAYERS = (
    "Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer",
)  # fmt: skip

# The other keys of `config.json` are newer.
_ALWAYS_WRITTEN = (
    "settings", "dataset", "labels", "shape", "fit", "precision", "environment", "temperature",
    "threshold",
)  # fmt: skip

History = list[dict[str, Any]]


class _NamedDataset(TypedDict):
    name: Text  # with the version
    fingerprint: Text


class DatasetOfRun(_NamedDataset, total=False):
    """The dataset of a run; `origin` since 2026-11."""

    origin: Origin


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The content of `config.json`: everything needed to repeat a run and to use its model.

    Raises:
      InputError: A field contradicts another one.
    """

    settings: dict[str, Any]  # see `cxr_tfds.training.settings.TrainSettings`
    dataset: DatasetOfRun
    labels: tuple[Text, ...]  # class names, the negative class first; or the findings
    shape: tuple[AtLeastOne, AtLeastOne, AtLeastOne]  # (S, S, C) of the images
    fit: Fit  # how source images are fitted to S x S
    precision: Text  # Keras dtype policy of the training
    environment: dict[str, str]  # versions of the software used for training
    task: Task = Task.BINARY
    # Divides the logits; fitted on validation. One number, or one for each of several findings.
    temperature: Temperature | tuple[Temperature, ...] = 1.0
    # Smallest probability that is predicted positive, one number or one for each of several
    # findings; None before it is chosen or for more than two classes.
    threshold: Probability | tuple[Probability, ...] | None = None
    # Findings without present or absent images in validation: temperature 1, and threshold 0.5
    # unless the rule is a number.
    not_fitted: tuple[Text, ...] = ()
    # How values of more than 8 bits became grey values, see `GreyLevels.to_metadata`.
    grey_levels: GreyLevelSettings = dataclasses.field(default_factory=GreyLevelSettings)
    format: int = FORMAT

    def __post_init__(self) -> None:
        several = self.task is Task.FINDINGS
        if len(set(self.labels)) < max(len(self.labels), 1 if several else 2):
            raise InputError(f"labels={self.labels!r}; expected different names, two or more")
        if not several and self.task is not Task.choose(self.labels):
            raise InputError(f"task={self.task.value!r} contradicts {len(self.labels)} labels")
        for name in ("temperature", "threshold"):
            value = getattr(self, name)
            if isinstance(value, tuple) and not (several and len(value) == len(self.labels)):
                expected = f"{len(self.labels)} numbers" if several else "one number"
                raise InputError(f"{name}={value!r}; expected {expected}")
        if self.task is Task.MULTICLASS and self.threshold is not None:
            raise InputError(f"threshold={self.threshold!r}; expected null for several classes")

    def write(self, run: Path) -> None:
        """Writes `config.json` to a run folder."""
        write_json(run / CONFIG, dataclasses.asdict(self))

    @classmethod
    def read(cls, run: Path) -> RunConfig:
        """Reads the config of a run folder."""
        path = run / CONFIG
        if not path.is_file():
            problem = f"is not a run folder (no {CONFIG})" if run.exists() else "does not exist"
            raise MissingData(f"{run} {problem}. Make a run folder with: cxr-train --out {run} …")
        return cls.read_file(path)

    @classmethod
    def read_file(cls, path: Path) -> RunConfig:
        """Reads a config from a file of any name."""
        advice = f"Expected the {CONFIG} that cxr-train writes."
        content = read_json(path, dict[str, Any], advice)
        if (found := content.get("format")) != FORMAT:
            raise InputError(
                f"{path} has format {found}; this version of cxr-tfds reads format {FORMAT}. "
                "Train again, or install the version that wrote the file."
            )
        if missing := [name for name in _ALWAYS_WRITTEN if name not in content]:
            raise InputError(f"{path} is corrupt: it lacks the key {missing[0]}. {advice}")
        if "task" not in content and isinstance(content["labels"], list):  # before 2026-11
            content["task"] = Task.choose(content["labels"]).value
        return fit_schema(content, cls, str(path), advice)


_TABLES: dict[str, Any] = {
    METRICS: (dict[str, MetricsTable], find_contradiction),
    STRESS: (dict[str, StressTable], find_half_interval),
}


def read_metrics(run: Path, name: str = METRICS) -> dict[str, Any]:
    """Returns the metrics (or the `STRESS` metrics) of a run by split; empty if not measured."""
    path = run / name
    if not path.is_file():
        return {}
    schema, check = _TABLES[name]
    advice = "Remove it and measure again."
    tables: dict[str, Any] = read_json(path, schema, advice)
    for split, table in tables.items():
        if problem := check(table):
            raise InputError(f"{path} is corrupt: {problem} in {split}. {advice}")
    return tables


def save_model(model: Any, run: Path) -> None:
    """Saves a Keras model as `model.keras`."""
    with complete_file(run / MODEL, model_bytes(model)) as path:
        model.save(path)


def model_bytes(model: Any) -> int:
    """Returns the size of the weights of a float32 model, nearly the size of its file."""
    return 4 * int(model.count_params())


def check_finished(run: Path) -> Path:
    """Returns the path of the trained model; raises MissingData if there is none."""
    path = run / MODEL
    if not path.is_file():
        raise MissingData(
            f"{path} does not exist because the run is not finished. Continue it with: "
            f"cxr-train --out {run} --resume"
        )
    return path


def check_unfinished(run: Path) -> None:
    """Raises an InputError if the folder holds no run, or a finished one."""
    RunConfig.read(run)
    if (run / MODEL).is_file():
        raise InputError(
            f"{run} is finished; there is nothing to resume. Measure it with: cxr-evaluate {run}"
        )


def load_model(run: Path) -> Any:
    """Returns the trained Keras model, float32."""
    path = check_finished(run)
    check_model_file(path)
    import keras

    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as err:  # Keras, h5py and zipfile raise many kinds
        raise InputError(f"{path} is corrupt: {first_line(err)}. Train again.") from err


def check_model_file(path: Path) -> None:
    """Raises an InputError if a `.keras` file is corrupt or contains code, before Keras reads it.

    Layers of Keras are data. A Lambda layer, a layer that wraps a model of another library and a
    class of any other module are code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read("config.json")
    except Exception as err:  # zipfile raises many kinds
        raise InputError(f"{path} is corrupt: {first_line(err)}. Train again.") from err
    config = parse_json(content, dict[str, Any], f"{path}: config.json", "Train again.")
    if code := next(_find_code(config), None):
        raise InputError(
            f"{path} contains code ({code}), which is not run; cxr-train writes Keras layers only. "
            "Train again."
        )


def _find_code(value: Any) -> Iterator[str]:
    """Yields what is not a layer or another object of Keras in the config of a model."""
    if isinstance(value, list):
        for item in value:
            yield from _find_code(item)
    elif isinstance(value, dict):
        name, module = str(value.get("class_name")), value.get("module")
        registered = value.get("registered_name")
        if name in _CODE_LAYERS or (registered is not None and registered != name):
            yield f"{name} {registered or ''}".strip()
        is_function = module == "builtins" and name == "function"  # one of Keras, by its name
        if module is not None and not is_function and str(module).partition(".")[0] != "keras":
            yield f"{module}.{name}"
        for item in value.values():
            yield from _find_code(item)


def own_pictures(run: Path) -> list[Path]:
    """Returns the pictures of the report; other files in their folder belong to the user."""
    return [path for name in _OWN_PICTURES for path in (run / PICTURES).glob(f"{name}.png")]


def clear(run: Path) -> None:
    """Removes the files of a run and nothing else."""
    for name in (CONFIG, MODEL, HISTORY, METRICS, STRESS, PROFILE, REPORT, CARD):
        (run / name).unlink(missing_ok=True)
    for path in [*own_pictures(run), *(run / TENSORBOARD).glob("events.out.tfevents.*")]:
        path.unlink()
    for folder in (run / PICTURES, run / TENSORBOARD):
        with contextlib.suppress(OSError):  # a folder that holds files of the user stays
            folder.rmdir()
    shutil.rmtree(run / CHECKPOINT, ignore_errors=True)


def best_epoch(history: History) -> int:
    """Returns the number, from 1, of the epoch with the highest validation AUC or accuracy.

    Of equal epochs the one with the lower validation loss is the best.
    """
    key = "val_auc" if "val_auc" in history[0] else "val_accuracy"
    return int(max(history, key=lambda row: (row[key], -row["val_loss"]))["epoch"])


def write_history(run: Path, history: History) -> None:
    """Writes `history.csv`, one row per epoch."""
    with complete_file(run / HISTORY) as path, path.open("w", newline="", encoding="utf-8") as file:
        # The first epochs of a resumed run may be from a version with fewer columns.
        writer = csv.DictWriter(file, fieldnames=list(history[-1]))
        writer.writeheader()
        writer.writerows(history)


def read_history(run: Path) -> History:
    """Returns the numeric columns of `history.csv`; no rows if the run has no such file."""
    path = run / HISTORY
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as err:
        raise InputError(f"{path} is corrupt: {err}. Remove it, or train again.") from err
    for row in rows:
        for name, value in list(row.items()):
            try:
                row[name] = float(value)
            except (TypeError, ValueError):
                del row[name]
    return rows
