"""From a run folder to checked `.tflite` files."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.scoring import Scores, open_run_dataset, score_and_sample
from cxr_tfds.files import complete_file, write_json
from cxr_tfds.metrics.logits import decisions, probabilities
from cxr_tfds.run_folder import CARD, RunConfig, load_model

from .calibration import calibration_images
from .check import RUNTIME, Verdict, as_logits, compared, exported_answers, failure, judge
from .convert import calibrated, to_tflite
from .edge.model_file import Card, append_card
from .edge.runtime import HEATMAP, RUNTIMES
from .formats import FORMATS, RGB_FORMATS
from .heatmap import with_heatmap
from .layers import layer_errors, report
from .measure import in_runtimes, runnable, sample
from .results import Exported, InRuntime, as_json, card_text
from .rgb import as_rgb, with_grey, with_probabilities

RESULTS = "export.json"
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
    images: dict[
        str, np.ndarray
    ]  # by split, as the file takes them: uint8 (N, S, S, C), or (N, S, S, 3)
    chosen: np.ndarray  # uint8 (N, S, S, C) to calibrate with; none where no format needs them
    about: str | None  # the model card of the run
    rgb: bool  # whether the files take RGB and give probabilities, see `rgb`
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
    rgb: bool = False,
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
      rgb: whether the files take RGB and give calibrated probabilities, with standard metadata; their names
        end in `-rgb.tflite`.
      keep_float: layers that stay float32 in the int8 formats.
      say: takes a line about what is going on.

    Returns:
      What was published, in the order of `quantizations`.

    Raises:
      MissingData: the run, its model or its dataset is not there.
      InputError: a format loses more than allowed or does not run in a runtime it must run in, or
        `keep_float`, or `rgb` with the heatmap or the format, cannot be done; nothing at all is published then.
    """
    demands = demands or Demands()
    if rgb:
        _check_rgb(quantizations, heatmap)
    if keep_float and not any(FORMATS[name].selective for name in quantizations):
        able = " or ".join(name for name, form in FORMATS.items() if form.selective)
        raise InputError(
            f"--keep-float {keep_float[0]}: none of {', '.join(quantizations)} keeps layers; add {able}."
        )
    needed = any(FORMATS[name].calibrated for name in quantizations)
    job = _job(run, out, data_dir, demands, rgb, calibration if needed else 0, say)
    whole = with_heatmap(job.model) if heatmap else with_grey(job.model) if rgb else job.model
    chosen = as_rgb(job.chosen) if rgb else job.chosen
    ready: list[tuple[Exported, bytes]] = []
    for quantization in quantizations:
        say(f"converting to {quantization}")
        kept = tuple(keep_float) if FORMATS[quantization].selective else ()
        body = to_tflite(whole, quantization, chosen, kept, rgb=rgb)
        flatbuffer, verdict = _judged(job, body, quantization)
        ran, refused = _run(job, flatbuffer, quantization, verdict)
        card = _card(job, quantization, verdict, whole, runnable(refused), kept)
        content = append_card(flatbuffer, card, card_text(job.about, card, verdict.comparisons))
        path = _path(job, quantization)
        ready.append((Exported(path, quantization, len(content), *verdict, ran, refused), content))
    _publish(out, ready)
    return [exported for exported, _ in ready]


def _check_rgb(quantizations: Sequence[str], heatmap: bool) -> None:
    """Raises:
    InputError: what is asked for does not go with RGB.
    """
    if heatmap:
        raise InputError(
            "--input rgb gives probabilities alone, for programs that expect one output; leave --heatmap."
        )
    for name in quantizations:
        if name not in RGB_FORMATS:
            raise InputError(
                f"--input rgb takes uint8 and gives float32, which {name} does not; choose {', '.join(RGB_FORMATS)}."
            )


def _job(
    run: Path,
    out: Path,
    data_dir: Path | None,
    demands: Demands,
    rgb: bool,
    calibration: int,
    say: Callable[[str], None],
) -> _Job:
    config, about = RunConfig.read(run), _about(run)
    dataset = open_run_dataset(config, data_dir)
    model = load_model(run)
    splits = [split for split in ("validation", "test") if dataset.sizes.get(split)]
    say(f"scoring the Keras model on {' and '.join(splits)}")
    scores, images = {}, {}
    for split in splits:
        scores[split], kept = score_and_sample(
            model, dataset, split, config.temperature, sample_bytes=sys.maxsize
        )
        images[split] = as_rgb(kept.images) if rgb else kept.images
    none = np.empty((0, *dataset.shape), np.uint8)
    chosen = calibration_images(dataset, calibration, say) if calibration else none
    name = run.resolve().name
    return _Job(config, name, model, out, demands, scores, images, chosen, about, rgb, say)


def _about(run: Path) -> str | None:
    """Raises:
    InputError: the model card cannot be read.
    """
    try:
        return (run / CARD).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as err:
        raise InputError(
            f"{run / CARD} cannot be read: {err}. Write it anew with: cxr-evaluate {run}"
        ) from err


def _path(job: _Job, quantization: str) -> Path:
    return job.out / f"{job.name}-{quantization}{'-rgb' if job.rgb else ''}.tflite"


def _judged(job: _Job, body: bytes, quantization: str) -> tuple[bytes, Verdict]:
    """Runs the body, which gives logits, in LiteRT on every split.

    Returns:
      What is to be published, the body or what was made of it, and what was found of that.

    Raises:
      InputError: it loses more than allowed; for an int8 format the message tells where.
    """
    threshold = job.config.threshold
    flatbuffer, verdict = body, judge(job.scores, _answers(job, body, quantization), threshold)
    if job.rgb:
        flatbuffer = with_probabilities(body, verdict.temperature, job.config.labels, job.name)
        given = _answers(job, flatbuffer, f"{quantization} with probabilities")
        logits = {split: as_logits(found, verdict.temperature) for split, found in given.items()}
        verdict = compared(verdict, job.scores, logits, threshold)
    found = verdict.comparisons["validation"]
    if found.auc is None:
        job.say(
            f"{quantization}: a class has no validation image, so there is no AUC and --max-auc-drop asks nothing"
        )
    why = failure(found, job.demands.max_auc_drop, job.demands.min_agreement)
    if why is not None:
        raise _refusal(job, quantization, f"on validation {why}")
    return flatbuffer, verdict


def _refusal(job: _Job, quantization: str, why: str) -> InputError:
    """Says why a file was not published and, of an int8 format, what each layer loses.

    The other formats quantize otherwise, and `layers` cannot tell them what they lose.
    """
    text = f"{_path(job, quantization).name} was not published: {why}."
    if FORMATS[quantization].selective:
        errors = layer_errors(
            calibrated(job.model, job.chosen), job.model.name, job.chosen[:_REPORTED]
        )
        text += f"\nWhat each layer loses:\n{report(errors)}\nKeep the worst in float32 with --keep-float LAYER."
    return InputError(text)


def _answers(job: _Job, flatbuffer: bytes, name: str) -> dict[str, np.ndarray]:
    """What the flatbuffer gives in LiteRT for every split."""
    found = {}
    for split, images in job.images.items():
        job.say(f"running {name} on {split} ({len(images)} images)")
        found[split] = exported_answers(flatbuffer, images)
    return found


def _run(
    job: _Job, flatbuffer: bytes, quantization: str, verdict: Verdict
) -> tuple[list[InRuntime], dict[str, str]]:
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
    own = keras.decisions(job.config.threshold)[part]
    rows = []
    for found in ran:
        if found.runtime == RUNTIME:  # all of validation was run in this process
            count, agreement = len(images), verdict.comparisons["validation"].agreement
        else:
            logits = as_logits(found.answers, verdict.temperature) if job.rgb else found.answers
            decided = decisions(probabilities(logits, verdict.temperature), verdict.threshold)
            count, agreement = len(part), float((decided == own).mean())
        if found.runtime in job.demands.runtimes and agreement < job.demands.min_agreement:
            needed = f"{job.demands.min_agreement:.2%} are needed"
            why = f"in {found.runtime} it agrees on {agreement:.2%} of the decisions; {needed}"
            raise _refusal(job, quantization, why)
        rows.append(
            InRuntime(
                found.runtime, found.version, count, agreement, found.latency_ms, found.peak_mb
            )
        )
    return rows, refused


def _card(
    job: _Job,
    quantization: str,
    verdict: Verdict,
    model: Any,
    runtimes: tuple[str, ...],
    kept: tuple[str, ...],
) -> Card:
    config = job.config
    heatmap = isinstance(model.output, dict)
    run = {"name": job.name, "model": config.settings["model"], "environment": config.environment}
    return Card(
        labels=config.labels,
        size=config.shape[0],
        channels=3 if job.rgb else config.shape[2],
        fit=config.fit,
        threshold=verdict.threshold,
        temperature=verdict.temperature,
        quantization=quantization,
        runtimes=runtimes,
        heatmap=heatmap,
        grid=tuple(model.output[HEATMAP].shape[1:3]) if heatmap else None,
        input="rgb" if job.rgb else "grey",
        dataset=config.dataset,
        run={**run, "float_layers": list(kept)} if kept else run,
        metrics={
            split: {"auc": c.auc, "accuracy": c.accuracy}
            for split, c in verdict.comparisons.items()
        },
    )


def _publish(out: Path, ready: Sequence[tuple[Exported, bytes]]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for exported, content in ready:
        with complete_file(exported.path) as beside:
            beside.write_bytes(content)
    files = [exported for exported, _ in ready]
    write_json(out / RESULTS, as_json(files, _kept_rows(out, {file.path.name for file in files})))


def _kept_rows(out: Path, replaced: set[str]) -> list[dict[str, Any]]:
    """What an earlier export said of the files that still stand in `out`."""
    try:
        rows = json.loads((out / RESULTS).read_text(encoding="utf-8"))["files"]
        return [
            row for row in rows if row["path"] not in replaced and (out / row["path"]).is_file()
        ]
    except (OSError, ValueError, LookupError, TypeError):  # none, or nothing that can be read
        return []
