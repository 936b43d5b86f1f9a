"""Tests the base class of the builders: bad images, metadata, splits and odd sources."""

from __future__ import annotations

import copy
import csv
import errno
import json
import os
import pickle
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from helpers.sources import build, draw_image, draw_source, published, read

from cxr_tfds import regular_files
from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
from cxr_tfds.building.config import RadiographConfig
from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName
from cxr_tfds.sources import kaggle

SPLITS = ("train", "validation", "test")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source that the test may change."""
    return draw_source(tmp_path / "source")


def read_report(builder: Any) -> dict[str, Any]:
    return json.loads((builder.data_path / "build_report.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "x", "size": 0}, "size=0; expected a whole number of pixels, 1 to 4096"),
        ({"name": "x", "size": "64"}, "size='64'"),
        ({"name": "x", "channels": 4}, "channels=4"),
        ({"name": "x", "fit": "squeeze"}, "fit='squeeze'; expected one of stretch, pad, crop"),
        ({"name": "x", "split": "random"}, "split='random'; expected one of patient, source"),
        ({"name": "x", "on_bad_image": "warn"}, "on_bad_image='warn'; expected one of error, skip"),
        (
            {"name": "512"},
            r"""'512' has size=224\. Use .* --config '\{"name": "512", "size": 512\}', or""",
        ),
        ({"name": "512", "size": 224}, "Config '512' has size=224"),
        ({"name": "224-rgb"}, "Config '224-rgb' has channels=1"),
        ({"name": "512-pad", "fit": "pad"}, "Config '512-pad' has size=224"),
        ({"name": "224-source"}, "Config '224-source' has split='patient'"),
        ({"name": "a/b"}, "Config name 'a/b'; expected letters, digits"),
        ({"name": ".."}, r"Config name '\.\.'"),
        ({"name": ""}, "Config name ''"),
        ({"name": 512, "size": 512}, "Config name 512"),
        ({"size": 512}, r'The config has no name; .* \{"name": "mine", "size": 512\}'),
        (
            {"name": "x", "sise": 512},
            "Unknown config setting sise; expected any of name, size, channels, fit, split",
        ),
    ],
)
def test_refuses_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RadiographConfig(**settings)


def test_config_can_be_copied_and_pickled() -> None:
    config = RadiographConfig(name="64", size=64)
    assert copy.deepcopy(config).size == pickle.loads(pickle.dumps(config)).size == 64


def test_leaves_no_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    Builder(data_dir=tmp_path / "data")
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize(
    ("asked", "config"), [("original", "original"), ("512", "512"), ("size=512", "512")]
)
def test_unlisted_config_names_its_command(asked: str, config: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"--imports cxr_tfds\.builders --manual_dir FOLDER --config '"
    ) as caught:
        Builder(data_dir=tmp_path, config=asked)
    (option,) = re.findall(r"--config '(.*)'", str(caught.value))
    assert RadiographConfig(**json.loads(option)).name == config


def test_refuses_the_name_of_a_listed_config(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The name '224' belongs to a listed config"):
        Builder(data_dir=tmp_path, config=RadiographConfig(name="224", on_bad_image="skip"))


def test_lists_all_bad_files_and_publishes_nothing(source: Path, tmp_path: Path) -> None:
    root = source / "chest_xray"
    whole = (root / "train/NORMAL/IM-0001-0001.jpeg").read_bytes()
    bad = {
        root / "train/NORMAL/IM-0001-0001.jpeg": (b"", "empty file (0 bytes)"),
        root / "train/NORMAL/IM-0002-0001.jpeg": (whole[:-60], "cannot be decoded as JPEG: "),
        root / "train/PNEUMONIA/notes.jpeg": (b"see ward 3", "not an image in a known format"),
        root / "val/NORMAL/IM-0031-0001.jpeg": (
            b"<html>404</html>",
            "not an image in a known format",
        ),
    }
    for path in (root / "test/NORMAL").iterdir():
        bad[path] = (b"", "empty file (0 bytes)")
    for path in (
        root / "test/PNEUMONIA"
    ).iterdir():  # with it the whole split: TFDS by itself would stop there
        bad[path] = (whole[:100], "")
    for path, (content, _) in bad.items():
        path.write_bytes(content)
    lost = root / "train/PNEUMONIA/person7_virus_1.jpeg"
    lost.symlink_to("moved.jpeg")
    with pytest.raises(InputError) as caught:
        build(Builder, source, tmp_path / "data")
    first, *rows, last = str(caught.value).splitlines()
    assert first == f"{len(bad) + 1} unusable files:"
    assert last.startswith(
        "Nothing was built. Replace or remove these files and build again, or leave them out: "
        """--config '{"name": "32", "size": 32, "on_bad_image": "skip"}'"""
    )
    assert len(rows) == len(bad) + 1
    for path, (_, reason) in bad.items():
        assert [row for row in rows if row.startswith(f"  {path}: {reason}")], path
    assert f"  {lost}: a link to a file that does not exist" in rows
    assert not published(tmp_path / "data")


@pytest.mark.slow
def test_skips_and_lists_bad_files_on_request(source: Path, tmp_path: Path) -> None:
    train = source / "chest_xray/train"
    (train / "NORMAL/IM-0001-0001.jpeg").write_bytes(b"")
    (train / "PNEUMONIA/person2_bacteria_2.jpeg").write_bytes(b"<html>404</html>")
    (source / "chest_xray/test/NORMAL/IM-0033-0001.jpeg").write_bytes(b"")
    builder = build(Builder, source, tmp_path / "data", name="32-skip", on_bad_image="skip")
    records = read(builder.data_path)
    left_out = [
        "test/NORMAL/IM-0033-0001.jpeg",
        "train/NORMAL/IM-0001-0001.jpeg",
        "train/PNEUMONIA/person2_bacteria_2.jpeg",
    ]
    assert sum(map(len, records.values())) == 74 - 3
    assert not [
        image_id for image_id in left_out for examples in records.values() if image_id in examples
    ]
    assert builder.info.metadata["bad_images"] == 3
    with (builder.data_path / "bad_images.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == ["image_id", "reason"]
    assert [row[0] for row in rows] == left_out
    assert rows[0][1] == "empty file (0 bytes)"
    assert list(read_report(builder)["bad_images"]) == left_out
    assert read_report(builder)["splits"]["test"]["classes"] == {"NORMAL": 4, "PNEUMONIA": 5}
    with pytest.raises(
        InputError, match=r"was built without 3 unusable images .*, but this config requires all"
    ):
        build(Builder, source, tmp_path / "data", name="32-skip")


@pytest.mark.parametrize("labels", [["NORMAL"], ["NORMAL", "PNEUMONIA"]])
def test_refuses_to_skip_all_files_of_a_class(
    labels: list[str], source: Path, tmp_path: Path
) -> None:
    for label in labels:
        for path in (source / "chest_xray/test" / label).iterdir():
            path.write_bytes(b"")
    emptied = " and ".join(f"{label} in test" for label in labels)
    with pytest.raises(
        InputError,
        match=rf"test/.*: empty file(.|\n)*no image of {emptied} is left\. Nothing was built",
    ):
        build(Builder, source, tmp_path / "data", name="32-skip", on_bad_image="skip")
    assert not published(tmp_path / "data")


def test_names_a_file_without_permission(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = source / "chest_xray/train/NORMAL/IM-0001-0001.jpeg"

    def read(path: Path, whole: Any = regular_files.read_regular_file) -> bytes:
        if path == denied:  # not `chmod`: root may read everything
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return whole(path)

    monkeypatch.setattr(regular_files, "read_regular_file", read)
    with pytest.raises(
        InputError, match=r"1 unusable file:\n.*IM-0001-0001\.jpeg: permission denied\. Check"
    ):
        build(Builder, source, tmp_path / "data")


def test_builder_can_retry(source: Path, tmp_path: Path) -> None:
    path = source / "chest_xray/train/NORMAL/IM-0001-0001.jpeg"
    path.write_bytes(b"")
    builder = Builder(data_dir=tmp_path / "data", config=RadiographConfig(name="32", size=32))
    config = tfds.download.DownloadConfig(manual_dir=source)
    with pytest.raises(InputError, match=r"1 unusable file:\n.*: empty file"):
        builder.download_and_prepare(download_config=config)
    draw_image(path)
    builder.download_and_prepare(download_config=config)
    assert builder.info.splits.total_num_examples == 74


@pytest.mark.parametrize("copies", [0, 2])
def test_notices_lost_and_repeated_examples(
    copies: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = "test/NORMAL/IM-0033-0001.jpeg"
    whole = tf.io.TFRecordWriter.write

    def faulty(self: tf.io.TFRecordWriter, record: bytes) -> None:
        for _ in range(copies if lost.encode() in record else 1):
            whole(self, record)

    monkeypatch.setattr(tf.io.TFRecordWriter, "write", faulty)
    written = 9 + copies
    named = lost if not copies else ""
    message = rf"Split test: 10 .* {written} examples .*; missing \[.*{named}.*\], unexpected \[\]"
    with pytest.raises(InputError, match=message):
        build(Builder, source, tmp_path / "data")
    assert not published(tmp_path / "data")


def test_refuses_shared_patients_unless_configured(source: Path, tmp_path: Path) -> None:
    draw_image(source / "chest_xray/test/PNEUMONIA/person1_bacteria_999.jpeg")
    with pytest.raises(
        InputError, match=r"1 patient is in two splits:\n  bacteria-1: .* and test\n.*"
    ) as caught:
        build(Builder, source, tmp_path / "data")
    (option,) = re.findall(r"--config '(.*)'", str(caught.value))
    builder = build(Builder, source, tmp_path / "data", **json.loads(option))
    assert read_report(builder)["patients"]["in_two_splits"] == {"bacteria-1": ["train", "test"]}


@pytest.mark.slow
def test_refuses_to_reuse_an_incomplete_dataset(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    part = build(Builder, source, tmp_path, options={"max_examples_per_split": 3})
    assert {
        split: len(examples) for split, examples in read(part.data_path).items()
    } == dict.fromkeys(SPLITS, 3)
    assert read_report(part)["splits"]["train"]["images"] == 3
    build(Builder, source, tmp_path, options={"max_examples_per_split": 3})
    with pytest.raises(
        InputError,
        match=r"only 3 examples of each split .*Build the complete dataset with --overwrite",
    ):
        build(Builder, source, tmp_path)
    open_dataset(DatasetName("chest_xray_pneumonia", "32"), tmp_path)
    assert "holds only 3 examples of each split" in caplog.text


def test_refuses_zero_examples(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="max_examples_per_split=0; expected 1 or more"):
        build(Builder, source, tmp_path / "data", options={"max_examples_per_split": 0})
    assert not published(tmp_path / "data")


def test_refuses_other_record_formats(source: Path, tmp_path: Path) -> None:
    config = RadiographConfig(name="32", size=32)
    builder = Builder(data_dir=tmp_path / "data", config=config, file_format="array_record")
    with pytest.raises(InputError, match="file_format='array_record'; expected 'tfrecord'"):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=source)
        )
    assert not published(tmp_path / "data")


def test_reuses_a_built_dataset(source: Path, tmp_path: Path) -> None:
    folder = build(Builder, source, tmp_path).data_path
    before = {path: path.stat().mtime for path in folder.iterdir()}
    shutil.rmtree(source)
    build(Builder, source, tmp_path)
    assert before == {path: path.stat().mtime for path in folder.iterdir()}


def test_refuses_two_settings_with_one_name(source: Path, tmp_path: Path) -> None:
    build(Builder, source, tmp_path, name="mine", size=8)
    with pytest.raises(
        InputError,
        match=r"mine/1\.0\.0 was built with size=8, but this config has 16\. Give the config",
    ):
        build(Builder, source, tmp_path, name="mine", size=16)


@pytest.mark.slow
def test_fingerprint_depends_on_the_content_only(source: Path, tmp_path: Path) -> None:
    def fingerprint(data_dir: str, place: Path = source, **settings: Any) -> str:
        return build(Builder, place, tmp_path / data_dir, **settings).info.metadata["fingerprint"]

    first = fingerprint("a")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for copy in ("", "chest_xray/"):  # every image twice, as in the Kaggle zip
            for path in sorted(source.rglob("*.jpeg")):
                file.write(path, copy + path.relative_to(source).as_posix())
    assert fingerprint("b", tmp_path / "archive.zip", options={"num_shards": 3}) == first
    assert fingerprint("c", name="31", size=31) != first
    draw_image(source / "chest_xray/train/NORMAL/IM-0001-0001.jpeg", size=(41, 30))
    assert fingerprint("d") != first


def test_writes_and_prints_the_report(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in sorted(source.rglob("person*.jpeg")):
        draw_image(path, "RGB")
    train = source / "chest_xray/train/PNEUMONIA"
    shutil.copy(train / "person1_bacteria_1.jpeg", train / "person1_bacteria_901.jpeg")
    builder = build(Builder, source, tmp_path)
    report = read_report(builder)
    assert report["dataset"] == "chest_xray_pneumonia/32:1.0.0"
    given = {name: value for name, value in report["settings"].items() if value is not None}
    assert given == {"size": 32, "channels": 1, "fit": "stretch", "split": "patient"}
    assert {split: counts["images"] for split, counts in report["splits"].items()} == {
        split: builder.info.splits[split].num_examples for split in SPLITS
    }
    assert report["duplicates"]["groups"] == report["duplicates"]["within_split"] == 1
    assert "colour mode" in [shortcut["property"] for shortcut in report["shortcuts"]]
    shown = capfd.readouterr().err
    assert "SHORTCUTS in train" in shown
    assert "- colour mode alone predicts PNEUMONIA: AUC 1.00" in shown
    text = (builder.data_path / "build_report.md").read_text(encoding="utf-8")
    assert "- colour mode alone predicts PNEUMONIA: AUC 1.00" in text
    assert str(tmp_path) not in text + json.dumps(report)


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_accepts_odd_file_names(packed: bool, source: Path, tmp_path: Path) -> None:
    names = [
        "100%.jpeg",
        "%s %d.jpeg",
        "with space.jpeg",
        "ünï-日本.jpeg",
        "=1+2|<b>`[x](y)`.jpeg",
        "right\u202eto left.jpeg",
        'it\'s "x".jpeg',
    ]
    for name in names:
        draw_image(source / "chest_xray/train/NORMAL" / name)
    place = source
    if packed:
        place = tmp_path / "archive.zip"
        with zipfile.ZipFile(place, "w") as file:
            for path in source.rglob("*.jpeg"):
                file.write(path, path.relative_to(source).as_posix())
    builder = build(Builder, place, tmp_path / "data")
    ids = {image_id for examples in read(builder.data_path).values() for image_id in examples}
    assert {f"train/NORMAL/{name}" for name in names} <= ids
    (source / "chest_xray/train/NORMAL/new\nline.jpeg").write_bytes(b"")
    with pytest.raises(InputError, match=r"new\\nline\.jpeg: the name contains a line break"):
        build(Builder, source, tmp_path / "again")


class TestKaggle:
    """A missing source is downloaded if there are credentials."""

    @pytest.fixture(autouse=True)
    def _credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_secret")
        monkeypatch.setattr(kaggle.shutil, "which", lambda name: f"/bin/{name}")

    def test_downloads_and_builds(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        monkeypatch.setattr(
            tfds.download.DownloadManager,
            "download_kaggle_data",
            lambda self, name: asked.append(name) or source,
        )
        builder = build(Builder, None, tmp_path / "data")
        assert asked == ["paultimothymooney/chest-xray-pneumonia"]
        assert builder.info.splits.total_num_examples == 74

    @pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
    def test_downloads_with_the_kaggle_command(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A stand-in for the command writes the zip, which TFDS extracts."""
        shutil.make_archive(str(tmp_path / "set"), "zip", source)
        command = tmp_path / "bin" / "kaggle"
        command.parent.mkdir()
        command.write_text(
            f'#!/bin/sh\n[ "$5" = {Builder.KAGGLE} ] && cp "{tmp_path}/set.zip" "$4/chest.zip"\n'
        )
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
        builder = build(Builder, None, tmp_path / "data")
        assert builder.info.splits.total_num_examples == 74
        assert len(list(tmp_path.glob("data/downloads/*/chest_xray"))) == 1

    def test_does_not_download_existing_data(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            tfds.download.DownloadManager,
            "download_kaggle_data",
            lambda self, name: pytest.fail("downloads"),
        )
        build(Builder, source, tmp_path / "data")

    def test_failure_shows_no_credential(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(self: Any, name: str) -> None:
            raise RuntimeError("no access with KGAT_secret")

        monkeypatch.setattr(tfds.download.DownloadManager, "download_kaggle_data", fail)
        with pytest.raises(
            InputError, match=r"Kaggle could not provide .*:\nno access .* \[hidden\]"
        ):
            build(Builder, None, tmp_path / "data")
        assert "KGAT_secret" not in caplog.text
        assert not published(tmp_path / "data")


def test_without_credentials_explains_both_ways(tmp_path: Path) -> None:
    with pytest.raises(
        MissingData,
        match=r"\nGet the data: kaggle .*\n(.*\n)*To download it during the build instead: ",
    ):
        build(Builder, tmp_path, tmp_path / "data")


@pytest.mark.parametrize("content", ["{", "[]", '{"name": 3}'])
@pytest.mark.parametrize("name", ["dataset_info.json", "metadata.json"])
def test_a_corrupt_dataset_on_disk_is_named(
    built: Path, tmp_path: Path, name: str, content: str
) -> None:
    shutil.copytree(built, tmp_path / "data")
    (path,) = (tmp_path / "data").rglob(f"1.0.0/{name}")
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"1\.0\.0.*(is corrupt: |was not built by cxr-tfds)"):
        build(Builder, None, tmp_path / "data", name="64", size=64)
