"""Scoring a split with a trained model, and the figures of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.metrics.logits import decisions, probabilities
from cxr_tfds.metrics.table import figures
from cxr_tfds.reading.cache import labels_of
from cxr_tfds.reading.datasets import BuiltDataset, DatasetName, open_dataset
from cxr_tfds.reading.in_order import numpy_batches
from cxr_tfds.run_folder import RunConfig

_KEPT_BYTES = 256 << 20  # of a split's images: 5,350 of 224 x 224


class Scores(NamedTuple):
    """What a model says of a split, in the order of the records."""

    image_ids: list[str]
    patient_ids: list[str]  # "" where unknown
    labels: np.ndarray  # int64 (N,)
    logits: np.ndarray  # float32 (N,) for two classes, (N, K) for more
    findings: list[str] | None = (
        None  # such as "bacteria", "" where unknown; None: the dataset has none
    )
    temperature: float = 1.0  # of the model, which divides the logits

    @property
    def probabilities(self) -> np.ndarray:
        """Calibrated, of the finding (N,), or of each class (N, K)."""
        return probabilities(self.logits, self.temperature)

    def decisions(self, threshold: float | None) -> np.ndarray:
        """Class numbers (N,): by the threshold, or the most probable class where it is None."""
        return decisions(self.probabilities, threshold)


class Kept(NamedTuple):
    """Images of a split that stay in memory: all of them, or by lot as many as fit, each class by its share."""

    places: np.ndarray  # int64 (M,), rising: which of the split's images
    images: np.ndarray  # uint8 (M, S, S, C)


def dataset_of(config: RunConfig, data_dir: Path | None = None) -> BuiltDataset:
    """The dataset a run was trained on.

    Raises:
      MissingData: it is not where it was; the message says how to build it.
      InputError: what stands there now has other examples than the run was trained on.
    """
    folder = Path(data_dir or config.settings["data_dir"])
    dataset = open_dataset(DatasetName.parse(config.dataset["name"]), folder)
    if dataset.fingerprint != config.dataset["fingerprint"]:
        raise InputError(
            f"{dataset.name} in {folder} holds other examples than the run was trained on. "
            "Train again, or point --data-dir to the dataset of the run."
        )
    dataset = dataset.targeted(config.settings.get("target", "label"))
    if dataset.encoded:
        return dataset.fitted(config.shape[0], channels=config.shape[2], fit=config.fit)
    return dataset


def score(model: Any, dataset: BuiltDataset, split: str, temperature: float = 1.0) -> Scores:
    """Runs `model` over every image of `split`, unaugmented.

    Raises:
      InputError: the split does not exist or is empty, or a shard is damaged.
    """
    return score_and_keep(model, dataset, split, temperature, kept_bytes=0)[0]


def score_and_keep(
    model: Any,
    dataset: BuiltDataset,
    split: str,
    temperature: float = 1.0,
    *,
    kept_bytes: int = _KEPT_BYTES,
) -> tuple[Scores, Kept]:
    """The same, and the images for what comes after, so that the split is read once. Raises as `score` does."""
    dataset.check_split(split)
    wanted = _lot(dataset, split, kept_bytes // math.prod(dataset.shape))
    names = dataset.findings
    fields = ("image", "label", "image_id", "patient_id", *(["finding"] if names else []))
    columns: dict[str, list[Any]] = {"image_id": [], "patient_id": [], "finding": []}
    labels, logits, images = [], [], [np.empty((0, *dataset.shape), np.uint8)]
    start = 0
    for batch in numpy_batches(dataset, split, fields=fields):
        for name in ("image_id", "patient_id"):
            columns[name] += [text.decode() for text in batch[name]]
        columns["finding"] += [
            names[number] if number >= 0 else "" for number in batch.get("finding", ())
        ]
        labels.append(batch["label"])
        logits.append(model.predict_on_batch(batch["image"]))
        end = start + len(batch["label"])
        first, last = np.searchsorted(wanted, (start, end))
        images.append(batch["image"][wanted[first:last] - start])
        start = end
    scores = Scores(
        columns["image_id"],
        columns["patient_id"],
        np.concatenate(labels),
        flat(np.concatenate(logits)),
        columns["finding"] if names else None,
        temperature,
    )
    return scores, Kept(wanted, np.concatenate(images))


def _lot(dataset: BuiltDataset, split: str, limit: int) -> np.ndarray:
    """Which images are kept, rising: all, or `limit` of them, drawn from each class by its share, at least one of each.

    Without a positive or a negative among them no threshold and no AUC under stress would be defined.
    """
    if not limit or dataset.sizes[split] <= limit:
        return np.arange(min(limit, dataset.sizes[split]))
    labels = labels_of(dataset, split).numpy()
    drawn = np.random.default_rng(0).permutation(len(labels))
    place = np.empty(len(labels))  # in the queue of its class, from 0 to 1
    for label in set(labels.tolist()):
        queue = drawn[labels[drawn] == label]
        place[queue] = np.arange(len(queue)) / len(queue)
    return np.sort(drawn[np.argsort(place[drawn], kind="stable")[:limit]])


def flat(logits: np.ndarray) -> np.ndarray:
    """(N,) of logits (N, 1), and (N, K) as it is."""
    return logits[:, 0] if logits.shape[1] == 1 else logits


def measure(scores: Scores, config: RunConfig) -> dict[str, Any]:
    """The figures of a scored split, see `cxr_tfds.metrics.table`; intervals are resampled by patient."""
    return figures(
        scores.labels,
        scores.probabilities,
        config.threshold,
        scores.patient_ids,
        names=config.labels,
        findings=scores.findings,
        ranked_by=scores.logits if scores.logits.ndim == 1 else None,
    )
