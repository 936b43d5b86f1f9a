"""What a build found: counts, duplicates, patients in two splits, shortcuts. Written beside the dataset.

`build_report.json` in the dataset's folder, UTF-8:

    {"dataset": "chest_xray_pneumonia/224:1.0.0",
     "settings": {"size": 224, "channels": 1, "fit": "stretch", "split": "patient"},
     "splits": {"train": {"images": 4710, "classes": {"NORMAL": 1214, ...}, "findings": {"none": 1214, ...},
                          "patients": 2501, "images_without_patient": 0}, ...},
     "duplicates": {"groups": 30, "images": 62, "within_split": 30,
                    "across_splits": [["train/NORMAL/a.jpeg", "test/NORMAL/b.jpeg"], ...],
                    "across_classes": [...]},
     "patients": {"in_two_splits": {"bacteria-1": ["train", "test"], ...},
                  "in_two_splits_of_the_source": {...}},
     "shortcuts": [{"property": "JPEG quality", "class": "PNEUMONIA", "auc": 0.04, "text": "JPEG quality ..."}, ...],
     "bad_images": {"train/NORMAL/c.jpeg": "is empty (0 bytes)", ...},
     "max_examples_per_split": null,
     "notes": ["250 rows of metadata.csv have no image", ...]}

`findings` counts only images whose finding the source tells. `within_split` counts the groups of
byte-identical files that stand in one split; `across_splits` and `across_classes` list the image ids of the
other groups, and of those with several classes. `shortcuts` are measured on train, see `cxr_tfds.building.shortcuts`;
[] means that none was found, null that train holds too few images of a class to tell. `bad_images` are the
files left out on request. No local path is in it. `build_report.md` says the same to a person.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from cxr_tfds.building.file_stats import Facts
from cxr_tfds.building.shortcuts import AUC_LIMIT, MIN_IMAGES, PROPERTIES, find_shortcuts
from cxr_tfds.building.splits import patients_twice, source_splits

if TYPE_CHECKING:
    from etils import epath

JSON_FILE = "build_report.json"
TEXT_FILE = "build_report.md"
BAD_IMAGES_FILE = "bad_images.csv"
_ON_SCREEN = 5  # of each list; the files hold them all


class Image(Protocol):
    """An image that was built, see `cxr_tfds.sources.SourceImage`."""

    @property
    def image_id(self) -> str: ...
    @property
    def patient_id(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def finding(self) -> str | None: ...
    @property
    def split(self) -> str: ...


def build_report(
    *,
    dataset: str,
    settings: Mapping[str, Any],
    splits: Mapping[str, Sequence[Image]],
    facts: Mapping[str, Facts],
    classes: Sequence[str],
    bad_images: Mapping[str, str],
    max_examples_per_split: int | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The report, as `build_report.json` holds it.

    Args:
      dataset: name/config:version.
      settings: of the config.
      splits: the images that were written.
      facts: of each written image, by id.
      classes: class names, the negative class first.
      bad_images: id to reason of what was left out.
      max_examples_per_split: as asked of `tfds build`, if less than everything was.
      notes: what the dataset itself has to say.
    """
    every = [image for images in splits.values() for image in images]
    return {
        "dataset": dataset,
        "settings": dict(settings),
        "splits": {split: _counts(images, classes) for split, images in splits.items()},
        "duplicates": _duplicates(splits, facts),
        "patients": {
            "in_two_splits": patients_twice(splits),
            "in_two_splits_of_the_source": patients_twice(source_splits(every)),
        },
        "shortcuts": _shortcuts(splits.get("train", ()), facts, classes),
        "bad_images": dict(sorted(bad_images.items())),
        "max_examples_per_split": max_examples_per_split,
        "notes": list(notes),
    }


def _counts(images: Sequence[Image], classes: Sequence[str]) -> dict[str, Any]:
    labels = Counter(image.label for image in images)
    return {
        "images": len(images),
        "classes": {class_name: labels[class_name] for class_name in classes},
        "findings": dict(
            sorted(Counter(image.finding for image in images if image.finding is not None).items())
        ),
        "patients": len({image.patient_id for image in images} - {""}),
        "images_without_patient": sum(not image.patient_id for image in images),
    }


def _duplicates(
    splits: Mapping[str, Sequence[Image]], facts: Mapping[str, Facts]
) -> dict[str, Any]:
    same: dict[Facts, list[tuple[str, Image]]] = defaultdict(list)
    for split, images in splits.items():
        for image in images:
            same[facts[image.image_id]].append((split, image))
    groups = [group for group in same.values() if len(group) > 1]
    across_splits = [group for group in groups if len({split for split, _ in group}) > 1]
    across_classes = [group for group in groups if len({image.label for _, image in group}) > 1]
    return {
        "groups": len(groups),
        "images": sum(map(len, groups)),
        "within_split": len(groups) - len(across_splits),
        "across_splits": sorted(
            sorted(image.image_id for _, image in group) for group in across_splits
        ),
        "across_classes": sorted(
            sorted(image.image_id for _, image in group) for group in across_classes
        ),
    }


def _shortcuts(
    train: Sequence[Image], facts: Mapping[str, Facts], classes: Sequence[str]
) -> list[dict[str, Any]] | None:
    labels = [image.label for image in train]
    counts = Counter(labels)
    if min(counts[class_name] for class_name in classes) < MIN_IMAGES:
        return None
    return [
        s.to_json()
        for s in find_shortcuts(labels, [facts[image.image_id] for image in train], classes)
    ]


def write_report(report: Mapping[str, Any], folder: epath.Path) -> None:
    """Writes the report as JSON and as Markdown, and `bad_images.csv` where images were left out."""
    (folder / JSON_FILE).write_text(
        json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (folder / TEXT_FILE).write_text(
        f"# {report['dataset']}\n\n{report_text(report)}\n", encoding="utf-8"
    )
    if report["bad_images"]:
        rows = io.StringIO()
        csv.writer(rows, lineterminator="\n").writerows(
            [("image_id", "reason"), *report["bad_images"].items()]
        )
        (folder / BAD_IMAGES_FILE).write_text(rows.getvalue(), encoding="utf-8")


def report_text(report: Mapping[str, Any], most: int | None = None) -> str:
    """The report for a person, Markdown; of each list the first `most`."""
    parts = [_table(report["splits"])]
    if limit := report["max_examples_per_split"]:
        parts.append(f"Only a part: --max_examples_per_split {limit}.")
    parts += report["notes"]
    parts += _warnings(report, most)
    return "\n\n".join(parts)


def screen_text(report: Mapping[str, Any]) -> str:
    """The report in short."""
    return report_text(report, _ON_SCREEN)


def _table(splits: Mapping[str, Any]) -> str:
    classes = list(dict.fromkeys(name for counts in splits.values() for name in counts["classes"]))
    findings = sorted({name for counts in splits.values() for name in counts["findings"]})
    findings = (
        [] if findings == sorted(classes) else findings
    )  # the source tells no more than the class
    rows = [["split", "images", *classes, *findings, "patients", "without patient"]]
    for split, counts in splits.items():
        of_class = [counts["classes"].get(name, 0) for name in classes]
        of_finding = [counts["findings"].get(name, 0) for name in findings]
        last = [counts["patients"], counts["images_without_patient"]]
        rows.append([split, *map(str, (counts["images"], *of_class, *of_finding, *last))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return "\n".join(
        [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
    )


def _warnings(report: Mapping[str, Any], most: int | None) -> list[str]:
    duplicates, patients = report["duplicates"], report["patients"]
    parts = []
    if report["shortcuts"] is None:
        parts.append(
            f"Shortcuts were not looked for: fewer than {MIN_IMAGES} train images of a class."
        )
    elif report["shortcuts"]:
        rows = [shortcut["text"] for shortcut in report["shortcuts"]]
        title = f"SHORTCUTS in train (AUC beyond {1 - AUC_LIMIT:g} to {AUC_LIMIT:g}): a model may learn these instead"
        parts.append(_listed(title, rows, None))
    else:
        parts.append(f"No shortcut in train: none of {', '.join(PROPERTIES)} tells a class.")
    if duplicates["groups"]:
        groups = "1 group" if duplicates["groups"] == 1 else f"{duplicates['groups']} groups"
        parts.append(
            f"Byte-identical files: {duplicates['images']} images in {groups}, "
            f"{duplicates['within_split']} of them within one split."
        )
    for key, title in (
        ("across_splits", "DUPLICATES ACROSS SPLITS"),
        ("across_classes", "DUPLICATES ACROSS CLASSES"),
    ):
        if duplicates[key]:
            parts.append(_listed(title, [" = ".join(group) for group in duplicates[key]], most))
    for key, title in (
        ("in_two_splits", "PATIENTS IN TWO SPLITS"),
        ("in_two_splits_of_the_source", "Patients in two of the source's own splits"),
    ):
        if patients[key] and not (
            key != "in_two_splits" and patients[key] == patients["in_two_splits"]
        ):
            parts.append(
                _listed(
                    title,
                    [f"{p}: {' and '.join(where)}" for p, where in patients[key].items()],
                    most,
                )
            )
    if bad := report["bad_images"]:
        parts.append(
            _listed(
                "Left out, unusable",
                [f"{image_id} {reason}" for image_id, reason in bad.items()],
                most,
            )
        )
    return parts


def _listed(title: str, rows: Sequence[str], most: int | None) -> str:
    some = [f"- {row if row.isprintable() else ascii(row)}" for row in rows[:most]]
    if len(some) < len(rows):
        some.append(f"- and {len(rows) - len(some)} more, see {TEXT_FILE}")
    return "\n".join([f"{title} ({len(rows)}):", *some])
