"""Exports a run: from the run folder to checked `.tflite` files, step by step."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.files import format_json, write_files
from cxr_tfds.locks import lock_folder
from cxr_tfds.metrics.logits import decisions, probabilities
from cxr_tfds.progress import progress_bar
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.signing import load_private_key
from cxr_tfds.sources.paths import join_names
from cxr_tfds.text import did_you_mean, say, text_table
from cxr_tfds.training.decision import with_threshold_rule

from .check import Reference, Verdict, explain_failure, find_doubts, judge, judge_findings
from .convert import convert_each, to_tflite
from .edge.model_file import append_model_info
from .edge.runtime import RUNTIMES
from .formats import FORMATS, RGB_FORMATS
from .inference import litert_predictor, pick_images, predict_split
from .measure import run_in_runtimes, sample_numbers
from .opened import OpenRun, make_model_info, open_run
from .outcomes import describe_outcomes
from .representative import representative_images
from .results import (
    RESULTS,
    Exported,
    RuntimeResult,
    file_model_card,
    read_rows,
    to_json,
)
from .rgb import choose_shift, with_probabilities
from .selective import SelectiveQuantizer
from .variants import Variant

_KERAS = "Keras"  # the Keras model, among the formats
_LAYER_ERROR_IMAGES = 32


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a file must fulfil to be published."""

    max_auc_drop: float = 0.005  # of the validation AUC
    min_agreement: float = 0.98  # share of the Keras model's decisions on validation
    runtimes: tuple[str, ...] = tuple(RUNTIMES)  # that must run the file
    strict: bool = False  # whether too few validation images or a worse test split prevent it


def export_run(
    run: str | Path,
    out: str | Path,
    formats: Sequence[str] = ("int8",),
    *,
    data_dir: str | Path | None = None,
    variant: str | Variant = Variant.GREY,
    threshold_rule: str | None = None,
    representative: int = 256,
    limits: Limits | None = None,
    keep_float: Sequence[str] = (),
    sign: str | Path | None = None,
) -> list[Exported]:
    """Converts a run to each format, checks the files and publishes all of them, or none.

    Args:
      run: The run folder.
      out: Folder for `<run>-<format>.tflite`, with the variant in the name unless it is grey, and
        `export.json`.
      formats: Keys of `FORMATS`.
      data_dir: Folder of the dataset if it was moved.
      variant: "grey", "plain" or "rgb", see `Variant`.
      threshold_rule: Chooses the threshold again on validation, see `cxr_tfds.metrics.thresholds`;
        None keeps the threshold of the run. The run folder is not changed.
      representative: Number of training images that set the quantization ranges.
      limits: `Limits()` if None.
      keep_float: Layers that stay float32 in the int8 formats.
      sign: File of the Ed25519 private key that signs the files, see `cxr_tfds.signing`.

    Returns:
      The published files, in the order of `formats`.

    Raises:
      MissingData: The run, its model or its dataset does not exist.
      InputError: A format or variant is unknown or they do not fit each other, a layer cannot stay
        float32, or a file exceeds the limits or does not run in a runtime it must run in. Nothing
        is published then.
    """
    if variant not in set(Variant):
        raise InputError(f"variant: {did_you_mean(variant, [one.value for one in Variant])}")
    out, limits, variant = Path(out), limits or Limits(), Variant(variant)
    _check_formats(formats, variant, keep_float)
    read_rows(out)  # reports a corrupt file before minutes of work
    key = None if sign is None else load_private_key(sign)
    opened = open_run(Path(run), data_dir)
    if threshold_rule is not None:
        config = with_threshold_rule(opened.model, opened.dataset, opened.config, threshold_rule)
        opened = opened._replace(config=config)
    dataset, is_rgb = opened.dataset, variant is Variant.RGB
    suffix = "" if variant is Variant.GREY else f"-{variant.value}"
    chosen = np.empty((0, *dataset.shape), np.uint8)
    if any(FORMATS[name].quantizes_activations for name in formats):
        chosen = representative_images(dataset, representative)
    model = variant.wrap(opened.model)
    flatbuffers = convert_each(model, formats, variant.prepare(chosen), keep_float, rgb=is_rgb)
    keras, logits = _predict(opened, variant, flatbuffers)
    judge_file = judge_findings if opened.several_findings else judge
    numbers = sample_numbers(dataset.sizes["validation"])
    expected = _decisions(keras["validation"])[numbers]
    images = variant.prepare(pick_images(dataset, "validation", numbers))
    files = []
    for name, flatbuffer in flatbuffers.items():
        path = out / f"{opened.name}-{name}{suffix}.tflite"
        verdict = judge_file(keras, logits[name])
        shift = choose_shift(verdict.threshold) if is_rgb else 0.0
        if is_rgb:
            flatbuffer = with_probabilities(
                flatbuffer,
                verdict.temperature,
                opened.config.labels,
                opened.name,
                several_findings=opened.several_findings,
                shift=shift,
            )
        say(f"running {name} in each runtime")
        outputs, refused = run_in_runtimes(flatbuffer, images)
        ran = []
        for runtime, (row, values) in outputs.items():
            agreement = _agreement(values, verdict, expected, is_rgb)
            ran.append(RuntimeResult(runtime, **row, images=len(images), agreement=agreement))
        for runtime in limits.runtimes:
            if runtime in refused:
                raise InputError(
                    f"{path.name} was not published: {refused[runtime].rstrip('.')}. Choose "
                    "another format, or publish it for other runtimes with --runtime litert."
                )
        if failure := _find_failure(verdict, ran, limits):
            layers = _explain_layers(opened.model, chosen) if FORMATS[name].can_keep_float else ""
            raise InputError(f"{path.name} was not published: {failure}.{layers}")
        doubts = find_doubts(verdict.comparisons, limits.max_auc_drop, limits.min_agreement)
        if doubts and limits.strict:
            raise InputError(
                f"{path.name} was not published because of --strict: {' '.join(doubts)}"
            )
        if verdict.not_judged:
            say(
                f"{name}: not checked, because validation does not have both present and absent "
                f"images: {join_names(verdict.not_judged)}"
            )
        elif verdict.comparisons["validation"].auc is None:
            say(f"{name}: a class has no validation image, so the AUC was not checked")
        float_layers = keep_float if FORMATS[name].can_keep_float else ()
        validation = keras["validation"], logits[name]["validation"]
        outcomes = describe_outcomes(*validation, verdict.temperature, opened.config.labels)
        info = make_model_info(opened, variant, name, verdict, refused, float_layers, model)
        info = dataclasses.replace(info, shift=shift, **outcomes)
        model_card = file_model_card(opened.model_card, info, verdict.comparisons, doubts)
        content = append_model_info(flatbuffer, info, model_card, key)
        exported = Exported(path, name, len(content), *verdict, ran, refused, doubts)
        files.append((exported, content))
    with lock_folder(out):
        return _publish(out, files)


def _check_formats(formats: Sequence[str], variant: Variant, keep_float: Sequence[str]) -> None:
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"format: {did_you_mean(name, list(FORMATS))}")
        if variant is Variant.RGB and name not in RGB_FORMATS:
            raise InputError(
                f"The rgb variant takes uint8 and gives float32; {name} does not support this. "
                f"Choose {', '.join(RGB_FORMATS)}."
            )
    if keep_float and not any(FORMATS[name].can_keep_float for name in formats):
        able = " or ".join(name for name, form in FORMATS.items() if form.can_keep_float)
        raise InputError(
            f"--keep-float {keep_float[0]}: {', '.join(formats)} cannot keep layers in float32. "
            f"Add the format {able}."
        )


def _predict(
    opened: OpenRun, variant: Variant, flatbuffers: dict[str, bytes]
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Returns the Keras model by split, and logits by format and split. Reads each split once.

    The Keras model is a `Reference`, or for several findings a dictionary of them.
    """
    predictors = {name: litert_predictor(body) for name, body in flatbuffers.items()}
    keras, logits = {}, {name: {} for name in flatbuffers}  # type: ignore[var-annotated]

    def predict(images: np.ndarray) -> dict[str, np.ndarray]:
        prepared = variant.prepare(images)
        outputs = {name: predictor(prepared) for name, predictor in predictors.items()}
        return {_KERAS: opened.model.predict_on_batch(images), **outputs}

    for split in ("validation", "test"):
        if count := opened.dataset.sizes.get(split):
            label = f"running Keras, {', '.join(flatbuffers)} on {split}"
            with progress_bar(label, count) as advance:
                labels, outputs = predict_split(opened.dataset, split, predict, advance)
            keras[split] = _make_reference(opened.config, labels, outputs.pop(_KERAS))
            for name, values in outputs.items():
                logits[name][split] = values
    return keras, logits


def _make_reference(
    config: RunConfig, labels: np.ndarray, logits: np.ndarray
) -> Reference | dict[str, Reference]:
    """Returns the Keras model on a split, for several findings by finding."""
    threshold, temperature = config.threshold, config.temperature
    if isinstance(threshold, tuple) and isinstance(temperature, tuple):
        columns = zip(labels.T, logits.T, threshold, temperature, strict=True)
        return dict(zip(config.labels, itertools.starmap(Reference, columns), strict=True))
    if isinstance(threshold, tuple) or isinstance(temperature, tuple):
        raise InputError(
            f"threshold={threshold} and temperature={temperature} of the run contradict each "
            "other. Train again."
        )
    return Reference(labels, logits, threshold, temperature)


def _decisions(keras: Any) -> np.ndarray:
    """Returns class numbers (N,), or for several findings 1 or 0 for each (N, K)."""
    if isinstance(keras, Reference):
        return keras.decisions
    return np.stack([reference.decisions for reference in keras.values()], axis=1)


def _agreement(outputs: np.ndarray, verdict: Verdict, expected: np.ndarray, is_rgb: bool) -> float:
    """Returns the share of the expected decisions among the decisions from a runtime's outputs.

    Of several findings, this is the lowest share.
    """
    several = expected.ndim == 2
    if several:
        outputs = outputs.reshape(expected.shape)
    if not is_rgb:
        outputs = probabilities(outputs, verdict.temperature, several_findings=several)
    elif verdict.threshold is not None and not several:
        outputs = outputs[:, 1]
    threshold = 0.5 if is_rgb and verdict.threshold is not None else verdict.threshold
    equal = decisions(outputs, threshold) == expected
    if not several:
        return float(equal.mean())
    findings = verdict.comparisons["validation"].findings
    judged = [name not in verdict.not_judged for name in findings]
    return float(equal.mean(axis=0)[judged].min(initial=1))


def _find_failure(verdict: Verdict, ran: list[RuntimeResult], limits: Limits) -> str | None:
    """Returns why a file must not be published, or None."""
    validation = verdict.comparisons["validation"]
    failure = explain_failure(validation, limits.max_auc_drop, limits.min_agreement)
    if failure is not None:
        return f"on validation {failure}"
    for run in ran:
        if run.runtime in limits.runtimes and run.agreement < limits.min_agreement:
            return (
                f"in {run.runtime} it makes {run.agreement:.2%} of the Keras model's decisions; "
                f"expected at least {limits.min_agreement:.2%}"
            )
    return None


def _explain_layers(keras_model: Any, chosen: np.ndarray) -> str:
    """Returns what each layer loses in int8, as text."""
    say("measuring what each layer loses in int8")
    float_flatbuffer = to_tflite(keras_model, "float32", ())
    quantizer = SelectiveQuantizer(float_flatbuffer, keras_model.name, chosen)
    errors = quantizer.layer_errors(chosen[:_LAYER_ERROR_IMAGES])
    table = text_table([(layer, f"{error:.6f}") for layer, error in errors.items()])
    return (
        f"\nRoot mean square error of the logits if one layer alone is quantized:\n{table}\n"
        "Keep the worst layers in float32 with --keep-float LAYER."
    )


def _publish(out: Path, files: Sequence[tuple[Exported, bytes]]) -> list[Exported]:
    """Writes the files and `export.json`, which keeps the rows of earlier files in `out`."""
    published = [exported for exported, _ in files]
    replaced = {exported.path.name for exported in published}
    rows = read_rows(out)
    kept = [x for x in rows if x["path"] not in replaced and (out / x["path"]).is_file()]
    contents: dict[Path, str | bytes] = {exported.path: content for exported, content in files}
    write_files(contents | {out / RESULTS: format_json(to_json(published, kept))})
    return published
