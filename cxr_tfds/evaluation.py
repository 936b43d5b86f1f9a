"""Scoring a split with a trained model, and the figures of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds import metrics
from cxr_tfds.datasets import BuiltDataset, DatasetName, open_dataset
from cxr_tfds.errors import InputError
from cxr_tfds.figures import figures
from cxr_tfds.reading import numpy_batches
from cxr_tfds.run_folder import RunConfig


class Scores(NamedTuple):
    """What a model says of a split, in the order of the records."""

    image_ids: list[str]
    patient_ids: list[str]  # "" where unknown
    labels: np.ndarray  # int64 (N,)
    logits: np.ndarray  # float32 (N,) for two classes, (N, K) for more

    @property
    def probabilities(self) -> np.ndarray:
        """Of the finding (N,), or of each class (N, K)."""
        return probabilities(self.logits)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Sigmoid of logits (N,), softmax of logits (N, K); float64."""
    logits = logits.astype(np.float64)
    if logits.ndim == 1:
        return 0.5 * (1 + np.tanh(logits / 2))  # the sigmoid, without overflow
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


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
    if dataset.encoded:
        return dataset.fitted(config.shape[0], channels=config.shape[2], fit=config.fit)
    return dataset


def score(model: Any, dataset: BuiltDataset, split: str) -> Scores:
    """Runs `model` over every image of `split`, unaugmented.

    Raises:
      InputError: the split does not exist or is empty, or a shard is damaged.
    """
    fields = ("image", "label", "image_id", "patient_id")
    image_ids: list[str] = []
    patient_ids: list[str] = []
    labels, logits = [], []
    for batch in numpy_batches(dataset, split, fields=fields):
        image_ids += [text.decode() for text in batch["image_id"]]
        patient_ids += [text.decode() for text in batch["patient_id"]]
        labels.append(batch["label"])
        logits.append(model.predict_on_batch(batch["image"]))
    whole = np.concatenate(logits)
    return Scores(image_ids, patient_ids, np.concatenate(labels), whole[:, 0] if whole.shape[1] == 1 else whole)


def choose_threshold(scores: Scores, rule: str) -> float | None:
    """By `rule` on these scores; None with more than two classes.

    Raises:
      InputError: one class is missing, so nothing can be chosen.
    """
    if scores.logits.ndim > 1:
        return None
    return metrics.best_threshold(scores.labels, scores.probabilities, rule)


def measure(scores: Scores, threshold: float | None) -> dict[str, Any]:
    """The figures of a scored split, see `cxr_tfds.figures`; intervals are resampled by patient."""
    return figures(scores.labels, scores.probabilities, threshold, scores.patient_ids)
