"""The state that resumes a run after any step, and the end of each epoch: metrics, best weights."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import keras
import numpy as np

from cxr_tfds import run_folder
from cxr_tfds.deadline import is_overdue
from cxr_tfds.errors import InputError, first_line
from cxr_tfds.evaluation.scoring import Scores, score
from cxr_tfds.files import complete_file, write_json
from cxr_tfds.metrics.ranking import auc
from cxr_tfds.models import build_model
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.run_folder import History, best_epoch, model_bytes, write_history
from cxr_tfds.run_profile import CHECKPOINTS, VALIDATION
from cxr_tfds.schema import AtLeastOne, Count, NotNegative, Probability, read_json
from cxr_tfds.training.learner import Learner
from cxr_tfds.training.progress import write_scalars

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
    epoch: Count  # finished epochs
    step: Count  # finished steps of the next epoch
    history: list[_Row]


def finished_epochs(run: Path) -> int:
    """Returns the number of finished epochs of an unfinished run."""
    return len(_read(run)["history"])


class Checkpoint:
    """The history of a run and its folder `checkpoint/`.

    Only the chief validates and writes. The other processes receive the validation loss, the only
    column of their history. The chief alone decides when it saves, because every device has the
    same weights: the others wait for it in the next step.

    `every` is the number of seconds between two saves within an epoch.
    """

    def __init__(self, run: Path, learner: Learner, dataset: BuiltDataset, every: float) -> None:
        self.run, self.learner, self.dataset, self.every = run, learner, dataset, every
        self.devices = learner.devices
        self.folder = run / run_folder.CHECKPOINT
        self.history: History = []
        self._saved_at = time.monotonic()

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

    @property
    def epoch(self) -> int:
        """Number of the epoch in training, from 0."""
        return len(self.history)

    def restore(self) -> int:
        """Loads the last saved state, if any, and returns the number of finished steps."""
        step = 0
        if self.devices.is_chief:
            state: Any = _read(self.run)
            self.history, step = state["history"], state["step"]
            if self.history and not self._best_path().is_file():
                raise InputError(f"{self._best_path()} is missing. Start again with --overwrite.")
        place = self.devices.broadcast_from_chief([np.array(self.epoch), np.array(step)])
        epochs, step = map(int, place)
        if not epochs and not step:
            return 0
        if epochs:
            own = np.resize(np.array(self.val_losses or 0, np.float64), epochs)
            (losses,) = self.devices.broadcast_from_chief([own])
            if not self.devices.is_chief:
                self.history = [{"val_loss": float(loss)} for loss in losses]
        # The state after an epoch is of its phase, with the optimizer of that phase.
        self.learner.begin_epoch(epochs if step else epochs - 1, self.val_losses)
        arrays = self._read_arrays(step) if self.devices.is_chief else self.learner.state()
        self.learner.load(self.devices.broadcast_from_chief(arrays))
        return epochs * self.learner.steps + step

    def _read_arrays(self, step: int) -> list[np.ndarray]:
        path = self._state_path(step)
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
            with self.learner.profile.stage(VALIDATION):
                scores = score(self.model, self.dataset, "validation")
            self._check_finite(epoch, "A validation logit", scores.logits)
            row |= validation_metrics(scores)
        row["learning_rate"] = self.learner.learning_rate()
        (val_loss,) = self.devices.broadcast_from_chief([np.array(row.get("val_loss", 0.0))])
        row["val_loss"] = float(val_loss)
        self.history.append(row)
        if self.devices.is_chief:
            self.save()
        return row

    def _check_finite(self, epoch: int, what: str, values: np.ndarray) -> None:
        invalid = values[~np.isfinite(values)]
        if invalid.size:
            kept = f" The earlier epochs are saved in {self.folder}." if self.history else ""
            raise InputError(
                f"{what} became {invalid[0]} in epoch {epoch + 1}.{kept} Try a lower "
                "--learning-rate, --clip-norm 1 or --precision float32, with --overwrite."
            )

    def save_if_due(self) -> None:
        """Saves within an epoch, if the last state was saved long enough ago."""
        if self.devices.is_chief and time.monotonic() - self._saved_at >= self.every:
            self.save()

    @contextlib.contextmanager
    def saved_if_interrupted(self) -> Iterator[None]:
        """Saves if a person or a scheduler ends the block, which trains steps of an epoch."""
        try:
            yield
        except KeyboardInterrupt:
            # The disk may be what no longer answers. Before the first step the state may belong to
            # the next phase already, and is saved with the one before.
            if self.devices.is_chief and not is_overdue() and self._step():
                self.save()
            raise

    def _step(self) -> int:
        """Returns the number of finished steps of the epoch in training.

        A device counts within its step, so that this is right after an interrupt at any time.
        """
        return self.learner.steps_done() - self.epoch * self.learner.steps

    def save(self) -> None:
        """Saves the state after the last finished step or epoch. Only for the chief.

        The new state is complete before the old one is removed, so that a kill leaves one of them.
        """
        step = self._step()  # waits for the device, so that its work does not count here
        with self.learner.profile.stage(CHECKPOINTS):
            self._save(step)

    def _save(self, step: int) -> None:
        self.folder.mkdir(exist_ok=True)
        arrays = self.learner.state()
        # The sum of an array with a NaN is NaN, and it is quick.
        sums = np.array([values.sum() for values in arrays])
        self._check_finite(self.epoch, "A weight or the training loss", sums)
        with complete_file(self._state_path(step), sum(v.nbytes for v in arrays)) as path:
            np.savez(path, *arrays)
        if not step:
            self._save_epoch()
        state = {"epoch": self.epoch, "step": step, "history": self.history}
        write_json(self.folder / _STATE, state)
        current = {self.folder / _STATE, self._state_path(step)}
        if self.history:
            current.add(self._best_path())
        for path in set(self.folder.iterdir()) - current:
            path.unlink()
        self._saved_at = time.monotonic()

    def _save_epoch(self) -> None:
        if best_epoch(self.history) == self.epoch:
            with complete_file(self._best_path(), model_bytes(self.model)) as path:
                self.model.save_weights(path)
        write_history(self.run, self.history)
        write_scalars(self.run, self.history[-1])

    def _state_path(self, step: int) -> Path:
        return self.folder / f"epoch-{self.epoch}-step-{step}.npz"

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


def _read(run: Path) -> _State:
    path = run / run_folder.CHECKPOINT / _STATE
    if not path.is_file():
        return _State(epoch=0, step=0, history=[])
    state = read_json(path, _State, "Start again with --overwrite.")
    history = state["history"]
    first = set(history[0]) if history else set()
    has_all = all(first <= set(row) for row in history)  # a newer version may have more columns
    if [row["epoch"] for row in history] != [*range(1, state["epoch"] + 1)] or not has_all:
        raise InputError(
            f"{path} is corrupt: expected a complete row for each epoch from 1 to "
            f"{state['epoch']}. Start again with --overwrite."
        )
    return state


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
