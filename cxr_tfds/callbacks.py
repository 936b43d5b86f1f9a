"""What happens beside the steps of training: checkpoints and the progress bar."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from cxr_tfds import run_folder
from cxr_tfds.augment import Augment
from cxr_tfds.datasets import BuiltDataset
from cxr_tfds.errors import InputError
from cxr_tfds.evaluation import Scores, score
from cxr_tfds.metrics import auc
from cxr_tfds.models import build_model
from cxr_tfds.settings import TrainSettings


class Checkpoint(keras.callbacks.Callback):
    """After every epoch: scores validation, keeps the best weights, and saves all that `--resume` needs.

    The best epoch has the highest validation AUC (with more than two classes: accuracy), the lower
    validation loss deciding between equals.
    """

    def __init__(
        self, run: Path, model: keras.Model, augment: Augment, dataset: BuiltDataset, settings: TrainSettings
    ) -> None:
        super().__init__()
        self.run, self.net, self.augment, self.dataset, self.settings = run, model, augment, dataset, settings
        self.folder = run / run_folder.CHECKPOINT
        self.history: list[dict[str, float]] = []

    def restore(self, trainer: keras.Model) -> int:
        """Loads the last finished epoch, if there is one; returns the number of the epoch to go on with."""
        state = self.folder / "state.json"
        if not state.is_file():
            return 0
        content = json.loads(state.read_text(encoding="utf-8"))
        self.history = content["history"]
        trainer.optimizer.build(trainer.trainable_variables)
        trainer.load_weights(self._weights(content["epoch"]))
        return content["epoch"]

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        # From the epoch's number alone, so that a resumed run draws what an uninterrupted one would.
        self.augment.seeds.state.assign([self.settings.seed, epoch])

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        loss = float((logs or {})["loss"])
        if not math.isfinite(loss):
            kept = f" The epochs before are kept in {self.folder}." if self.history else ""
            raise InputError(
                f"the loss became {loss} in epoch {epoch + 1}.{kept} "
                "Try a lower --learning-rate or --precision float32, with --overwrite."
            )
        row = {
            "epoch": epoch + 1,
            "loss": loss,
            **validation_row(score(self.net, self.dataset, "validation")),
        }
        if logs is not None:
            logs.update(row)
        self.history.append(row)
        self._save(epoch + 1)

    def _save(self, epoch: int) -> None:
        """Writes the new state before it lets go of the old one: a kill at any moment leaves one whole."""
        self.folder.mkdir(exist_ok=True)
        self.model.save_weights(self._weights(epoch))
        if best_epoch(self.history) == epoch:
            with run_folder.whole_file(self.folder / "best.weights.h5") as beside:
                self.net.save_weights(beside)
        write_history(self.run, self.history)
        run_folder.write_json(self.folder / "state.json", {"epoch": epoch, "history": self.history})
        self._weights(epoch - 1).unlink(missing_ok=True)

    def _weights(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.weights.h5"

    def best_model(self) -> keras.Model:
        """A float32 copy: the weights of a mixed-precision model are float32 already."""
        model = build_model(self.settings.model, self.dataset.shape, len(self.dataset.labels))
        model.load_weights(self.folder / "best.weights.h5")
        return model


def validation_row(scores: Scores) -> dict[str, float]:
    """`val_loss`, and `val_auc` for two classes, `val_accuracy` for more."""
    if scores.logits.ndim == 1:
        signed = np.where(scores.labels == 1, scores.logits, -scores.logits).astype(np.float64)
        return {
            "val_loss": float(np.logaddexp(0, -signed).mean()),
            "val_auc": auc(scores.labels, scores.logits),
        }
    of_truth = scores.probabilities[np.arange(len(scores.labels)), scores.labels]
    return {
        "val_loss": float(-np.log(np.maximum(of_truth, 1e-12)).mean()),
        "val_accuracy": float((scores.logits.argmax(axis=1) == scores.labels).mean()),
    }


def best_epoch(history: list[dict[str, float]]) -> int:
    """Number of the best epoch, from 1."""
    key = "val_auc" if "val_auc" in history[0] else "val_accuracy"
    return int(max(history, key=lambda row: (row[key], -row["val_loss"]))["epoch"])


def write_history(run: Path, history: list[dict[str, float]]) -> None:
    with (
        run_folder.whole_file(run / run_folder.HISTORY) as beside,
        beside.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


class Progress(keras.callbacks.Callback):
    """One bar over all steps on stderr, with the time left, and a line for each epoch."""

    def __init__(self, first_epoch: int, epochs: int, steps: int) -> None:
        super().__init__()
        self.epochs = epochs
        self.bar = tqdm(
            total=steps * epochs,
            initial=first_epoch * steps,
            unit="step",
            desc="training",
            file=sys.stderr,
            mininterval=0.1 if sys.stderr.isatty() else 10,  # in a log file every update is a line
        )

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        values = "  ".join(f"{key} {value:.4f}" for key, value in (logs or {}).items() if key != "epoch")
        self.bar.write(f"epoch {epoch + 1}/{self.epochs}  {values}", file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()  # before an error is told, on a line of its own
