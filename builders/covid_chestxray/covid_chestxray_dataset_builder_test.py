"""Builds of drawn images: the records, the source of the normals, and bad settings."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.sources import DrawnSource, Records, build, draw_image, draw_source, published, read

from cxr_tfds.builders.covid_chestxray.covid_chestxray_dataset_builder import (
    Builder,
    CovidChestxrayConfig,
)
from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.imaging.pixels import radiograph
from cxr_tfds.sources.ieee8023 import read_table, split_terms

HEADER = "patientid,offset,finding,view,modality,folder,filename,license,"
MODES = {
    "a.jpg": "L",
    "b.png": "RGBA",
    "c.jpeg": "RGB",
    "d.png": "P",
    "e.jpg": "CMYK",
}  # of images of patient 1


def draw_collection(folder: Path) -> Path:
    """Draws metadata.csv, images/ (25 of COVID-19 of 21 patients, and others) and chest_xray/."""
    rows = [HEADER]
    for number in range(2, 22):
        draw_image(folder / "images" / f"{number}.jpg", size=(50, 40))
        rows.append(f"{number},0,Pneumonia/Viral/COVID-19,PA,X-ray,images,{number}.jpg,CC BY,")
    for name, mode in MODES.items():
        draw_image(folder / "images" / name, mode)
        rows.append(f'1,0,"COVID-19, ARDS",PA,X-ray,images,{name},,')
    for name, finding, view, modality in (
        ("lateral.jpg", "COVID-19", "L", "X-ray"),
        ("slice.jpg", "COVID-19", "Axial", "CT"),
        ("sars.jpg", "SARS", "PA", "X-ray"),
        ("todo.jpg", "todo", "PA", "X-ray"),
    ):
        draw_image(folder / "images" / name)
        rows.append(f"99,0,{finding},{view},{modality},images,{name},,")
    rows += [
        "98,0,COVID-19,PA,X-ray,images,gone.jpg,,",
        "97,0,COVID-19,PA,X-ray,volumes,scan.nii.gz,,",
    ]
    (folder / "images" / "c.jpeg").rename(folder / "images" / "c.tmp")
    (folder / "images" / "d.png").rename(folder / "images" / "c.jpeg")  # wrong extensions
    (folder / "images" / "c.tmp").rename(folder / "images" / "d.png")
    draw_image(folder / "images" / "stray.jpg")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return draw_source(folder)


@pytest.mark.slow
class CovidChestxrayTest(DrawnSource, tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 32, "validation": 8, "test": 10}  # noqa: RUF012
    SKIP_CHECKSUMS = True
    draw = staticmethod(draw_collection)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source; read-only."""
    return draw_collection(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(build(Builder, source, tmp_path_factory.mktemp("data")).data_path)


@pytest.fixture(scope="module")
def records(built: Path) -> Records:
    return read(built)


def scan(source: Path, **settings: Any) -> tuple[dict[str, str], list[str]]:
    """Returns image id to label, and the notes, without building."""
    with tempfile.TemporaryDirectory() as data_dir:
        builder = Builder(
            data_dir=data_dir, config=CovidChestxrayConfig(**({"name": "mine"} | settings))
        )
        listing = builder.scan(source)
        return {image.image_id: image.label for image in listing.images}, list(listing.notes)


def test_stores_the_images(source: Path, records: Records) -> None:
    examples = {
        image_id: example for split in records.values() for image_id, example in split.items()
    }
    covid = {
        image_id: example for image_id, example in examples.items() if image_id.startswith("COVID/")
    }
    assert set(covid) == {
        f"COVID/images/{name}" for name in [*MODES, *(f"{n}.jpg" for n in range(2, 22))]
    }
    for image_id, example in examples.items():
        _, _, name = image_id.split("/")
        path = (
            source / "images" / name
            if image_id in covid
            else next(source.glob(f"chest_xray/*/NORMAL/{name}"))
        )
        np.testing.assert_array_equal(example["image"], radiograph(path.read_bytes(), 32).pixels)
        assert example["label"] == (image_id in covid)
    assert covid["COVID/images/7.jpg"]["patient_id"] == b"ieee8023-7"
    assert (covid["COVID/images/7.jpg"]["height"], covid["COVID/images/7.jpg"]["width"]) == (40, 50)
    normals = [example for example in examples.values() if not example["label"]]
    assert len(normals) == len(covid) == 25
    assert len({example["patient_id"] for example in normals}) == 25


def test_stores_classes_and_findings(built: Path, records: Records) -> None:
    features = tfds.builder_from_directory(built).info.features
    assert features["label"].names == ["NORMAL", "COVID"]
    names = features["finding"].names
    of = {
        image_id: names[example["finding"]]
        for split in records.values()
        for image_id, example in split.items()
    }
    assert of["COVID/images/7.jpg"] == "COVID-19"
    assert of["COVID/images/b.png"] == "COVID-19, ARDS"
    assert {finding for image_id, finding in of.items() if image_id.startswith("NORMAL/")} == {
        "none"
    }


def test_cuts_splits_by_patient(records: Records) -> None:
    seen: dict[bytes, str] = {}
    for split, examples in records.items():
        for example in examples.values():
            assert seen.setdefault(example["patient_id"], split) == split
    for label in (0, 1):
        count = {
            split: sum(e["label"] == label for e in examples.values())
            for split, examples in records.items()
        }
        assert (
            5 <= count["test"] <= 9
        )  # 20 % of 25, and a patient more if the last one has five images
        assert count["validation"] >= round(0.1 * (25 - count["test"]))
        assert sum(count.values()) == 25


def test_report_counts_what_was_left_out(built: Path) -> None:
    notes = json.loads((built / "build_report.json").read_text(encoding="utf-8"))["notes"]
    for note in (
        "metadata.csv has 31 rows, 2 without an image file. Of these rows 27 match view PA, "
        "modality X-ray and finding COVID-19, 2 without an image file.",
        "Images without a row: 1.",
        "Rows without a label ('todo'): 1.",
        "25 of 37 normal radiographs, of 25 patients, were drawn from a Kaggle pneumonia set "
        "(seed 0).",
    ):
        assert note in notes


def test_stores_settings_without_a_local_path(source: Path, built: Path) -> None:
    metadata = json.loads((built / "metadata.json").read_text(encoding="utf-8"))
    wanted = {
        "view": "PA",
        "modality": "X-ray",
        "finding": "COVID-19",
        "seed": 0,
        "normals_sha256": None,
    }
    assert wanted.items() <= metadata.items()
    with pytest.raises(InputError, match=r"was built with view='PA', but this config has 'AP'"):
        build(Builder, source, built.parents[2], view="AP")
    with pytest.raises(
        InputError, match=r"was built with normals_sha256=None, but this config has '[0-9a-f]{16}'"
    ):
        build(Builder, source, built.parents[2], normals=str(source))


def test_selects_other_images(source: Path) -> None:
    found, _ = scan(source, view="any", finding="sars")
    assert [label for label in found.values() if label != "NORMAL"] == ["sars"]
    found, _ = scan(source, view="PA, L")
    assert "COVID/images/lateral.jpg" in found
    found, notes = scan(source, view="any", modality="CT")
    assert [image_id for image_id in found if image_id.startswith("COVID")] == [
        "COVID/images/slice.jpg"
    ]
    assert "Modality CT and radiographs: the modality alone reveals the class." in notes
    with pytest.raises(InputError, match="no row matches"):
        scan(source, view="Axial")


def test_another_finding_names_the_class(source: Path, tmp_path: Path) -> None:
    builder = Builder(data_dir=tmp_path, config=CovidChestxrayConfig(name="sars", finding="SARS"))
    assert builder.info.features["label"].names == ["NORMAL", "SARS"]
    assert Builder.CLASSES == ("NORMAL", "COVID")


def test_seed_selects_other_normals(source: Path) -> None:
    assert scan(source)[0] == scan(source, seed=0)[0] != scan(source, seed=1)[0]


def test_finds_normals(source: Path, tmp_path: Path) -> None:
    alone = tmp_path / "deep" / "collection"
    alone.mkdir(parents=True)
    shutil.copy(source / "metadata.csv", alone)
    shutil.copytree(source / "images", alone / "images")
    with pytest.raises(MissingData) as caught:
        scan(alone)
    message = str(caught.value)
    assert message.startswith(
        "No normal radiographs. Searched for train/NORMAL in\n"
        f"  {alone}\n  {alone.parent}/chest_xray"
    )
    assert "Put the folder chest_xray of a Kaggle pneumonia set" in message
    (option,) = re.findall(r"--config '(.*)'", message)
    assert CovidChestxrayConfig(**json.loads(option)).normals == "/path/to/it"
    named = scan(alone, normals=str(source / "chest_xray"))[0]
    (alone.parent / "chest_xray").symlink_to(source / "chest_xray")
    assert scan(alone)[0] == named == scan(source)[0]


def test_refuses_a_table_outside_the_source(source: Path, tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").symlink_to(source / "metadata.csv")
    with pytest.raises(InputError, match=r"Links must not lead out of .*:\n  .*/metadata\.csv -> "):
        scan(tmp_path)


@pytest.mark.slow
def test_refuses_images_but_not_normals_outside_the_source(source: Path, tmp_path: Path) -> None:
    alone = tmp_path / "collection"
    shutil.copytree(source, alone, ignore=shutil.ignore_patterns("chest_xray"))
    built = build(Builder, alone, tmp_path / "data", normals=str(source / "chest_xray"))
    assert sum(len(split) for split in read(built.data_path).values()) == 50
    shutil.move(alone / "images" / "7.jpg", tmp_path / "elsewhere.jpg")
    (alone / "images" / "7.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    with pytest.raises(InputError, match=r"images/7\.jpg: a link out of the source"):
        build(Builder, alone, tmp_path / "other", normals=str(source / "chest_xray"))
    assert not published(tmp_path / "other")


def test_reads_zips(source: Path, tmp_path: Path) -> None:
    for name, inside in (
        ("covid-chestxray-dataset-master", ("metadata.csv", "images/*")),
        ("x", ("chest_xray/**/*",)),
    ):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for path in (
                path for pattern in inside for path in source.glob(pattern) if path.is_file()
            ):
                archive.write(path, f"{name}/{path.relative_to(source)}")
    assert scan(tmp_path)[0] == scan(source)[0]


def test_reports_missing_data(tmp_path: Path) -> None:
    draw_image(tmp_path / "images" / "a.jpg")
    with pytest.raises(
        MissingData,
        match=r"^No metadata\.csv in .*\nFound there: images/\nExpected layout:\n  metadata",
    ):
        scan(tmp_path)
    with pytest.raises(MissingData, match=r"does not exist\.\nExpected layout"):
        scan(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "source"}, "the collection has no splits of its own"),
        ({"view": ""}, "view=''; expected text"),
        ({"view": ["PA"]}, r"view=\['PA'\]; expected text"),
        ({"modality": None}, "modality=None; expected text"),
        ({"finding": "todo"}, "finding='todo'; expected one finding, such as 'COVID-19'"),
        ({"finding": "No Finding"}, "finding='No Finding'; expected one finding"),
        ({"finding": "COVID-19, ARDS"}, "expected one finding"),
        ({"normals": 3}, "normals=3; expected a folder or zip"),
        ({"seed": "1"}, "seed='1'; expected an integer"),
        ({"seed": True}, "seed=True; expected an integer"),
        ({"size": 0}, "size=0"),
    ],
)
def test_refuses_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CovidChestxrayConfig(name="mine", **settings)


def test_readme_counts_match_the_real_collection(shared_data: Path) -> None:
    source = shared_data / "covid_chestxray"
    match = re.search(
        r"of the (\d+) rows in `metadata.csv`, (\d+) rows of (\d+) patients have view PA",
        Builder.get_metadata().description,
    )
    rows = read_table(source / "metadata.csv")
    asked = [
        row
        for row in rows
        if (row.view, row.modality) == ("PA", "X-ray") and "covid-19" in split_terms(row.finding)
    ]
    assert match
    assert [len(rows), len(asked), len({row.patient_id for row in asked})] == list(
        map(int, match.groups())
    )
    found, notes = scan(source, normals=str(shared_data / "kermany_224"))
    assert (
        sorted(found.values()) == ["COVID"] * 48 + ["NORMAL"] * 48
    )  # of the 125 images that are there
    assert notes[0] == (
        f"metadata.csv has {len(rows)} rows, 622 without an image file. Of these rows {len(asked)} "
        "match view PA, modality X-ray and finding COVID-19, 169 without an image file."
    )


def test_readme_warns_of_the_shortcut() -> None:
    assert (
        "accuracy\nfalls from 92% to 51% when the normals are adults"
        in Builder.get_metadata().description
    )
