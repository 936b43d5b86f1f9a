"""The base of the builders: bad images, what is written beside a dataset, sources of every shape."""

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow_datasets as tfds
from helpers.sources import build, draw_image, draw_source, published, read

from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
from cxr_tfds.building.config import RadiographConfig
from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName
from cxr_tfds.sources import kaggle

SPLITS = ("train", "validation", "test")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source that a test may change."""
    return draw_source(tmp_path / "source")


def report_of(builder: Any) -> dict[str, Any]:
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
            r"""config '512' has size=224\. Write what its name says, --config '\{"name": "512", "size": 512\}', or""",
        ),
        ({"name": "512", "size": 224}, "config '512' has size=224"),
        ({"name": "224-rgb"}, "config '224-rgb' has channels=1"),
        ({"name": "512-pad", "fit": "pad"}, "config '512-pad' has size=224"),
        ({"name": "224-source"}, "config '224-source' has split='patient'"),
        ({"name": "a/b"}, "config name 'a/b'; expected letters, digits"),
        ({"name": ".."}, r"config name '\.\.'"),
        ({"name": ""}, "config name ''"),
        ({"name": 512, "size": 512}, "config name 512"),
        ({"size": 512}, r'a config needs a name: \{"name": "mine", "size": 512\}'),
        (
            {"name": "x", "sise": 512},
            "a config has no setting sise; expected some of name, size, channels, fit, split",
        ),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RadiographConfig(**settings)


def test_copies_of_a_config() -> None:
    config = RadiographConfig(name="64", size=64)
    assert copy.deepcopy(config).size == pickle.loads(pickle.dumps(config)).size == 64


def test_no_temporary_folder_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    Builder(data_dir=tmp_path / "data")
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize(
    ("asked", "config"), [("original", "original"), ("512", "512"), ("size=512", "512")]
)
def test_an_unlisted_config_is_answered_with_its_command(
    asked: str, config: str, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"--imports cxr_tfds\.builders --manual_dir FOLDER --config '"
    ) as caught:
        Builder(data_dir=tmp_path, config=asked)
    (option,) = re.findall(r"--config '(.*)'", str(caught.value))
    assert RadiographConfig(**json.loads(option)).name == config


def test_the_name_of_a_listed_config_is_taken(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config '224' has its settings; name yours otherwise"):
        Builder(data_dir=tmp_path, config=RadiographConfig(name="224", on_bad_image="skip"))


def test_all_bad_files_are_named_at_once_and_nothing_is_left(source: Path, tmp_path: Path) -> None:
    root = source / "chest_xray"
    whole = (root / "train/NORMAL/IM-0001-0001.jpeg").read_bytes()
    bad = {
        root / "train/NORMAL/IM-0001-0001.jpeg": (b"", "empty file (0 bytes)"),
        root / "train/NORMAL/IM-0002-0001.jpeg": (whole[:-60], "cannot be decoded as JPEG: "),
        root / "train/PNEUMONIA/notes.txt": (b"see ward 3", "not an image in a known format"),
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
    assert first == f"{len(bad) + 1} files cannot be used:"
    assert last.startswith(
        "Nothing was built. Replace or remove what is listed and build again, or leave it out with "
    )
    assert len(rows) == len(bad) + 1
    for path, (_, reason) in bad.items():
        assert [row for row in rows if row.startswith(f"  {path} {reason}")], path
    assert f"  {lost} cannot be read: No such file or directory" in rows
    assert not published(tmp_path / "data")


def test_bad_files_are_left_out_on_request_and_listed(source: Path, tmp_path: Path) -> None:
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
    assert list(report_of(builder)["bad_images"]) == left_out
    assert report_of(builder)["splits"]["test"]["classes"] == {"NORMAL": 4, "PNEUMONIA": 5}
    with pytest.raises(
        InputError,
        match=r"was built without 3 images that could not be used .*; this config asks for",
    ):
        build(Builder, source, tmp_path / "data", name="32-skip")


@pytest.mark.parametrize("labels", [["NORMAL"], ["NORMAL", "PNEUMONIA"]])
def test_a_class_or_split_of_bad_files_only_cannot_be_left_out(
    labels: list[str], source: Path, tmp_path: Path
) -> None:
    for label in labels:
        for path in (source / "chest_xray/test" / label).iterdir():
            path.write_bytes(b"")
    emptied = " and ".join(f"{label} in test" for label in labels)
    with pytest.raises(
        InputError,
        match=rf"test/.* is empty(.|\n)*no image is left of {emptied}\. Nothing was built",
    ):
        build(Builder, source, tmp_path / "data", name="32-skip", on_bad_image="skip")
    assert not published(tmp_path / "data")


def test_a_file_without_permission_is_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied, whole = source / "chest_xray/train/NORMAL/IM-0001-0001.jpeg", Path.read_bytes

    def read_bytes(path: Path) -> bytes:  # not `chmod`: root may read everything
        if path == denied:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(
        InputError, match=r"1 file cannot be used:\n.*IM-0001-0001\.jpeg cannot be read: Permission"
    ):
        build(Builder, source, tmp_path / "data")


def test_the_same_builder_object_can_try_again(source: Path, tmp_path: Path) -> None:
    path = source / "chest_xray/train/NORMAL/IM-0001-0001.jpeg"
    path.write_bytes(b"")
    builder = Builder(data_dir=tmp_path / "data", config=RadiographConfig(name="32", size=32))
    config = tfds.download.DownloadConfig(manual_dir=source)
    with pytest.raises(InputError, match=r"1 file cannot be used:\n.*is empty"):
        builder.download_and_prepare(download_config=config)
    draw_image(path)
    builder.download_and_prepare(download_config=config)
    assert builder.info.splits.total_num_examples == 74


@pytest.mark.parametrize("copies", [0, 2])
def test_a_lost_example_is_noticed(
    copies: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = "test/NORMAL/IM-0033-0001.jpeg"
    whole = Builder._generate_examples

    def faulty(self: Builder, images: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        for key, example in whole(self, images):
            for number in range(copies if key == lost else 1):
                yield f"{key}{number}", example

    monkeypatch.setattr(Builder, "_generate_examples", faulty)
    written = 9 + copies
    named = lost if not copies else ""
    message = rf"split test: 10 images in the source, {written} examples written; missing \[.*{named}.*\], unexpected \[\]"
    with pytest.raises(InputError, match=message):
        build(Builder, source, tmp_path / "data")
    assert not published(tmp_path / "data")


def test_a_patient_in_train_and_test_is_refused_unless_asked_for(
    source: Path, tmp_path: Path
) -> None:
    draw_image(source / "chest_xray/test/PNEUMONIA/person1_bacteria_999.jpeg")
    with pytest.raises(
        InputError, match=r"1 patient stands in two splits:\n  bacteria-1: .* and test\n.*"
    ) as caught:
        build(Builder, source, tmp_path / "data")
    (option,) = re.findall(r"--config '(.*)'", str(caught.value))
    builder = build(Builder, source, tmp_path / "data", size=224, **json.loads(option))
    assert report_of(builder)["patients"]["in_two_splits"] == {"bacteria-1": ["train", "test"]}


def test_a_part_of_a_dataset_is_not_taken_for_the_whole(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    part = build(Builder, source, tmp_path, options={"max_examples_per_split": 3})
    assert {
        split: len(examples) for split, examples in read(part.data_path).items()
    } == dict.fromkeys(SPLITS, 3)
    assert report_of(part)["splits"]["train"]["images"] == 3
    build(Builder, source, tmp_path, options={"max_examples_per_split": 3})
    with pytest.raises(
        InputError, match=r"holds only 3 examples of each split .*Build the whole with --overwrite"
    ):
        build(Builder, source, tmp_path)
    open_dataset(DatasetName("chest_xray_pneumonia", "32"), tmp_path)
    assert "holds only 3 examples of each split" in caplog.text


def test_no_examples_at_all_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="max_examples_per_split=0; a dataset needs 1 or more"):
        build(Builder, source, tmp_path / "data", options={"max_examples_per_split": 0})
    assert not published(tmp_path / "data")


def test_other_record_formats_are_refused(source: Path, tmp_path: Path) -> None:
    config = RadiographConfig(name="32", size=32)
    builder = Builder(data_dir=tmp_path / "data", config=config, file_format="array_record")
    with pytest.raises(InputError, match="file format 'array_record'; only 'tfrecord'"):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=source)
        )
    assert not published(tmp_path / "data")


def test_a_built_dataset_is_used_again(source: Path, tmp_path: Path) -> None:
    folder = build(Builder, source, tmp_path).data_path
    before = {path: path.stat().mtime for path in folder.iterdir()}
    shutil.rmtree(source)
    build(Builder, source, tmp_path)
    assert before == {path: path.stat().mtime for path in folder.iterdir()}


def test_a_name_does_not_stand_for_two_settings(source: Path, tmp_path: Path) -> None:
    build(Builder, source, tmp_path, name="mine", size=8)
    with pytest.raises(
        InputError,
        match=r"mine/1\.0\.0 was built with size=8; this config asks for 16\. Give the config",
    ):
        build(Builder, source, tmp_path, name="mine", size=16)


def test_the_fingerprint_follows_the_content_not_the_packing(source: Path, tmp_path: Path) -> None:
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


def test_the_report_stands_beside_the_dataset_and_on_screen(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in sorted(source.rglob("person*.jpeg")):
        draw_image(path, "RGB")
    train = source / "chest_xray/train/PNEUMONIA"
    shutil.copy(train / "person1_bacteria_1.jpeg", train / "person1_bacteria_901.jpeg")
    builder = build(Builder, source, tmp_path)
    report = report_of(builder)
    assert report["dataset"] == "chest_xray_pneumonia/32:1.0.0"
    assert report["settings"] == {"size": 32, "channels": 1, "fit": "stretch", "split": "patient"}
    assert {split: counts["images"] for split, counts in report["splits"].items()} == {
        split: builder.info.splits[split].num_examples for split in SPLITS
    }
    assert report["duplicates"]["groups"] == report["duplicates"]["within_split"] == 1
    assert "colour mode" in [shortcut["property"] for shortcut in report["shortcuts"]]
    shown = capfd.readouterr().err
    assert "SHORTCUTS in train" in shown
    assert "- colour mode alone tells PNEUMONIA: AUC 1.00" in shown
    text = (builder.data_path / "build_report.md").read_text(encoding="utf-8")
    assert "- colour mode alone tells PNEUMONIA: AUC 1.00" in text
    assert str(tmp_path) not in text + json.dumps(report)


@pytest.mark.parametrize("packed", [False, True])
def test_odd_file_names(packed: bool, source: Path, tmp_path: Path) -> None:
    names = [
        "100%.jpeg",
        "%s %d.jpeg",
        "with space.jpeg",
        "ünï-日本.jpeg",
        "new\nline.jpeg",
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
    with pytest.raises(InputError, match=r"new\\nline\.jpeg' is empty"):
        build(Builder, source, tmp_path / "again")


def test_a_link_out_of_the_source_is_refused(source: Path, tmp_path: Path) -> None:
    outside = draw_image(tmp_path / "outside.jpeg")
    (source / "chest_xray/train/NORMAL/linked.jpeg").symlink_to(outside)
    with pytest.raises(
        InputError,
        match=r"linked\.jpeg -> .*outside\.jpeg\nCopy the files in, or set CXR_TFDS_FOLLOW",
    ):
        build(Builder, source, tmp_path / "data")
    assert not published(tmp_path / "data")


class TestKaggle:
    """What is not found is downloaded, where credentials are."""

    @pytest.fixture(autouse=True)
    def _credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_secret")
        monkeypatch.setattr(kaggle.shutil, "which", lambda name: f"/bin/{name}")

    def test_downloaded_and_built(
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
    def test_through_tfds_and_the_kaggle_command(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A stand-in for the command puts the zip where TFDS asks for it; TFDS unpacks it beside."""
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

    def test_not_downloaded_where_data_is_found(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            tfds.download.DownloadManager,
            "download_kaggle_data",
            lambda self, name: pytest.fail("downloads"),
        )
        build(Builder, source, tmp_path / "data")

    def test_a_failure_shows_no_credential(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(self: Any, name: str) -> None:
            raise RuntimeError("no access with KGAT_secret")

        monkeypatch.setattr(tfds.download.DownloadManager, "download_kaggle_data", fail)
        with pytest.raises(InputError, match=r"Kaggle could not provide .*:\nno access with \[hidden\]"):
            build(Builder, None, tmp_path / "data")
        assert "KGAT_secret" not in caplog.text
        assert not published(tmp_path / "data")


def test_without_credentials_both_ways_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        MissingData,
        match=r"\nGet the data: kaggle datasets .*\n(.*\n)*To download it during the build instead: ",
    ):
        build(Builder, tmp_path, tmp_path / "data")
