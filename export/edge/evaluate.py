"""Measures a model on the labelled images of a source."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.metrics.findings import evaluate_findings
from cxr_tfds.metrics.summary import evaluate_split
from cxr_tfds.sources import Listing, ReaderSettings, SourceImage, read_source
from cxr_tfds.sources.config_json import parse_config, propose_config, repeat_settings
from cxr_tfds.sources.image import State
from cxr_tfds.sources.paths import fold_name, join_names
from cxr_tfds.text import did_you_mean, to_json

from .input_files import InputFile
from .model_info import ModelInfo
from .prediction import Prediction

_READER_SETTINGS = tuple(field.name for field in dataclasses.fields(ReaderSettings))
# Settings of a dataset config that do not concern the labels: the model determines the pixels.
BUILD_SETTINGS = (
    "name", "size", "channels", "fit", "split", "on_bad_image", "bits", "window", "percentile",
    "licence", "population", "description",
)  # fmt: skip

_UNKNOWN = {"ignore": math.nan, "positive": 1.0, "negative": 0.0}  # NaN does not count


class LabelledImages(NamedTuple):
    """The labelled images to measure with."""

    images: Sequence[SourceImage]
    classes: tuple[str, ...]  # of the model; each needs an image
    notes: list[str]  # for people, such as the files that were left out
    source: Path  # folder or archive

    @property
    def files(self) -> list[InputFile]:
        """The files of the images, in the same order."""
        return [InputFile(str(image.path), path=image.path) for image in self.images]


def parse_settings(text: str, sets: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of `--config` and `--set`. Raises InputError if they are invalid."""
    config = parse_config(text) | dict(sets)
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
      info: Its classes select the class folders, and its dataset gives the settings.
      config: Settings from `parse_settings`, used in place of the settings of the model's dataset.

    Raises:
      MissingData: There are no labelled images.
      InputError: The source or a setting cannot be used, or the source has splits but no test.
    """
    given = info.reader if config is None else config
    with repeat_settings(given):
        return _find_labelled_images(folder, info, given, config)


def _find_labelled_images(
    folder: Path, info: ModelInfo, given: Mapping[str, Any], config: Mapping[str, Any] | None
) -> LabelledImages:
    reader = ReaderSettings(**{x: value for x, value in given.items() if x in _READER_SETTINGS})
    if info.several_findings:
        settings = _without_negative(reader)
    else:
        settings = _with_classes(reader, info.labels, is_given=config is not None)
    try:
        listing = read_source(folder, settings)
    except InputError as err:
        raise type(err)(f"{err}\n{_explain_settings(info, config)}") from None
    notes = listing.describe()
    if info.several_findings:
        listing, more = _match_findings(listing, info, settings)
        notes += more
    elif listing.several_findings:
        raise InputError(
            f"The images of {folder} may have several findings ({join_names(listing.classes)}), "
            f"but the model predicts one of the classes {join_names(info.labels)}. Name the "
            "classes with the setting classes."
        )
    if ignored := [name for name in BUILD_SETTINGS[1:] if name in given]:
        notes.append(f"Ignored, because only a build uses them: {join_names(ignored)}.")
    classes = () if info.several_findings else tuple(settings.classes or ())
    images = _choose_split(listing, folder)
    if len(images) < len(listing.images):
        notes.append(
            f"Measured on the test split: {len(images):,} of {len(listing.images):,} images."
        )
    return LabelledImages(images, classes, notes, folder)


def measure(
    info: ModelInfo, labelled: LabelledImages, results: Iterable[Prediction | BadImage]
) -> dict[str, Any]:
    """Returns the metrics of images and, as `skipped`, those without a prediction.

    Raises InputError if no image, or no image of a class, has a prediction.
    """
    images: list[SourceImage] = []
    rows: list[tuple[float, ...]] = []
    skipped = []
    for image, result in zip(labelled.images, results, strict=True):
        if isinstance(result, BadImage):
            file = os.path.relpath(str(image.path), labelled.source)
            skipped.append({"file": file, "error": result.reason})
        else:
            images.append(image)
            rows.append(tuple(result.probabilities.values()))
    found = {image.label for image in images}
    if empty := [name for name in labelled.classes if name not in found]:
        raise InputError(f"No readable radiograph of {join_names(empty)} was found.")
    if not images:
        raise InputError("No readable radiograph was found.")
    patients = [image.patient_id for image in images]
    if isinstance(info.threshold, tuple):
        values = {
            State.PRESENT: 1.0,
            State.ABSENT: 0.0,
            State.UNCERTAIN: math.nan,
            State.UNKNOWN: _UNKNOWN[info.unknown],
        }
        targets = [[values[state] for state in image.states] for image in images]
        table = evaluate_findings(targets, rows, info.threshold, patients, names=info.labels)
    else:
        table = evaluate_split(
            [info.labels.index(image.label) for image in images],
            rows if info.threshold is None else [row[1] for row in rows],
            info.threshold,
            patients,
            class_names=info.labels,
        )
    return {**table, "skipped": skipped}


def _without_negative(settings: ReaderSettings) -> ReaderSettings:
    """Returns the settings for a model of several findings."""
    if settings.table is None:
        raise InputError(
            "The model predicts several findings of an image, so its source needs a table. Name "
            f"it: {propose_config(table='labels.csv')}"
        )
    if not isinstance(settings.classes, Mapping):
        settings = dataclasses.replace(settings, classes=None)  # the model selects
    if settings.label is None or isinstance(settings.label, str):
        # A label such as "No Finding" then has no special meaning: no finding of the model is
        # present. Otherwise a source in which each image has one label would need two classes.
        return dataclasses.replace(settings, negative="")
    return settings


def _match_findings(
    listing: Listing, info: ModelInfo, settings: ReaderSettings
) -> tuple[Listing, list[str]]:
    """Returns the images with the states of the model's findings, in their order, and notes."""
    places = {fold_name(name): place for place, name in enumerate(listing.classes)}
    columns = [places.get(fold_name(label)) for label in info.labels]
    missing = [x for x, column in zip(info.labels, columns, strict=True) if column is None]
    if len(missing) == len(columns):
        raise InputError(
            f"The source has none of the findings of the model, {join_names(info.labels)}. It has "
            f"{join_names(listing.classes)}. Rename them with the setting classes."
        )
    # A column of labels lists what is present; a missing column of states does not.
    is_listed = settings.label is None or isinstance(settings.label, str)
    default = State.ABSENT if is_listed else State.UNKNOWN
    images = []
    for image in listing.images:
        states = image.states or tuple(
            State.PRESENT if name == image.label else State.ABSENT for name in listing.classes
        )
        own = tuple(default if column is None else states[column] for column in columns)
        images.append(image._replace(states=own))
    notes = []
    if missing:
        notes.append(f"Findings of the model that no image has: {join_names(missing)}.")
    ignored = [name for place, name in enumerate(listing.classes) if place not in columns]
    if ignored:
        notes.append(f"Ignored labels that the model does not predict: {join_names(ignored)}.")
    return listing._replace(images=images, classes=info.labels), notes


def _with_classes(
    settings: ReaderSettings, labels: tuple[str, ...], *, is_given: bool
) -> ReaderSettings:
    """Returns the settings with the classes of the model, and with all spellings of the settings.

    `is_given` states that the user gave the settings.
    """
    by_key = {fold_name(label): label for label in labels}
    classes: Any = settings.classes
    if classes is not None and (unknown := [x for x in classes if fold_name(x) not in by_key]):
        if is_given:
            raise InputError(f"classes: {did_you_mean(unknown[0], labels)}")
        classes = None  # the model predicts the findings of a dataset with other classes
    if isinstance(classes, Mapping):
        # The folder of a class may also have the name of the class.
        own = settings.table is None and settings.class_pattern is None
        taken = {fold_name(name) for names in classes.values() for name in names}
        classes = {
            by_key[fold_name(name)]: [*([name] if own and fold_name(name) not in taken else []), *x]
            for name, x in classes.items()
        }
    elif classes is not None:
        classes = [by_key[fold_name(name)] for name in classes]
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
            f"These settings of the model's dataset were used: {to_json(info.reader)}\n"
            "Give the settings of this source with --config"
            + ("." if info.several_findings else "; '{}' takes class folders.")
        )
    if info.several_findings:
        return f"The findings of the model are {join_names(info.labels)}."
    option = propose_config(classes={label: ["NAME"] for label in info.labels})
    return (
        f"The classes of the model are {join_names(info.labels)}. If they have other names in this "
        f"source, add: {option}"
    )
