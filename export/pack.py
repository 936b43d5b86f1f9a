"""From a run folder to checked `.tflite` files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.evaluation import Scores, dataset_of, probabilities, score
from cxr_tfds.reading import load_split
from cxr_tfds.run_folder import RunConfig, load_model, whole_file, write_json

from .calibration import calibration_images
from .check import RUNTIME, Verdict, decisions, exported_logits, failure, judge
from .convert import calibrated, to_tflite
from .edge.model_file import Card, append_card
from .edge.runtime import HEATMAP, RUNTIMES
from .formats import FORMATS
from .heatmap import with_heatmap
from .layers import layer_errors, report
from .measure import in_runtimes, runnable, sample
from .results import Exported, InRuntime, as_json

_REPORTED = 32  # calibration images whose activations are compared, layer by layer


@dataclasses.dataclass(frozen=True)
class Demands:
    """What a file must fulfil to be published."""

    max_auc_drop: float = 0.005  # how much validation AUC may be lost
    min_agreement: float = 0.98  # part of the validation decisions that must be equal
    runtimes: tuple[str, ...] = tuple(RUNTIMES)  # that must run it


class _Job(NamedTuple):
    """What all formats of an export have in common."""

    config: RunConfig
    name: str  # of the run
    model: Any  # Keras, logits only
    out: Path
    demands: Demands
    scores: dict[str, Scores]  # of the Keras model, by split
    images: dict[str, np.ndarray]  # by split
    say: Callable[[str], None]


def export_run(
    run: Path,
    out: Path,
    quantizations: Sequence[str],
    *,
    data_dir: Path | None = None,
    calibration: int = 256,
    demands: Demands | None = None,
    heatmap: bool = False,
    keep_float: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> list[Exported]:
    """Converts, runs and compares each format, then publishes those files and `export.json`.

    Args:
      run: the run folder.
      out: where `<run>-<quantization>.tflite` go.
      quantizations: of `Card.quantization`.
      data_dir: where the dataset of the run stands, if it moved.
      calibration: number of training images that set the ranges of calibrated formats, class by class in
        equal parts.
      demands: `Demands()` unless given.
      heatmap: whether the files give the class activation map as a second output.
      keep_float: layers that stay float32 in the int8 formats.
      say: takes a line about what is going on.

    Returns:
      What was published, in the order of `quantizations`.

    Raises:
      MissingData: the run, its model or its dataset is not there.
      InputError: a format loses more than allowed or does not run in a runtime it must run in, or
        `keep_float` cannot be done; nothing at all is published then.
    """
    demands = demands or Demands()
    if keep_float and not any(FORMATS[name].selective for name in quantizations):
        able = " or ".join(name for name, form in FORMATS.items() if form.selective)
        raise InputError(f"--keep-float {keep_float[0]}: none of {', '.join(quantizations)} keeps layers; add {able}.")
    job = _job(run, out, data_dir, demands, say)
    whole = with_heatmap(job.model) if heatmap else job.model
    needed = any(FORMATS[name].calibrated for name in quantizations)
    chosen = calibration_images(dataset_of(job.config, data_dir), calibration, say) if needed else np.empty(0)
    ready: list[tuple[Exported, bytes]] = []
    for quantization in quantizations:
        say(f"converting to {quantization}")
        kept = tuple(keep_float) if FORMATS[quantization].selective else ()
        flatbuffer = to_tflite(whole, quantization, chosen, kept)
        verdict = _judged(job, flatbuffer, quantization, chosen)
        ran, refused = _run(job, flatbuffer, quantization, verdict)
        content = append_card(flatbuffer, _card(job, quantization, verdict, whole, runnable(refused), kept))
        path = _path(job, quantization)
        ready.append((Exported(path, quantization, len(content), *verdict, ran, refused), content))
    _publish(out, ready)
    return [exported for exported, _ in ready]


def _job(run: Path, out: Path, data_dir: Path | None, demands: Demands, say: Callable[[str], None]) -> _Job:
    config = RunConfig.read(run)
    dataset = dataset_of(config, data_dir)
    model = load_model(run)
    splits = [split for split in ("validation", "test") if dataset.sizes.get(split)]
    say(f"scoring the Keras model on {' and '.join(splits)}")
    scores = {split: score(model, dataset, split) for split in splits}
    images = {split: load_split(dataset, split).images for split in splits}
    return _Job(config, run.resolve().name, model, out, demands, scores, images, say)


def _path(job: _Job, quantization: str) -> Path:
    return job.out / f"{job.name}-{quantization}.tflite"


def _judged(job: _Job, flatbuffer: bytes, quantization: str, chosen: np.ndarray) -> Verdict:
    """Runs the flatbuffer in LiteRT on every split.

    Raises:
      InputError: it loses more than allowed; for an int8 format the message tells where.
    """
    logits = {}
    for split, images in job.images.items():
        job.say(f"running {quantization} on {split} ({len(images)} images)")
        logits[split] = exported_logits(flatbuffer, images)
    verdict = judge(job.scores, logits, job.config.threshold)
    why = failure(verdict.comparisons["validation"], job.demands.max_auc_drop, job.demands.min_agreement)
    if why is None:
        return verdict
    refusal = f"{_path(job, quantization).name} was not published: on validation {why}."
    if FORMATS[quantization].selective:
        errors = layer_errors(calibrated(job.model, chosen), job.model.name, chosen[:_REPORTED])
        refusal += f"\nWhat each layer loses:\n{report(errors)}\nKeep the worst in float32 with --keep-float LAYER."
    raise InputError(refusal)


def _run(job: _Job, flatbuffer: bytes, quantization: str, verdict: Verdict) -> tuple[list[InRuntime], dict[str, str]]:
    """Runs the flatbuffer in each runtime: how that went, and why others cannot run it.

    Raises:
      InputError: it does not run, or does not decide as it must, in a runtime that is demanded.
    """
    job.say(f"running {quantization} in each runtime")
    keras, images = job.scores["validation"], job.images["validation"]
    part = sample(len(images))
    ran, refused = in_runtimes(flatbuffer, images[part])
    name = _path(job, quantization).name
    for runtime in job.demands.runtimes:
        if runtime in refused:
            raise InputError(
                f"{name} was not published: {refused[runtime].rstrip('.')}. "
                "Choose another format, or publish it for others with --runtime litert."
            )
    own = decisions(keras.probabilities, job.config.threshold)[part]
    rows = []
    for found in ran:
        if found.runtime == RUNTIME:  # all of validation was run in this process
            count, agreement = len(images), verdict.comparisons["validation"].agreement
        else:
            decided = decisions(probabilities(found.logits / verdict.temperature), verdict.threshold)
            count, agreement = len(part), float((decided == own).mean())
        if found.runtime in job.demands.runtimes and agreement < job.demands.min_agreement:
            raise InputError(
                f"{name} was not published: in {found.runtime} it agrees on {agreement:.2%} of the decisions; "
                f"{job.demands.min_agreement:.2%} are needed."
            )
        rows.append(InRuntime(found.runtime, found.version, count, agreement, found.latency_ms, found.peak_mb))
    return rows, refused


def _card(
    job: _Job, quantization: str, verdict: Verdict, model: Any, runtimes: tuple[str, ...], kept: tuple[str, ...]
) -> Card:
    config = job.config
    heatmap = isinstance(model.output, dict)
    run = {"name": job.name, "model": config.settings["model"], "environment": config.environment}
    return Card(
        labels=config.labels,
        size=config.shape[0],
        channels=config.shape[2],
        fit=config.fit,
        threshold=verdict.threshold,
        temperature=verdict.temperature,
        quantization=quantization,
        runtimes=runtimes,
        heatmap=heatmap,
        grid=tuple(model.output[HEATMAP].shape[1:3]) if heatmap else None,
        dataset=config.dataset,
        run={**run, "float_layers": list(kept)} if kept else run,
        metrics={split: {"auc": c.auc, "accuracy": c.accuracy} for split, c in verdict.comparisons.items()},
    )


def _publish(out: Path, ready: Sequence[tuple[Exported, bytes]]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for exported, content in ready:
        with whole_file(exported.path) as beside:
            beside.write_bytes(content)
    write_json(out / "export.json", as_json([exported for exported, _ in ready]))
