"""Builds of PadChest: labels in lists, projections, unusable labels, 16-bit images."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.sources import DrawnSource, build, encode, published, read

from cxr_tfds.builders.padchest.padchest_dataset_builder import FINDINGS, TABLE, Builder
from cxr_tfds.errors import InputError, MissingData

HEADER = ",ImageID,ImageDir,StudyID,PatientID,Projection,Report,MethodLabel,Labels,Localizations"
LABELS = (
    "['normal']",
    "['cardiomegaly', 'pleural effusion']",
    "[' laminar atelectasis', 'scoliosis']",
    "['subcutaneous emphysema']",  # is not emphysema
    "['infiltrates', 'pneumonia']",
)
SPECIAL = (  # labels and projection of one patient each
    ("['exclude']", "PA"),
    ("['unchanged', 'cardiomegaly']", "PA"),
    ("['suboptimal study']", "AP"),
    ("", "PA"),
    ("nan", "PA"),
    ("['cardiomegaly']", "L"),
    ("['cardiomegaly']", "EXCLUDE"),
    ("['hiatal hernia']", "AP_horizontal"),
)


def draw(folder: Path) -> Path:
    """Draws 15 patients with two frontal images each, and one image for each of `SPECIAL`."""
    rng = np.random.default_rng(1)
    cases = [(LABELS[i % 5], "PA", i) for i in range(15) for _ in range(2)]
    cases += [(*case, 100 + i) for i, case in enumerate(SPECIAL)]
    rows = [HEADER]
    for i, (labels, projection, patient) in enumerate(cases):
        name = f"2168401113669640_{i:03}.png"
        path = folder / str(i % 3) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(rng.integers(0, 50000, (30, 40), dtype=np.uint16), "PNG"))
        report = '"sin cambios , ""normal"""'
        cell = f'"{labels}"' if labels else ""
        rows.append(f"{i},{name},{i % 3},s{i},p{patient},{projection},{report},RNN_model,{cell},")
    (folder / TABLE).write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.mark.slow
class PadchestTest(DrawnSource, tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 15, "validation": 8, "test": 8}  # noqa: RUF012
    draw = staticmethod(draw)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("source"))


def get_present(source: Path, data_dir: Path, **settings: Any) -> dict[int, set[str]]:
    """Returns number of the image to the findings that are present; the others are absent."""
    builder = build(Builder, source, data_dir, **settings)
    names = builder.info.features["label"].names
    found = {}
    for examples in read(builder.data_path).values():
        for name, example in examples.items():
            assert set(example["states"]) <= {0, 1}
            present = {n for n, s in zip(names, example["states"], strict=True) if s == 1}
            found[int(name.removesuffix(".png")[-3:])] = present
    return found


@pytest.mark.slow
def test_findings_of_named_images(source: Path, tmp_path: Path) -> None:
    found = get_present(source, tmp_path)
    assert [found[i] for i in range(0, 10, 2)] == [
        set(),
        {"Cardiomegaly", "Effusion"},
        {"Atelectasis"},
        set(),
        {"Infiltration", "Pneumonia"},
    ]
    assert found[37] == {"Hernia"}
    assert sorted(found) == [*range(30), 37]


def test_says_what_is_left_out(source: Path, tmp_path: Path) -> None:
    listing = Builder(data_dir=tmp_path).scan(source)
    assert listing.classes == tuple(FINDINGS)
    assert {reason: len(paths) for reason, paths in listing.left_out.items()} == {
        "label 'exclude'": 1,
        "label 'unchanged'": 1,
        "label 'suboptimal study'": 1,
        "projection L": 1,
        "projection EXCLUDE": 1,
        "images without a label": 2,
    }


@pytest.mark.slow
def test_projections_of_choice(source: Path, tmp_path: Path) -> None:
    found = get_present(source, tmp_path, projections=["PA", "L"])
    assert sorted(found) == [*range(30), 35]  # 37 is AP_horizontal
    assert found[35] == {"Cardiomegaly"}
    with pytest.raises(InputError, match=r"projections='PA'; expected a list of PA, AP, AP_hor"):
        build(Builder, source, tmp_path / "data", projections="PA")


@pytest.mark.slow
def test_labels_of_choice(source: Path, tmp_path: Path) -> None:
    classes = {"Scoliosis": ["scoliosis"], "Heart": ["cardiomegaly"]}
    found = get_present(source, tmp_path, classes=classes)
    assert (found[2], found[4], found[0]) == ({"Heart"}, {"Scoliosis"}, set())


def test_cuts_splits_by_patient(source: Path, tmp_path: Path) -> None:
    records = read(build(Builder, source, tmp_path).data_path)
    patients = [{x["patient_id"] for x in examples.values()} for examples in records.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 16


def test_reads_the_compressed_table(tmp_path: Path) -> None:
    source = draw(tmp_path / "source")
    table = source / TABLE
    table.with_name(f"{TABLE}.gz").write_bytes(gzip.compress(table.read_bytes()))
    table.unlink()
    assert len(Builder(data_dir=tmp_path / "data").scan(source).images) == 31


def test_bad_tables(tmp_path: Path) -> None:
    source = draw(tmp_path / "source")
    table = source / TABLE
    text = table.read_text(encoding="utf-8")
    (source / "0" / "2168401113669640_003.png").unlink()
    with pytest.raises(
        InputError, match=r"1 rows whose image does not exist:\n.*_003\.png .*line 5"
    ):
        build(Builder, source, tmp_path / "data")
    table.write_text(text.replace("Projection", "View"), encoding="utf-8")
    with pytest.raises(InputError, match=r"labels_160K_01\.02\.19\.csv: no such column\. .*Projec"):
        build(Builder, source, tmp_path / "data")
    table.unlink()
    with pytest.raises(MissingData, match=r"No table PADCHEST_chest(.*\n)+Request the data at"):
        build(Builder, source, tmp_path / "data")
    assert not published(tmp_path / "data")
