"""Trains a model on a built dataset and writes the run folder."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from cxr_tfds import run_folder
from cxr_tfds.deadline import deadlines
from cxr_tfds.errors import InputError
from cxr_tfds.files import check_new_folder
from cxr_tfds.locks import lock_folder
from cxr_tfds.reading import Shard
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.names import default_data_dir
from cxr_tfds.reading.pipeline import check_batch_size, with_mixup
from cxr_tfds.reading.sequential import name_corrupt_shard
from cxr_tfds.reading.service import served_batches
from cxr_tfds.run_profile import STEP
from cxr_tfds.task import Task
from cxr_tfds.text import say
from cxr_tfds.training.checkpoint import Checkpoint
from cxr_tfds.training.data import open_training_data
from cxr_tfds.training.distributed import Devices, explain_lost_worker, open_devices
from cxr_tfds.training.duration import CHECKPOINT_EVERY, parse_duration
from cxr_tfds.training.finish import finish_run
from cxr_tfds.training.labels import check_labels
from cxr_tfds.training.learner import Learner
from cxr_tfds.training.objective import class_weights, make_loss
from cxr_tfds.training.optimizers import should_stop
from cxr_tfds.training.phases import phase_of
from cxr_tfds.training.profile import Profile
from cxr_tfds.training.progress import Progress
from cxr_tfds.training.settings import TrainSettings
from cxr_tfds.training.starting import check_resumable, describe_run
from cxr_tfds.training.watch import watch_others


def train(
    dataset: BuiltDataset | str,
    out: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    devices: Devices | None = None,
    checkpoint_every: str = CHECKPOINT_EVERY,
    profile: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Trains a model, measures it and writes the run folder.

    Args:
      dataset: A dataset from `cxr_tfds.open_dataset`, or its name; with a name the setting
        `data_dir` is the folder it is built in.
      out: Run folder to write.
      overwrite: Whether to replace an earlier run in `out`.
      resume: Whether to continue an interrupted run in `out` that has the same settings.
      devices: Devices to train on; all GPUs of this machine, or the machines of `TF_CONFIG`, by
        default.
      checkpoint_every: Duration between two checkpoints within an epoch, such as 60s or 5m.
      profile: Whether to measure where the time goes, for `profile.json` and the report.
      **settings: Fields of `cxr_tfds.training.settings.TrainSettings`.

    Returns:
      The metrics of each split, as in `metrics.json`; empty on a machine that is not the chief.

    Raises:
      MissingData: The dataset is not built.
      InputError: `out` is not empty, a setting is not allowed or does not fit the dataset, loss or
        logits became NaN, a step does not fit in memory, another machine is lost, or there is
        nothing to resume.
    """
    if isinstance(dataset, BuiltDataset):
        if dataset.encoded and dataset.fit != "stretch":
            raise InputError(
                f"{dataset.name} is read with fit={dataset.fit!r}, but training reads source files "
                "with 'stretch'. Build a dataset of fixed size with this fit."
            )
        location = {"dataset": dataset.name, "data_dir": dataset.data_dir}
        if dataset.task is Task.FINDINGS:
            location |= {"uncertain": dataset.uncertain, "unknown": dataset.unknown}
        else:
            location["target"] = dataset.target
        if dataset.encoded:
            location |= {"size": dataset.shape[0], "channels": dataset.shape[2]}
    else:
        location = {"dataset": dataset, "data_dir": default_data_dir()}
    values = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in (location | settings).items()
    }
    chosen = TrainSettings.from_dict(values)
    devices = devices or open_devices()
    with _lock_run(Path(out), devices):
        check_new_folder(Path(out), overwrite=overwrite, resume=resume)
        return run_training(
            chosen,
            Path(out),
            resume=resume,
            devices=devices,
            checkpoint_every=checkpoint_every,
            profile=Profile() if profile else None,
        )


def _lock_run(run: Path, devices: Devices) -> contextlib.AbstractContextManager[Any]:
    """Returns the lock of a run folder; only the chief writes, so only the chief locks."""
    return lock_folder(run) if devices.is_chief else contextlib.nullcontext()


def run_training(
    settings: TrainSettings,
    run: Path,
    *,
    resume: bool = False,
    devices: Devices | None = None,
    verify: bool = False,
    trust: Path | None = None,
    checkpoint_every: str = CHECKPOINT_EVERY,
    profile: Profile | None = None,
) -> dict[str, Any]:
    """Trains as `train` does and replaces an earlier run in the folder.

    `verify` and `trust` check the dataset first, see `BuiltDataset.verify`. A `profile` measures
    from the start of the program.

    A run resumes from its last checkpoint. If the setting `epochs` is the number of finished
    epochs, training ends there and the run is completed.
    """
    seconds = parse_duration(checkpoint_every)
    # Early, because machines can join only before TensorFlow has computed anything.
    devices = devices or open_devices()
    with deadlines(), explain_lost_worker(devices), _lock_run(run, devices):
        dataset = open_training_data(settings)
        if verify or trust is not None:
            dataset.verify(trust)
        counts = check_labels(dataset)
        check_batch_size(dataset, "train", settings.batch_size)
        devices.check_batch_size(settings.batch_size)
        if settings.data_service is not None and devices.replicas > 1:
            raise InputError(
                f"--data-service feeds one device, but this run has {devices.replicas}. Omit it or "
                "use one GPU with CUDA_VISIBLE_DEVICES=0."
            )
        policy = resolve_precision(settings.precision)
        config = describe_run(settings, dataset, policy)
        if resume and devices.is_chief:
            check_resumable(run, config, dataset)
        steps = settings.steps_per_epoch or math.ceil(dataset.sizes["train"] / settings.batch_size)
        if devices.is_chief:
            images = ", ".join(f"{count:,} in {split}" for split, count in dataset.sizes.items())
            say(f"training {settings.model} on {dataset.name}, images: {images}")
        weights = class_weights(settings.class_weight, counts, dataset.labels)
        loss = make_loss(dataset.task, weights, settings.label_smoothing)
        with explain_out_of_memory(settings):
            with watch_others(settings, dataset, run, devices):
                profile = profile or Profile(wanted=False)
                profile.begin()
                learner = Learner(
                    settings,
                    dataset,
                    devices,
                    policy=policy,
                    loss=loss,
                    steps=steps,
                    profile=profile,
                )
            # Every check has passed, so an earlier run may be removed now.
            if devices.is_chief and not resume:
                run_folder.clear(run)
                config.write(run)
            checkpoint = Checkpoint(run, learner, dataset, seconds)
            _fit(checkpoint)
        if not devices.is_chief:
            return {}
        return finish_run(checkpoint.best_model(), dataset, run, config, profile)


def resolve_precision(precision: str) -> str:
    """Returns the Keras dtype policy; "auto" is mixed_float16 on GPUs that are fast in it.

    NVIDIA's GPUs are from compute capability 7.0 (Volta) on. Otherwise "auto" is float32. On a CPU
    bfloat16 was measured at 0.92 to 1.36 times the speed of float32, depending on the model.
    """
    if precision != "auto":
        return precision
    describe = tf.config.experimental.get_device_details
    gpus = [describe(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    is_fast = gpus and all(gpu.get("compute_capability", (7, 0)) >= (7, 0) for gpu in gpus)
    return "mixed_float16" if is_fast else "float32"


@contextlib.contextmanager
def explain_out_of_memory(settings: TrainSettings) -> Iterator[None]:
    """Raises an InputError that suggests a smaller batch if a step does not fit in memory."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as err:
        smaller = settings.batch_size // 2
        advice = f"--batch-size {smaller}" if smaller else "a smaller model or smaller images"
        raise InputError(
            f"Out of memory with batch_size={settings.batch_size}. Try {advice}, with --overwrite."
        ) from err


def _fit(checkpoint: Checkpoint) -> None:
    """Trains the remaining epochs, or until early stopping."""
    dataset, learner = checkpoint.dataset, checkpoint.learner
    settings, devices, steps = learner.settings, learner.devices, learner.steps
    with contextlib.ExitStack() as stack:
        # Until the last epoch: afterwards the other machines end, and the chief goes on.
        stack.enter_context(watch_others(settings, dataset, checkpoint.run, devices))
        stack.enter_context(name_corrupt_shard(dataset))
        first_step = checkpoint.restore()
        progress = Progress(first_step, settings.epochs, steps, silent=not devices.is_chief)
        stack.enter_context(progress)
        # After the bar appears, because verifying the checksums of a large split takes long.
        batches = _batches(settings, dataset, devices, first_step)
        iterator = iter(devices.distribute(batches))
        done = first_step - checkpoint.epoch * steps  # of the epoch
        for epoch in range(checkpoint.epoch, settings.epochs):
            phase = phase_of(settings, epoch)
            losses = checkpoint.val_losses[phase.first_epoch :]
            if not phase.head_only and should_stop(losses, settings.early_stopping):
                progress.print(
                    f"stopped after epoch {epoch}: no lower val_loss in the last "
                    f"{settings.early_stopping} epochs"
                )
                break
            if not done:  # otherwise restored
                learner.begin_epoch(epoch, checkpoint.val_losses)
            with learner.profile.stage(STEP), checkpoint.saved_if_interrupted():
                for _ in range(done, steps):
                    learner.profile.step(learner, iterator)
                    progress.advance()
                    checkpoint.save_if_due()
                learner.steps_done()  # waits for the device, whose work belongs to this stage
            progress.print_epoch(checkpoint.end_epoch(epoch))
            done = 0
    if devices.is_chief:
        learner.profile.time_augmentation(learner, iterator)


def _batches(
    settings: TrainSettings, dataset: BuiltDataset, devices: Devices, first_step: int
) -> tf.data.Dataset:
    """Returns batches from step `first_step` on, one for each device of this process in turn."""
    size, local = settings.batch_size // devices.replicas, devices.local_replicas
    shard = Shard(devices.worker * local, devices.replicas, local)
    if settings.data_service is not None:
        batches = served_batches(dataset, settings.data_service, batch_size=size)
    else:
        batches = dataset.train(
            size,
            settings.seed,
            first_batch=first_step * local,
            cache=settings.cache,
            cache_dir=settings.cache_dir,
            shard=shard,
        )
    if alpha := settings.augmentation.mixup:
        batches = with_mixup(
            batches, alpha, seed=settings.seed, first_batch=first_step * local, shard=shard
        )
    return batches
