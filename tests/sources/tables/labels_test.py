"""Labels of a table: classes, and several findings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from helpers.tables import config_of, draw, labels, read, states, table

from cxr_tfds.errors import InputError
from cxr_tfds.sources.image import State

P, A, U, X = State.PRESENT, State.ABSENT, State.UNCERTAIN, State.UNKNOWN


def test_rows_and_images_without_each_other(tmp_path: Path) -> None:
    source = draw(tmp_path, "a.png", "b.png", "c.png", "d.png")
    missing = [f"m{i:02}.png,Mass" for i in range(12)]
    table(source, "image,label", "a.png,Normal", "b.png,Mass", "d.png,", ",Mass", *missing)
    with pytest.raises(InputError, match=r"13 rows whose image does not exist:") as error:
        read(source)
    assert "(empty) (t.csv, line 5)\n  m00.png (t.csv, line 6)" in str(error.value)
    assert "and 3 more" in str(error.value)
    listing = read(source, **config_of(error))
    assert labels(listing) == {"a.png": "Normal", "b.png": "Mass"}
    assert {reason: len(names) for reason, names in listing.left_out.items()} == {
        "rows whose image does not exist": 13,
        "images without a row": 1,
        "images without a label": 1,
    }


def test_contradicting_rows(tmp_path: Path) -> None:
    source = draw(tmp_path, "a.png", "b.png", "c.png")
    table(source, "image,label", "a.png,Normal", "b,Mass", "c,Mass", "c,Mass", "a,Mass")
    message = r"1 images whose rows contradict .*\n  a.png: Normal \(t.csv, line 2\); Mass \(t.csv"
    with pytest.raises(InputError, match=message):
        read(source, on_conflict="error")
    table(source, "image,label", "a.png,Normal", "b,Mass", "c,Normal", "c,Normal", "a,Mass")
    listing = read(source, on_conflict="leave_out")
    assert labels(listing) == {"b.png": "Mass", "c.png": "Normal"}
    assert listing.left_out == {"images whose rows contradict each other": ["a.png"]}
    assert "Images with several rows: 2. Rule: repeated_rows='same'." in listing.notes
    assert labels(read(source, repeated_rows="any"))["a.png"] == "Mass"


@pytest.mark.parametrize("column", ["patient", "split"])
def test_contradicting_patients_and_splits(tmp_path: Path, column: str) -> None:
    source = draw(tmp_path, "a.png", "b.png")
    table(source, f"image,label,{column}", "a,Normal,train", "b,Mass,train", "a,Normal,test")
    with pytest.raises(InputError, match=f"Normal, {column} train .*; Normal, {column} test"):
        read(source)


def test_labels_that_differ_in_case_or_spaces_are_one_class(tmp_path: Path) -> None:
    source = draw(tmp_path, *(f"{i}.png" for i in range(6)))
    words = ["Normal", "normal", " Normal ", "lung  opacity", "Lung Opacity", "Lung Opacity"]
    table(source, "image,label", *(f"{i},{word}" for i, word in enumerate(words)))
    listing = read(source)
    assert listing.classes == ("Normal", "Lung Opacity")
    assert Counter(labels(listing).values()) == {"Normal": 3, "Lung Opacity": 3}
    assert "'Lung Opacity' = 'lung  opacity'" in str(listing.notes)


@pytest.mark.parametrize("values", [("0", "1"), ("0.0", "1.0")])
def test_numbers_are_classes(tmp_path: Path, values: tuple[str, str]) -> None:
    source = draw(tmp_path, "a.png", "b.png")
    table(source, "image,Target", f"a,{values[1]}", f"b,{values[0]}")
    assert read(source).classes == ("0", "1")
    listing = read(source, classes={"Normal": ["0"], "Opacity": ["1"]})
    assert listing.classes == ("Normal", "Opacity")
    assert labels(listing) == {"a.png": "Opacity", "b.png": "Normal"}


def test_classes_rename_merge_and_select(tmp_path: Path) -> None:
    words = ["healthy", "bacteria", "VIRUS", "todo", "control"]
    source = draw(tmp_path, *(f"{i}.png" for i in range(5)))
    table(source, "image,label", *(f"{i},{w}" for i, w in enumerate(words)), "missing,todo")
    classes = {"NORMAL": ["Healthy", "control"], "PNEUMONIA": ["bacteria", "virus", "fungi"]}
    listing = read(source, classes=classes)
    assert listing.classes == ("NORMAL", "PNEUMONIA")
    assert list(labels(listing).values()) == ["NORMAL", "PNEUMONIA", "PNEUMONIA", "NORMAL"]
    assert listing.left_out == {"images whose label is not in the setting classes": ["3.png"]}
    with pytest.raises(InputError, match=r"no image has a label of the class 'viral'.*'VIRUS'"):
        read(source, classes=["healthy", "viral"])
    with pytest.raises(InputError, match="'control' is in NORMAL and B"):
        read(source, classes={**classes, "B": ["control"]})


def test_too_few_or_too_many_classes(tmp_path: Path) -> None:
    source = draw(tmp_path, *(f"{i}.png" for i in range(1001)))
    table(source, "image,label", *(f"{i},Mass" for i in range(1001)))
    with pytest.raises(InputError, match=r"All rows have the label Mass. Expected two or more"):
        read(source)
    table(source, "image,label", *(f"{i},name {i}" for i in range(1001)))
    with pytest.raises(InputError, match="1,001 different values, such as name 0, name 1, "):
        read(source)


def test_a_class_of_one_image_is_read(tmp_path: Path) -> None:
    source = draw(tmp_path, "a.png", "b.png", "c.png")
    table(source, "image,label", "a,Normal", "b,Normal", "c,Hernia")
    assert read(source).classes == ("Normal", "Hernia")


def test_several_findings_in_a_cell(tmp_path: Path) -> None:
    source = draw(tmp_path, "a.png", "b.png", "c.png", "d.png")
    table(source, "image,label", "a,No Finding", "b,Mass|effusion", "c,Effusion", "d,Effusion")
    listing = read(source)
    assert listing.several_findings
    assert listing.classes == ("Effusion", "Mass")
    assert states(listing) == {
        "a.png": (A, A), "b.png": (P, P), "c.png": (P, A), "d.png": (P, A),
    }  # fmt: skip
    assert {image.label for image in listing.images} == {""}
    assert "No Finding means that all findings are absent." in listing.notes
    selected = read(source, classes=["Mass", "Effusion"])
    assert (selected.classes, states(selected)["c.png"]) == (("Mass", "Effusion"), (A, P))


def test_classes_with_a_negative_label_give_each_image_one_class(tmp_path: Path) -> None:
    source = draw(tmp_path, "a.png", "b.png", "c.png", "d.png")
    table(source, "image,label", "a,No Finding", "b,Mass|Effusion", "c,Effusion", "d,Edema")
    classes = {"NORMAL": ["No Finding"], "EFFUSION": ["Effusion"], "MASS": ["Mass"]}
    listing = read(source, classes=classes)
    assert listing.classes == ("NORMAL", "EFFUSION", "MASS")
    assert not listing.several_findings
    assert labels(listing) == {"a.png": "NORMAL", "c.png": "EFFUSION"}
    assert listing.left_out == {
        "images with several of the classes": ["b.png"],
        "images whose label is not in the setting classes": ["d.png"],
    }


def test_repeated_rows_of_several_findings(tmp_path: Path) -> None:
    source = draw(tmp_path, "a.png", "b.png")
    table(source, "image_id,class_name", "a,Mass", "a,Edema", "a,Mass", "b,No finding")
    with pytest.raises(InputError, match="rows contradict each other") as error:
        read(source)
    assert config_of(error) == {"table": "t.csv", "repeated_rows": "any"}
    listing = read(source, repeated_rows="any")
    assert (listing.classes, states(listing)) == (
        ("Edema", "Mass"),
        {"a.png": (P, P), "b.png": (A, A)},
    )


def test_lists_of_quoted_findings(tmp_path: Path) -> None:
    source = draw(tmp_path, "a.png", "b.png")
    table(source, "ImageID,Labels", "a.png,\"['mass', 'edema']\"", "b.png,['normal']")
    assert states(read(source)) == {"a.png": (P, P), "b.png": (A, A)}


FINDINGS = ["No Finding", "Edema", "Mass"]


def test_one_column_for_each_finding(tmp_path: Path) -> None:
    source = draw(tmp_path, *(f"{i}.png" for i in range(6)))
    rows = ["0,1.0,,", "1,,1.0,-1", "2,0,0,", "3,True,1,", "4,no,YES,false", "5,,,"]
    table(source, "Path,No Finding,Edema,Mass", *rows)
    listing = read(source, label=FINDINGS)
    assert listing.classes == ("Edema", "Mass")
    assert list(states(listing).values()) == [(A, A), (P, U), (A, X), (P, A), (P, A), (X, X)]
    with pytest.raises(InputError, match="which column has the label") as error:
        read(table(source, "Path,No Finding,Edema,Mass", *rows[:3]))
    assert config_of(error)["label"] == FINDINGS


def test_merged_findings(tmp_path: Path) -> None:
    source = draw(tmp_path, *(f"{i}.png" for i in range(5)))
    rows = ["0,1,0,0", "1,0,0,1", "2,-1,0,", "3,0,,1", "4,0,0,-1"]
    table(source, "image,Edema,Mass,Nodule", *rows)
    listing = read(
        source,
        label=["Edema", "Mass", "Nodule"],
        classes={"Nodule": ["nodule"], "Other": ["Edema", "Mass", "not there"]},
    )
    assert listing.classes == ("Nodule", "Other")
    assert list(states(listing).values()) == [(A, P), (P, A), (X, U), (P, X), (U, A)]


@pytest.mark.parametrize("value", ["2", "maybe", "=1", "-2", "0.5"])
def test_refuses_other_states(tmp_path: Path, value: str) -> None:
    source = draw(tmp_path, "a.png", "b.png")
    table(source, "image,Edema,Mass", "a,1,0", f"b,0,{value}")
    with pytest.raises(InputError, match=f"t.csv, line 3: 'Mass' has the value '{value}'. Expect"):
        read(source, label=["Edema", "Mass"])


def test_repeated_rows_of_states(tmp_path: Path) -> None:
    source = draw(tmp_path, "a.png")
    rows = ["a,1,-1,0,", "a,0,0,,", "a,-1,,,"]
    columns = ["f1", "f2", "f3", "f4"]
    table(source, "image," + ",".join(columns), *rows)
    with pytest.raises(InputError, match="rows contradict each other"):
        read(source, label=columns)
    assert states(read(source, label=columns, repeated_rows="any")) == {"a.png": (P, U, A, X)}


def test_uncertain_is_not_a_class(tmp_path: Path) -> None:
    source = draw(tmp_path, "a.png", "b.png", "c.png")
    table(source, "image,Mass", "a,1.0", "b,0.0", "c,-1.0")
    with pytest.raises(InputError, match="has the values -1, 0, 1") as error:
        read(source, label="Mass")
    assert config_of(error) == {"table": "t.csv", "label": ["Mass"]}
    assert list(states(read(source, label=["Mass"])).values()) == [(P,), (A,), (U,)]
    with pytest.raises(InputError, match="has a column twice"):
        read(source, label=["Mass", "mass"])


def test_images_without_any_label(tmp_path: Path) -> None:
    source = draw(tmp_path, "a.png", "b.png")
    table(source, "image,label", "a,", "b,")
    with pytest.raises(InputError, match="No image has a label"):
        read(source)
    table(source, "image,label", "a,Normal", "b,Mass")
    with pytest.raises(InputError, match="all images of the table are left out as masks"):
        read(source, exclude=["*"])
