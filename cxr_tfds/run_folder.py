"""The run folder: what `cxr-train` writes and `cxr-evaluate` and `cxr-export` read.

Loads no TensorFlow before a model is loaded.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.files import complete_file, remove_abandoned, write_json
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
    "precision-recall", "reliability", "roc", "scores", "stress", "thresholds",
)  # fmt: skip

History = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The content of `config.json`: everything needed to repeat a run and to use its model."""

    settings: dict[str, Any]  # see `cxr_tfds.training.settings.TrainSettings`
    dataset: dict[str, Any]  # "name" (with version), "fingerprint" and "origin"
    labels: tuple[str, ...]  # class names, the negative class first; or the findings
    shape: tuple[int, int, int]  # (S, S, C) of the images
    fit: str  # how source images are fitted to S x S
    precision: str  # Keras dtype policy of the training
    environment: dict[str, str]  # versions of the software used for training
    task: Task = Task.BINARY
    # Divides the logits; fitted on validation. One number, or one for each of several findings.
    temperature: float | tuple[float, ...] = 1.0
    # Smallest probability that is predicted positive, one number or one for each of several
    # findings; None before it is chosen or for more than two classes.
    threshold: float | tuple[float, ...] | None = None
    # Findings without present or absent images in validation: temperature 1, and threshold 0.5
    # unless the rule is a number.
    not_fitted: tuple[str, ...] = ()
    # How values of more than 8 bits became grey values, see `GreyLevels.to_metadata`.
    grey_levels: dict[str, Any] = dataclasses.field(default_factory=dict)
    format: int = FORMAT

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
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if (found := content.get("format")) != FORMAT:
                raise InputError(
                    f"{path} has format {found}; this version of cxr-tfds reads format {FORMAT}. "
                    "Train again."
                )
            # JSON has no tuples.
            values: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in content.items()
            }
            task = content.get("task", Task.choose(content["labels"]))
            config = cls(**values | {"task": Task(task)})
            return dataclasses.replace(config, shape=(*config.shape,))
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as err:  # also wrong JSON
            raise InputError(
                f"{path} is corrupt: {err}. Expected the {CONFIG} that cxr-train writes."
            ) from err


def read_metrics(run: Path, name: str = METRICS) -> dict[str, Any]:
    """Returns the metrics (or the `STRESS` metrics) of a run by split; empty if not measured."""
    path = run / name
    if not path.is_file():
        return {}
    try:
        tables = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
            raise ValueError("expected an object for each split")
    except ValueError as err:  # also wrong JSON and encoding
        raise InputError(f"{path} is corrupt: {err}. Remove it and measure again.") from err
    return tables


def save_model(model: Any, run: Path) -> None:
    """Saves a Keras model as `model.keras`."""
    with complete_file(run / MODEL) as path:
        model.save(path)


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
    import keras

    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as err:
        raise InputError(f"{path} is corrupt. Train again.") from err


def own_pictures(run: Path) -> list[Path]:
    """Returns the pictures of the report; other files in their folder belong to the user."""
    return [path for name in _OWN_PICTURES for path in (run / PICTURES).glob(f"{name}.png")]


def clear(run: Path) -> None:
    """Removes the files of a run, including abandoned temporary files, and nothing else."""
    remove_abandoned(run)
    for name in (CONFIG, MODEL, HISTORY, METRICS, STRESS, REPORT, CARD):
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
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name, value in list(row.items()):
            try:
                row[name] = float(value)
            except (TypeError, ValueError):
                del row[name]
    return rows
