"""Measures a model on the labelled images of a source."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.metrics.summary import evaluate_split
from cxr_tfds.sources import Listing, ReaderSettings, SourceImage, read_source
from cxr_tfds.sources.paths import join_names
from cxr_tfds.text import did_you_mean

from .classifier import Prediction
from .input_files import InputFile
from .model_file import ModelInfo

_READER_SETTINGS = tuple(field.name for field in dataclasses.fields(ReaderSettings))
# Settings of a dataset config that do not concern the labels: the model determines the pixels.
BUILD_SETTINGS = (
    "name", "size", "channels", "fit", "split", "on_bad_image", "bits", "window", "percentile",
)  # fmt: skip


class LabelledImages(NamedTuple):
    """The labelled images to measure with."""

    images: Sequence[SourceImage]
    classes: tuple[str, ...]  # of the model, each of which needs an image
    notes: list[str]  # for people, such as the files that were left out

    @property
    def files(self) -> list[InputFile]:
        """The files of the images, in the same order."""
        return [InputFile(str(image.path), path=image.path) for image in self.images]


def parse_config(text: str) -> dict[str, Any]:
    """Returns the settings given with `--config`. Raises InputError if they are invalid."""
    try:
        config = json.loads(text)
    except json.JSONDecodeError as err:
        config = err
    if not isinstance(config, dict):
        problem = f": {config}" if isinstance(config, ValueError) else ""
        raise InputError(
            f"--config {text!r} is not a JSON object{problem}. Expected settings such as "
            '--config \'{"table": "labels.csv"}\', with names and texts in double quotes.'
        )
    known = (*_READER_SETTINGS, *BUILD_SETTINGS)
    for name in config:
        if name not in known:
            raise InputError(f"--config: {did_you_mean(name, known)}")
    return config


def find_labelled_images(
    folder: Path, info: ModelInfo, config: Mapping[str, Any] | None = None
) -> LabelledImages:
    """Lists the images of a source, as `cxr-data summary` does, with the classes of a model.

    Args:
      folder: Folder or archive. If it has splits, its test split is taken.
      info: Its classes select the class folders. Its reader settings are those of its dataset.
      config: Settings from `parse_config`, which replace those of the model.

    Raises:
      MissingData: There are no labelled images.
      InputError: The source or a setting cannot be used, or the source has splits but no test.
    """
    given = info.reader if config is None else config
    reader = ReaderSettings(**{x: value for x, value in given.items() if x in _READER_SETTINGS})
    settings = _with_classes(reader, info.labels, is_given=config is not None)
    try:
        listing = read_source(folder, settings)
    except InputError as err:
        raise type(err)(f"{err}\n{_explain_settings(info, config)}") from None
    if listing.several_findings:
        raise InputError(
            f"The images of {folder} may have several findings ({join_names(listing.classes)}), "
            f"but the model predicts one of the classes {join_names(info.labels)}. Name the "
            "classes with the setting classes."
        )
    ignored = [name for name in BUILD_SETTINGS[1:] if name in given]
    notes = listing.describe()
    if ignored:
        notes.append(f"Ignored, because only a build uses them: {join_names(ignored)}.")
    return LabelledImages(_choose_split(listing, folder), tuple(settings.classes or ()), notes)


def measure(
    info: ModelInfo, labelled: LabelledImages, results: Iterable[Prediction | BadImage]
) -> dict[str, Any]:
    """Returns the metrics of images and, as `skipped`, those without a prediction.

    Raises InputError if no image of a class has a prediction.
    """
    predicted: list[tuple[SourceImage, Prediction]] = []
    skipped = []
    for image, result in zip(labelled.images, results, strict=True):
        if isinstance(result, BadImage):
            skipped.append({"file": str(image.path), "error": result.reason})
        else:
            predicted.append((image, result))
    found = {image.label for image, _ in predicted}
    if empty := [name for name in labelled.classes if name not in found]:
        raise InputError(f"No readable radiograph of {join_names(empty)} was found.")
    rows = [result.probabilities for _, result in predicted]
    table = evaluate_split(
        [info.labels.index(image.label) for image, _ in predicted],
        rows if info.threshold is None else [row[1] for row in rows],
        info.threshold,
        [image.patient_id for image, _ in predicted],
        class_names=info.labels,
    )
    return {**table, "skipped": skipped}


def _with_classes(
    settings: ReaderSettings, labels: tuple[str, ...], *, is_given: bool
) -> ReaderSettings:
    """Returns the settings with the classes of the model, and with all spellings of the settings.

    `is_given` states that the user gave the settings.
    """
    by_key = {label.casefold(): label for label in labels}
    classes: Any = settings.classes
    if classes is not None and (unknown := [x for x in classes if x.casefold() not in by_key]):
        if is_given:
            raise InputError(f"classes: {did_you_mean(unknown[0], labels)}")
        classes = None  # the model predicts the findings of a dataset with other classes
    if isinstance(classes, Mapping):
        # The folder of a class may also have the name of the class.
        own = settings.table is None and settings.class_pattern is None
        taken = {name.casefold() for names in classes.values() for name in names}
        classes = {
            by_key[name.casefold()]: [*([name] if own and name.casefold() not in taken else []), *x]
            for name, x in classes.items()
        }
    elif classes is not None:
        classes = [by_key[name.casefold()] for name in classes]
    # Of folders, the model knows which one is negative.
    negative = "" if settings.table is None else settings.negative
    return dataclasses.replace(settings, classes=classes or list(labels), negative=negative)


def _choose_split(listing: Listing, folder: Path) -> list[SourceImage]:
    if not listing.has_splits:
        return listing.images
    images = [image for image in listing.images if image.split == "test"]
    if not images:
        splits = sorted({image.split for image in listing.images})
        raise InputError(
            f"{folder} has no test split; its splits are {join_names(splits)}. Give the folder of "
            "the images to measure with."
        )
    return images


def _explain_settings(info: ModelInfo, config: Mapping[str, Any] | None) -> str:
    if config is None and info.reader:
        return (
            f"These settings of the model's dataset were used: {json.dumps(info.reader)}\n"
            "Give the settings of this source with --config; '{}' takes class folders."
        )
    example = json.dumps({"classes": {label: ["NAME"] for label in info.labels}})
    return (
        f"The classes of the model are {join_names(info.labels)}. If they have other names in this "
        f"source, add: --config '{example}'"
    )
