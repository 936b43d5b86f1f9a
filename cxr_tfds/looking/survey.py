"""A look at a source before anything is built: what its files tell, and how its images look once fitted.

TensorFlow is loaded only to ask a dataset's builder how it reads its source.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds.building.build_report import build_report, report_text
from cxr_tfds.building.engines import fit_all
from cxr_tfds.building.file_stats import Facts
from cxr_tfds.building.fitting import Fitting
from cxr_tfds.building.splits import source_splits
from cxr_tfds.building.tfds_command import config_settings
from cxr_tfds.errors import BadImage, InputError, MissingData
from cxr_tfds.reading.names import buildable_datasets
from cxr_tfds.sources import SourceImage, check_links, is_junk
from cxr_tfds.sources.classes import check_reader_settings, parse_patients, scan_classes
from cxr_tfds.sources.kermany import parse_names

_FITTED = Fitting(size=224, channels=1, fit="stretch")
_SAME_READER = (
    "classes",
    "negative",
    "patient",
)  # settings of `xray_folder` that say how to read a folder
_GREYS = 256


class Scanned(NamedTuple):
    """A source that was listed, not read."""

    source: Path
    images: list[SourceImage]
    classes: tuple[str, ...]  # the negative class first
    notes: list[str]


class Survey(NamedTuple):
    """A source that was read.

    `report` is that of a build, see `cxr_tfds.building.build_report`, of the source's own splits, and:

        "files": {"NORMAL": {"images": 1, "megabytes": 0.1,
                             "height": {"smallest": 300, "median": 400, "largest": 500}, "width": {...},
                             "modes": {"L": 1}, "formats": {"JPEG": 1}}, ...},
        "junk_files": 3
    """

    report: dict[str, Any]
    sizes: dict[str, np.ndarray]  # of each class: int (N, 2), height and width of the sources
    greys: dict[
        str, np.ndarray
    ]  # of each class: int (256,), how often each value occurs in the fitted images


def scan(source: Path, dataset: str | None, config: Mapping[str, Any]) -> Scanned:
    """The images of a source.

    Args:
      source: folder or zip.
      dataset: whose builder reads it; None takes a layout of class folders, with or without splits.
      config: settings as `tfds build --config` takes them, without `dataset` those that `xray_folder` reads by.

    Raises:
      MissingData: there are no radiographs.
      InputError: the source or a setting is not as it must be.
    """
    return _scan_classes(source, config) if dataset is None else _scan_as(source, dataset, config)


def _scan_classes(source: Path, config: Mapping[str, Any]) -> Scanned:
    classes, negative, pattern = (config.get(name) for name in _SAME_READER)
    check_reader_settings(classes, negative, pattern)
    try:
        found = scan_classes(source, classes, negative)
    except MissingData as err:
        raise MissingData(f"{err}\nFor the layout of a dataset by name give --dataset.") from None
    check_links(source, (image.path for image in found.images))
    images = parse_names(found.images)
    if pattern:
        images = parse_patients(found._replace(images=images), pattern)
    if not any(image.finding for image in images):
        images = [image._replace(finding=image.label) for image in images]
    return Scanned(source, images, found.classes, [])


def _scan_as(source: Path, dataset: str, config: Mapping[str, Any]) -> Scanned:
    import tensorflow_datasets as tfds

    importlib.import_module(f"{buildable_datasets()[dataset]}.{dataset}_dataset_builder")
    builder_class = tfds.builder_cls(dataset)
    made = (
        builder_class.builder_config_cls(**({"name": "survey"} | dict(config))) if config else None
    )
    with tempfile.TemporaryDirectory() as nothing_built, _without_warnings_of_tfds():
        builder = builder_class(data_dir=nothing_built, config=made)
        images = builder.scan(source)
        builder.check_links(source, images)
    return Scanned(source, images, tuple(builder.CLASSES), list(builder.notes))


@contextlib.contextmanager
def _without_warnings_of_tfds() -> Iterator[None]:
    """TFDS tells at length that a config is none of those listed."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def parse_config(text: str | None, dataset: str | None) -> dict[str, Any]:
    """The settings of `--config`.

    Raises:
      InputError: the text is no JSON object, or has settings that nothing here reads.
    """
    config = config_settings(text or "{}")
    if not isinstance(config, dict):
        raise InputError(
            f'--config {text!r}; expected settings such as \'{{"negative": "clear"}}\'.'
        )
    if dataset is None and (odd := set(config) - {*_SAME_READER, "name"}):
        raise InputError(
            f"--config has {', '.join(sorted(odd))}; without --dataset it may have {', '.join(_SAME_READER)}."
        )
    return config


def survey(scanned: Scanned, progress: Callable[[int], object] | None = None) -> Survey:
    """Reads every image once; `progress` is called with 1 after each."""
    facts: dict[str, Facts] = {}
    bad: dict[str, str] = {}
    greys = {name: np.zeros(_GREYS, np.int64) for name in scanned.classes}
    results = fit_all([image.path for image in scanned.images], _FITTED)
    for image, result in zip(scanned.images, results, strict=True):
        if isinstance(result, BadImage):
            bad[image.image_id] = str(result)
        else:
            facts[image.image_id] = result.facts
            greys[image.label] += np.bincount(np.ravel(result.stored), minlength=_GREYS)
        if progress:
            progress(1)
    good = [image for image in scanned.images if image.image_id in facts]
    by_class: dict[str, list[Facts]] = defaultdict(list)
    for image in good:
        by_class[image.label].append(facts[image.image_id])
    report = build_report(
        dataset=scanned.source.name,
        settings={},
        splits={split: images for split, images in source_splits(good).items() if images},
        facts=facts,
        classes=scanned.classes,
        bad_images=bad,
        notes=scanned.notes,
    )
    report["files"] = {name: _files(by_class[name]) for name in scanned.classes}
    report["junk_files"] = count_junk(scanned.source)
    sizes = {
        name: np.array([(f.height, f.width) for f in by_class[name]], int).reshape(-1, 2)
        for name in greys
    }
    return Survey(report, sizes, greys)


def _files(facts: Sequence[Facts]) -> dict[str, Any]:
    return {
        "images": len(facts),
        "megabytes": round(sum(fact.size for fact in facts) / 1e6, 3),
        "height": _spread([fact.height for fact in facts]),
        "width": _spread([fact.width for fact in facts]),
        "modes": dict(Counter(fact.mode for fact in facts).most_common()),
        "formats": dict(Counter(fact.form for fact in facts).most_common()),
    }


def _spread(values: Sequence[int]) -> dict[str, float] | None:
    if not values:
        return None
    return {"smallest": min(values), "median": float(np.median(values)), "largest": max(values)}


def count_junk(source: Path) -> int:
    """Files that an archiver or a file manager left in a folder, and that no build reads."""
    if not source.is_dir():
        return 0
    return sum(
        path.is_file() and any(map(is_junk, path.relative_to(source).parts))
        for path in source.rglob("*")
    )


def survey_text(report: Mapping[str, Any]) -> str:
    """What a survey found, for a person."""
    rows = [["class", "images", "MB", "height", "width", "modes", "formats"]]
    for name, of in report["files"].items():
        spans = [_span(of[side]) for side in ("height", "width")]
        kinds = [
            ", ".join(f"{kind} {count:,}" for kind, count in of[key].items())
            for key in ("modes", "formats")
        ]
        rows.append([name, f"{of['images']:,}", f"{of['megabytes']:,.1f}", *spans, *kinds])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    parts = [report_text(report).replace("Left out, unusable", "UNUSABLE FILES"), table]
    if junk := report["junk_files"]:
        parts.append(
            f"Junk that is not read, such as .DS_Store: {junk} {'file' if junk == 1 else 'files'}."
        )
    return "\n\n".join(parts)


def _span(spread: Mapping[str, float] | None) -> str:
    if spread is None:
        return ""
    return f"{spread['smallest']:g} to {spread['largest']:g}, median {spread['median']:g}"
