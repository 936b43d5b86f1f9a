"""Surveys a source before it is built: its files, and how its images look once fitted.

TensorFlow is loaded only if a dataset's builder reads the source.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_tfds.building.build import load_builder
from cxr_tfds.building.build_log import BuildLog
from cxr_tfds.building.build_report import (
    build_report,
    count_images,
    format_counts,
    format_report,
)
from cxr_tfds.building.config import RadiographConfig, SourceConfig
from cxr_tfds.building.engines import fit_all
from cxr_tfds.building.file_stats import FileStats
from cxr_tfds.building.fitting import FitSettings
from cxr_tfds.building.grey_range import check_grey_levels, resolve_levels
from cxr_tfds.building.identical import find_identical_pixels
from cxr_tfds.building.plan import plan_splits
from cxr_tfds.building.splits import source_splits
from cxr_tfds.building.tfds_command import hide_tfds_warnings
from cxr_tfds.errors import BadImage, InputError, MissingData
from cxr_tfds.native import load_tensorflow
from cxr_tfds.sources import Listing, ReaderSettings, SourceImage, is_junk, read_source
from cxr_tfds.sources.config_json import name_config, propose_config, repeat_settings
from cxr_tfds.sources.image import get_labels
from cxr_tfds.sources.recognition import READER_SETTINGS, recognize_source
from cxr_tfds.text import fold_text, screen_width, text_table


class ScannedSource(NamedTuple):
    """A source whose images were listed but not read."""

    source: Path
    listing: Listing
    config: RadiographConfig
    cuts_test: bool = True  # whether a build cuts a test split if the source has none


class Survey(NamedTuple):
    """A source whose images were read.

    Attributes:
      report: A build report (see `cxr_tfds.building.build_report`) of the source's own splits, and
        `"files": {"NORMAL": {"images": 1, "megabytes": 0.1, "height": {"smallest": 300,
        "median": 400, "largest": 500}, "width": {...}, "modes": {"L": 1},
        "formats": {"JPEG": 1}}, ...}`, `"junk_files": 3`, and `"build": {"splits": {...}}` with
        the counts of the splits that a build would have, or `{"error": "..."}`.
      sizes: Class to int (N, 2), height and width of the source images in pixels.
      histograms: Class to int (256,), the number of pixels of each grey value in the fitted images.
    """

    report: dict[str, Any]
    sizes: dict[str, np.ndarray]
    histograms: dict[str, np.ndarray]


def scan_source(source: Path, dataset: str | None, config: Mapping[str, Any]) -> ScannedSource:
    """Lists the images of a source.

    Args:
      source: Folder or zip.
      dataset: The dataset whose builder reads the source. None reads class folders, with or without
        splits, and recognizes other layouts.
      config: Settings as `tfds build --config` takes them.

    Raises:
      MissingData: There are no radiographs.
      InputError: The source or a setting cannot be used.
    """
    named = {"name": name_config(config), **config}
    with repeat_settings(config):
        if dataset is None:
            return _scan_folder(source, named)
        return _scan_with_builder(source, dataset, named if config else {})


def _scan_folder(source: Path, config: Mapping[str, Any]) -> ScannedSource:
    settings = SourceConfig(**config)
    try:
        listing = read_source(source, settings.reader_settings(ReaderSettings()))
    except MissingData as err:
        hint = "To read the layout of a dataset, name it with --dataset."
        return _scan_recognized(source, config, MissingData(f"{err}\n{hint}"))
    if not listing.findings:
        images = [image._replace(finding=image.label or None) for image in listing.images]
        listing = listing._replace(images=images)
    return ScannedSource(source, listing, settings)


def _scan_recognized(
    source: Path, config: Mapping[str, Any], problem: MissingData
) -> ScannedSource:
    """Reads a source without class folders as a build would, or raises `problem`.

    Settings of the reader show what the user expects of the source, so nothing else is tried.
    """
    if config.keys() & READER_SETTINGS:
        raise problem from None
    try:
        recognized = recognize_source(source, config)
    except InputError:
        raise problem from None
    settings = {**recognized.settings, **config}
    if recognized.dataset not in ("xray_folder", "xray_table"):
        return _scan_with_builder(source, recognized.dataset, settings)
    return _scan_folder(source, settings)


def _scan_with_builder(source: Path, dataset: str, config: Mapping[str, Any]) -> ScannedSource:
    load_tensorflow()
    builder_class = load_builder(dataset)
    settings = builder_class.builder_config_cls(**config) if config else None
    with tempfile.TemporaryDirectory() as empty, hide_tfds_warnings():
        builder = builder_class(data_dir=empty, config=settings)
        listing = builder.scan(source)
    return ScannedSource(source, listing, builder.builder_config, builder.CUTS_TEST)


def survey_source(
    scanned: ScannedSource, progress: Callable[[int], object] | None = None
) -> Survey:
    """Reads every image once and calls `progress` with 1 after each."""
    with repeat_settings(scanned.config.list_given()):
        return _survey_source(scanned, progress)


def _survey_source(scanned: ScannedSource, progress: Callable[[int], object] | None) -> Survey:
    log = BuildLog()
    histograms: dict[str, np.ndarray] = {}
    by_class: dict[str, list[FileStats]] = {name: [] for name in scanned.listing.classes}
    images = scanned.listing.images
    levels, notes = resolve_levels(images, scanned.config.grey_levels)
    settings = FitSettings(size=224, levels=levels)
    results = fit_all([image.path for image in images], settings)
    for image, result in zip(scanned.listing.images, results, strict=True):
        log.add(image.image_id, result)
        if not isinstance(result, BadImage):
            for label in get_labels(image, scanned.listing.classes):
                if result.statistics:
                    histograms[label] = histograms.get(label, 0) + result.statistics.counts
                by_class.setdefault(label, []).append(log.stats[image.image_id])
        if progress:
            progress(1)
    usable = [image for image in scanned.listing.images if image.image_id in log.stats]
    report = build_report(
        dataset=scanned.source.name,
        settings={},
        splits={split: images for split, images in source_splits(usable).items() if images},
        stats=log.stats,
        classes=scanned.listing.classes,
        bad_images=log.bad,
        notes=[*scanned.listing.describe(), *notes, *_check_levels(usable, log)],
    )
    report["build"] = _plan_build(scanned, log)
    report["files"] = {name: _summarize_files(stats) for name, stats in by_class.items()}
    report["junk_files"] = count_junk(scanned.source)
    sizes = {
        name: np.array([(s.height, s.width) for s in stats], int).reshape(-1, 2)
        for name, stats in by_class.items()
    }
    return Survey(report, sizes, histograms)


def _check_levels(images: Sequence[SourceImage], log: BuildLog) -> list[str]:
    try:
        return check_grey_levels(images, log.stats)
    except InputError as err:
        return [str(err)]


def _plan_build(scanned: ScannedSource, log: BuildLog) -> dict[str, Any]:
    """Returns the splits that a build with the same settings would have, or why it would fail."""
    usable = [image for image in scanned.listing.images if image.image_id in log.stats]
    try:
        if log.bad and not usable:
            raise InputError(f"No image can be used: all {len(log.bad):,} files are unusable.")
        # A build cuts the splits before it knows which images are unusable.
        planned = plan_splits(
            scanned.listing,
            scanned.config,
            cuts_test=scanned.cuts_test,
            identical=find_identical_pixels(usable, log.stats),  # also finds identical files
        ).splits
        if log.bad and scanned.config.on_bad_image == "error":
            raise InputError(
                f"{len(log.bad):,} unusable {'file' if len(log.bad) == 1 else 'files'}, see above. "
                "Replace or remove these files, or leave them out: "
                f"{propose_config(on_bad_image='skip')}"
            )
        log.splits = planned
        log.check_classes_remain()
    except InputError as err:
        return {"error": str(err)}
    return {
        "splits": {
            split: count_images(
                [image for image in images if image.image_id in log.stats],
                scanned.listing.classes,
            )
            for split, images in planned.items()
        }
    }


def _summarize_files(stats: Sequence[FileStats]) -> dict[str, Any]:
    return {
        "images": len(stats),
        "megabytes": round(sum(s.size for s in stats) / 1e6, 3),
        "height": _summarize([s.height for s in stats]),
        "width": _summarize([s.width for s in stats]),
        "modes": dict(Counter(s.mode for s in stats).most_common()),
        "formats": dict(Counter(s.format for s in stats).most_common()),
    }


def _summarize(values: Sequence[int]) -> dict[str, float] | None:
    if not values:
        return None
    return {"smallest": min(values), "median": float(np.median(values)), "largest": max(values)}


def count_junk(source: Path) -> int:
    """Returns the number of files of archivers and file managers, which no build reads."""
    count = 0
    for folder, _, names in os.walk(source):  # nothing if it is a file
        parts = Path(folder).relative_to(source).parts
        count += len(names) if any(map(is_junk, parts)) else sum(map(is_junk, names))
    return count


def format_survey(report: Mapping[str, Any]) -> str:
    """Returns the report of a survey for people."""
    rows = [["class", "images", "MB", "height", "width", "modes", "formats"]]
    for name, files in report["files"].items():
        ranges = [_format_range(files[side]) for side in ("height", "width")]
        kinds = [
            ", ".join(f"{kind} {count:,}" for kind, count in files[key].items())
            for key in ("modes", "formats")
        ]
        rows.append([name, f"{files['images']:,}", f"{files['megabytes']:,.1f}", *ranges, *kinds])
    width = screen_width()
    parts = [format_report(report, bad_title="UNUSABLE FILES", width=width), text_table(rows)]
    if error := report["build"].get("error"):
        parts.append(f"A BUILD WOULD FAIL:\n{error}")
    else:
        parts.append(f"Splits of a build:\n\n{format_counts(report['build']['splits'], width)}")
    if junk := report["junk_files"]:
        parts.append(f"Ignored junk such as .DS_Store: {junk} {'file' if junk == 1 else 'files'}.")
    return fold_text("\n\n".join(parts), width)


def _format_range(values: Mapping[str, float] | None) -> str:
    if values is None:
        return ""
    return f"{values['smallest']:g} to {values['largest']:g}, median {values['median']:g}"
