"""Training: batches, augmentation and model in one step; checkpoints; the run folder."""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import json
import math
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from cxr_tfds import run_folder
from cxr_tfds.augment import Augment
from cxr_tfds.datasets import BuiltDataset, DatasetName, open_dataset
from cxr_tfds.errors import InputError
from cxr_tfds.evaluation import Scores, choose_threshold, measure, score
from cxr_tfds.metrics import auc
from cxr_tfds.models import build_model, check_image_size
from cxr_tfds.pipeline import check_batch_size, damage_named, train_batches
from cxr_tfds.presets import PRESETS
from cxr_tfds.report import write_report
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.settings import TrainSettings

_WARM_UP = 0.05  # of all steps
_PACKAGES = ("cxr-tfds", "tensorflow", "keras", "tensorflow-datasets", "numpy", "Pillow")


def train(settings: TrainSettings, run: Path, *, resume: bool = False) -> dict[str, Any]:
    """Trains a model, measures it and writes the run folder.

    Args:
      settings: of the run.
      run: the folder to write.
      resume: go on from the last finished epoch of an interrupted run of the same settings.

    Returns:
      The content of `metrics.json`.

    Raises:
      MissingData: the dataset is not built.
      InputError: dataset, settings and model do not fit together, the loss is no number any more,
        or there is nothing to resume.
    """
    dataset = open_dataset(DatasetName.parse(settings.dataset), Path(settings.data_dir))
    for split in ("train", "validation"):
        dataset.check_split(split)
    # Before anything of an earlier run is removed.
    check_batch_size(dataset, "train", settings.batch_size)
    check_image_size(settings.model, dataset.shape)
    policy = resolve_precision(settings.precision)
    config = RunConfig(
        settings=dataclasses.asdict(settings),
        dataset={"name": dataset.name, "fingerprint": dataset.fingerprint},
        labels=dataset.labels,
        shape=dataset.shape,
        fit=dataset.fit,
        precision=policy,
        environment=_environment(),
    )
    if resume:
        _check_resumable(run, config)
    else:
        run.mkdir(parents=True, exist_ok=True)
        run_folder.clear(run)
        config.write(run)
    model = _fit(settings, dataset, run, policy)
    return _finish(model, dataset, run, config)


def resolve_precision(precision: str) -> str:
    """The Keras dtype policy: "auto" is mixed_float16 with a GPU and float32 without.

    On a CPU bfloat16 was measured between 0.92 and 1.36 times the speed of float32, depending on
    the model: not worth the doubt.
    """
    if precision != "auto":
        return precision
    return "mixed_float16" if tf.config.list_physical_devices("GPU") else "float32"


def _fit(settings: TrainSettings, dataset: BuiltDataset, run: Path, policy: str) -> keras.Model:
    """The model with the weights of the best epoch, rebuilt in float32."""
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(policy)
    try:
        model = build_model(settings.model, dataset.shape, len(dataset.labels))
        augment = Augment(PRESETS[settings.augment], seed=settings.seed)
        trainer = keras.Sequential([keras.Input(dataset.shape, dtype="uint8"), augment, model])
    finally:
        keras.config.set_dtype_policy("float32")
    steps = math.ceil(dataset.sizes["train"] / settings.batch_size)
    trainer.compile(
        optimizer=_optimizer(settings, steps * settings.epochs),
        loss=(
            keras.losses.BinaryCrossentropy(from_logits=True)
            if len(dataset.labels) == 2
            else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        ),
    )
    checkpoint = Checkpoint(run, model, augment, dataset, settings)
    first_epoch = checkpoint.restore(trainer)
    batches = train_batches(
        dataset,
        batch_size=settings.batch_size,
        seed=settings.seed,
        first_epoch=first_epoch,
        cache=settings.cache,
    )
    with damage_named(dataset), Progress(first_epoch, settings.epochs, steps) as progress:
        trainer.fit(
            batches,
            steps_per_epoch=steps,
            epochs=settings.epochs,
            initial_epoch=first_epoch,
            shuffle=False,  # the batches are
            verbose=0,
            callbacks=[checkpoint, progress],
        )
    return checkpoint.best_model()


def _optimizer(settings: TrainSettings, steps: int) -> keras.optimizers.Optimizer:
    warm_up = max(1, round(_WARM_UP * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, steps - warm_up),
        warmup_target=settings.learning_rate,
        warmup_steps=warm_up,
    )
    return keras.optimizers.AdamW(schedule, weight_decay=settings.weight_decay)


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


def _check_resumable(run: Path, config: RunConfig) -> None:
    old = RunConfig.read(run)
    if (run / run_folder.MODEL).is_file():
        raise InputError(f"{run} is finished; there is nothing to resume. Measure it with: cxr-evaluate {run}")
    before, now = ({**of.settings, "dtype policy": of.precision} for of in (old, config))
    different = [key for key, value in now.items() if before.get(key) != value]
    if different or old.dataset != config.dataset:
        what = ", ".join(f"{key} {before.get(key)!r}, now {now[key]!r}" for key in different)
        raise InputError(
            f"{run} was started with other settings: {what or 'the dataset was rebuilt with other examples'}. "
            "Give the same ones, or start anew with --overwrite."
        )


def _finish(model: keras.Model, dataset: BuiltDataset, run: Path, config: RunConfig) -> dict[str, Any]:
    """Chooses the threshold on validation, then reads the test split, once."""
    validation = score(model, dataset, "validation")
    threshold = choose_threshold(validation, config.threshold_rule)
    scores = {"validation": validation}
    if dataset.sizes.get("test"):
        scores["test"] = score(model, dataset, "test")
    measured: dict[str, Any] = {split: measure(of, threshold) for split, of in scores.items()}
    config = dataclasses.replace(config, threshold=threshold)
    config.write(run)
    run_folder.write_json(run / run_folder.METRICS, measured)
    write_report(run, config, measured, scores, model)
    run_folder.save_model(model, run)  # last: a run with a model is a finished run
    shutil.rmtree(run / run_folder.CHECKPOINT)
    return measured


def _environment() -> dict[str, str]:
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    return versions | {name: importlib.metadata.version(name) for name in _PACKAGES}
