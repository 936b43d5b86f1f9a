"""Finding built datasets: names, missing, corrupt and foreign ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.description import read_description
from cxr_tfds.reading.names import (
    DatasetName,
    build_line,
    default_data_dir,
    known_datasets,
    named_settings,
)

NAME = DatasetName("chest_xray_pneumonia", "64")


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    """A data_dir that a test may change."""
    shutil.copytree(built, tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("chest_xray_pneumonia/224", ("chest_xray_pneumonia", "224", None)),
        ("chest_xray_pneumonia", ("chest_xray_pneumonia", "224", None)),
        ("covid_ct/512-rgb:1.0.10", ("covid_ct", "512-rgb", "1.0.10")),
    ],
)
def test_parses_names(text: str, parts: tuple[str, str, str | None]) -> None:
    name = DatasetName.parse(text)
    assert (name.dataset, name.config, name.version) == parts
    assert DatasetName.parse(str(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a/",
        "/224",
        "A/224",
        "a/b/c",
        "a/224:1",
        "a/224:1.0",
        "a/224:newest",
        "a:1.0.0",
        "../a/224",
        "a b",
    ],
)
def test_refuses_other_names(text: str) -> None:
    with pytest.raises(
        InputError, match="expected DATASET/CONFIG such as chest_xray_pneumonia/224"
    ):
        DatasetName.parse(text)


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ("224", {"size": 224}),
        ("512-rgb", {"size": 512, "channels": 3}),
        ("224-pad", {"size": 224, "fit": "pad"}),
        ("96-rgb-crop-source", {"size": 96, "channels": 3, "fit": "crop", "split": "source"}),
        ("source", {"split": "source"}),
        ("mine-2", {}),
        ("mine", {}),
    ],
)
def test_config_name_implies_settings(config: str, settings: dict[str, int | str]) -> None:
    assert named_settings(config) == settings


@pytest.mark.parametrize(
    ("config", "option"),
    [
        ("224", ""),
        ("64", """ --config '{"name": "64", "size": 64}'"""),
        ("224-rgb", """ --config '{"name": "224-rgb", "size": 224, "channels": 3}'"""),
        ("mine", """ --config '{"name": "mine"}'"""),
    ],
)
def test_missing_dataset_error_holds_the_build_command(
    config: str, option: str, tmp_path: Path
) -> None:
    with pytest.raises(MissingData) as caught:
        open_dataset(DatasetName("chest_xray_pneumonia", config), tmp_path)
    assert str(caught.value) == (
        f"chest_xray_pneumonia/{config} is not built in {tmp_path}. Build it with:\n"
        "  cxr-data build FOLDER_OF_THE_IMAGES --dataset chest_xray_pneumonia "
        f"--data-dir {tmp_path}{option}"
    )


@pytest.mark.parametrize("below", ["gone", "chest_xray_pneumonia", "chest_xray_pneumonia/64/1.0.0"])
def test_proposes_the_folder_above(below: str, built: Path) -> None:
    with pytest.raises(MissingData, match="not built in") as caught:
        open_dataset("chest_xray_pneumonia/64", built / below)
    assert str(caught.value).endswith(f"but in {built}. Add this option:\n  --data-dir {built}")


def test_lists_what_is_built_there(built: Path) -> None:
    with pytest.raises(MissingData, match=r"\nBuilt there: chest_xray_pneumonia/64\.$"):
        open_dataset("chest_xray_pneumonia/96", built)


def test_asks_where_moved_data_are(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="If the datasets were moved, give their new folder"):
        open_dataset("chest_xray_pneumonia/96", tmp_path / "gone")


def test_build_command_is_quoted_for_a_shell() -> None:
    line = build_line(DatasetName("a", "it's"), Path("/my data"))
    assert "--data-dir '/my data' " in line
    assert line.endswith("""--config '{"name": "it'"'"'s"}'""")


def test_reads_the_description_of_a_built_dataset(built: Path) -> None:
    dataset = open_dataset(NAME, built)
    assert dataset.name == "chest_xray_pneumonia/64:1.0.0"
    assert dataset.shape == (64, 64, 1)
    assert dataset.labels == ("NORMAL", "PNEUMONIA")
    assert dataset.fit == "stretch"
    assert len(dataset.fingerprint) == 64
    assert dataset.sizes["test"] == 40
    assert dataset.sizes["train"] + dataset.sizes["validation"] == 76
    assert all(Path(shard).is_file() for shards in dataset.shards.values() for shard in shards)
    assert list(dataset.shards) == ["train", "validation", "test"]


def test_check_split(built: Path) -> None:
    dataset = open_dataset(NAME, built)
    dataset.check_split("validation")
    with pytest.raises(
        InputError,
        match=r"has no split 'val'; it has train \(\d+ images\), validation .*, test \(40 ",
    ):
        dataset.check_split("val")


def test_opens_the_newest_version_by_default(copy: Path) -> None:
    folder = copy / "chest_xray_pneumonia" / "64"
    for version in ("1.0.2", "1.0.10"):
        shutil.copytree(folder / "1.0.0", folder / version)
        info = folder / version / "dataset_info.json"
        info.write_text(info.read_text().replace('"1.0.0"', f'"{version}"'))
    (folder / "incomplete.X_2.0.0").mkdir()
    assert open_dataset(NAME, copy).name.endswith(":1.0.10")
    named = DatasetName("chest_xray_pneumonia", "64", "1.0.2")
    assert open_dataset(named, copy).name.endswith(":1.0.2")


def test_missing_version_error_names_the_others(built: Path) -> None:
    with pytest.raises(
        MissingData, match=r"64:9\.9\.9 is not built in .* \(found 1\.0\.0\)\. Build it with"
    ):
        open_dataset(DatasetName("chest_xray_pneumonia", "64", "9.9.9"), built)


def test_names_a_missing_shard(copy: Path) -> None:
    shard = next(copy.rglob("*-test.tfrecord-*"))
    shard.unlink()
    with pytest.raises(
        MissingData,
        match=r"-test\.tfrecord.* is missing\. Remove .*1\.0\.0 and build it again:\n  cxr-data",
    ):
        open_dataset(NAME, copy)


def test_refuses_an_incomplete_copy(copy: Path) -> None:
    shard = next(copy.rglob("*-train.tfrecord-*"))
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    message = (
        rf"Incomplete copy: .* {len(content) - 1:,} bytes; expected {len(content):,}\.\nRemove"
    )
    with pytest.raises(InputError, match=message):
        open_dataset(NAME, copy)


def test_refuses_a_dataset_of_another_project(copy: Path) -> None:
    (next(copy.glob("*/64/1.0.0")) / "metadata.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"1\.0\.0 was not built by cxr-tfds"):
        open_dataset(NAME, copy)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("dataset_info.json", ""),
        ("dataset_info.json", "{"),
        ("features.json", None),
        ("features.json", "{}"),
        ("metadata.json", None),
        ("metadata.json", "{"),
        ("label.labels.txt", None),
    ],
)
def test_refuses_a_corrupt_description(file: str, content: str | None, copy: Path) -> None:
    path = next(copy.glob("*/64/1.0.0")) / file
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"1\.0\.0"):
        open_dataset(NAME, copy)


def test_known_datasets_are_builders_and_folders(copy: Path, tmp_path: Path) -> None:
    assert "chest_xray_pneumonia" in known_datasets(tmp_path / "nowhere")
    (copy / "chest_xray_pneumonia").rename(copy / "my_hospital")
    (copy / "downloads" / "x").mkdir(parents=True, exist_ok=True)
    assert {"chest_xray_pneumonia", "my_hospital"} <= set(known_datasets(copy))
    assert "downloads" not in known_datasets(copy)


def test_default_folder_is_that_of_tfds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", "~/cxr")
    assert default_data_dir() == Path.home() / "cxr"
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert default_data_dir() == Path.home() / "tensorflow_datasets"


def test_metadata_is_plain_json(built: Path) -> None:
    metadata = json.loads(next(built.glob("*/64/1.0.0/metadata.json")).read_text(encoding="utf-8"))
    assert {
        "size": 64,
        "channels": 1,
        "fit": "stretch",
        "split": "patient",
    }.items() <= metadata.items()


@pytest.mark.slow
def test_reads_the_same_as_tfds(built: Path, findings_data: Path) -> None:
    import tensorflow_datasets as tfds

    for folder in (*built.glob("*/64/1.0.0"), *findings_data.glob("*/64/1.0.0")):
        info = tfds.builder_from_directory(folder).info
        description = read_description(folder)
        assert list(description.splits) == list(info.splits)
        for name, split in description.splits.items():
            expected = info.splits[name]
            assert split.paths == [str(path) for path in expected.filepaths]
            assert (split.sizes, split.bytes) == (expected.shard_lengths, expected.num_bytes)
        assert description.image_shape == info.features["image"].shape
        assert description.labels == tuple(info.features["label"].names)
        names = info.features["finding"].names if "finding" in info.features else ()
        assert description.findings == tuple(names)
        assert description.metadata == info.metadata
