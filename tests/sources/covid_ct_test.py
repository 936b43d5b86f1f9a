"""COVID-CT slices: both layouts, spellings, split lists, and papers in file names."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources.covid_ct import parse_origin, scan_slices


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("2020.02.25.20021568-p23-108%0.png", "paper-2020.02.25.20021568"),
        ("2020.02.25.20021568-p24-111%4.png", "paper-2020.02.25.20021568"),  # another page
        ("2020.01.24.919183-p27-132.png", "paper-2020.01.24.919183"),
        ("2020.03.22.20040782-p24-1533-7.png", "paper-2020.03.22.20040782"),
        ("2020.02.26.20027938-p6-80_1%0.png", "paper-2020.02.26.20027938"),
        ("kjr-21-e24-p3-16.png", "paper-kjr-21-e24"),
        ("bmj.m606.full-p4-22%0.png", "paper-bmj.m606.full"),
        ("PIIS0140673620301549_0%1.png", "paper-PIIS0140673620301549"),
        ("PIIS0140673620303603%0.png", "paper-PIIS0140673620303603"),
        ("35%0.jpg", "figure-35"),
        ("35%12.jpg", "figure-35"),
        ("34.jpg", "figure-34"),
        ("1029.png", ""),
        ("Covid (304).png", ""),
        ("396A81A5-982C-44E9-A57E-9B1DC34E2C08.jpeg", ""),
    ],
)
def test_parse_origin(name: str, expected: str) -> None:
    assert parse_origin(name) == expected


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("negative", "positive"),
    [
        ("CT_NonCOVID", "CT_COVID"),
        ("NonCOVID", "COVID"),
        ("non-COVID", "Covid"),
        ("Non-COVID", "covid"),
        ("CT_nonCOVID", "CT_covid"),
    ],
)
def test_finds_split_folders_of_any_spelling(negative: str, positive: str, tmp_path: Path) -> None:
    for split in ("train", "val"):
        put(tmp_path / split / positive / f"{split}%1.png")
        put(tmp_path / split / negative / f"{split}.jpg")
    listing = scan_slices(tmp_path)
    files, notes = listing.images, list(listing.notes)
    assert [file.image_id for file in files] == [
        "train/COVID/train%1.png",
        "train/NonCOVID/train.jpg",
        "validation/COVID/val%1.png",
        "validation/NonCOVID/val.jpg",
    ]
    assert notes == []


def test_refuses_two_folders_for_one_class(tmp_path: Path) -> None:
    for name in ("COVID", "CT_COVID", "NonCOVID"):
        put(tmp_path / "train" / name / "a.png")
    with pytest.raises(InputError, match="both mean 'COVID'"):
        scan_slices(tmp_path)


def flat(folder: Path, *, packed: bool = False) -> Path:
    """Draws the repository's layout: 2 slices per class in train, 1 in val, test and no list."""
    for class_name in ("COVID", "NonCOVID"):
        images = [
            put(folder / f"CT_{class_name}" / f"{name}%0.png")
            for name in ("a", "b", "c", "d", "unlisted")
        ]
        lists = folder / "Data-split" / class_name
        put(lists / f"trainCT_{class_name}.txt", "a%0.png\r\n\r\n/content/drive/Images/b%0.png\r\n")
        put(lists / f"valCT_{class_name}.txt", "c%0.png\n")
        put(lists / f"testCT_{class_name}.txt", "d%0.png")
        put(lists / "old_split" / f"trainCT_{class_name}.txt", "d%0.png\n")
        if packed:
            (folder / "Images-processed").mkdir(exist_ok=True)
            with zipfile.ZipFile(
                folder / "Images-processed" / f"CT_{class_name}.zip", "w"
            ) as archive:
                for path in images:
                    archive.write(path, f"CT_{class_name}/{path.name}")
                    path.unlink()
            images[0].parent.rmdir()
    return folder


LISTED = [("test", "d"), ("train", "a"), ("train", "b"), ("validation", "c")]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_reads_the_repository(packed: bool, nested: bool, tmp_path: Path) -> None:
    root = flat(tmp_path / "COVID-CT-master" if nested and not packed else tmp_path, packed=packed)
    listing = scan_slices(tmp_path)
    files, notes = listing.images, list(listing.notes)
    assert [file.image_id for file in files] == [
        f"{split}/{class_name}/{name}%0.png"
        for split in ("test", "train", "validation")
        for class_name in ("COVID", "NonCOVID")
        for of, name in LISTED
        if of == split
    ]
    assert {file.path.read_bytes() for file in files} == {b"x"}
    assert notes == [
        "Slices left out because they are in no list: 2 "
        "(COVID/unlisted%0.png, NonCOVID/unlisted%0.png)."
    ]
    assert root.is_dir()


def test_has_no_test_split_without_test_lists(tmp_path: Path) -> None:
    for path in flat(tmp_path).rglob("testCT_*.txt"):
        path.unlink()
    listing = scan_slices(tmp_path)
    files, notes = listing.images, list(listing.notes)
    assert {file.split for file in files} == {"train", "validation"}
    assert notes[0].startswith("Slices left out because they are in no list: 4 (COVID/d%0.png, ")


def test_counts_listed_slices_without_a_file(tmp_path: Path) -> None:
    (flat(tmp_path) / "CT_COVID" / "b%0.png").unlink()
    listing = scan_slices(tmp_path)
    files, notes = listing.images, list(listing.notes)
    assert len(files) == 7
    assert notes[0] == "Listed slices without a file: 1 (COVID/b%0.png)."


def test_refuses_a_slice_in_two_lists(tmp_path: Path) -> None:
    put(flat(tmp_path) / "Data-split" / "COVID" / "testCT_COVID.txt", "d%0.png\na%0.png\n")
    with pytest.raises(
        InputError, match=r"The lists of COVID name 1 files twice: a%0\.png\. Keep each in one"
    ):
        scan_slices(tmp_path)


def test_refuses_a_split_without_files(tmp_path: Path) -> None:
    (flat(tmp_path) / "CT_NonCOVID" / "c%0.png").unlink()
    with pytest.raises(
        InputError, match="split validation: none of the listed NonCOVID slices exists"
    ):
        scan_slices(tmp_path)


def test_refuses_a_list_that_is_not_utf8(tmp_path: Path) -> None:
    (flat(tmp_path) / "Data-split" / "COVID" / "trainCT_COVID.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"trainCT_COVID\.txt, line 1: .* is not UTF-8"):
        scan_slices(tmp_path)


@pytest.mark.parametrize(
    "link", ["Data-split/COVID/testCT_COVID.txt", "Data-split", "Images-processed"]
)
def test_refuses_a_link_out_of_the_source(link: str, tmp_path: Path) -> None:
    """The build report prints names of a list."""
    source = flat(tmp_path / "source", packed=True)
    (source / link).rename(tmp_path / "secret")
    (source / link).symlink_to(tmp_path / "secret")
    with pytest.raises(
        InputError,
        match=rf"Links must not lead out of .*source\. Found .*:\n  .*/{link}.* -> .*/secret",
    ):
        scan_slices(source)


def test_reports_missing_data(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    with pytest.raises(
        MissingData,
        match=r"No slices in .*\nFound there: a\.png\nExpected layout, one of\n  train/CT",
    ):
        scan_slices(tmp_path)
    with pytest.raises(MissingData, match=r"does not exist\.\nExpected layout, one of"):
        scan_slices(tmp_path / "nowhere")


def test_reports_missing_lists(tmp_path: Path) -> None:
    put(tmp_path / "CT_COVID" / "a.png")
    put(tmp_path / "CT_NonCOVID" / "b.png")
    with pytest.raises(
        MissingData,
        match=r"(?s)not in split .* trainCT_NonCOVID\.txt is missing\.\n.*\nTo let the build cut",
    ):
        scan_slices(tmp_path)
