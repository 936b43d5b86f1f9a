"""From a run folder to checked `.tflite` files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds.datasets import BuiltDataset
from cxr_tfds.errors import InputError
from cxr_tfds.evaluation import Scores, dataset_of, score
from cxr_tfds.reading import load_split
from cxr_tfds.run_folder import RunConfig, load_model, whole_file, write_json

from .check import RUNTIME, Comparison, compare, exported_logits, failure, matching_threshold
from .convert import to_tflite
from .edge.model_file import Card, append_card

_SEED = 0  # of the choice of calibration images: the same run gives the same file


class Exported(NamedTuple):
    """A published file and how it compares, by split."""

    path: Path
    quantization: str
    size_bytes: int
    runtime: str  # it was loaded and run in
    threshold: float | None
    comparisons: dict[str, Comparison]

    def as_json(self) -> dict[str, Any]:
        table = {split: dataclasses.asdict(comparison) for split, comparison in self.comparisons.items()}
        return {**self._asdict(), "path": self.path.name, "comparisons": table}


def export_run(
    run: Path,
    out: Path,
    quantizations: Sequence[str],
    *,
    data_dir: Path | None = None,
    calibration: int = 256,
    max_auc_drop: float = 0.005,
    min_agreement: float = 0.98,
    say: Callable[[str], None] = lambda line: None,
) -> list[Exported]:
    """Converts, loads and compares each format, then publishes those files and `export.json`.

    Args:
      run: the run folder.
      out: where `<run>-<quantization>.tflite` go.
      quantizations: of `Card.quantization`.
      data_dir: where the dataset of the run stands, if it moved.
      calibration: number of training images that set the int8 ranges, class by class in equal parts.
      max_auc_drop: how much validation AUC may be lost.
      min_agreement: part of the validation decisions that must be equal.
      say: takes a line about what is going on.

    Returns:
      What was published, in the order of `quantizations`.

    Raises:
      MissingData: the run, its model or its dataset is not there.
      InputError: a format loses more than allowed; nothing at all is published then.
    """
    config = RunConfig.read(run)
    dataset = dataset_of(config, data_dir)
    model = load_model(run)
    splits = [split for split in ("validation", "test") if dataset.sizes.get(split)]
    say(f"scoring the Keras model on {' and '.join(splits)}")
    keras = {split: score(model, dataset, split) for split in splits}
    images = {split: load_split(dataset, split).images for split in splits}
    chosen = calibration_images(dataset, calibration) if "int8" in quantizations else np.empty(0)
    ready: list[tuple[Exported, bytes]] = []
    for quantization in quantizations:
        say(f"converting to {quantization}")
        flatbuffer = to_tflite(model, quantization, chosen)
        exported, content = _checked(flatbuffer, quantization, config, run, out, keras, images, say)
        if why := failure(exported.comparisons["validation"], max_auc_drop, min_agreement):
            raise InputError(f"{exported.path.name} was not published: on validation {why}.")
        ready.append((exported, content))
    out.mkdir(parents=True, exist_ok=True)
    for exported, content in ready:
        with whole_file(exported.path) as beside:
            beside.write_bytes(content)
    write_json(out / "export.json", [exported.as_json() for exported, _ in ready])
    return [exported for exported, _ in ready]


def calibration_images(dataset: BuiltDataset, count: int) -> np.ndarray:
    """Training images as they are stored, unaugmented, as many of each class: uint8 (<= count, S, S, C)."""
    examples = load_split(dataset, "train")
    rng = np.random.default_rng(_SEED)
    share = max(1, count // len(dataset.labels))
    chosen = [rng.permutation(np.flatnonzero(examples.labels == label))[:share] for label in range(len(dataset.labels))]
    return examples.images[np.sort(np.concatenate(chosen))]


def _checked(
    flatbuffer: bytes,
    quantization: str,
    config: RunConfig,
    run: Path,
    out: Path,
    keras: dict[str, Scores],
    images: dict[str, np.ndarray],
    say: Callable[[str], None],
) -> tuple[Exported, bytes]:
    """Runs the flatbuffer in a device runtime, compares it, and gives it its card."""
    logits = {}
    for split, of_split in images.items():
        say(f"running {quantization} on {split} ({len(of_split)} images)")
        logits[split] = exported_logits(flatbuffer, of_split)
    threshold = matching_threshold(keras["validation"], logits["validation"], config.threshold)
    comparisons = {split: compare(keras[split], logits[split], config.threshold, threshold) for split in keras}
    name = run.resolve().name
    card = Card(
        labels=config.labels,
        size=config.shape[0],
        channels=config.shape[2],
        fit=config.fit,
        threshold=threshold,
        temperature=1.0,
        quantization=quantization,
        dataset=config.dataset,
        run={"name": name, "model": config.settings["model"], "environment": config.environment},
        metrics={split: {"auc": c.auc, "accuracy": c.accuracy} for split, c in comparisons.items()},
    )
    content = append_card(flatbuffer, card)
    path = out / f"{name}-{quantization}.tflite"
    return Exported(path, quantization, len(content), RUNTIME, threshold, comparisons), content
