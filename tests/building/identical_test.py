"""Identical images: found by bytes and by pixels, kept in one split, never with two labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.sources import build, draw_image, read
from PIL import Image

from cxr_tfds.builders.xray_folder.xray_folder_dataset_builder import Builder
from cxr_tfds.building.config import SourceConfig
from cxr_tfds.building.identical import find_identical_files, resolve_identical
from cxr_tfds.building.plan import plan_splits
from cxr_tfds.errors import InputError
from cxr_tfds.sources import Listing, SourceImage

CLASSES = ("Normal", "TB")
LEAVE_OUT = {"on_conflict": "leave_out"}


def copy_pixels(source: Path, target: Path) -> None:
    """Writes a JPEG with the pixels of another one and a comment: other bytes, same pixels."""
    data = source.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data[:2] + b"\xff\xfe\x00\x06note" + data[2:])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for label in CLASSES:
        for number in range(20):
            draw_image(folder / label / f"{label}-{number}.jpeg")
    return folder


def image(
    path: Path, label: str = "Normal", split: str = "train", patient: str = ""
) -> SourceImage:
    return SourceImage(path, split, label, f"{split}/{label}/{path.name}", patient_id=patient)


def notes(folder: Path) -> list[str]:
    return json.loads((folder / "build_report.json").read_text(encoding="utf-8"))["notes"]


def test_finds_identical_files(source: Path) -> None:
    first = source / "Normal" / "Normal-0.jpeg"
    copy = source / "Normal" / "copy.jpeg"
    copy.write_bytes(first.read_bytes())
    for number, grey in enumerate((90, 91, 90)):  # equal ends and length
        long = Image.new("L", (200, 200))
        long.putpixel((100, 100), grey)
        long.save(source / f"long-{number}.bmp")
    images = [image(path) for path in sorted(source.rglob("*.*"))]
    names = [[name.rpartition("/")[2] for name in ids] for ids in find_identical_files(images)]
    assert sorted(map(sorted, names)) == [
        ["Normal-0.jpeg", "copy.jpeg"],
        ["long-0.bmp", "long-2.bmp"],
    ]


def test_joins_patients_who_share_an_image() -> None:
    images = [
        image(Path(name), patient=patient)
        for name, patient in (("a", "p1"), ("b", "p1"), ("c", "p2"), ("d", "p3"), ("e", "p4"))
    ]
    ids = [x.image_id for x in images]
    joined, _ = resolve_identical(
        images,
        [[ids[1], ids[2]], [ids[2], ids[3]]],
        on_conflict="error",
        keeps_source_splits=False,
    )
    assert [x.group for x in joined] == ["p1", "p1", "p1", "p1", "p4"]


@pytest.mark.parametrize("cut", ["validation", "test"])
def test_copies_are_never_cut_apart(cut: str, tmp_path: Path) -> None:
    images = []
    for number in range(60):
        for copy in ("", "copy-"):
            path = tmp_path / f"{copy}{number}.png"
            Image.new("L", (8, 8), number).save(path)
            images.append(image(path, CLASSES[number % 2]))
    plan = plan_splits(Listing(images, CLASSES), SourceConfig(name="mine"), cuts_test=True)
    inside = {int(x.path.name.split("-")[-1][:-4]) for x in plan.splits[cut]}
    assert len(plan.splits[cut]) == 2 * len(inside) > 0
    for split, others in plan.splits.items():
        if split != cut:
            assert not inside & {int(x.path.name.split("-")[-1][:-4]) for x in others}


@pytest.mark.slow
def test_pixel_copies_are_in_one_split(source: Path, tmp_path: Path) -> None:
    for label in CLASSES:
        for path in list((source / label).iterdir()):
            copy_pixels(path, path.with_name(f"copy-{path.name}"))
    records = read(build(Builder, source, tmp_path / "data").data_path)
    assert set(records) == {"train", "validation", "test"}
    for examples in records.values():
        names = [image_id.rpartition("/")[2] for image_id in examples]
        originals = {name.removeprefix("copy-") for name in names}
        assert len(names) == 2 * len(originals)
    assert sum(map(len, records.values())) == 80


@pytest.mark.slow
@pytest.mark.parametrize("by_pixels", [False, True])
def test_identical_images_of_two_classes(by_pixels: bool, source: Path, tmp_path: Path) -> None:
    for number in range(3):
        first, other = source / f"Normal/Normal-{number}.jpeg", source / f"TB/other-{number}.jpeg"
        copy_pixels(first, other) if by_pixels else other.write_bytes(first.read_bytes())
    message = r"3 groups of identical images with different labels:\n  Normal/Normal-0\.jpeg = TB/"
    with pytest.raises(InputError, match=message):
        build(Builder, source, tmp_path / "data")
    assert not list((tmp_path / "data").glob("xray_folder/224/*/*"))
    built = build(Builder, source, tmp_path / "data", **LEAVE_OUT).data_path
    assert sum(map(len, read(built).values())) == 37
    assert "Left out: 3 groups of identical images with different labels" in str(notes(built))


@pytest.mark.slow
@pytest.mark.parametrize("by_pixels", [False, True])
def test_images_of_the_test_split_in_train(by_pixels: bool, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for label in CLASSES:
        for number in range(12):
            draw_image(source / "train" / label / f"{label}-{number}.jpeg")
        for number in range(4):
            first = source / "train" / label / f"{label}-{number}.jpeg"
            other = source / "test" / label / f"test-{number}.jpeg"
            other.parent.mkdir(parents=True, exist_ok=True)
            copy_pixels(first, other) if by_pixels else other.write_bytes(first.read_bytes())
    message = "8 groups of identical images in the source's test split and outside it"
    with pytest.raises(InputError, match=message):
        build(Builder, source, tmp_path / "data")
    records = read(build(Builder, source, tmp_path / "data", **LEAVE_OUT).data_path)
    assert len(records["test"]) == 8
    assert len(records["train"]) + len(records["validation"]) == 16
    kept: dict[str, Any] = {"split": "source"}
    records = read(build(Builder, source, tmp_path / "kept", **kept).data_path)
    assert (len(records["train"]), len(records["test"])) == (24, 8)


def test_folds_keep_groups_and_classes(source: Path) -> None:
    images = [
        image(path, path.parent.name, patient=f"{path.parent.name}-{index // 2}")
        for index, path in enumerate(sorted(source.glob("*/*")))
    ]
    listing, tested = Listing(images, CLASSES), []
    for fold in range(4):
        config = SourceConfig(name="mine", split=f"fold:{fold}/4")
        splits = plan_splits(listing, config, cuts_test=True).splits
        assert {x.label for x in splits["test"]} == set(CLASSES)
        assert len(splits["test"]) in (8, 12)
        tested += [x.image_id for x in splits["test"]]
        groups = [{x.patient_id for x in split} for split in splits.values()]
        assert len(set.union(*groups)) == sum(map(len, groups))
    assert sorted(tested) == sorted(x.image_id for x in images)


@pytest.mark.parametrize("split", ["fold:5/5", "fold:0/1", "fold:-1/5", "fold:a/b", "folds", 3])
def test_refuses_a_fold_that_does_not_exist(split: Any) -> None:
    with pytest.raises(InputError, match=r"expected one of patient, source, or a fold"):
        SourceConfig(name="mine", split=split)


@pytest.mark.slow
def test_copies_by_bytes_and_by_pixels_together(source: Path, tmp_path: Path) -> None:
    (source / "TB" / "same-bytes.jpeg").write_bytes((source / "Normal/Normal-0.jpeg").read_bytes())
    copy_pixels(source / "Normal" / "Normal-1.jpeg", source / "TB" / "same-pixels.jpeg")
    builder = build(Builder, source, tmp_path / "data", **LEAVE_OUT)
    names = {name.rpartition("/")[2] for x in read(builder.data_path).values() for name in x}
    assert len(names) == 38
    assert not names & {"same-bytes.jpeg", "Normal-0.jpeg", "same-pixels.jpeg", "Normal-1.jpeg"}
    assert builder.info.metadata["conflicting_images"] == 4
    with pytest.raises(InputError, match="without 4 identical images that contradict each other"):
        build(Builder, source, tmp_path / "data")


@pytest.mark.slow
def test_copies_across_the_source_validation(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for split, count in (("train", 30), ("val", 10), ("test", 5)):
        for label in CLASSES:
            for number in range(count):
                draw_image(source / split / label / f"{split}-{label}-{number}.png")
    shutil.copy(source / "train/TB/train-TB-0.png", source / "val/TB/copy.png")
    records = read(build(Builder, source, tmp_path / "data").data_path)
    (split,) = (x for x, examples in records.items() if any("train-TB-0." in n for n in examples))
    assert any(name.endswith("copy.png") for name in records[split])
