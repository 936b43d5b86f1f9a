"""Exports a run: from the run folder to checked `.tflite` files, step by step."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.scoring import open_run_dataset
from cxr_tfds.files import complete_file, write_json
from cxr_tfds.metrics.logits import decisions, probabilities
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.run_folder import CARD, RunConfig, load_model
from cxr_tfds.text import did_you_mean, text_table

from .check import Reference, Verdict, explain_failure, judge
from .convert import to_tflite
from .edge.model_file import ModelInfo, append_model_info
from .edge.runtime import HEATMAP, RUNTIMES
from .formats import FORMATS, RGB_FORMATS
from .inference import litert_predictor, pick_images, predict_split
from .measure import run_in_runtimes, sample_numbers
from .representative import representative_images
from .results import Exported, RuntimeResult, file_model_card, to_json
from .rgb import with_probabilities
from .selective import SelectiveQuantizer
from .variants import Variant

RESULTS = "export.json"
_KERAS = "Keras"  # the Keras model, among the formats
_LAYER_ERROR_IMAGES = 32

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a file must fulfil to be published."""

    max_auc_drop: float = 0.005  # of the validation AUC
    min_agreement: float = 0.98  # share of the Keras model's decisions on validation
    runtimes: tuple[str, ...] = tuple(RUNTIMES)  # that must run the file


class OpenRun(NamedTuple):
    """A finished run."""

    name: str
    config: RunConfig
    dataset: BuiltDataset
    model: Any  # Keras, float32, pixels to logits
    model_card: str | None  # MODEL_CARD.md, None if the run has none


def export_run(
    run: str | Path,
    out: str | Path,
    formats: Sequence[str] = ("int8",),
    *,
    data_dir: str | Path | None = None,
    variant: str | Variant = Variant.GREY,
    representative: int = 256,
    limits: Limits | None = None,
    keep_float: Sequence[str] = (),
    say: Say = lambda line: None,
) -> list[Exported]:
    """Converts a run to each format, checks the files and publishes all of them, or none.

    Args:
      run: The run folder.
      out: Folder for `<run>-<format>.tflite`, with the variant in the name unless it is grey, and
        `export.json`.
      formats: Keys of `FORMATS`.
      data_dir: Folder of the dataset if it was moved.
      variant: "grey", "heatmap" or "rgb", see `Variant`.
      representative: Number of training images that set the quantization ranges.
      limits: `Limits()` if None.
      keep_float: Layers that stay float32 in the int8 formats.
      say: Receives lines of progress.

    Returns:
      The published files, in the order of `formats`.

    Raises:
      MissingData: The run, its model or its dataset does not exist.
      InputError: A format or variant is unknown or they do not fit each other, a layer cannot stay
        float32, or a file exceeds the limits or does not run in a runtime it must run in.
    """
    if variant not in set(Variant):
        raise InputError(f"variant: {did_you_mean(variant, [one.value for one in Variant])}")
    out, limits, variant = Path(out), limits or Limits(), Variant(variant)
    _check_formats(formats, variant, keep_float)
    opened = _open_run(Path(run), data_dir)
    dataset, is_rgb = opened.dataset, variant is Variant.RGB
    suffix = "" if variant is Variant.GREY else f"-{variant.value}"
    chosen = np.empty((0, *dataset.shape), np.uint8)
    if any(FORMATS[name].quantizes_activations for name in formats):
        chosen = representative_images(dataset, representative, say)
    model, flatbuffers = variant.wrap(opened.model), {}
    for name in formats:
        say(f"converting to {name}")
        images = variant.prepare(chosen)
        flatbuffers[name] = to_tflite(model, name, images, keep_float, rgb=is_rgb)
    keras, logits = _predict(opened, variant, flatbuffers, say)
    numbers = sample_numbers(dataset.sizes["validation"])
    images = variant.prepare(pick_images(dataset, "validation", numbers))
    files = []
    for name, flatbuffer in flatbuffers.items():
        path = out / f"{opened.name}-{name}{suffix}.tflite"
        verdict = judge(keras, logits[name])
        if is_rgb:
            labels = opened.config.labels
            flatbuffer = with_probabilities(flatbuffer, verdict.temperature, labels, opened.name)
        say(f"running {name} in each runtime")
        outputs, refused = run_in_runtimes(flatbuffer, images)
        expected = keras["validation"].decisions[numbers]
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
            can_keep_float = FORMATS[name].can_keep_float
            layers = _explain_layers(opened.model, chosen) if can_keep_float else ""
            raise InputError(f"{path.name} was not published: {failure}.{layers}")
        if verdict.comparisons["validation"].auc is None:
            say(f"{name}: a class has no validation image, so the AUC was not checked")
        float_layers = keep_float if FORMATS[name].can_keep_float else ()
        info = _model_info(opened, variant, name, verdict, refused, float_layers, model)
        model_card = file_model_card(opened.model_card, info, verdict.comparisons)
        content = append_model_info(flatbuffer, info, model_card)
        files.append((Exported(path, name, len(content), *verdict, ran, refused), content))
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


def _open_run(run: Path, data_dir: str | Path | None) -> OpenRun:
    config = RunConfig.read(run)
    dataset = open_run_dataset(config, data_dir)
    try:
        model_card = (run / CARD).read_text(encoding="utf-8")
    except FileNotFoundError:
        model_card = None
    except (OSError, UnicodeDecodeError) as err:
        raise InputError(
            f"Cannot read {run / CARD}: {err}. Write it again with: cxr-evaluate {run}"
        ) from err
    return OpenRun(run.resolve().name, config, dataset, load_model(run), model_card)


def _predict(
    opened: OpenRun, variant: Variant, flatbuffers: dict[str, bytes], say: Say
) -> tuple[dict[str, Reference], dict[str, dict[str, np.ndarray]]]:
    """Returns the Keras model by split, and logits by format and split. Reads each split once."""
    predictors = {name: litert_predictor(body) for name, body in flatbuffers.items()}
    keras, logits = {}, {name: {} for name in flatbuffers}  # type: ignore[var-annotated]

    def predict(images: np.ndarray) -> dict[str, np.ndarray]:
        prepared = variant.prepare(images)
        outputs = {name: predictor(prepared) for name, predictor in predictors.items()}
        return {_KERAS: opened.model.predict_on_batch(images), **outputs}

    for split in ("validation", "test"):
        if count := opened.dataset.sizes.get(split):
            say(f"running Keras, {', '.join(flatbuffers)} on {split} ({count} images)")
            labels, outputs = predict_split(opened.dataset, split, predict)
            decision = opened.config.threshold, opened.config.temperature
            keras[split] = Reference(labels, outputs.pop(_KERAS), *decision)
            for name, values in outputs.items():
                logits[name][split] = values
    return keras, logits


def _agreement(outputs: np.ndarray, verdict: Verdict, expected: np.ndarray, is_rgb: bool) -> float:
    """Returns the share of the expected decisions among the decisions from a runtime's outputs."""
    if not is_rgb:
        outputs = probabilities(outputs, verdict.temperature)
    elif verdict.threshold is not None:
        outputs = outputs[:, 1]
    return float((decisions(outputs, verdict.threshold) == expected).mean())


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
    float_flatbuffer = to_tflite(keras_model, "float32", ())
    quantizer = SelectiveQuantizer(float_flatbuffer, keras_model.name, chosen)
    errors = quantizer.layer_errors(chosen[:_LAYER_ERROR_IMAGES])
    table = text_table([(layer, f"{error:.6f}") for layer, error in errors.items()])
    return (
        f"\nRoot mean square error of the logits if one layer alone is quantized:\n{table}\n"
        "Keep the worst layers in float32 with --keep-float LAYER."
    )


def _model_info(
    opened: OpenRun,
    variant: Variant,
    name: str,
    verdict: Verdict,
    refused: dict[str, str],
    float_layers: Sequence[str],
    model: Any,
) -> ModelInfo:
    config, is_rgb, is_heatmap = opened.config, variant is Variant.RGB, variant is Variant.HEATMAP
    run = {
        "name": opened.name,
        "model": config.settings["model"],
        "environment": config.environment,
    }
    if float_layers:
        run["float_layers"] = list(float_layers)
    return ModelInfo(
        labels=config.labels,
        size=config.shape[0],
        channels=3 if is_rgb else config.shape[2],
        fit=config.fit,
        grey_levels=config.grey_levels,
        reader=opened.dataset.reader,
        threshold=verdict.threshold,
        temperature=verdict.temperature,
        quantization=name,
        runtimes=tuple(runtime for runtime in RUNTIMES if runtime not in refused),
        heatmap=is_heatmap,
        grid=tuple(model.output[HEATMAP].shape[1:3]) if is_heatmap else None,
        input="rgb" if is_rgb else "grey",
        dataset=config.dataset,
        run=run,
        metrics={
            split: {"auc": table.auc, "accuracy": table.accuracy}
            for split, table in verdict.comparisons.items()
        },
    )


def _publish(out: Path, files: Sequence[tuple[Exported, bytes]]) -> list[Exported]:
    """Writes the files and `export.json`, which keeps the rows of earlier files in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for exported, content in files:
        with complete_file(exported.path) as temporary:
            temporary.write_bytes(content)
    published = [exported for exported, _ in files]
    replaced = {exported.path.name for exported in published}
    try:
        rows = json.loads((out / RESULTS).read_text(encoding="utf-8"))["files"]
        kept = [x for x in rows if x["path"] not in replaced and (out / x["path"]).is_file()]
    except (OSError, ValueError, LookupError, TypeError):  # no results, or not readable
        kept = []
    write_json(out / RESULTS, to_json(published, kept))
    return published
