"""After every epoch: the figures of validation, the best weights, and all that `--resume` needs."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.scoring import Scores, score
from cxr_tfds.files import complete_file, write_json
from cxr_tfds.metrics.ranking import auc
from cxr_tfds.models import build_model
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.run_folder import best_epoch, write_history
from cxr_tfds.training.distributed import Devices
from cxr_tfds.training.learner import Learner
from cxr_tfds.training.settings import TrainSettings

History = list[dict[str, Any]]
_STATE = "state.json"


def finished_epochs(run: Path) -> int:
    """How many epochs a run has that it can go on from."""
    told = run / run_folder.CHECKPOINT / _STATE
    return len(json.loads(told.read_text(encoding="utf-8"))["history"]) if told.is_file() else 0


class Checkpoint:
    """The history of a run and the folder `checkpoint/`.

    The best epoch has the highest validation AUC (with more than two classes: accuracy), the lower
    validation loss deciding between equals. Of several machines the chief alone measures and writes;
    the others hear its validation loss, which is all their history holds.
    """

    def __init__(
        self, run: Path, learner: Learner, dataset: BuiltDataset, settings: TrainSettings
    ) -> None:
        self.run, self.learner, self.dataset, self.settings = run, learner, dataset, settings
        self.devices: Devices = learner.devices
        self.folder = run / run_folder.CHECKPOINT
        self.history: History = []
        # In float32, where the weights of a model in mixed precision are already: what is measured is what is kept.
        self.net = (
            build_model(settings.model, dataset.shape, len(dataset.labels))
            if self.devices.chief
            else None
        )

    @property
    def val_losses(self) -> list[float]:
        return [row["val_loss"] for row in self.history]

    def restore(self) -> int:
        """Loads the last finished epoch, if there is one; returns the number of the epoch to go on with.

        Raises:
          InputError: the checkpoint is damaged, or was written by another version of cxr-tfds.
        """
        told = self.folder / _STATE
        if self.devices.chief and told.is_file():
            self.history = json.loads(told.read_text(encoding="utf-8"))["history"]
            if not self._best().is_file():
                raise InputError(f"{self._best()} is missing. Start anew with --overwrite.")
        (epochs,) = self.devices.broadcast_from_chief([np.array(len(self.history))])
        if not (epoch := int(epochs)):
            return 0
        (losses,) = self.devices.broadcast_from_chief(
            [np.resize(np.array(self.val_losses or 0, np.float64), epoch)]
        )
        if not self.devices.chief:
            self.history = [
                {"epoch": i + 1, "val_loss": float(loss)} for i, loss in enumerate(losses)
            ]
        self.learner.begin_epoch(epoch - 1, self.val_losses)
        state = self._read(epoch) if self.devices.chief else self.learner.state()
        self.learner.load(self.devices.broadcast_from_chief(state))
        return epoch

    def _read(self, epoch: int) -> list[np.ndarray]:
        path = self._state(epoch)
        try:
            with np.load(path) as arrays:
                state = [arrays[name] for name in arrays.files]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as err:
            raise InputError(f"{path} cannot be read: {err}. Start anew with --overwrite.") from err
        shapes = [values.shape for values in self.learner.state()]
        if [values.shape for values in state] != shapes:
            raise InputError(
                f"{path} was written by another version of cxr-tfds. Start anew with --overwrite."
            )
        return state

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """Measures and saves the epoch of that number, from 0; returns its row of the history.

        Raises:
          InputError: the loss, or what the model says of an image of validation, is no number any more.
        """
        loss = self.learner.take_loss()
        self._check_finite(epoch, "the loss", np.array([loss]))
        row: dict[str, Any] = {"epoch": epoch + 1, "loss": loss}
        if self.net is not None:
            self.net.set_weights(self.learner.kept_weights())
            scores = score(self.net, self.dataset, "validation")
            self._check_finite(epoch, "a logit of validation", scores.logits)
            row |= validation_row(scores)
        row["learning_rate"] = self.learner.learning_rate()
        (heard,) = self.devices.broadcast_from_chief([np.array(row.get("val_loss", 0.0))])
        row["val_loss"] = float(heard)
        self.history.append(row)
        if self.devices.chief:
            self._save(epoch + 1)
        return row

    def _check_finite(self, epoch: int, what: str, values: np.ndarray) -> None:
        odd = values[~np.isfinite(values)]
        if odd.size:
            kept = f" The epochs before are kept in {self.folder}." if self.history else ""
            raise InputError(
                f"{what} became {odd[0]} in epoch {epoch + 1}.{kept} "
                "Try a lower --learning-rate, --clip-norm 1 or --precision float32, with --overwrite."
            )

    def _save(self, epoch: int) -> None:
        """Writes the new state before it lets go of the old one: a kill at any moment leaves one whole."""
        self.folder.mkdir(exist_ok=True)
        with complete_file(self._state(epoch)) as beside:
            np.savez(beside, *self.learner.state())
        if best_epoch(self.history) == epoch and self.net is not None:
            with complete_file(self._best()) as beside:
                self.net.save_weights(beside)
        write_history(self.run, self.history)
        write_json(self.folder / _STATE, {"epoch": epoch, "history": self.history})
        kept = {self.folder / _STATE, self._state(epoch), self._best()}
        for path in set(self.folder.iterdir()) - kept:
            path.unlink()

    def _state(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.npz"

    def _best(self) -> Path:
        """Weights of the best epoch of the history: a file each, so that a kill cannot leave those of an epoch without
        a row."""
        return self.folder / f"best-{best_epoch(self.history)}.weights.h5"

    def best_model(self) -> keras.Model:
        """The model with the weights of the best epoch, float32; of the chief."""
        assert self.net is not None
        self.net.load_weights(self._best())
        return self.net


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
