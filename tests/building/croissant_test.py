"""croissant.json is valid, describes the files and has readable records."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import mlcroissant as mlc
import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.sources import build, draw_image

from cxr_tfds.builders.xray_folder.xray_folder_dataset_builder import Builder as XrayFolder
from cxr_tfds.building.croissant import FILE_NAME, write_croissant

# mlcroissant 1.1 reads JSON-LD with a deprecated class of rdflib 7.
pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")


def describe(folder: Path, classes: tuple[str, ...] = ()) -> dict[str, Any]:
    """Writes the description of a built dataset and returns it."""
    path = write_croissant(tfds.builder_from_directory(folder).info, folder, classes)
    assert path == folder / FILE_NAME
    return json.loads(path.read_text(encoding="utf-8"))


def load(folder: Path, caplog: pytest.LogCaptureFixture) -> mlc.Dataset:
    """Returns the validated description; fails on errors, warnings and log messages."""
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        dataset = mlc.Dataset(jsonld=folder / FILE_NAME)
    issues = dataset.metadata.ctx.issues
    assert (issues.errors, issues.warnings, caplog.messages) == (set(), set(), [])
    return dataset


@pytest.fixture(scope="module")
def folder(built: Path) -> Path:
    return built / "chest_xray_pneumonia" / "64" / "1.0.0"


def test_is_valid_and_readable(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    describe(folder)
    dataset = load(folder, caplog)
    assert dataset.metadata.name == "chest_xray_pneumonia/64"
    assert dataset.metadata.license == ["https://creativecommons.org/licenses/by/4.0/"]
    assert "10.1016/j.cell.2018.02.010" in dataset.metadata.cite_as
    assert list(dataset.records("label_names")) == [
        {"label_names/number": 0, "label_names/name": "NORMAL"},
        {"label_names/number": 1, "label_names/name": "PNEUMONIA"},
    ]
    info = tfds.builder_from_directory(folder).info
    assert {
        record["splits/name"]: record["splits/num_examples"] for record in dataset.records("splits")
    } == {name: split.num_examples for name, split in info.splits.items()}


def test_a_build_writes_it(phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder

    folder = Path(build(Builder, phantom, tmp_path).data_path)
    dataset = load(folder, caplog)
    assert dataset.metadata.version == str(folder.name)
    for file in dataset.metadata.file_objects:
        assert file.sha256 == hashlib.sha256((folder / file.content_url).read_bytes()).hexdigest()


def test_lists_every_shard_with_its_checksum(folder: Path) -> None:
    described = describe(folder)
    files = {
        file["contentUrl"]: file
        for file in described["distribution"]
        if file["@type"] == "cr:FileObject"
    }
    shards = {path.name: path for path in folder.glob("*.tfrecord-*")}
    assert files.keys() == shards.keys()
    for name, path in shards.items():
        assert files[name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert files[name]["contentSize"] == f"{path.stat().st_size} B"
    (file_set,) = (f for f in described["distribution"] if f["@type"] == "cr:FileSet")
    assert {path.name for path in folder.glob(file_set["includes"])} == shards.keys()


def test_describes_every_field(folder: Path) -> None:
    info = tfds.builder_from_directory(folder).info
    (examples,) = (r for r in describe(folder)["recordSet"] if r["name"] == "examples")
    fields = {field["name"]: field for field in examples["field"]}
    assert fields.keys() == {"split", *info.features}
    assert fields["image"]["dataType"] == "sc:ImageObject"
    assert "uint8 of shape 64 x 64 x 1" in fields["image"]["description"]
    assert fields["finding"]["references"] == {"field": {"@id": "finding_names/number"}}
    assert fields["width"]["dataType"] == "cr:Int64"
    assert fields["patient_id"]["dataType"] == "sc:Text"


def test_a_dataset_without_licence_citation_and_homepage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("normal", "sick"):
        for number in range(12):
            draw_image(tmp_path / "source" / name / f"{name}{number}.png")
    builder = build(XrayFolder, tmp_path / "source", tmp_path / "data")
    folder = Path(builder.data_path)
    described = describe(folder)
    load(folder, caplog)
    assert described["license"] == "the licence of your images."
    assert described["citeAs"]
    assert described["url"] == builder.info.homepage == "https://github.com/cxr-tfds/cxr-tfds"


def test_several_findings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    example = {"image": b"x", "labels": np.array([1, 0, -1], np.int8), "image_id": "a"}
    builder = tfds.dataset_builders.store_as_tfds_dataset(
        name="drawn",
        version="1.0.0",
        config="8",
        features=tfds.features.FeaturesDict({
            "image": tfds.features.Tensor(shape=(), dtype=np.object_, doc="The source file."),
            "labels": tfds.features.Tensor(shape=(3,), dtype=np.int8),
            "image_id": tfds.features.Text(),
        }),
        split_datasets={"train": [(0, example)]},
        data_dir=tmp_path,
    )  # fmt: skip
    described = describe(Path(builder.data_path), ("Edema", "Effusion", "Nodule"))
    dataset = load(Path(builder.data_path), caplog)
    assert [r["labels_names/name"] for r in dataset.records("labels_names")] == [
        "Edema",
        "Effusion",
        "Nodule",
    ]
    (examples,) = (r for r in described["recordSet"] if r["name"] == "examples")
    (labels,) = (field for field in examples["field"] if field["name"] == "labels")
    assert labels["repeated"] is True
    assert "One value for each name in labels_names" in labels["description"]
    assert "references" not in labels
