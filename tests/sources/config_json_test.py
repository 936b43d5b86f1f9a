"""Settings in JSON: proposals repeat the settings of the user, in every kind of message."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers.sources import encode
from helpers.tables import table

from cxr_tfds.building.config import SourceConfig
from cxr_tfds.errors import InputError
from cxr_tfds.looking.survey import scan_source, survey_source
from cxr_tfds.sources.config_json import (
    format_sets,
    parse_config,
    propose_config,
    propose_sets,
    repeat_settings,
)

USER = {"size": 64, "split": "fold:0/3"}


def draw(folder: Path, *names: str, image: np.ndarray | None = None) -> None:
    """Draws different images, unless an image is given."""
    for name in names:
        rng = np.random.default_rng(list(name.encode()))
        pixels = rng.integers(0, 256, (32, 32), np.uint8)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(pixels if image is None else image, "PNG"))


def draw_classes(folder: Path, *classes: str) -> None:
    draw(folder, *(f"{name}/{i}.png" for name in classes for i in range(4)))


def draw_table(folder: Path, *lines: str) -> None:
    table(folder, *lines)
    draw(folder, "a.png", "b.png")


def draw_black(folder: Path) -> None:
    draw(folder, "Normal/a.png", image=np.zeros((32, 32), np.uint8))
    draw(folder, "TB/b.png")


def draw_identical(folder: Path) -> None:
    draw(folder, "Normal/a.png", "TB/b.png", image=np.eye(32, dtype=np.uint8) * 255)


def draw_shared_patient(folder: Path) -> None:
    draw_classes(folder, "train/Normal", "train/TB", "test/Normal")
    draw(folder, "train/TB/person1_virus_1.jpeg", "test/TB/x/person1_virus_2.jpeg")


def draw_corrupt(folder: Path) -> None:
    draw_classes(folder, "Normal", "TB")
    (folder / "TB" / "corrupt.png").write_bytes(b"")


def draw_masks(folder: Path) -> None:
    draw(folder, "Normal/a.png", "TB/b.jpg", "TB/b.tif", image=np.eye(32, dtype=np.uint8))
    draw(folder, "Normal/b.png")


class Case(NamedTuple):
    """A source that is refused, and the settings that its message proposes to change."""

    draw: Callable[[Path], object]
    given: dict[str, Any]
    changes: dict[str, Any]


TABLE = {"table": "t.csv"}
CASES = {
    "no negative class": Case(
        lambda folder: draw_classes(folder, "A", "B"), {}, {"negative": "NAME"}
    ),
    "a class missing in test": Case(
        lambda folder: draw_classes(
            folder, "train/Normal", "train/TB", "train/Flu", "test/Normal", "test/Flu"
        ),
        {"classes": {"Normal": ["Normal"], "TBC": ["TB"], "Flu": ["flu"]}},
        {"classes": {"Normal": ["Normal"], "Flu": ["flu"]}},
    ),
    "labels in a table": Case(
        lambda folder: (draw(folder, "images/a.png"), table(folder, "image,label", "a,b")),
        {"patient": "^p"},
        {"table": "t.csv", "patient": None},
    ),
    "labels in file names": Case(
        lambda folder: draw(folder, "images/a_0.png", "images/b_1.png"),
        {"include": ["images/*"]},
        {"class_pattern": "_([01])[.]"},
    ),
    "classes of file names that differ in case": Case(
        lambda folder: draw(folder, "a1.png", "A2.png", "a3.png", "b1.png"),
        {"class_pattern": "^([aAb])"},
        {"classes": ["a", "b"]},
    ),
    "too many classes of file names": Case(
        lambda folder: draw(folder, *(f"{i}.png" for i in range(101))),
        {"class_pattern": "^([0-9]+)"},
        {"class_pattern": "^([a-z]+)_"},
    ),
    "splits in the classes": Case(
        lambda folder: draw_classes(folder, "A/train", "A/test", "B/train", "B/test"),
        {},
        {"classes": ["A", "B"]},
    ),
    "masks only": Case(
        lambda folder: draw_classes(folder, "Normal/masks", "TB/masks"), {}, {"include": ["*"]}
    ),
    "unnamed masks": Case(draw_masks, {}, {"include": ["*"]}),
    "unknown columns": Case(
        lambda folder: draw_table(folder, "x,y", "a,Normal", "b,TB"),
        TABLE,
        {"image": "x", "label": "y"},
    ),
    "two columns with patients": Case(
        lambda folder: draw_table(folder, "image,label,patient,pid", "a,0,1,1", "b,1,2,2"),
        TABLE,
        {"patient": "patient"},
    ),
    "two images of a row": Case(
        lambda folder: (table(folder, "image,label", "a,0"), draw(folder, "x/a.png", "z/a.png")),
        TABLE | {"exclude": ["y/*"]},
        {"exclude": ["y/*", "FOLDER/*"]},
    ),
    "rows without image": Case(
        lambda folder: draw_table(folder, "image,label", "a,0", "b,1", "c,1"),
        TABLE,
        {"on_missing": "leave_out"},
    ),
    "contradicting rows": Case(
        lambda folder: draw_table(folder, "image,label", "a,0", "b,1", "a,1"),
        TABLE,
        {"repeated_rows": "any"},
    ),
    "states in a label column": Case(
        lambda folder: draw_table(folder, "image,label", "a,-1", "b,1"),
        TABLE,
        {"label": ["LABEL_COLUMN"]},
    ),
    "black images": Case(draw_black, {"bits": 12}, {"percentile": [0.5, 99.5], "bits": None}),
    "identical images": Case(draw_identical, {}, {"on_conflict": "leave_out"}),
    "corrupt images": Case(draw_corrupt, {}, {"on_bad_image": "skip"}),
    "a patient in two splits": Case(draw_shared_patient, {}, {"split": "source"}),
    "a class with too few images": Case(
        lambda folder: (draw_classes(folder, "Normal", "TB"), draw(folder, "Flu/a.png")),
        {},
        {"classes": ["Normal", "TB"]},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_messages_repeat_the_settings_of_the_user(case: Case, tmp_path: Path) -> None:
    case.draw(tmp_path)
    given = USER | case.given
    try:
        report = survey_source(scan_source(tmp_path, None, given)).report
        message = "\n".join([*report["notes"], report["build"].get("error", "")])
    except InputError as err:
        message = str(err)
    expected = {"name": "64-mine"} | given | case.changes
    expected = {name: value for name, value in expected.items() if value is not None}
    proposed = json.loads(shlex.split(message.rpartition("--config ")[2])[0])
    assert proposed == expected, message
    assert SourceConfig(**proposed).size == 64


def test_a_config_keeps_its_name() -> None:
    with repeat_settings({"name": "320-rgb", "size": 320, "channels": 3}):
        assert '"name": "320-rgb"' in propose_config(split="source")
    assert propose_config() == """--config '{"name": "224-mine"}'"""
    with repeat_settings({"size": None}):
        assert propose_config() == """--config '{"name": "original-mine", "size": null}'"""


def test_given_settings_differ_from_the_defaults() -> None:
    config = SourceConfig(name="mine", size=224, channels=3, exclude=("a/*",), classes=None)
    assert config.list_given() == {"name": "mine", "channels": 3, "exclude": ["a/*"]}
    assert SourceConfig(name="224", description="listed").list_given() == {}
    assert "description" in SourceConfig(name="mine", description="Mine").list_given()


@pytest.mark.parametrize("text", ["{", "[]", "{size: 3}"])
def test_refuses_what_is_not_a_json_object(text: str) -> None:
    with pytest.raises(InputError, match=r"is not a JSON object(.*); expected settings such as"):
        parse_config(text)


def test_a_command_with_set_gets_the_changes_only() -> None:
    with repeat_settings(USER), propose_sets():
        assert propose_config(negative="No TB") == "--set 'negative=No TB'"
        assert (
            propose_config(exclude=["*.gif"], bits=12)
            == "--set 'exclude=[\"*.gif\"]' --set bits=12"
        )
        # What is to be removed cannot be added.
        assert propose_config("split", negative="A").startswith("--config ")
    assert propose_config(negative="A").startswith("--config ")


def test_settings_as_text() -> None:
    settings = {"size": 64, "negative": "A", "classes": {"A": ["a"]}, "patient": "[a-z]+"}
    assert format_sets(settings) == [
        "size=64",
        "negative=A",
        'classes={"A": ["a"]}',
        'patient="[a-z]+"',
    ]
