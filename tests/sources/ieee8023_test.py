"""metadata.csv of the COVID-19 image data collection: columns, findings, chosen images, errors."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.sources import SourceImage, SourcePath
from cxr_tfds.sources.ieee8023 import FINDINGS, Row, choose_images, normalize_finding, read_table

NEW = "patientid,offset,finding,view,modality,folder,filename,license"
OLD = "Patientid,offset,sex,age,finding,survival,view,date,location,filename,doi, url,license,notes"
PA = {"view": "PA", "modality": "X-ray", "finding": "COVID-19", "label": "COVID"}


def paths(*names: str) -> dict[str, SourcePath]:
    return {f"images/{name}": Path(name) for name in names}


def read(data: bytes) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metadata.csv")
        path.write_bytes(data)
        return read_table(path)


def table(*rows: str, header: str = NEW) -> list[Row]:
    return read("\r\n".join([header, *rows]).encode())


def test_finds_columns_by_name() -> None:
    new = table('2,0,"COVID-19, ARDS",AP Supine,X-ray,images,a.jpg,CC BY')
    assert new == [Row(2, "ieee8023-2", "COVID-19, ARDS", "AP Supine", "X-ray", "images", "a.jpg")]
    shuffled = table("a.jpg,PA,2,COVID-19", header="filename,View,patient_id,FINDING")
    assert shuffled == [Row(2, "ieee8023-2", "COVID-19", "PA", "X-ray", "images", "a.jpg")]


def test_reads_tables_without_modality_and_folder() -> None:
    rows = table(
        '13, 4,M,35,COVID-19,Y,PA,"January 19, 2020","Washington, USA",x-PA.jpeg,10.1/a,https://b,,"two\nlines"',
        "17 ,9,M,54,COVID-19,Y,CT,2020,Goyang, y.jpg ,,,,",
        header="\ufeff" + OLD,
    )
    assert rows == [
        Row(2, "ieee8023-13", "COVID-19", "PA", "X-ray", "images", "x-PA.jpeg"),
        Row(4, "ieee8023-17", "COVID-19", "CT", "CT", "images", "y.jpg"),
    ]


def test_reads_short_and_skips_blank_rows() -> None:
    rows = table("2,0,COVID-19,PA", "", ",,,,,,,", " ,0,todo,PA,X-ray,images,a.jpg,")
    assert [(row.patient_id, row.filename) for row in rows] == [("ieee8023-2", ""), ("", "a.jpg")]
    with pytest.raises(InputError, match="no row matches"):
        choose_images(rows[:1], {}, **PA)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"a,b\n1,2\n", "has no column patientid, .*; it has a, b. Expected the table of ieee8023"),
        (
            b"patientid,finding,view\n1,2,3",
            "has no column filename; it has patientid, finding, view",
        ),
        (NEW.encode(), r"has a header \(patientid, .* but no rows"),
        (b"Finding," + NEW.encode() + b"\n1", "has the column 'finding' twice"),
        (NEW.encode() + b"\n\xff", r"line 2: byte 63 \(0xFF\) is not UTF-8"),
        (NEW.encode() + b'\n1,"0,COVID-19', "the quotation mark in line 2 is not closed"),
    ],
)
def test_refuses_bad_tables(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=rf"^metadata.csv.* ?{message}"):
        read(data)


@pytest.mark.parametrize(
    ("folder", "filename"),
    [
        ("images", "../secret.png"),
        ("images", "/etc/passwd"),
        ("images", ".."),
        ("images", "a\\b.png"),
        ("../images", "a.png"),
        ("/images", "a.png"),
        ("images/../..", "a.png"),
        ("..\\x", "a.png"),
    ],
)
def test_refuses_names_outside_the_folder(folder: str, filename: str) -> None:
    with pytest.raises(
        InputError, match=r"line 3: .* points outside its folder; expected a plain file name\. Do"
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
def test_normalizes_findings_of_all_tables(finding: str, name: str | None) -> None:
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
PATHS = paths("a.jpg", "b.png", "c.jpg", "d.jpg", "f.jpg", "g.jpg", "h.jpg", "stray.jpg")


def names(chosen: list[SourceImage]) -> list[str]:
    return [str(image.path) for image in chosen]


def test_chooses_matching_images() -> None:
    chosen, notes = choose_images(ROWS, PATHS, **PA)
    assert chosen == [
        SourceImage(
            Path(name),
            "train",
            "COVID",
            f"COVID/images/{name}",
            finding="COVID-19",
            patient_id=patient,
        )
        for name, patient in (("a.jpg", "ieee8023-1"), ("b.png", "ieee8023-1"), ("g.jpg", ""))
    ]
    assert notes == [
        "metadata.csv has 9 rows, 2 without an image file. Of these rows 4 match view PA, "
        "modality X-ray and finding COVID-19, 1 without an image file.",
        "Images without a row: 1.",
        "Rows without a label ('todo'): 1.",
        "File names in several rows, whose patients count as one: 0.",
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
def test_chooses_other_views_and_findings(view: str, finding: str, found: list[str]) -> None:
    chosen, _ = choose_images(ROWS, PATHS, **(PA | {"view": view, "finding": finding}))
    assert names(chosen) == found


def test_reports_existing_values_if_nothing_matches() -> None:
    with pytest.raises(
        InputError, match=r"finding='COVID': no row matches\. Values of the 7 rows"
    ) as caught:
        choose_images(ROWS, PATHS, **(PA | {"finding": "COVID"}))  # not a complete term
    assert "\n  view: PA (4), AP (1), L (1), pa (1)\n  modality: " in str(caught.value)
    with pytest.raises(
        InputError,
        match="'CT', finding='COVID-19': 1 rows match, but none of their image files exist",
    ):
        choose_images(ROWS, PATHS, **(PA | {"view": "any", "modality": "CT"}))


def test_merges_patients_with_a_common_image() -> None:
    rows = table(
        "8,0,COVID-19,PA,X-ray,images,a.jpg,",
        "9,0,COVID-19,PA,X-ray,images,a.jpg,",
        "9,0,COVID-19,PA,X-ray,images,b.jpg,",
        "7,0,COVID-19,PA,X-ray,images,b.jpg,",
        "7,0,COVID-19,PA,X-ray,images,c.jpg,",
        "6,0,COVID-19,PA,X-ray,images,d.jpg,",
        ",0,COVID-19,PA,X-ray,images,d.jpg,",
        ",0,COVID-19,PA,X-ray,images,e.jpg,",
        "6,0,COVID-19,PA,X-ray,images,e.jpg,",  # only a later row has the patient
    )
    chosen, notes = choose_images(rows, paths(*(row.filename for row in rows)), **PA)
    assert names(chosen) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    assert [image.patient_id for image in chosen] == ["ieee8023-8"] * 3 + ["ieee8023-6"] * 2
    assert notes[3].endswith("count as one: 4.")


def test_leaves_out_images_with_conflicting_rows() -> None:
    rows = table(
        "1,0,COVID-19,PA,X-ray,images,a.jpg,",
        "1,0,No Finding,PA,X-ray,images,a.jpg,",
        "1,0,COVID-19,PA,X-ray,images,b.jpg,",
    )
    chosen, notes = choose_images(rows, paths("a.jpg", "b.jpg"), **PA)
    assert names(chosen) == ["b.jpg"]
    assert notes[-1] == "Images left out because only some of their rows match: 1."
