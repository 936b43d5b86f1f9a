"""Reports what a build found: counts, duplicates, patients in two splits, shortcuts.

`build_report.json` in the dataset's folder, UTF-8:

    {"dataset": "chest_xray_pneumonia/224:1.0.0",
     "settings": {"size": 224, "channels": 1, "fit": "stretch", "split": "patient"},
     "splits": {"train": {"images": 4710, "classes": {"NORMAL": 1214, ...},
                          "findings": {"none": 1214, ...}, "patients": 2501,
                          "images_without_patient": 0}, ...},
     "duplicates": {"groups": 30, "images": 62, "within_split": 30,
                    "across_splits": [["train/NORMAL/a.jpeg", "test/NORMAL/b.jpeg"], ...],
                    "across_classes": [...]},
     "patients": {"in_two_splits": {"bacteria-1": ["train", "test"], ...},
                  "in_two_splits_of_the_source": {...}},
     "near_duplicates": [["train/NORMAL/a.jpeg", "test/NORMAL/d.jpeg"], ...],
     "pixels": {"train": {"NORMAL": {"mean": 120.5, "contrast": 60.1, ...}, ...}, ...},
     "shortcuts": [{"property": "JPEG quality", "class": "PNEUMONIA", "auc": 0.04,
                    "text": "JPEG quality ..."}, ...],
     "bad_images": {"train/NORMAL/c.jpeg": "empty file (0 bytes)", ...},
     "max_examples_per_split": null,
     "notes": ["250 rows of metadata.csv have no image", ...]}

`findings` counts only images with a known finding. `within_split` counts the groups of
byte-identical files that are in one split; `across_splits` and `across_classes` list the image ids
of the groups in several splits or classes. `shortcuts` are measured on train, see
`cxr_tfds.building.shortcuts`; [] means that none was found, null that train holds too few images of
a class. `bad_images` are the files left out on request. The report contains no local path.
`build_report.md` is the same report for people.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cxr_tfds.building.file_stats import FileStats
from cxr_tfds.building.near_duplicates import find_near_duplicates
from cxr_tfds.building.report_file import JSON_FILE
from cxr_tfds.building.shortcuts import (
    AUC_LIMIT,
    MIN_IMAGES,
    PROPERTIES,
    find_shortcuts,
    tabulate_pixels,
)
from cxr_tfds.building.splits import find_shared_patients, source_splits
from cxr_tfds.sources.image import get_labels
from cxr_tfds.text import (
    csv_line,
    fold_text,
    markdown,
    markdown_table,
    printable,
    screen_width,
    to_json,
)

if TYPE_CHECKING:
    from etils import epath

    from cxr_tfds.sources import SourceImage

TEXT_FILE = "build_report.md"
BAD_IMAGES_FILE = "bad_images.csv"
SCREEN_ROWS = 5  # of each list; the files hold them all


def build_report(
    *,
    dataset: str,
    settings: Mapping[str, Any],
    splits: Mapping[str, Sequence[SourceImage]],
    stats: Mapping[str, FileStats],
    classes: Sequence[str],
    bad_images: Mapping[str, str],
    max_examples_per_split: int | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the report as `build_report.json` holds it.

    Args:
      dataset: Name, `name/config:version`.
      settings: Of the config.
      splits: The images that were written.
      stats: Image id to file statistics.
      classes: Class names, the negative class first.
      bad_images: Image id to reason, for the images left out.
      max_examples_per_split: The limit given to `tfds build`, if any.
      notes: Remarks of the dataset's builder.
    """
    return {
        "dataset": dataset,
        "settings": dict(settings),
        "splits": {split: count_images(images, classes) for split, images in splits.items()},
        "duplicates": _find_duplicates(splits, stats),
        "patients": {
            "in_two_splits": find_shared_patients(splits),
            "in_two_splits_of_the_source": find_shared_patients(
                source_splits(image for images in splits.values() for image in images)
            ),
        },
        "near_duplicates": [list(pair) for pair in find_near_duplicates(stats)],
        "pixels": tabulate_pixels(
            {
                split: [
                    (label, stats[image.image_id])
                    for image in images
                    for label in get_labels(image, classes)
                ]
                for split, images in splits.items()
            }
        ),
        "shortcuts": _find_shortcuts(splits.get("train", ()), stats, classes),
        "bad_images": dict(sorted(bad_images.items())),
        "max_examples_per_split": max_examples_per_split,
        "notes": list(notes),
    }


def count_images(images: Sequence[SourceImage], classes: Sequence[str]) -> dict[str, Any]:
    """Returns the counts of a split, as the report holds them."""
    labels = Counter(label for image in images for label in get_labels(image, classes))
    findings = Counter(image.finding for image in images if image.finding is not None)
    return {
        "images": len(images),
        "classes": {name: labels[name] for name in dict.fromkeys((*classes, *labels))},
        "findings": dict(sorted(findings.items())),
        "patients": len({image.patient_id for image in images} - {""}),
        "images_without_patient": sum(not image.patient_id for image in images),
    }


def _find_duplicates(
    splits: Mapping[str, Sequence[SourceImage]], stats: Mapping[str, FileStats]
) -> dict[str, Any]:
    by_stats: dict[FileStats, list[tuple[str, SourceImage]]] = defaultdict(list)
    for split, images in splits.items():
        for image in images:
            by_stats[stats[image.image_id]].append((split, image))
    groups = [group for group in by_stats.values() if len(group) > 1]
    across_splits = [group for group in groups if len({split for split, _ in group}) > 1]
    across_classes = [group for group in groups if len({image.label for _, image in group}) > 1]

    def list_ids(groups: Iterable[list[tuple[str, SourceImage]]]) -> list[list[str]]:
        return sorted(sorted(image.image_id for _, image in group) for group in groups)

    return {
        "groups": len(groups),
        "images": sum(map(len, groups)),
        "within_split": len(groups) - len(across_splits),
        "across_splits": list_ids(across_splits),
        "across_classes": list_ids(across_classes),
    }


def _find_shortcuts(
    train: Sequence[SourceImage], stats: Mapping[str, FileStats], classes: Sequence[str]
) -> list[dict[str, Any]] | None:
    labels = [image.label for image in train]
    if min(labels.count(class_name) for class_name in classes) < MIN_IMAGES:
        return None
    shortcuts = find_shortcuts(labels, [stats[image.image_id] for image in train], classes)
    return [shortcut.to_json() for shortcut in shortcuts]


def write_report(report: Mapping[str, Any], folder: epath.Path) -> None:
    """Writes the report as JSON and Markdown, and `bad_images.csv` if images were left out."""
    (folder / JSON_FILE).write_text(to_json(report, indent=2) + "\n", encoding="utf-8")
    text = format_report(report, escape=markdown)
    (folder / TEXT_FILE).write_text(
        f"# {markdown(report['dataset'])}\n\n{text}\n", encoding="utf-8"
    )
    if report["bad_images"]:
        rows = [("image_id", "reason"), *report["bad_images"].items()]
        (folder / BAD_IMAGES_FILE).write_text("".join(map(csv_line, rows)), encoding="utf-8")


def print_report(report: Mapping[str, Any]) -> None:
    """Prints a short form of the report on stderr."""
    text = format_report(report, SCREEN_ROWS, width=screen_width(sys.stderr))
    sys.stderr.write(f"\n\n{text}\n\n")  # blank lines separate it from the progress bars


def format_report(
    report: Mapping[str, Any],
    max_rows: int | None = None,
    *,
    bad_title: str = "Unusable files, left out",
    width: int | None = None,
    escape: Callable[[str, str], str] = printable,
) -> str:
    """Returns the report as Markdown.

    Args:
      report: As `build_report` returns it.
      max_rows: Limit of entries in each list, if any.
      bad_title: Title of the list of unusable files.
      width: Columns of the screen, if it is not for a file.
      escape: The escaper of the medium, `printable` or `markdown`.
    """
    parts = [format_counts(report["splits"], width)]
    if limit := report["max_examples_per_split"]:
        parts.append(f"Incomplete: built with --max_examples_per_split {limit}.")
    parts += [escape(note, "\n") for note in report["notes"]]
    parts.append(_format_shortcuts(report["shortcuts"], escape))
    if pixels := _format_pixels(report["pixels"], width):
        parts.append(f"Medians of the pixels, 0 to 255:\n\n{pixels}")
    duplicates, patients = report["duplicates"], report["patients"]
    if count := duplicates["groups"]:
        parts.append(
            f"Byte-identical files: {duplicates['images']} images in {count} "
            f"{'group' if count == 1 else 'groups'}, {duplicates['within_split']} of them within "
            "one split."
        )
    own = patients["in_two_splits_of_the_source"]
    for title, rows in (
        ("DUPLICATES ACROSS SPLITS", map(" = ".join, duplicates["across_splits"])),
        ("DUPLICATES ACROSS CLASSES", map(" = ".join, duplicates["across_classes"])),
        ("Images that look the same", map(" ~ ".join, report["near_duplicates"])),
        ("PATIENTS IN TWO SPLITS", _format_patients(patients["in_two_splits"])),
        (
            "Patients in two of the source's own splits",
            _format_patients({} if own == patients["in_two_splits"] else own),
        ),
        (bad_title, (f"{image_id}: {reason}" for image_id, reason in report["bad_images"].items())),
    ):
        if listed := list(rows):
            parts.append(_format_list(title, listed, max_rows, escape))
    return fold_text("\n\n".join(parts), width)


def format_counts(splits: Mapping[str, Any], width: int | None = None) -> str:
    """Returns the counts of all splits as a Markdown table for a screen of `width`, if any."""
    classes = list(dict.fromkeys(name for counts in splits.values() for name in counts["classes"]))
    findings = sorted({name for counts in splits.values() for name in counts["findings"]})
    if findings == sorted(classes):  # the source states no more than the class
        findings = []
    rows = [["split", "images", *classes, *findings, "patients", "without patient"]]
    for split, counts in splits.items():
        by_class = (counts["classes"].get(name, 0) for name in classes)
        by_finding = (counts["findings"].get(name, 0) for name in findings)
        patients = (counts["patients"], counts["images_without_patient"])
        rows.append([split, counts["images"], *by_class, *by_finding, *patients])
    return markdown_table(rows, width=width)


def _format_pixels(pixels: Mapping[str, Any], width: int | None) -> str:
    rows = [
        (split, label, *statistics.values())
        for split, classes in pixels.items()
        for label, statistics in classes.items()
    ]
    names = next((list(s) for classes in pixels.values() for s in classes.values()), [])
    header = ("split", "class", *(name.replace("_", " ") for name in names))
    return markdown_table([header, *rows], keys=2, width=width) if rows else ""


def _format_shortcuts(
    shortcuts: Sequence[Mapping[str, Any]] | None, escape: Callable[[str, str], str]
) -> str:
    if shortcuts is None:
        return f"Shortcuts were not checked: a class has fewer than {MIN_IMAGES} train images."
    if not shortcuts:
        return f"No shortcut in train: none of {', '.join(PROPERTIES)} predicts a class."
    return _format_list(
        f"SHORTCUTS in train (AUC outside {1 - AUC_LIMIT:g} to {AUC_LIMIT:g}), which a model may "
        "learn instead of the finding",
        [shortcut["text"] for shortcut in shortcuts],
        None,
        escape,
    )


def _format_patients(patients: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{patient}: {' and '.join(splits)}" for patient, splits in patients.items()]


def _format_list(
    title: str, rows: Sequence[str], max_rows: int | None, escape: Callable[[str, str], str]
) -> str:
    lines = [f"- {escape(row, '')}" for row in rows[:max_rows]]
    if len(lines) < len(rows):
        lines.append(f"- and {len(rows) - len(lines)} more, see {TEXT_FILE}")
    return "\n".join([f"{title} ({len(rows)}):", *lines])
