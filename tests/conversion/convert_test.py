"""Datasets exported in each form are read back and compared with what was built."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds
from helpers.sources import Records, build, encode, read
from PIL import Image

from cxr_tfds.builders.xray_folder.xray_folder_dataset_builder import Builder as XrayFolder
from cxr_tfds.conversion import parquet
from cxr_tfds.conversion.convert import FORMATS, convert_dataset
from cxr_tfds.conversion.stored import encode_png
from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import BuiltDataset, open_dataset
from cxr_tfds.text import printable

pytestmark = pytest.mark.slow

FINDINGS = ("none", "bacteria", "virus")


@pytest.fixture
def records(pneumonia: BuiltDataset) -> Records:
    return read(Path(pneumonia.shards["train"][0]).parent)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))[..., np.newaxis]


def check_row(row: dict, example: dict) -> None:
    """Compares a row of a table with the stored example."""
    label, finding = int(example["label"]), int(example["finding"])
    assert (row["label"], row["label_number"]) == (("NORMAL", "PNEUMONIA")[label], label)
    assert (row["finding"], row["finding_number"]) == (FINDINGS[finding], finding)
    assert row["patient_id"] == example["patient_id"].decode()
    assert (row["height"], row["width"]) == (example["height"], example["width"])


def table_rows(path: Path) -> list[dict]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("form", FORMATS)
def test_counts_and_progress(
    form: str, pneumonia: BuiltDataset, records: Records, tmp_path: Path
) -> None:
    steps: list[int] = []
    counts = convert_dataset(pneumonia, form, tmp_path / "out", progress=steps.append)
    assert counts == Counter(
        (split, ("NORMAL", "PNEUMONIA")[example["label"]])
        for split, examples in records.items()
        for example in examples.values()
    )
    assert sum(steps) == sum(pneumonia.sizes.values())
    settings = json.loads((tmp_path / "out" / "data_export.json").read_text())
    assert settings["fingerprint"] == pneumonia.fingerprint
    assert settings["format"] == form
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folder_holds_the_stored_pixels(
    pneumonia: BuiltDataset, records: Records, tmp_path: Path
) -> None:
    convert_dataset(pneumonia, "folder", tmp_path / "out")
    rows = table_rows(tmp_path / "out" / "labels.csv")
    images = {p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.rglob("*.png")}
    assert sorted(row["file_name"] for row in rows) == sorted(images)
    for row in rows:
        example = records[row["split"]].pop(row["image_id"])
        numbers = {key: int(row[key]) for key in row if key.endswith(("number", "th", "height"))}
        check_row(row | numbers, example)
        split, class_name, _ = row["file_name"].split("/")
        assert (split, class_name) == (row["split"], row["label"])
        data = (tmp_path / "out" / row["file_name"]).read_bytes()
        np.testing.assert_array_equal(pixels(data), example["image"])
    assert not any(records.values())


def test_folder_builds_the_same_dataset_again(pneumonia: BuiltDataset, tmp_path: Path) -> None:
    convert_dataset(pneumonia, "folder", tmp_path / "out")
    build(
        XrayFolder, tmp_path / "out", tmp_path / "data", name="64-source", size=64, split="source"
    )
    again = open_dataset("xray_folder/64-source", tmp_path / "data")
    assert (again.labels, again.sizes) == (pneumonia.labels, pneumonia.sizes)
    before = read(Path(pneumonia.shards["train"][0]).parent)
    after = read(Path(again.shards["train"][0]).parent)
    for row in table_rows(tmp_path / "out" / "labels.csv"):
        old, new = before[row["split"]][row["image_id"]], after[row["split"]][row["file_name"]]
        np.testing.assert_array_equal(old["image"], new["image"])
        assert old["label"] == new["label"]


def test_source_files_keep_their_bytes_and_suffix(phantom: Path, tmp_path: Path) -> None:
    from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder

    build(Builder, phantom, tmp_path / "data", name="original", size=None)
    dataset = open_dataset("chest_xray_pneumonia/original", tmp_path / "data")
    convert_dataset(dataset, "folder", tmp_path / "out")
    sources = {path.name: path.read_bytes() for path in phantom.rglob("*.jpeg")}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.jpeg")} == sources


def test_parquet(
    pneumonia: BuiltDataset,
    records: Records,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 10)
    convert_dataset(pneumonia, "parquet", tmp_path / "out", part_bytes=100_000)
    for split, examples in records.items():
        files = sorted((tmp_path / "out").glob(f"{split}-*.parquet"))
        bytes_stored = sum(Path(path).stat().st_size for path in pneumonia.shards[split])
        assert len(files) == -(-bytes_stored // 100_000)
        assert files[-1].name == f"{split}-{len(files) - 1:05}-of-{len(files):05}.parquet"
        for path in files:
            opened = pq.ParquetFile(path)
            groups = range(opened.num_row_groups)
            assert max(opened.metadata.row_group(g).num_rows for g in groups) <= 10
            for row in opened.read().to_pylist():
                example = examples.pop(row["image_id"])
                check_row(row, example)
                np.testing.assert_array_equal(pixels(row["image"]["bytes"]), example["image"])
                assert row["image"]["path"].startswith(f"{split}/{row['label']}/")
    assert not any(records.values())


def test_parquet_bounds_row_groups_by_bytes(
    pneumonia: BuiltDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1)
    convert_dataset(pneumonia, "parquet", tmp_path / "out")
    opened = pq.ParquetFile(tmp_path / "out" / "test-00000-of-00001.parquet")
    assert opened.num_row_groups == pneumonia.sizes["test"]


def test_parquet_names_the_types_for_hugging_face(pneumonia: BuiltDataset, tmp_path: Path) -> None:
    convert_dataset(pneumonia, "parquet", tmp_path / "out")
    schema = pq.read_schema(tmp_path / "out" / "test-00000-of-00001.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names
    assert features["image"] == {"_type": "Image"}
    assert features["label_number"] == {"names": ["NORMAL", "PNEUMONIA"], "_type": "ClassLabel"}
    assert features["width"] == {"dtype": "int32", "_type": "Value"}


def test_webdataset(pneumonia: BuiltDataset, records: Records, tmp_path: Path) -> None:
    convert_dataset(pneumonia, "webdataset", tmp_path / "out", part_bytes=100_000)
    assert len(list((tmp_path / "out").glob("train-*.tar"))) > 1
    keys: set[str] = set()
    for split, examples in records.items():
        for path in sorted((tmp_path / "out").glob(f"{split}-*.tar")):
            with tarfile.open(path) as tar:
                files = [(m.name, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
            for position in range(0, len(files), 3):
                parts = dict(files[position : position + 3])
                key = min(parts).split(".")[0]
                assert parts.keys() == {f"{key}.png", f"{key}.cls", f"{key}.json"}
                assert key not in keys
                keys.add(key)
                row = json.loads(parts[f"{key}.json"])
                example = examples.pop(row["image_id"])
                check_row(row, example)
                assert row["split"] == split
                assert int(parts[f"{key}.cls"]) == example["label"]
                np.testing.assert_array_equal(pixels(parts[f"{key}.png"]), example["image"])
    assert not any(records.values())


def test_webdataset_is_read_by_its_own_package(pneumonia: BuiltDataset, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    convert_dataset(pneumonia, "webdataset", tmp_path / "out")
    path = str(tmp_path / "out" / "test-000000.tar")
    samples = list(webdataset.WebDataset(path, shardshuffle=False).decode())
    assert len(samples) == pneumonia.sizes["test"]
    assert all(sample["cls"] == sample["json"]["label_number"] for sample in samples)


def test_webdataset_is_reproducible(pneumonia: BuiltDataset, tmp_path: Path) -> None:
    for name in ("a", "b"):
        convert_dataset(pneumonia, "webdataset", tmp_path / name)
    for path in (tmp_path / "a").glob("*.tar"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_arrayrecord_is_a_data_source_of_tfds(
    pneumonia: BuiltDataset, records: Records, tmp_path: Path
) -> None:
    pytest.importorskip("array_record")
    convert_dataset(pneumonia, "arrayrecord", tmp_path / "out")
    builder = tfds.builder_from_directory(tmp_path / "out")
    assert builder.info.features["label"].names == ["NORMAL", "PNEUMONIA"]
    for split, examples in records.items():
        source = builder.as_data_source(split)
        assert len(source) == len(examples)
        for found in source:
            expected = examples.pop(found["image_id"].decode())
            for key, value in expected.items():
                np.testing.assert_array_equal(found[key], value, err_msg=key)


@pytest.mark.parametrize("form", FORMATS)
def test_several_findings(form: str, several_findings: BuiltDataset, tmp_path: Path) -> None:
    counts = convert_dataset(several_findings, form, tmp_path / "out")
    assert counts == {("train", ""): 4}
    names = ["Edema", "Pneumothorax", "height", "image_id", "patient_id", "height_height", "width"]
    if form == "folder":
        rows = table_rows(tmp_path / "out" / "labels.csv")
        assert list(rows[0]) == ["file_name", "split", *names]
        assert [row["height"] for row in rows] == ["0", "-1", "-2", "-3"]
        assert [row["file_name"] for row in rows] == [f"train/p{i}_a.png" for i in range(4)]
    elif form == "parquet":
        table = pq.read_table(tmp_path / "out" / "train-00000-of-00001.parquet")
        assert table.column_names == ["image", *names]
        assert table["height"].to_pylist() == [0, -1, -2, -3]
        assert str(table["height"].type) == "int8"
    elif form == "webdataset":
        with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
            assert len(tar.getnames()) == 8  # no class number
            fields = json.load(tar.extractfile("train-00000002.json"))  # type: ignore[arg-type]
        assert (fields["Edema"], fields["height"], fields["height_height"]) == (1, -2, 3)
    else:
        source = tfds.builder_from_directory(tmp_path / "out").as_data_source("train")
        assert [list(row["labels"]) for row in source] == [[1, 0, -n] for n in range(4)]


def test_unusual_ids_and_unknown_findings(
    store: Callable[..., BuiltDataset], tmp_path: Path
) -> None:
    ids = [
        "../../etc/x.png",
        "train/A/b.png",
        "A/B.PNG",
        "b.png",
        "a\tb",
        "CON",
        "Röntgen",
        "é" * 200,
    ]
    examples = [
        {
            "image": encode(np.full((5, 6), number, np.uint8), "PNG"),
            "label": 0,
            "finding": -1,
            "image_id": image_id,
            "patient_id": "",
        }
        for number, image_id in enumerate(ids)
    ]
    features = {
        "image": tfds.features.Tensor(shape=(), dtype=np.object_),
        "label": tfds.features.ClassLabel(names=["A", "a"]),
        "finding": tfds.features.ClassLabel(names=["none", "some"]),
    }
    dataset = store(examples, features, ("A", "a"))
    convert_dataset(dataset, "folder", tmp_path / "out" / "deep" / "er")
    rows = table_rows(tmp_path / "out" / "deep" / "er" / "labels.csv")
    assert [row["image_id"] for row in rows] == list(map(printable, ids))
    assert {(row["finding"], row["finding_number"], row["patient_id"]) for row in rows} == {
        ("", "", "")
    }
    assert len({row["file_name"].casefold() for row in rows}) == len(ids)
    assert len(list((tmp_path / "out" / "deep" / "er" / "train" / "A").iterdir())) == len(ids)
    for number, row in enumerate(rows):
        path = tmp_path / "out" / "deep" / "er" / row["file_name"]
        assert path.resolve().is_relative_to(tmp_path / "out" / "deep" / "er" / "train" / "A")
        assert path.read_bytes() == examples[number]["image"]
    convert_dataset(dataset, "parquet", tmp_path / "table")
    table = pq.read_table(tmp_path / "table" / "train-00000-of-00001.parquet")
    assert table["image_id"].to_pylist() == ids
    assert table["finding"].null_count == table["finding_number"].null_count == len(ids)


@pytest.mark.parametrize("form", FORMATS)
def test_a_corrupt_shard_is_named_and_leaves_nothing(
    form: str, built: Path, tmp_path: Path
) -> None:
    shutil.copytree(built, tmp_path / "data")
    dataset = open_dataset("chest_xray_pneumonia/64", tmp_path / "data")
    shard = Path(dataset.shards["test"][0])
    content = bytearray(shard.read_bytes())
    content[-1000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=rf"{shard.name} is corrupt: example 40 of 40"):
        convert_dataset(dataset, form, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_overwrite_replaces_only_its_own_folders(pneumonia: BuiltDataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert_dataset(pneumonia, "webdataset", out)
    with pytest.raises(InputError, match="is not empty"):
        convert_dataset(pneumonia, "parquet", out)
    convert_dataset(pneumonia, "parquet", out, overwrite=True)
    assert not list(out.glob("*.tar"))
    assert len(list(out.glob("*.parquet"))) == 3
    (out / "mine.txt").touch()
    with pytest.raises(InputError, match=r"also contains mine\.txt"):
        convert_dataset(pneumonia, "webdataset", out, overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.doc").touch()
    with pytest.raises(InputError, match=r"contains no valid data_export\.json"):
        convert_dataset(pneumonia, "webdataset", tmp_path / "other", overwrite=True)
    assert (tmp_path / "other" / "thesis.doc").exists()
    assert len(list(out.glob("*.parquet"))) == 3


def test_a_failed_export_keeps_the_previous_one(
    pneumonia: BuiltDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_dataset(pneumonia, "webdataset", tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_dataset(pneumonia, "parquet", tmp_path / "out", overwrite=True, progress=stop)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_reported(
    pneumonia: BuiltDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cxr_tfds.conversion.webdataset._add", full)
    with pytest.raises(InputError, match=r"^No space left on device: .*/out\. The disk"):
        convert_dataset(pneumonia, "webdataset", tmp_path / "out")


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_lossless(channels: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, channels), dtype=np.uint8)
    with Image.open(io.BytesIO(encode_png(noise))) as image:
        assert image.mode == {1: "L", 3: "RGB"}[channels]
        np.testing.assert_array_equal(np.asarray(image).reshape(noise.shape), noise)


def test_refuses_an_unknown_form(pneumonia: BuiltDataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'tar' is not one of 'folder', 'parquet'"):
        convert_dataset(pneumonia, "tar", tmp_path / "out")
