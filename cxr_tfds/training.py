"""Training: batches, augmentation and model in one step; checkpoints; the run folder."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import platform
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cxr_tfds import run_folder
from cxr_tfds.augment import Augment, mix
from cxr_tfds.callbacks import Checkpoint, Progress
from cxr_tfds.datasets import BuiltDataset, DatasetName, open_dataset
from cxr_tfds.errors import InputError
from cxr_tfds.finish import finish_run
from cxr_tfds.models import build_model, check_image_size
from cxr_tfds.pipeline import check_batch_size, to_accelerator, train_batches, with_mixup
from cxr_tfds.reading import damage_named
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.service import served_batches
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
    if settings.size is not None:
        dataset = dataset.fitted(settings.size)
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
    return finish_run(model, dataset, run, config)


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
        augment = Augment(settings.augmentation, seed=settings.seed)
        trainer = _trainer(model, augment, dataset.shape)
    finally:
        keras.config.set_dtype_policy("float32")
    steps = math.ceil(dataset.sizes["train"] / settings.batch_size)
    trainer.compile(
        optimizer=_optimizer(settings, steps * settings.epochs),
        loss=_loss(dataset, settings),
    )
    checkpoint = Checkpoint(run, model, augment, dataset, settings)
    first_epoch = checkpoint.restore(trainer)
    batches = _batches(dataset, settings, first_epoch)
    if alpha := settings.augmentation.mixup:
        batches = with_mixup(batches, alpha, len(dataset.labels), seed=settings.seed, first_batch=first_epoch * steps)
    with damage_named(dataset), Progress(first_epoch, settings.epochs, steps) as progress:
        trainer.fit(
            to_accelerator(batches),
            steps_per_epoch=steps,
            epochs=settings.epochs,
            initial_epoch=first_epoch,
            shuffle=False,  # the batches are
            verbose=0,
            callbacks=[checkpoint, progress],
        )
    return checkpoint.best_model()


def _batches(dataset: BuiltDataset, settings: TrainSettings, first_epoch: int) -> tf.data.Dataset:
    size, seed = settings.batch_size, settings.seed
    if settings.data_service is not None:
        return served_batches(dataset, settings.data_service, batch_size=size, seed=seed)
    folder = Path(settings.cache_dir) if settings.cache_dir else None
    return train_batches(
        dataset, batch_size=size, seed=seed, first_epoch=first_epoch, cache=settings.cache, cache_dir=folder
    )


def _trainer(model: keras.Model, augment: Augment, shape: tuple[int, int, int]) -> keras.Model:
    """Augmentation and model in one step; with mixup it takes each image's share, too."""
    pixels = keras.Input(shape, dtype="uint8")
    if not augment.settings.mixup:
        return keras.Model(pixels, model(augment(pixels)))
    share = keras.Input((), dtype="float32")
    return keras.Model((pixels, share), model(mix(augment(pixels), share)))


def _loss(dataset: BuiltDataset, settings: TrainSettings) -> keras.losses.Loss:
    if len(dataset.labels) == 2:
        return keras.losses.BinaryCrossentropy(from_logits=True)
    if settings.augmentation.mixup:  # labels are shares of the classes then
        return keras.losses.CategoricalCrossentropy(from_logits=True)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _optimizer(settings: TrainSettings, steps: int) -> keras.optimizers.Optimizer:
    warm_up = max(1, round(_WARM_UP * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, steps - warm_up),
        warmup_target=settings.learning_rate,
        warmup_steps=warm_up,
    )
    return keras.optimizers.AdamW(schedule, weight_decay=settings.weight_decay)


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


def _environment() -> dict[str, str]:
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    return versions | {name: importlib.metadata.version(name) for name in _PACKAGES}
