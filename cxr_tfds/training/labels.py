"""Checks the labels of a dataset before training starts."""

from __future__ import annotations

import sys

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.sequential import encode_labels, read_columns
from cxr_tfds.sources.paths import join_names
from cxr_tfds.task import Task


def check_labels(dataset: BuiltDataset) -> np.ndarray:
    """Returns the number of training images of each class after checking the labels of all splits.

    Every image needs a known label, and every split an image of each class. For several findings
    see `_check_findings`.
    """
    for split in ("train", "validation"):
        dataset.check_split(split)
    if dataset.task is Task.FINDINGS:
        return _check_findings(dataset)
    counts = {split: _count(dataset, split) for split, size in dataset.sizes.items() if size}
    for split, numbers in counts.items():
        by_label = dict(zip(dataset.labels, numbers, strict=True))
        if missing := [label for label, n in by_label.items() if not n]:
            why = "it cannot be learned" if split == "train" else "the AUC is undefined"
            raise InputError(
                f"Split {split!r} of {dataset.name} has no image of {', '.join(missing)} "
                f"({', '.join(f'{label} {n}' for label, n in by_label.items())}), so {why}. Add "
                "such images to the source or change the splits, and build the dataset again."
            )
    return np.array(counts["train"])


def _count(dataset: BuiltDataset, split: str) -> list[int]:
    labels = read_columns(dataset, split, "label")["label"]
    if unknown := int((labels == -1).sum()):
        advice = ", or train with --target label" if dataset.target == "finding" else ""
        raise InputError(
            f"{unknown} of {len(labels)} images in split {split!r} of {dataset.name} have an "
            f"unknown {dataset.target}; expected one of {', '.join(dataset.labels)}. Remove them "
            f"from the source and build the dataset again{advice}."
        )
    return np.bincount(labels, minlength=len(dataset.labels)).tolist()


def _check_findings(dataset: BuiltDataset) -> np.ndarray:
    """Returns the numbers of training images where each finding is absent and present, (2, K).

    Prints a warning for each finding that training or validation lack as present or as absent.

    Raises:
      InputError: That is so for all findings of a split.
    """
    counts = {split: _count_findings(dataset, split) for split in ("train", "validation")}
    for split, numbers in counts.items():
        consequence = "cannot be learned" if split == "train" else "have no AUC"
        lacking = [
            f"{name} ({present} present, {absent} absent)"
            for name, (absent, present) in zip(dataset.labels, numbers.T.tolist(), strict=True)
            if not absent or not present
        ]
        if not lacking:
            continue
        text = (
            f"split {split!r} of {dataset.name} lacks images where these findings are present, or "
            f"images where they are absent, so they {consequence}: {join_names(lacking)}."
        )
        if dataset.unknown == "ignore" and not numbers[0].all():
            text += (
                " If the source mentions only what is present, use --unknown negative: it counts "
                "what is not mentioned as absent."
            )
        if len(lacking) == len(dataset.labels):
            raise InputError(f"S{text[1:]}")
        print(f"warning: {text}", file=sys.stderr)  # noqa: T201
    return counts["train"]


def _count_findings(dataset: BuiltDataset, split: str) -> np.ndarray:
    states = read_columns(dataset, split, "label")["label"]
    targets = encode_labels(states, dataset, training=split == "train").numpy()
    return np.stack([(targets == 0).sum(axis=0), (targets == 1).sum(axis=0)])
