"""Labels from a table: which table and columns, rows and images, splits, patients, size."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers.tables import config_of, draw, labels, read, table

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.settings import ReaderSettings
from cxr_tfds.sources.tables.files import SourceFiles
from cxr_tfds.sources.tables.reader import list_table_images
from cxr_tfds.sources.tables.table import Table
from cxr_tfds.sources.walking import find_problem_of


def test_names_the_missing_or_ambiguous_table(tmp_path: Path) -> None:
    source = table(
        draw(tmp_path, "a.png", "b.png"), "image,label", "a,N", "b,M", name="x/labels.csv"
    )
    with pytest.raises(MissingData, match=r"No table label.csv in .*Did you mean 'x/labels.csv'"):
        read(source, table="label.csv")
    assert read(source, table="labels.csv", negative="N").classes == ("N", "M")
    table(source, "image,label", name="y/labels.csv")
    with pytest.raises(InputError, match=r"several files labels.csv: x/labels.csv, y/labels.csv"):
        read(source, table="labels.csv")
    assert len(read(source, table="x/labels.csv", negative="N").images) == 2
    (source / "x/labels.csv").unlink()
    (source / "y/labels.csv").unlink()
    with pytest.raises(MissingData, match="It contains no table"):
        read(source, table="labels.csv")


def test_reads_a_table_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = draw(tmp_path / "source", "a.png", "b.png")
    table(tmp_path, "image,label", "a.png,Normal", "b.png,Mass")
    monkeypatch.chdir(tmp_path)
    assert len(read(source).images) == 2


@pytest.mark.parametrize(
    ("header", "note"),
    [
        ("Image Index,Finding Labels,Patient ID", "patient in the column 'Patient ID'"),
        ("path,class,subject_id", "image in the column 'path', label in the column 'class'"),
        ("X_ray_image_name,Label,patientId", "image in the column 'X_ray_image_name'"),
        ("name of it,TARGET,Patientid", "image in the column 'name of it'"),
    ],
)
def test_recognizes_columns(tmp_path: Path, header: str, note: str) -> None:
    source = table(draw(tmp_path, "a.png", "b.png"), header, "a.png,Normal,7", "b.png,Mass,8")
    listing = read(source)
    assert [(image.label, image.patient_id) for image in listing.images] == [
        ("Normal", "7"),
        ("Mass", "8"),
    ]
    assert note in listing.notes[0]


def test_unclear_columns_are_an_error_with_a_command(tmp_path: Path) -> None:
    source = draw(tmp_path, *(f"{i}.png" for i in range(8)))
    rows = [f"{i}.png,{'Mass' if i % 2 else 'It is normal'},{20 + i},," for i in range(8)]
    table(source, 'scan,"Owner\'s word",age,,c0,c1,c2,c3,c4,c5,c6,c7', *rows)
    with pytest.raises(InputError, match=r"t.csv: which column has the label") as error:
        read(source)
    text = str(error.value)
    assert "\n  scan: 0.png, 1.png, 2.png\n" in text
    assert "\n  and 2 more\n" in text
    assert len(text.splitlines()) == 13
    config = config_of(error)
    assert config == {"table": "t.csv", "image": "scan", "label": "Owner's word"}
    assert len(read(source, negative="It is normal", **config).images) == 8
    with pytest.raises(InputError, match=r"'lable' is not one of .*Did you mean") as error:
        read(table(source, "image,label", "0.png,x"), label="lable")
    with pytest.raises(InputError, match="column 'label' 2 times"):
        read(table(source, "image,label,label", "0.png,x,y"), label="label")


def test_two_label_columns_are_unclear(tmp_path: Path) -> None:
    source = table(draw(tmp_path, "a.png"), "image,label,class", "a.png,Normal,x")
    with pytest.raises(InputError, match="which column has the label"):
        read(source)


def test_no_row_has_an_image(tmp_path: Path) -> None:
    source = table(draw(tmp_path, "x.png"), "image,label", "a.png,Normal", "b.png,Mass")
    message = "No row of t.csv has an image in .* such as a.png, b.png; .* such as x.png"
    for on_missing in ("error", "leave_out"):
        with pytest.raises(InputError, match=message):
            read(source, on_missing=on_missing)


def test_split_column(tmp_path: Path) -> None:
    source = draw(tmp_path, *(f"{i}.png" for i in range(5)))
    splits = ["TRAIN", "Training", "val", "test", ""]
    rows = [f"{i},{'Mass' if i % 2 else 'Normal'},{split}" for i, split in enumerate(splits)]
    listing = read(table(source, "image,label,Dataset_type", *rows))
    assert listing.has_splits
    assert [image.image_id for image in listing.images] == [
        "test/3.png", "train/0.png", "train/1.png", "validation/2.png",
    ]  # fmt: skip
    assert listing.left_out == {"images without a split": ["4.png"]}


def test_folds_and_other_values_of_the_split_column(tmp_path: Path) -> None:
    source = draw(tmp_path, "a.png", "b.png")
    folds = table(source, "image,label,fold", "a,Normal,0", "b,Mass,fold_1")
    assert [image.split for image in read(folds).images] == ["fold:0", "fold:1"]
    other = table(source, "image,label,split", "a,Normal,left", "b,Mass,right")
    listing = read(other)
    assert not listing.has_splits
    assert {image.split for image in listing.images} == {"train"}
    assert "The split column is ignored: its values are left, right." in listing.notes
    with pytest.raises(InputError, match=r"has the values left, right. Expected train, val and"):
        read(other, split_column="split")


def test_split_lists(tmp_path: Path) -> None:
    source = draw(tmp_path, "a.png", "b.png", "c.png")
    table(source, "image,label", "a.png,Normal", "b.png,Mass", "c.png,Mass")
    table(source, "filename", "a.png", name="lists/train.txt")
    table(source, "b.png", name="test.txt")
    lists = {"train": "train.txt", "test": "test.txt"}
    listing = read(source, split_lists=lists)
    assert labels(listing) == {"train/a.png": "Normal", "test/b.png": "Mass"}
    assert listing.left_out == {"images without a split": ["c.png"]}
    table(source, "b.png", "m.png", name="test.txt")
    with pytest.raises(InputError, match=r"1 lines of split_lists .*\n  m.png \(test.txt, line 2"):
        read(source, split_lists=lists)
    left_out = read(source, split_lists=lists, on_missing="leave_out").left_out
    assert left_out["lines of split_lists whose image does not exist"] == [
        "m.png (test.txt, line 2)"
    ]
    table(source, "b.png", "a.png", name="test.txt")
    with pytest.raises(InputError, match=r"1 images in two lists .*\n  a.png: train, test"):
        read(source, split_lists=lists)


def test_a_table_for_each_split(tmp_path: Path) -> None:
    source = draw(tmp_path, "a.png", "b.png", "c.png", "d.png")
    table(source, "0 a.png positive x", "1 b.png negative x", name="train.txt")
    table(source, "0 c.png positive x", "1 d.png negative x", name="test.txt")
    tables: Mapping[str, str] = {"train": "train.txt", "test": "test.txt"}
    with pytest.raises(InputError, match="which column has the label") as error:
        read(source, table=tables)
    assert config_of(error) == {"table": tables, "image": "2", "label": "3"}
    listing = read(source, table=tables, label="3")
    assert listing.classes == ("negative", "positive")
    assert [image.image_id for image in listing.images] == [
        "test/c.png", "test/d.png", "train/a.png", "train/b.png",
    ]  # fmt: skip
    table(source, "0 a.png positive x", name="test.txt")
    with pytest.raises(InputError, match=r"split train .*; positive, split test"):
        read(source, table=tables, label="3")


def test_patients(tmp_path: Path) -> None:
    source = draw(tmp_path, "patient00001/study1/v.png", "patient00002/study1/v.png")
    table(
        source, "path,label", "patient00001/study1/v.png,Normal", "patient00002/study1/v.png,Mass"
    )
    listing = read(source)
    assert [image.patient_id for image in listing.images] == ["chexpert-00001", "chexpert-00002"]
    assert "Patients recognized in file names: 2." in listing.notes
    other = draw(tmp_path / "x", "a.png", "b.png")
    unknown = read(table(other, "image,label", "a,Normal", "b,Mass"))
    assert {image.patient_id for image in unknown.images} == {""}
    assert "Name the column with the setting patient" in unknown.notes[-1]
    two = table(other, "image,label,patient,subject_id", "a,Normal,1,2", "b,Mass,3,4")
    with pytest.raises(InputError, match="which of the columns patient, subject_id") as error:
        read(two)
    assert config_of(error) == {"table": "t.csv", "patient": "patient"}


def test_ids_do_not_depend_on_the_folder_or_the_order_of_rows(tmp_path: Path) -> None:
    lines = ["a,Normal", "b,Mass", "c,Normal"]
    listings = [
        read(table(draw(tmp_path / name, "i/a.png", "i/b.png", "i/c.png"), "image,label", *rows))
        for name, rows in (("one", lines), ("two", lines[::-1]))
    ]
    assert labels(listings[0]) == labels(listings[1])
    assert list(labels(listings[0])) == ["i/a.png", "i/b.png", "i/c.png"]
    assert str(tmp_path) not in re.sub(r"PosixPath\([^)]*\)", "", repr(listings[0]))


def test_large_tables_need_few_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{i:05}.png" for i in range(3000)]
    source = draw(tmp_path, *(f"images/{name}" for name in names))
    rows = [f"{name},{'Mass' if i % 3 else 'Normal'}" for i, name in enumerate(names)]
    table(source, "image,label", *rows * 10)
    calls = Counter[str]()

    def count(self: SourceFiles, name: str, folder: str = "") -> list[int]:
        calls["find"] += 1
        return original(self, name, folder)

    original = SourceFiles.find
    monkeypatch.setattr(SourceFiles, "find", count)
    listing = read(source)
    assert len(listing.images) == 3000
    assert calls["find"] < 250  # the table itself and the samples; others are found by unique names


@pytest.mark.skipif(os.name != "posix", reason="needs pipes")
def test_a_pipe_is_one_unreadable_image(tmp_path: Path) -> None:
    source = table(draw(tmp_path, "b.png"), "image,label", "a.png,Normal", "b.png,Mass")
    os.mkfifo(source / "a.png")
    assert find_problem_of(read(source).images[0].path) == "a pipe, not a regular file"


def test_excluded_images_are_not_missing_if_the_table_has_more_folders(tmp_path: Path) -> None:
    source = draw(tmp_path, "train/p1/frontal.png", "train/p1/lateral.png", "train/p2/frontal.png")
    rows = ["Set-v1/train/p1/frontal.png,Normal", "Set-v1/train/p1/lateral.png,Normal"]
    table(source, "image,label", *rows, "Set-v1/train/p2/frontal.png,Mass")
    listing = read(source, exclude=["*/lateral.png"])
    assert labels(listing) == {"train/p1/frontal.png": "Normal", "train/p2/frontal.png": "Mass"}
    assert listing.left_out == {"by the settings include and exclude": ["train/p1/lateral.png"]}


def test_edits_tables_before_reading(tmp_path: Path) -> None:
    source = table(draw(tmp_path, "a.png", "b.png"), "image,label", "a.png,Normal", "b.png,Mass")
    (source / "t.csv").write_text("image,label\na.png,Normal\nb.png,Mass\nc.png,Mass\n")

    def edit(table: Table) -> Table:
        rows = [(line, row) for line, row in table.read_rows() if row[0] != "c.png"]
        return dataclasses.replace(table, read_rows=lambda: iter(rows))

    listing = list_table_images(source, ReaderSettings(table="t.csv"), edit)
    assert labels(listing) == {"a.png": "Normal", "b.png": "Mass"}
