"""The end of each epoch: validation metrics, the best weights, and the state that resumes a run."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, TypedDict

import keras
import numpy as np

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError, first_line
from cxr_tfds.evaluation.scoring import Scores, score
from cxr_tfds.files import complete_file, write_json
from cxr_tfds.metrics.ranking import auc
from cxr_tfds.models import build_model
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.run_folder import History, best_epoch, model_bytes, write_history
from cxr_tfds.schema import AtLeastOne, NotNegative, Probability, read_json
from cxr_tfds.training.learner import Learner

_STATE = "state.json"


class _EpochRow(TypedDict):
    epoch: AtLeastOne
    loss: NotNegative
    val_loss: NotNegative


class _Row(_EpochRow, total=False):
    accuracy: Probability  # since 2026-11, as the learning rate
    learning_rate: NotNegative
    val_auc: Probability  # none for more than two classes
    val_accuracy: Probability


class _State(TypedDict):
    epoch: AtLeastOne
    history: list[_Row]


def finished_epochs(run: Path) -> int:
    """Returns the number of finished epochs from which a run can resume."""
    return len(_read_history(run))


class Checkpoint:
    """The history of a run and its folder `checkpoint/`.

    Only the chief validates and writes. The other processes receive the validation loss, the only
    column of their history.
    """

    def __init__(self, run: Path, learner: Learner, dataset: BuiltDataset) -> None:
        self.run, self.learner, self.dataset = run, learner, dataset
        self.devices = learner.devices
        self.folder = run / run_folder.CHECKPOINT
        self.history: History = []

    @functools.cached_property
    def model(self) -> keras.Model:
        """A float32 model, so that validation measures exactly the model that is saved.

        The weights of a model in mixed precision are float32 already.
        """
        shape, outputs = self.dataset.shape, self.dataset.outputs
        return build_model(self.learner.settings.model, shape, outputs)

    @property
    def val_losses(self) -> list[float]:
        """Validation loss of each finished epoch."""
        return [row["val_loss"] for row in self.history]

    def restore(self) -> int:
        """Loads the last finished epoch, if any, and returns the number of the next epoch."""
        if self.devices.is_chief:
            self.history = _read_history(self.run)
            if self.history and not self._best_path().is_file():
                raise InputError(f"{self._best_path()} is missing. Start again with --overwrite.")
        (count,) = self.devices.broadcast_from_chief([np.array(len(self.history))])
        if not (epochs := int(count)):
            return 0
        own = np.resize(np.array(self.val_losses or 0, np.float64), epochs)
        (losses,) = self.devices.broadcast_from_chief([own])
        if not self.devices.is_chief:
            self.history = [{"val_loss": float(loss)} for loss in losses]
        self.learner.begin_epoch(epochs - 1, self.val_losses)
        state = self._read_state(epochs) if self.devices.is_chief else self.learner.state()
        self.learner.load(self.devices.broadcast_from_chief(state))
        return epochs

    def _read_state(self, epoch: int) -> list[np.ndarray]:
        path = self._state_path(epoch)
        try:
            with np.load(path) as arrays:
                state = [arrays[name] for name in arrays.files]
        except Exception as err:  # zipfile and NumPy raise many kinds
            raise InputError(
                f"Corrupt checkpoint {path}: {first_line(err)}. Start again with --overwrite."
            ) from err
        if [values.shape for values in state] != [v.shape for v in self.learner.state()]:
            raise InputError(
                f"{path} is from another version of cxr-tfds. Start again with --overwrite."
            )
        return state

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """Validates and saves an epoch, counted from 0, and returns its row of the history."""
        accuracy, loss = self.learner.accuracy(), self.learner.take_loss()
        self._check_finite(epoch, "The training loss", np.array([loss]))
        row: dict[str, Any] = {"epoch": epoch + 1, "loss": loss, "accuracy": accuracy}
        if self.devices.is_chief:
            self.model.set_weights(self.learner.result_weights())
            scores = score(self.model, self.dataset, "validation")
            self._check_finite(epoch, "A validation logit", scores.logits)
            row |= validation_metrics(scores)
        row["learning_rate"] = self.learner.learning_rate()
        (val_loss,) = self.devices.broadcast_from_chief([np.array(row.get("val_loss", 0.0))])
        row["val_loss"] = float(val_loss)
        self.history.append(row)
        if self.devices.is_chief:
            self._save(epoch + 1)
        return row

    def _check_finite(self, epoch: int, what: str, values: np.ndarray) -> None:
        invalid = values[~np.isfinite(values)]
        if invalid.size:
            kept = f" The earlier epochs are saved in {self.folder}." if self.history else ""
            raise InputError(
                f"{what} became {invalid[0]} in epoch {epoch + 1}.{kept} Try a lower "
                "--learning-rate, --clip-norm 1 or --precision float32, with --overwrite."
            )

    def _save(self, epoch: int) -> None:
        """Writes the new state before it removes the old one, so that a kill leaves one of them."""
        self.folder.mkdir(exist_ok=True)
        state = self.learner.state()
        with complete_file(self._state_path(epoch), sum(v.nbytes for v in state)) as path:
            np.savez(path, *state)
        if best_epoch(self.history) == epoch:
            with complete_file(self._best_path(), model_bytes(self.model)) as path:
                self.model.save_weights(path)
        write_history(self.run, self.history)
        write_json(self.folder / _STATE, {"epoch": epoch, "history": self.history})
        current = {self.folder / _STATE, self._state_path(epoch), self._best_path()}
        for path in set(self.folder.iterdir()) - current:
            path.unlink()

    def _state_path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.npz"

    def _best_path(self) -> Path:
        # With the epoch in its name, a kill cannot leave weights of an epoch the history lacks.
        return self.folder / f"best-{best_epoch(self.history)}.weights.h5"

    def best_model(self) -> keras.Model:
        """Returns the float32 model with the weights of the best epoch. Only for the chief."""
        try:
            self.model.load_weights(self._best_path())
        except Exception as err:  # Keras and h5py raise many kinds
            raise InputError(
                f"Corrupt checkpoint {self._best_path()}: {first_line(err)}. Start again with "
                "--overwrite."
            ) from err
        return self.model


def _read_history(run: Path) -> History:
    path = run / run_folder.CHECKPOINT / _STATE
    if not path.is_file():
        return []
    state = read_json(path, _State, "Start again with --overwrite.")
    history: Any = state["history"]
    first = set(history[0]) if history else set()
    has_all = all(first <= set(row) for row in history)  # a newer version may have more columns
    if [row["epoch"] for row in history] != [*range(1, state["epoch"] + 1)] or not has_all:
        raise InputError(
            f"{path} is corrupt: expected a complete row for each epoch from 1 to "
            f"{state['epoch']}. Start again with --overwrite."
        )
    return history


def validation_metrics(scores: Scores) -> dict[str, float]:
    """Returns `val_loss`, `val_accuracy` at a probability of 0.5, and `val_auc` for two classes.

    For several findings `val_auc` is the mean over those that are present and absent.
    """
    labels, logits = scores.labels, scores.logits
    if scores.several_findings:
        return _validation_metrics_of_findings(scores)
    if logits.ndim == 1:
        signed = np.where(labels == 1, logits, -logits).astype(np.float64)
        return {
            "val_loss": float(np.logaddexp(0, -signed).mean()),
            "val_auc": auc(labels, logits),
            "val_accuracy": float(((logits > 0) == (labels == 1)).mean()),
        }
    true_probability = scores.probabilities[np.arange(len(labels)), labels]
    loss = float(-np.log(np.maximum(true_probability, 1e-12)).mean())
    return {"val_loss": loss, "val_accuracy": float((logits.argmax(axis=1) == labels).mean())}


def _validation_metrics_of_findings(scores: Scores) -> dict[str, float]:
    alone = [scores.of_finding(number)[1] for number in range(scores.logits.shape[1])]
    correct = np.concatenate([(each.logits > 0) == (each.labels == 1) for each in alone])
    losses = [
        np.logaddexp(0, np.where(each.labels == 1, -each.logits, each.logits).astype(np.float64))
        for each in alone
    ]
    aucs = [auc(each.labels, each.logits) for each in alone if len(np.unique(each.labels)) == 2]
    metrics = {
        "val_loss": float(np.concatenate(losses).mean()),
        "val_accuracy": float(correct.mean()),
    }
    return metrics | ({"val_auc": float(np.mean(aucs))} if aucs else {})
