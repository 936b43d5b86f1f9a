"""Tests that shortcuts are found exactly where a file property predicts the class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cxr_tfds.building.file_stats import FileStats
from cxr_tfds.building.fitting import FitSettings, fit_file
from cxr_tfds.building.shortcuts import AUC_LIMIT, MIN_IMAGES, find_shortcuts, tabulate_pixels
from cxr_tfds.imaging.pixels import Radiograph

PIXELS = (90.0, 50.0, 20.0, 3.0, 0.1, 0.1, "", 250)
PLAIN = FileStats(0, 0, 10_000, 100, 100, "JPEG", "L", 75, *PIXELS)  # 1 byte per pixel
CLASSES = ("NORMAL", "PNEUMONIA")
Change = Callable[[FileStats, int], FileStats]


def find_aucs(change: Change, count: int = 60) -> dict[str, float]:
    """Returns property to AUC if PNEUMONIA files differ from NORMAL ones by `change`."""
    stats = [PLAIN] * count + [change(PLAIN, number) for number in range(count)]
    found = find_shortcuts(["NORMAL"] * count + ["PNEUMONIA"] * count, stats, CLASSES)
    assert all(
        shortcut.class_name == "PNEUMONIA" and shortcut.property in shortcut.text
        for shortcut in found
    )
    return {shortcut.property: shortcut.auc for shortcut in found}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda f, n: f, {}, id="none"),
        pytest.param(lambda f, n: f._replace(quality=95), {"JPEG quality": 1.0}, id="quality"),
        pytest.param(lambda f, n: f._replace(quality=50), {"JPEG quality": 0.0}, id="low quality"),
        pytest.param(
            lambda f, n: f._replace(quality=95 if n % 2 else 75), {}, id="half of them: AUC 0.75"
        ),
        pytest.param(
            lambda f, n: f._replace(quality=95 if n % 5 else 75),
            {"JPEG quality": 0.9},
            id="four fifths",
        ),
        pytest.param(lambda f, n: f._replace(size=20_000), {"bytes per pixel": 1.0}, id="bytes"),
        pytest.param(lambda f, n: f._replace(mode="RGB"), {"colour mode": 1.0}, id="mode"),
        pytest.param(lambda f, n: f._replace(mean=99.0), {"mean grey value": 1.0}, id="mean"),
        pytest.param(lambda f, n: f._replace(contrast=40.0), {"contrast": 0.0}, id="contrast"),
        pytest.param(lambda f, n: f._replace(border=0.5), {"border brightness": 0.0}, id="border"),
        pytest.param(lambda f, n: f._replace(grey_levels=99), {"grey levels": 0.0}, id="levels"),
        pytest.param(lambda f, n: f._replace(sharpness=4.5), {"sharpness": 1.0}, id="sharpness"),
        pytest.param(
            lambda f, n: f._replace(format="PNG", quality=None), {"file format": 1.0}, id="format"
        ),
        pytest.param(
            lambda f, n: f._replace(height=50, width=200),
            {"aspect ratio": 1.0, "exact size": 1.0},
            id="aspect at equal area",
        ),
        pytest.param(
            lambda f, n: f._replace(
                **dict.fromkeys(("height", "width"), side := 200 if n % 2 else 50), size=side**2
            ),
            {"exact size": 1.0},
            id="two sizes around the others: only the exact size predicts",
        ),
    ],
)
def test_finds_shortcuts(
    change: Callable[[FileStats, int], FileStats], expected: dict[str, float]
) -> None:
    assert find_aucs(change) == pytest.approx(expected)


def test_unique_sizes_are_no_shortcut() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(100, 1000, 400)
    stats = [
        PLAIN._replace(height=int(size), width=int(size), size=int(size) ** 2) for size in sizes
    ]
    assert find_shortcuts(["NORMAL"] * 200 + ["PNEUMONIA"] * 200, stats, CLASSES) == []


def test_ignores_classes_with_few_images() -> None:
    assert find_aucs(lambda f, n: f._replace(mode="RGB"), MIN_IMAGES - 1) == {}
    assert find_aucs(lambda f, n: f._replace(mode="RGB"), MIN_IMAGES) == {"colour mode": 1.0}


def test_sorts_by_auc_and_converts_to_json() -> None:
    stats = [PLAIN] * 50 + [
        PLAIN._replace(mode="RGB", quality=95 if n % 5 else 75) for n in range(50)
    ]
    first, second = find_shortcuts(["NORMAL"] * 50 + ["PNEUMONIA"] * 50, stats, CLASSES)
    assert (first.property, second.property) == ("colour mode", "JPEG quality")
    assert (
        first.text == "colour mode alone predicts PNEUMONIA: AUC 1.00, "
        "L in 0% of the class against 100% of the others"
    )
    assert second.to_json() == {
        "property": "JPEG quality",
        "class": "PNEUMONIA",
        "auc": 0.9,
        "text": "JPEG quality alone predicts PNEUMONIA: AUC 0.90, "
        "median 95 against 75 for the others",
    }


def test_examines_each_of_three_classes() -> None:
    labels = ["a"] * 30 + ["b"] * 30 + ["c"] * 30
    stats = [PLAIN] * 30 + [PLAIN._replace(mode="RGB")] * 30 + [PLAIN] * 30
    (shortcut,) = [s for s in find_shortcuts(labels, stats, ("a", "b", "c")) if s.auc > 0.9]
    assert (shortcut.class_name, shortcut.property) == ("b", "colour mode")


def test_tabulates_medians_by_split_and_class() -> None:
    unknown = PLAIN._replace(mean=None)
    images = [("b", PLAIN), ("a", PLAIN._replace(mean=10.0)), ("a", PLAIN._replace(mean=20.0))]
    table = tabulate_pixels({"train": [*images, ("a", unknown)], "test": []})
    assert table["test"] == {}
    assert list(table["train"]) == ["a", "b"]
    assert [table["train"][name]["mean"] for name in "ab"] == [15.0, 90.0]
    assert list(table["train"]["b"].values()) == [90.0, 50.0, 20.0, 250.0, 3.0]


def test_real_originals(shared_data: Path) -> None:
    """Finds the shortcuts of the Kaggle files: aspect ratio 1.22 against 1.50, JPEG quality."""
    labels, stats = [], []
    for label in CLASSES:
        for path in sorted((shared_data / "kermany_original/chest_xray/train" / label).iterdir())[
            :30
        ]:
            image = fit_file(path, FitSettings(32))
            assert isinstance(image, Radiograph)
            labels.append(label)
            stats.append(FileStats.from_image(image))
    found = {shortcut.property: shortcut.auc for shortcut in find_shortcuts(labels, stats, CLASSES)}
    assert found["JPEG quality"] < 1 - AUC_LIMIT
    assert found["aspect ratio"] > AUC_LIMIT
    assert found["sharpness"] < 1 - AUC_LIMIT
