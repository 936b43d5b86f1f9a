"""Runs a trained model over a split and computes its metrics."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds.metrics.findings import evaluate_findings
from cxr_tfds.metrics.logits import decisions, probabilities
from cxr_tfds.metrics.resampling import RESAMPLES
from cxr_tfds.metrics.summary import evaluate_split
from cxr_tfds.progress import progress_bar
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.sequential import (
    check_labels_unchanged,
    name_corrupt_shard,
    read_columns,
)
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.task import Task

_SAMPLE_BYTES = 256 << 20  # 5,350 images of 224 x 224
_BATCH = 64


Temperature = float | tuple[float, ...]  # of each of several findings
Threshold = float | tuple[float, ...] | None


class Scores(NamedTuple):
    """The output of a model for each image of a split, in stored order."""

    image_ids: list[str]
    patient_ids: list[str]  # "" where unknown
    # int64 (N,); for several findings float32 (N, K): 1 present, 0 absent, NaN does not count.
    labels: np.ndarray
    logits: np.ndarray  # float32 (N,) for two classes, (N, K) for more or for several findings
    findings: list[str] | None = None  # "" where unknown; None: the dataset has no findings
    temperature: Temperature = 1.0  # divides the logits

    @property
    def several_findings(self) -> bool:
        """Whether an image may have several findings."""
        return self.labels.ndim == 2

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities after temperature scaling.

        Of the finding (N,), or of each class or each of several findings (N, K).
        """
        return probabilities(self.logits, self.temperature, several_findings=self.several_findings)

    def decisions(self, threshold: Threshold) -> np.ndarray:
        """Returns class numbers (N,), or the most probable class without a threshold.

        For several findings returns 1 or 0 for each (N, K).
        """
        return decisions(self.probabilities, threshold)

    def of_finding(self, number: int) -> tuple[np.ndarray, Scores]:
        """Returns which images count for one of several findings, and their scores for it alone.

        They have two classes: 0 absent, 1 present. The indices are int64 (M,).
        """
        counted = np.flatnonzero(~np.isnan(self.labels[:, number]))
        temperatures = np.broadcast_to(self.temperature, self.logits.shape[1])
        return counted, self.select(counted)._replace(
            labels=self.labels[counted, number].astype(np.int64),
            logits=self.logits[counted, number],
            temperature=float(temperatures[number]),
        )

    def select(self, indices: np.ndarray) -> Scores:
        """Returns the scores of some of the images."""
        return self._replace(
            image_ids=[self.image_ids[index] for index in indices],
            patient_ids=[self.patient_ids[index] for index in indices],
            labels=self.labels[indices],
            logits=self.logits[indices],
            findings=self.findings and [self.findings[index] for index in indices],
        )


class ImageSample(NamedTuple):
    """Images of a split in memory: all, or a stratified random sample of as many as fit."""

    indices: np.ndarray  # int64 (M,), sorted: their places in the split
    images: np.ndarray  # uint8 (M, S, S, C)


def score(model: Any, dataset: BuiltDataset, split: str, temperature: Temperature = 1.0) -> Scores:
    """Runs `model` over every image of `split`, without augmentation.

    Prints no line, because training calls this after each epoch.
    """
    return score_and_sample(model, dataset, split, temperature, sample_bytes=0, announce=False)[0]


def score_and_sample(
    model: Any,
    dataset: BuiltDataset,
    split: str,
    temperature: Temperature = 1.0,
    *,
    sample_bytes: int = _SAMPLE_BYTES,
    announce: bool = True,
) -> tuple[Scores, ImageSample]:
    """Runs `score` and also returns images, so that later steps need not read the split again.

    For `announce` see `progress_bar`.
    """
    dataset.check_split(split)
    indices = stratified_sample(dataset, split, sample_bytes // math.prod(dataset.shape))
    columns: dict[str, list[Any]] = {"image_id": [], "patient_id": [], "label": [], "finding": []}
    logits, targets, start = [], [], 0
    images = [np.empty((0, *dataset.shape), np.uint8)]
    bar = progress_bar(f"scoring {split}", dataset.sizes[split], announce=announce)
    with name_corrupt_shard(dataset), bar as advance:
        for batch, target, ids in dataset.batches(split, _BATCH, with_ids=True).as_numpy_iterator():
            for field, values in columns.items():
                values += ids[field].tolist()
            logits.append(model.predict_on_batch(batch))
            targets.append(target)
            first, last = np.searchsorted(indices, (start, start + len(batch)))
            images.append(batch[indices[first:last] - start])
            start += len(batch)
            advance(len(batch))
    labels = np.array(columns["label"])
    check_labels_unchanged(dataset, split, labels)
    several = dataset.task is Task.FINDINGS
    names = (*dataset.findings, "")  # -1 is unknown
    has_findings = dataset.findings and not several
    scores = Scores(
        [text.decode() for text in columns["image_id"]],
        [text.decode() for text in columns["patient_id"]],
        np.concatenate(targets) if several else labels,
        np.concatenate(logits) if several else squeeze_logits(np.concatenate(logits)),
        [names[number] for number in columns["finding"]] if has_findings else None,
        temperature,
    )
    return scores, ImageSample(indices, np.concatenate(images))


def stratified_sample(dataset: BuiltDataset, split: str, limit: int) -> np.ndarray:
    """Returns sorted indices of all images of a split, or of `limit` drawn at random by class.

    Each class, or each combination of several findings, contributes in proportion to its size, at
    least one image: without positives or negatives, neither threshold nor AUC would be defined in
    the stress test.
    """
    if not limit or dataset.sizes[split] <= limit:
        return np.arange(min(limit, dataset.sizes[split]))
    return stratify(read_columns(dataset, split, "label")["label"], limit)


def stratify(labels: np.ndarray, limit: int) -> np.ndarray:
    """Returns sorted indices of `limit` images drawn as `stratified_sample` does.

    `labels` are the classes (N,), or the states of several findings (N, K).
    """
    labels = np.unique(labels, axis=0, return_inverse=True)[1].ravel()
    drawn = np.random.default_rng(0).permutation(len(labels))
    order = np.empty(len(labels))  # place of each image in its class, from 0 to 1
    for label in np.unique(labels):
        members = drawn[labels[drawn] == label]
        order[members] = np.arange(len(members)) / len(members)
    return np.sort(drawn[np.argsort(order[drawn], kind="stable")[:limit]])


def squeeze_logits(logits: np.ndarray) -> np.ndarray:
    """Returns logits (N, 1) as (N,) and logits (N, K) unchanged."""
    return logits[:, 0] if logits.shape[1] == 1 else logits


def measure(scores: Scores, config: RunConfig) -> dict[str, Any]:
    """Returns the metrics of a scored split, see `evaluate_split` and `evaluate_findings`."""
    with progress_bar("intervals", RESAMPLES, unit="resample", announce=False) as advance:
        if isinstance(config.threshold, tuple):
            return evaluate_findings(
                scores.labels,
                scores.probabilities,
                config.threshold,
                scores.patient_ids,
                names=config.labels,
                ranking_scores=scores.logits,
                advance=advance,
            )
        return evaluate_split(
            scores.labels,
            scores.probabilities,
            config.threshold,
            scores.patient_ids,
            class_names=config.labels,
            findings=scores.findings,
            ranking_scores=scores.logits if scores.logits.ndim == 1 else None,
            advance=advance,
        )
