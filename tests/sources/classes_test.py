"""Class folders, the negative class, and sources that are refused."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.sources import draw_image
from PIL import Image

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources import Listing, ReaderSettings, read_source
from cxr_tfds.sources.walking import find_problem_of


def scan_classes(source: Path, **settings: Any) -> Listing:
    return read_source(source, ReaderSettings(**settings))


def draw(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


FLAT = ("Normal/a.png", "Fibrosis/b.png", "Fibrosis/ward 3/c.png")
SPLIT = ("train/Normal/a.png", "train/TB/b.png", "TEST/NORMAL/c.png", "TEST/tb/d.png")


def test_finds_classes_without_splits(tmp_path: Path) -> None:
    found = scan_classes(draw(tmp_path, *FLAT))
    assert found.classes == ("Normal", "Fibrosis")
    assert not found.has_splits
    assert [file.image_id for file in found.images] == [
        "Fibrosis/b.png",
        "Fibrosis/ward 3/c.png",
        "Normal/a.png",
    ]
    assert {file.split for file in found.images} == {"train"}


def test_finds_classes_in_splits(tmp_path: Path) -> None:
    found = scan_classes(draw(tmp_path, *SPLIT))
    assert found.classes == ("Normal", "TB")
    assert found.has_splits
    assert [file.image_id for file in found.images] == [
        "test/Normal/c.png",
        "test/TB/d.png",
        "train/Normal/a.png",
        "train/TB/b.png",
    ]


@pytest.mark.parametrize("layout", [FLAT, SPLIT])
def test_finds_nested_and_zipped_layouts(layout: Sequence[str], tmp_path: Path) -> None:
    wanted = [file.image_id for file in scan_classes(draw(tmp_path / "plain", *layout)).images]
    wrapped = draw(tmp_path / "wrapped" / "my data" / "v2", *layout, "__MACOSX/x/._a.png").parents[
        1
    ]
    assert [file.image_id for file in scan_classes(wrapped).images] == wanted
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as file:
        for path in layout:
            file.writestr(f"my data/{path}", path)
    assert [file.image_id for file in scan_classes(tmp_path / "archive.zip").images] == wanted


def test_skips_a_nested_copy(tmp_path: Path) -> None:
    draw(tmp_path / "data", *FLAT)
    draw(tmp_path / "data" / "data", *FLAT)
    found = scan_classes(tmp_path)
    assert found.classes == ("Normal", "Fibrosis")
    assert len(found.images) == 3
    draw(tmp_path / "data" / "data", "Normal/more.png")
    with pytest.raises(InputError, match=r"looks like a copy of .*\n  .*more\.png"):
        scan_classes(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "normal",
        "NEGATIVE",
        "healthy",
        "No Finding",
        "no_findings",
        "Non-COVID",
        "nonCOVID-19",
        "control",
        "Controls",
        "Healthy Control",
        "NORMAL_IMAGES",
        "Unabscess",
        "Without nodules",
        "No",
        "正常",
        "Норма",
        "Sano",
        "Chest X-ray normal",
    ],
)
def test_negative_names(name: str, tmp_path: Path) -> None:
    assert scan_classes(draw(tmp_path, "Abscess/a.png", f"{name}/b.png")).classes == (
        name,
        "Abscess",
    )


@pytest.mark.parametrize("name", ["non-TB", "no_tb", "Not TB", "without tb"])
def test_recognizes_a_negated_class_name(name: str, tmp_path: Path) -> None:
    assert scan_classes(draw(tmp_path, "TB/a.png", f"{name}/b.png")).classes == (name, "TB")


def test_ignores_a_common_first_word(tmp_path: Path) -> None:
    found = scan_classes(draw(tmp_path, "CT_COVID/a.png", "CT_NonCOVID/b.png"))
    assert found.classes == ("CT_NonCOVID", "CT_COVID")


@pytest.mark.parametrize(
    "names",
    [
        ("covid", "flu"),
        ("normal", "healthy", "covid"),
        ("abnormal", "tb"),
        ("abnormal", "abscess"),
        ("2", "1"),
    ],
)
def test_refuses_an_unclear_negative_class(names: Sequence[str], tmp_path: Path) -> None:
    draw(tmp_path, *(f"{name}/a.png" for name in names))
    message = (
        r"Which of the classes .* is the negative class"
        r""".*--config '\{"name": "224-mine", "negative": """
    )
    with pytest.raises(InputError, match=message):
        scan_classes(tmp_path)
    assert scan_classes(tmp_path, negative=names[1].upper()).classes[0] == names[1]


def test_keeps_the_order_of_given_classes(tmp_path: Path) -> None:
    draw(tmp_path, "b/1.png", "a/1.png", "c/1.png", "Normal/1.png")
    assert scan_classes(tmp_path, classes=["Normal", "c", "A", "b"]).classes == (
        "Normal",
        "c",
        "A",
        "b",
    )
    assert scan_classes(tmp_path, classes=["c", "a", "b", "Normal"], negative="c").classes[0] == "c"
    with pytest.raises(
        InputError, match="Which of the classes c, a, b, Normal is the negative class"
    ):
        scan_classes(tmp_path, classes=["c", "a", "b", "Normal"])
    with pytest.raises(InputError, match=r"negative='x' is not one of the classes"):
        scan_classes(tmp_path, negative="x")
    with pytest.raises(InputError, match="expected two or more that differ in more than case"):
        scan_classes(tmp_path, classes=["a", "A"])


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (
            ("Normal/a.png", "NORMAL/b.png"),
            r"NORMAL and .*Normal differ only in case\. Merge them or rename",
        ),
        (("train/Normal/a.png", "train/x/a.png", "train/X/a.png"), "differ only in case"),
        (
            ("train/Normal/a.png", "train/x/a.png", "test/x/a.png", "test/X/b.png"),
            "both mean 'x'",
        ),
        (
            ("train/Normal/a.png", "train/x/a.png", "test/x/a.png"),
            r"test has no folder Normal\.\nFound there: x/",
        ),
        (
            (
                "train/Normal/a.png",
                "train/x/a.png",
                "test/x/a.png",
                "test/Normal/a.png",
                "test/y/a.png",
            ),
            "y is not one of",
        ),
        (
            ("train/Normal/a.png",),
            r"train has fewer than two class folders\.\nFound there: Normal/\nExpected layout",
        ),
        (("Normal/a.png", "x/b.png", "lost.png"), r"lost\.png is outside the class folders"),
        (
            ("Normal/a.png", " x/b.png"),
            r" x': not usable as a class name",
        ),
        (
            ("a/Normal/1.png", "a/x/1.png", "b/Normal/1.png", "b/x/1.png"),
            r"a, .*b all contain normal, x: they look like",
        ),
    ],
)
def test_refuses_unusable_folders(paths: Sequence[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        scan_classes(draw(tmp_path, *paths))


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (
            ("a.png", "b.png"),
            r"Found there: a\.png, b\.png\nExpected layout, with two or more classes",
        ),
        (("Normal/a.png",), r"Found there: Normal/\nExpected"),
        (
            ("test/Normal/a.png", "test/x/a.png"),
            r"has no train split\.\nFound there: test/\nExpected",
        ),
        (("docs/a.md", "src/b.py"), r"Found there: docs/, src/\nExpected layout"),
        (("Normal/a.png", "x/.DS_Store"), r"Found there: Normal/, x/\nExpected layout"),
    ],
)
def test_reports_missing_data(paths: Sequence[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=message):
        scan_classes(draw(tmp_path, *paths))
    with pytest.raises(MissingData, match="It does not exist"):
        scan_classes(tmp_path / "nowhere")


@pytest.mark.parametrize("target", ["..", "../..", "."])
def test_a_link_to_a_parent_folder_is_one_unreadable_image(target: str, tmp_path: Path) -> None:
    draw(tmp_path, *SPLIT)
    (tmp_path / "train/Normal/ward").mkdir()
    (tmp_path / "train/Normal/ward/back").symlink_to(target)
    (bad,) = [x for x in scan_classes(tmp_path).images if "ward" in x.image_id]
    assert bad.image_id == "train/Normal/ward/back/"
    assert find_problem_of(bad.path) == "a link to a folder that contains it. Remove it"


def test_follows_a_link_to_another_folder(tmp_path: Path) -> None:
    draw(tmp_path, *SPLIT)
    (tmp_path / "more").mkdir()
    (tmp_path / "more/x.png").touch()
    (tmp_path / "train/TB/more").symlink_to("../../more")
    assert "train/TB/more/x.png" in [file.image_id for file in scan_classes(tmp_path).images]


def test_merges_and_selects_classes(tmp_path: Path) -> None:
    draw(tmp_path, "normal/1.png", "bacteria/1.png", "virus/1.png", "other/1.png", "virus/2.png")
    classes = {"NORMAL": ["normal", "no finding"], "PNEUMONIA": ["bacteria", "virus"]}
    found = scan_classes(tmp_path, classes=classes)
    assert found.classes == ("NORMAL", "PNEUMONIA")
    assert [(image.image_id, image.finding) for image in found.images] == [
        ("NORMAL/1.png", "normal"),
        ("PNEUMONIA/bacteria/1.png", "bacteria"),
        ("PNEUMONIA/virus/1.png", "virus"),
        ("PNEUMONIA/virus/2.png", "virus"),
    ]
    assert found.findings == ("bacteria", "normal", "virus")
    assert found.left_out == {"folders that are not among the classes": ["other/"]}


def test_selects_the_given_classes(tmp_path: Path) -> None:
    found = scan_classes(draw(tmp_path, *FLAT, "Other/x.png"), classes=["Normal", "Fibrosis"])
    assert [image.label for image in found.images] == ["Fibrosis", "Fibrosis", "Normal"]
    assert found.describe() == ["Left out, folders that are not among the classes: 1 (Other/)."]


def test_reads_classes_from_file_names(tmp_path: Path) -> None:
    draw(tmp_path, "CXR_png/MCUCXR_0001_0.png", "CXR_png/MCUCXR_0104_1.png", "CXR_png/other.png")
    draw(tmp_path, "ManualMask/leftMask/MCUCXR_0001_0.png", "ClinicalReadings/MCUCXR_0001_0.txt")
    found = scan_classes(tmp_path, class_pattern=r"_([01])\.png$")
    assert found.classes == ("0", "1")
    assert [(image.label, image.patient_id) for image in found.images] == [
        ("0", "tb-MCUCXR_0001"),
        ("1", "tb-MCUCXR_0104"),
    ]
    assert found.left_out == {
        "files that are not images": ["ClinicalReadings/MCUCXR_0001_0.txt"],
        "masks and annotations": ["ManualMask/leftMask/MCUCXR_0001_0.png"],
        "names that class_pattern does not match": ["CXR_png/other.png"],
    }
    renamed = scan_classes(
        tmp_path, class_pattern=r"_([01])\.png$", classes={"normal": ["0"], "TB": ["1"]}
    )
    assert renamed.classes == ("normal", "TB")
    with pytest.raises(InputError, match=r"class_pattern='x_.*' finds a class in no file name"):
        scan_classes(tmp_path, class_pattern="x_(.)")


def test_leaves_out_by_pattern(tmp_path: Path) -> None:
    draw(tmp_path, *FLAT, "Normal/lateral/1.png", "Fibrosis/lateral/1.png")
    found = scan_classes(tmp_path, exclude=["*/lateral/*"])
    assert len(found.images) == 3
    assert found.left_out == {
        "by the settings include and exclude": ["Fibrosis/lateral/1.png", "Normal/lateral/1.png"]
    }
    assert [i.image_id for i in scan_classes(tmp_path, include=["*/lateral/*"]).images] == [
        "Fibrosis/lateral/1.png",
        "Normal/lateral/1.png",
    ]


def test_leaves_out_unnamed_masks(tmp_path: Path) -> None:
    for name in ("Normal", "TB"):
        for number in range(3):
            draw_image(tmp_path / name / "pictures" / f"{number}.png")
            mask = Image.new("L", (40, 30))
            mask.paste(255, (5, 5, 20, 20))
            (tmp_path / name / "outlines").mkdir(exist_ok=True)
            mask.save(tmp_path / name / "outlines" / f"{number}.png")
    found = scan_classes(tmp_path)
    assert len(found.images) == 6
    assert len(found.left_out["masks and annotations"]) == 6


def test_source_without_a_negative_class(tmp_path: Path) -> None:
    draw(tmp_path, "virus/1.png", "bacteria/1.png")
    assert scan_classes(tmp_path, negative="").classes == ("bacteria", "virus")


@pytest.mark.parametrize("settings", [
    {"classes": "Normal"}, {"classes": {"Normal": "x"}}, {"classes": []}, {"negative": 1},
    {"patient": "("}, {"class_pattern": "["}, {"include": "*.png"}, {"image": "column"},
    {"on_conflict": "ignore"}, {"table": 3}, {"table": {"fold": "x.csv"}},
    {"table": "x.csv", "class_pattern": "x"},
])  # fmt: skip
def test_refuses_invalid_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(settings))}|class_pattern"):
        ReaderSettings(**settings)


def test_masks_next_to_their_radiographs(tmp_path: Path) -> None:
    for name in ("Normal", "TB"):
        for number in range(2):
            draw_image(tmp_path / name / f"p{number}" / "image.png")
            draw_image(tmp_path / name / f"p{number}" / "mask.png")
            draw_image(tmp_path / name / f"{number}.jpg")
            mask = Image.new("L", (40, 30))
            mask.paste(255, (5, 5, 20, 20))
            mask.save(tmp_path / name / f"{number}.png")
    found = scan_classes(tmp_path)
    assert len(found.images) == 8
    assert len(found.left_out["masks and annotations"]) == 8
    assert not any(
        "mask" in x.image_id or x.image_id[-5:] in ("0.png", "1.png") for x in found.images
    )


def test_a_mask_of_another_size_does_not_save_the_others(tmp_path: Path) -> None:
    for name in ("Normal", "TB"):
        for number in range(4):
            draw_image(tmp_path / name / "rgt" / f"{number}.png")
            mask = Image.new("L", (40, 30) if number != 1 else (50, 30))
            mask.paste(255, (5, 5, 20, 20))
            (tmp_path / name / "lungs").mkdir(exist_ok=True)
            mask.save(tmp_path / name / "lungs" / f"{number}.png")
    names = {image.image_id for image in scan_classes(tmp_path).images if "lungs" in image.image_id}
    assert names == {"Normal/lungs/1.png", "TB/lungs/1.png"}


def test_patients_in_merged_classes(tmp_path: Path) -> None:
    draw(
        tmp_path,
        *(f"{name}/p{n}/1.png" for name in ("normal", "bacteria", "virus") for n in (1, 2)),
    )
    found = scan_classes(
        tmp_path,
        classes={"NORMAL": ["normal"], "PNEUMONIA": ["bacteria", "virus"]},
        patient="^([^/]+)/",
    )
    assert {image.patient_id for image in found.images} == {"p1", "p2"}


def test_refuses_a_copy_with_more_images(tmp_path: Path) -> None:
    draw(tmp_path, *FLAT)
    for path in FLAT:
        (tmp_path / "all" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / path, tmp_path / "all" / path)
    assert scan_classes(tmp_path).left_out == {"folders that repeat the source": ["all/"]}
    draw(tmp_path, "all/COVID/d.png")
    with pytest.raises(InputError, match=r"looks like a copy of .*\n  .*COVID/d\.png"):
        scan_classes(tmp_path)


def test_exported_series_are_not_patients(tmp_path: Path) -> None:
    draw(tmp_path, "Normal/jones/IM-0001-0001.png", "TB/smith/IM-0001-0001.png")
    assert {image.patient_id for image in scan_classes(tmp_path).images} == {""}
