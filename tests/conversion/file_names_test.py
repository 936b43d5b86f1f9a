"""File names made from image ids."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.sources import dicom_file, encode

from cxr_tfds.conversion.file_names import UniqueNames, find_suffix, name_of_id, safe_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IM-0001", "IM-0001"),
        ("Normal (3)", "Normal (3)"),
        ("a%20b", "a%20b"),
        ("肺炎", "肺炎"),
        ("e\u0301", "\u00e9"),  # composed and decomposed accents are the same file on macOS
        ("../x", "_x"),
        ("..", "_"),
        ("", "_"),
        (" .hidden. ", "hidden"),
        ("a/b\\c:d*e?f\"g<h>i|j", "a_b_c_d_e_f_g_h_i_j"),
        ("line\nbreak\x00", "line_break_"),
        ("-rf", "_-rf"),
        ("con", "_con"),
        ("LPT1.x", "_LPT1.x"),
        ("console", "console"),
        ("\u202egpj", "_gpj"),  # reverses the text that follows
    ],
)  # fmt: skip
def test_safe_name(text: str, expected: str) -> None:
    assert safe_name(text) == expected


def test_long_names_are_cut_between_characters() -> None:
    assert safe_name("é" * 200) == "é" * 60


@pytest.mark.parametrize(
    ("image_id", "class_name", "expected"),
    [
        ("train/NORMAL/IM-1.jpeg", "NORMAL", "IM-1"),
        ("val/normal/p017/2.png", "NORMAL", "p017_2"),
        ("NORMAL/a.dcm", "NORMAL", "a"),
        ("b/a.dcm", "NORMAL", "b_a"),
        ("00000001_000", "", "00000001_000"),
        ("1.2.840.10008", "", "1.2.840.10008"),  # a UID has no suffix
        ("train", "train", "train"),
    ],
)
def test_name_of_id(image_id: str, class_name: str, expected: str) -> None:
    assert name_of_id(image_id, class_name) == expected


def test_names_differ_also_without_case() -> None:
    names = UniqueNames()
    chosen = [
        names.choose("f", name, identity, ".png")
        for name, identity in (("a", "1"), ("A", "2"), ("a", "3"), ("a/b", "4"), ("a_b", "5"))
    ]
    assert chosen[0] == "a.png"
    assert chosen[3] == "a_b.png"
    assert len({name.casefold() for name in chosen}) == 5
    assert names.choose("g", "a", "1") == "a"


@pytest.mark.parametrize(
    ("form", "image_id", "expected"),
    [
        ("JPEG", "a.jpeg", ".jpeg"),
        ("JPEG", "a.JPG", ".JPG"),
        ("JPEG", "a.png", ".jpg"),
        ("PNG", "a", ".png"),
        ("TIFF", "1.2.840", ".tif"),
        ("DICOM", "a.dcm", ".dcm"),
        ("DICOM", "1.2.840", ".dcm"),
    ],
)
def test_find_suffix(form: str, image_id: str, expected: str) -> None:
    image = np.zeros((4, 4), np.uint8)
    if form == "DICOM":
        pytest.importorskip("pydicom")
    data = dicom_file(image) if form == "DICOM" else encode(image, form)
    assert find_suffix(data, image_id) == expected
