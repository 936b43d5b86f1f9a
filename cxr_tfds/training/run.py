"""Training: from a built dataset to a run folder. What happens in a step is in `cxr_tfds.training.learner`."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import math
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError
from cxr_tfds.models import check_shape, find_weights
from cxr_tfds.reading.datasets import BuiltDataset, DatasetName, open_dataset
from cxr_tfds.reading.in_order import name_corrupt_shard
from cxr_tfds.reading.pipeline import check_batch_size, train_batches, with_mixup
from cxr_tfds.reading.service import served_batches
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.training.checkpoint import Checkpoint, finished_epochs
from cxr_tfds.training.distributed import Devices, explain_lost_worker, open_devices
from cxr_tfds.training.finish import finish_run
from cxr_tfds.training.labels import check_labels
from cxr_tfds.training.learner import Learner
from cxr_tfds.training.objective import make_loss, weights_of_classes
from cxr_tfds.training.optimizers import is_over
from cxr_tfds.training.phases import phase_of
from cxr_tfds.training.progress import Progress, write_scalars
from cxr_tfds.training.settings import DEFAULT_RULE, TrainSettings

_PACKAGES = ("cxr-tfds", "tensorflow", "keras", "tensorflow-datasets", "numpy", "Pillow")


def train(
    settings: TrainSettings, run: Path, *, resume: bool = False, devices: Devices | None = None
) -> dict[str, Any]:
    """Trains a model, measures it and writes the run folder.

    Args:
      settings: of the run.
      run: the folder to write; of several machines only the chief writes.
      resume: go on from the last finished epoch of an interrupted run of the same settings; where `epochs` are
        those it has, it ends there.
      devices: where; see `cxr_tfds.training.distributed.open_devices` if not given.

    Returns:
      The content of `metrics.json`; nothing on a machine that is not the chief.

    Raises:
      MissingData: the dataset is not built.
      InputError: dataset, settings and model do not fit together, loss or logits are no numbers any more, a step
        does not fit into memory, another machine is gone, or there is nothing to resume.
    """
    devices = (
        devices or open_devices()
    )  # first: machines can only be joined before TensorFlow has computed anything
    with explain_lost_worker(devices):
        dataset = view(settings)
        counts = check_labels(dataset)
        check_batch_size(dataset, "train", settings.batch_size)
        devices.check_batch_size(settings.batch_size)
        if settings.data_service is not None and devices.replicas > 1:
            raise InputError(
                f"--data-service serves one device; there are {devices.replicas}, which read parts of their own. Omit "
                "it, or leave one GPU with CUDA_VISIBLE_DEVICES=0."
            )
        policy = resolve_precision(settings.precision)
        config = _config(settings, dataset, policy)
        if resume and devices.chief:
            _check_resumable(run, config)
        steps = settings.steps_per_epoch or math.ceil(dataset.sizes["train"] / settings.batch_size)
        with explain_out_of_memory(settings):
            losses = make_loss(
                weights_of_classes(settings.class_weight, counts, dataset.labels),
                settings.label_smoothing,
            )
            learner = Learner(settings, dataset, devices, policy=policy, losses=losses, steps=steps)
            # All that can be refused is refused: only now an earlier run goes.
            if devices.chief and not resume:
                run.mkdir(parents=True, exist_ok=True)
                run_folder.clear(run)
                config.write(run)
            checkpoint = Checkpoint(run, learner, dataset, settings)
            _fit(settings, dataset, learner, checkpoint)
        return finish_run(checkpoint.best_model(), dataset, run, config) if devices.chief else {}


def view(settings: TrainSettings) -> BuiltDataset:
    """The dataset as `settings` read it.

    Raises:
      MissingData: it is not built.
      InputError: it cannot be read so, the model cannot take it or has no such weights, or it has more than two
        classes and a rule for the threshold is given.
    """
    dataset = open_dataset(DatasetName.parse(settings.dataset), Path(settings.data_dir)).targeted(
        settings.target
    )
    if settings.size is not None or settings.channels is not None:
        dataset = dataset.fitted(
            settings.size or dataset.shape[0], channels=settings.channels or dataset.shape[2]
        )
    if len(dataset.labels) > 2 and settings.threshold_rule != DEFAULT_RULE:
        raise InputError(
            f"--threshold-rule {settings.threshold_rule} is for two classes; {dataset.name} has {len(dataset.labels)}, "
            f"{', '.join(dataset.labels)}, of which the most probable is called. Leave it out."
        )
    check_shape(settings.model, dataset.shape)
    find_weights(settings.model, settings.weights)
    return dataset


def resolve_precision(precision: str) -> str:
    """The Keras dtype policy: "auto" is mixed_float16 with a GPU and float32 without.

    On a CPU bfloat16 was measured between 0.92 and 1.36 times the speed of float32, depending on
    the model: not worth the doubt.
    """
    if precision != "auto":
        return precision
    return "mixed_float16" if tf.config.list_physical_devices("GPU") else "float32"


@contextlib.contextmanager
def explain_out_of_memory(settings: TrainSettings) -> Iterator[None]:
    """Says which batch size to try where a step does not fit into memory.

    Raises:
      InputError: it does not.
    """
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as err:
        smaller = settings.batch_size // 2
        way = f"--batch-size {smaller}" if smaller else "a smaller model or smaller images"
        raise InputError(
            f"out of memory with batches of {settings.batch_size} images. Try {way}, with --overwrite."
        ) from err


def _fit(
    settings: TrainSettings, dataset: BuiltDataset, learner: Learner, checkpoint: Checkpoint
) -> None:
    """Trains epoch after epoch, to the last or until `early_stopping` ends it."""
    devices, steps = learner.devices, learner.steps
    first_epoch = checkpoint.restore()
    batches = iter(devices.distribute(_batches(settings, dataset, devices, first_epoch * steps)))
    silent = not devices.chief
    with (
        name_corrupt_shard(dataset),
        Progress(first_epoch, settings.epochs, steps, silent=silent) as progress,
    ):
        for epoch in range(first_epoch, settings.epochs):
            phase = phase_of(settings, epoch)
            if not phase.head_only and is_over(
                checkpoint.val_losses[phase.first_epoch :], settings.early_stopping
            ):
                progress.say(
                    f"stopped after epoch {epoch}: no lower val_loss in {settings.early_stopping} epochs"
                )
                break
            learner.begin_epoch(epoch, checkpoint.val_losses)
            for _ in range(steps):
                learner.step(batches)
                progress.step()
            row = checkpoint.end_epoch(epoch)
            progress.epoch(row)
            if devices.chief:
                write_scalars(checkpoint.run, row)


def _batches(
    settings: TrainSettings, dataset: BuiltDataset, devices: Devices, first_step: int
) -> tf.data.Dataset:
    """Batches from step `first_step` on, one for each device of this process in turn."""
    size, seed, here = settings.batch_size // devices.replicas, settings.seed, devices.here
    if settings.data_service is not None:
        batches = served_batches(dataset, settings.data_service, batch_size=size)
    else:
        epoch, skipped = divmod(first_step, math.ceil(dataset.sizes["train"] / settings.batch_size))
        batches = train_batches(
            dataset,
            batch_size=size,
            seed=seed,
            first_epoch=epoch,
            cache=settings.cache,
            cache_dir=Path(settings.cache_dir) if settings.cache_dir else None,
            worker=devices.worker * here,
            workers=devices.replicas,
            parts=here,
        )
        if skipped:  # epochs of `steps_per_epoch` begin anywhere in the data
            batches = batches.skip(skipped * here)
    if alpha := settings.augmentation.mixup:
        classes, first = len(dataset.labels), first_step * here
        batches = with_mixup(
            batches, alpha, classes, seed=seed, first_batch=first, worker=devices.worker
        )
    return batches


def _config(settings: TrainSettings, dataset: BuiltDataset, policy: str) -> RunConfig:
    return RunConfig(
        settings=dataclasses.asdict(settings),
        dataset={"name": dataset.name, "fingerprint": dataset.fingerprint},
        labels=dataset.labels,
        shape=dataset.shape,
        fit=dataset.fit,
        precision=policy,
        environment=_environment(),
    )


def _check_resumable(run: Path, config: RunConfig) -> None:
    old = RunConfig.read(run)
    if (run / run_folder.MODEL).is_file():
        raise InputError(
            f"{run} is finished; there is nothing to resume. Measure it with: cxr-evaluate {run}"
        )
    before, now = ({**of.settings, "dtype policy": of.precision} for of in (old, config))
    different = [key for key, value in now.items() if before.get(key) != value]
    if different == ["epochs"] and now["epochs"] == finished_epochs(run):
        different = []  # it ends with the epochs it has
    if different or old.dataset != config.dataset:
        what = ", ".join(f"{key} {before.get(key)!r}, now {now[key]!r}" for key in different)
        raise InputError(
            f"{run} was started with other settings: {what or 'the dataset was rebuilt with other examples'}. "
            "Give the same ones, or start anew with --overwrite."
        )


def _environment() -> dict[str, str]:
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    return versions | {name: importlib.metadata.version(name) for name in _PACKAGES}
