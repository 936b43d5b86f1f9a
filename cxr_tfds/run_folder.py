"""The run folder: what `cxr-train` writes and `cxr-evaluate` and `cxr-export` read.

Files appear whole or not at all: written beside, then renamed. Loads no TensorFlow until a model is.
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

FORMAT = 2
CONFIG, MODEL, HISTORY, METRICS, STRESS = (
    "config.json",
    "model.keras",
    "history.csv",
    "metrics.json",
    "stress.json",
)
REPORT, CARD, PICTURES, CHECKPOINT = "report.html", "MODEL_CARD.md", "pictures", "checkpoint"
TENSORBOARD = "tensorboard"
# What `cxr_tfds.report` writes to the folder of pictures; of the images rightly called a sheet for each class.
_OWN_PICTURES = (
    "calibration", "confusion", "false-alarms", "loss", "metrics", "missed", "model", "precision-recall",
    "right-[0-9]*", "roc", "scores", "stress", "thresholds", "wrong",
)  # fmt: skip

History = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """`config.json`: everything needed to repeat a run and to use its model.

    Attributes:
      settings: of the run, see `cxr_tfds.training.settings.TrainSettings`.
      dataset: name with version, and fingerprint of the dataset it was trained on.
      labels: class names, the negative class first.
      shape: (S, S, C) of the images.
      fit: how source images are fitted to S x S.
      precision: the Keras dtype policy it was trained in.
      environment: versions of what it was trained with.
      temperature: what logits are divided by before they become probabilities; fitted on validation.
      threshold: the calibrated probability from which the finding is called, None before it is chosen
        or with more than two classes. The rule it is chosen by is in the settings.
    """

    settings: dict[str, Any]
    dataset: dict[str, str]
    labels: tuple[str, ...]
    shape: tuple[int, int, int]
    fit: str
    precision: str
    environment: dict[str, str]
    temperature: float = 1.0
    threshold: float | None = None
    format: int = FORMAT

    def write(self, run: Path) -> None:
        write_json(run / CONFIG, dataclasses.asdict(self))

    @classmethod
    def read(cls, run: Path) -> RunConfig:
        """Raises:
        MissingData: `run` is no run folder.
        InputError: it was written by another version of cxr-tfds, or is damaged.
        """
        path = run / CONFIG
        if not path.is_file():
            what = f"is not a run folder (no {CONFIG})" if run.exists() else "does not exist"
            raise MissingData(f"{run} {what}. Make one with: cxr-train --out {run} …")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.get("format") != FORMAT:
                raise InputError(
                    f"{path} has format {content.get('format')}; this version reads {FORMAT}. Train the run again."
                )
            config = cls(**content)
            return dataclasses.replace(config, labels=tuple(config.labels), shape=(*config.shape,))
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError, AttributeError) as err:
            raise InputError(f"{path} is damaged: {err}") from err


def read_metrics(run: Path, name: str = METRICS) -> dict[str, Any]:
    """Figures by split, or with `name` STRESS those under stress; none before the run is measured.

    Raises:
      InputError: the file is damaged.
    """
    path = run / name
    try:
        tables = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if not isinstance(tables, dict) or not all(
            isinstance(table, dict) for table in tables.values()
        ):
            raise InputError(
                f"{path} is damaged: expected a table for each split. Remove it and measure again."
            )
        return tables
    except (json.JSONDecodeError, UnicodeDecodeError) as err:
        raise InputError(f"{path} is damaged: {err}. Remove it and measure again.") from err


def save_model(model: Any, run: Path) -> None:
    with complete_file(run / MODEL) as beside:
        model.save(beside)


def load_model(run: Path) -> Any:
    """The trained Keras model, float32.

    Raises:
      MissingData: the run has no model yet.
      InputError: the file is damaged.
    """
    path = run / MODEL
    if not path.is_file():
        raise MissingData(
            f"{path} does not exist: the run did not finish. Go on with: cxr-train --out {run} --resume"
        )
    import keras

    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as err:
        raise InputError(f"{path} is damaged. Train the run again.") from err


def own_pictures(run: Path) -> list[Path]:
    """The pictures of a report; others in their folder are someone's own."""
    return [path for name in _OWN_PICTURES for path in (run / PICTURES).glob(f"{name}.png")]


def clear(run: Path) -> None:
    """Removes the files of a run from `run`, those left half written included, and nothing else."""
    remove_abandoned(run)
    for name in (CONFIG, MODEL, HISTORY, METRICS, STRESS, REPORT, CARD):
        (run / name).unlink(missing_ok=True)
    for path in [*own_pictures(run), *(run / TENSORBOARD).glob("events.out.tfevents.*")]:
        path.unlink()
    for folder in (run / PICTURES, run / TENSORBOARD):
        with contextlib.suppress(OSError):  # someone's own files stay, and their folder
            folder.rmdir()
    shutil.rmtree(run / CHECKPOINT, ignore_errors=True)


def best_epoch(history: History) -> int:
    """Number of the best epoch, from 1."""
    key = "val_auc" if "val_auc" in history[0] else "val_accuracy"
    return int(max(history, key=lambda row: (row[key], -row["val_loss"]))["epoch"])


def write_history(run: Path, history: History) -> None:
    with (
        complete_file(run / HISTORY) as beside,
        beside.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def read_history(run: Path) -> History:
    """The epochs of `history.csv`; none where a run has no such file."""
    path = run / HISTORY
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [_numbers(row) for row in csv.DictReader(file)]


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    """The columns that are numbers."""
    numbers = {}
    for name, value in row.items():
        with contextlib.suppress(TypeError, ValueError):
            numbers[name] = float(value)
    return numbers
