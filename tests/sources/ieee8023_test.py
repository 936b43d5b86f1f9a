"""metadata.csv of the COVID-19 image data collection: columns, findings, choice of images, bad tables."""

from __future__ import annotations

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.sources.ieee8023 import FINDINGS, Chosen, Row, choose, normalize_finding, read_table

NEW = "patientid,offset,finding,view,modality,folder,filename,license"
OLD = "Patientid,offset,sex,age,finding,survival,view,date,location,filename,doi, url,license,notes"
PA = {"view": "PA", "modality": "X-ray", "finding": "COVID-19"}


def table(*rows: str, header: str = NEW) -> list[Row]:
    return read_table("\r\n".join([header, *rows]).encode())


def test_columns_are_found_by_name() -> None:
    new = table('2,0,"COVID-19, ARDS",AP Supine,X-ray,images,a.jpg,CC BY')
    assert new == [Row(2, "ieee8023-2", "COVID-19, ARDS", "AP Supine", "X-ray", "images", "a.jpg")]
    shuffled = table("a.jpg,PA,2,COVID-19", header="filename,View,patient_id,FINDING")
    assert shuffled == [Row(2, "ieee8023-2", "COVID-19", "PA", "X-ray", "images", "a.jpg")]


def test_a_table_from_before_modality_and_folder() -> None:
    rows = table(
        '13, 4,M,35,COVID-19,Y,PA,"January 19, 2020","Washington, USA",x-PA.jpeg,10.1/a,https://b,,"two\nlines"',
        "17 ,9,M,54,COVID-19,Y,CT,2020,Goyang, y.jpg ,,,,",
        header="\ufeff" + OLD,
    )
    assert rows == [
        Row(3, "ieee8023-13", "COVID-19", "PA", "X-ray", "images", "x-PA.jpeg"),
        Row(4, "ieee8023-17", "COVID-19", "CT", "CT", "images", "y.jpg"),
    ]


def test_short_and_blank_rows() -> None:
    rows = table("2,0,COVID-19,PA", "", ",,,,,,,", " ,0,todo,PA,X-ray,images,a.jpg,")
    assert [(row.patient_id, row.filename) for row in rows] == [("ieee8023-2", ""), ("", "a.jpg")]
    with pytest.raises(InputError, match="no row is so"):
        choose(rows[:1], [], **PA)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has no column patientid, finding, view, filename; it has none"),
        (b"a,b\n1,2\n", "has no column patientid, .*; it has a, b. Expected the table of ieee8023"),
        (b"patientid,finding,view\n", "has no column filename; it has patientid, finding, view"),
        (NEW.encode(), "holds no rows"),
        (b"Finding," + NEW.encode() + b"\n", "has the column 'finding' twice"),
        (NEW.encode() + b"\n\xff", r"is not UTF-8 \(byte 63\)"),
        (NEW.encode() + b'\n1,"0,COVID-19', "line 2: unexpected end of data"),
    ],
)
def test_bad_tables(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=rf"^metadata.csv.* ?{message}"):
        read_table(data)


@pytest.mark.parametrize(
    ("folder", "filename"),
    [
        ("images", "../secret.png"),
        ("images", "/etc/passwd"),
        ("images", ".."),
        ("images", "a\\b.png"),
        ("images", "a\0.png"),
        ("../images", "a.png"),
        ("/images", "a.png"),
        ("images/../..", "a.png"),
        ("..\\x", "a.png"),
    ],
)
def test_names_that_lead_out_of_the_folder(folder: str, filename: str) -> None:
    with pytest.raises(
        InputError, match=r"line 3: .* leads out of its folder; expected a plain file name\. Such"
    ):
        table("1,0,COVID-19,PA,X-ray,images,a.png,", f"2,0,todo,L,X-ray,{folder},{filename},")


@pytest.mark.parametrize(
    ("finding", "name"),
    [
        ("COVID-19", "COVID-19"),
        ("COVID-19, ARDS", "COVID-19, ARDS"),
        ("ARDS,COVID-19", "COVID-19, ARDS"),
        ("Pneumonia/Viral/COVID-19", "COVID-19"),
        ("Pneumonia/Fungal/Pneumocystis", "Pneumocystis"),
        ("Pneumonia/Viral/Herpes ", "Herpes"),
        ("Pneumonia/Viral/MERS-CoV", "MERS"),
        ("Pneumonia/Bacterial/Staphylococcus/MRSA", "Staphylococcus"),
        ("Mycoplasma Bacterial Pneumonia", "Mycoplasma"),
        ("ARDS", "ARDS"),
        ("No Finding", "none"),
        ("todo", None),
        ("Pneumonia", None),
        ("Unknown", None),
        ("", None),
    ],
)
def test_findings_of_old_and_new_tables(finding: str, name: str | None) -> None:
    assert normalize_finding(finding) == name
    assert name is None or name in FINDINGS


ROWS = table(
    "1,0,COVID-19,PA,X-ray,images,a.jpg,",
    "1,3,Pneumonia/Viral/COVID-19,PA,X-ray,images,b.png,",
    '2,0,"COVID-19, ARDS",AP,X-ray,images,c.jpg,',
    "2,0,COVID-19,L,X-ray,images,d.jpg,",
    "3,0,COVID-19,Axial,CT,volumes,e.nii.gz,",
    "4,0,todo,PA,X-ray,images,f.jpg,",
    "5,0,COVID-19,PA,X-ray,images,gone.jpg,",
    ",0,covid-19,pa,x-ray,images,g.jpg,",
    "6,0,SARS,PA,X-ray,images,h.jpg,",
)
THERE = [
    f"images/{name}"
    for name in ("a.jpg", "b.png", "c.jpg", "d.jpg", "f.jpg", "g.jpg", "h.jpg", "stray.jpg")
]


def names(chosen: list[Chosen]) -> list[str]:
    return [image.place.removeprefix("images/") for image in chosen]


def test_the_images_asked_for() -> None:
    chosen, notes = choose(ROWS, THERE, **PA)
    assert chosen == [
        Chosen("images/a.jpg", "ieee8023-1", "COVID-19"),
        Chosen("images/b.png", "ieee8023-1", "COVID-19"),
        Chosen("images/g.jpg", "", "COVID-19"),
    ]
    assert notes == [
        "metadata.csv has 9 rows, 4 of view PA, modality X-ray and finding COVID-19; "
        "without an image here, of these: 1, of all: 2.",
        "Images without a row: 1.",
        "Rows not labelled yet ('todo'): 1.",
        "File names in several rows, whose patients are taken for one: 0.",
    ]


@pytest.mark.parametrize(
    ("view", "finding", "found"),
    [
        ("PA, AP", "COVID-19", ["a.jpg", "b.png", "c.jpg", "g.jpg"]),
        ("any", "COVID-19", ["a.jpg", "b.png", "c.jpg", "d.jpg", "g.jpg"]),
        ("AP", "ards", ["c.jpg"]),
        ("PA", "SARS", ["h.jpg"]),
        ("PA", "Viral", ["b.png"]),
    ],
)
def test_other_views_and_findings(view: str, finding: str, found: list[str]) -> None:
    assert names(choose(ROWS, THERE, view=view, modality="X-ray", finding=finding)[0]) == found


def test_nothing_asked_for_is_there() -> None:
    with pytest.raises(
        InputError, match=r"finding='COVID': no row is so\. Of the 7 rows"
    ) as caught:
        choose(ROWS, THERE, view="PA", modality="X-ray", finding="COVID")  # a term is whole
    assert "\n  the views are PA (4), AP (1), L (1), pa (1)\n" in str(caught.value)
    with pytest.raises(
        InputError,
        match="modality='CT', finding='COVID-19': 1 rows are so, and none of their images",
    ):
        choose(ROWS, THERE, view="any", modality="CT", finding="COVID-19")


def test_repeated_names_join_their_patients() -> None:
    rows = table(
        "8,0,COVID-19,PA,X-ray,images,a.jpg,",
        "9,0,COVID-19,PA,X-ray,images,a.jpg,",
        "9,0,COVID-19,PA,X-ray,images,b.jpg,",
        "7,0,COVID-19,PA,X-ray,images,b.jpg,",
        "7,0,COVID-19,PA,X-ray,images,c.jpg,",
        "6,0,COVID-19,PA,X-ray,images,d.jpg,",
        ",0,COVID-19,PA,X-ray,images,d.jpg,",
        ",0,COVID-19,PA,X-ray,images,e.jpg,",
        "6,0,COVID-19,PA,X-ray,images,e.jpg,",  # a patient whom only a later row tells
    )
    chosen, notes = choose(rows, [row.place for row in rows], **PA)
    assert names(chosen) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    assert [image.patient_id for image in chosen] == ["ieee8023-8"] * 3 + ["ieee8023-6"] * 2
    assert notes[3].endswith("for one: 4.")


def test_rows_that_disagree_about_an_image_leave_it_out() -> None:
    rows = table(
        "1,0,COVID-19,PA,X-ray,images,a.jpg,",
        "1,0,No Finding,PA,X-ray,images,a.jpg,",
        "1,0,COVID-19,PA,X-ray,images,b.jpg,",
    )
    chosen, notes = choose(rows, ["images/a.jpg", "images/b.jpg"], **PA)
    assert names(chosen) == ["b.jpg"]
    assert (
        notes[-1] == "Images left out because some of their rows are asked for and some are not: 1."
    )
