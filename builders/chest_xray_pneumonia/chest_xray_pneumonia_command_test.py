"""The command `tfds build chest_xray_pneumonia`."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.sources import build, draw_source, published, read, tfds_build

from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return draw_source(tmp_path / "source")


@pytest.mark.slow
def test_builds_only_224_by_default(source: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    done = tfds_build(
        "builders/chest_xray_pneumonia",
        "--manual_dir",
        source,
        "--data_dir",
        data_dir,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stdout
    assert [
        path.relative_to(data_dir).as_posix()
        for path in data_dir.glob("*/[!.]*/*")
        if path.is_dir()
    ] == ["chest_xray_pneumonia/224/1.0.0"]
    test = read(data_dir / "chest_xray_pneumonia/224/1.0.0")["test"]
    assert test["test/NORMAL/IM-0033-0001.jpeg"]["image"].shape == (224, 224, 1)


@pytest.mark.slow
def test_builds_the_same_dataset_from_another_folder(source: Path, tmp_path: Path) -> None:
    here = build(Builder, source, tmp_path / "here").data_path
    config = '{"name": "32", "size": 32}'
    args = (
        "--imports",
        "cxr_tfds.builders",
        "--manual_dir",
        source,
        "--data_dir",
        tmp_path,
        "--config",
        config,
    )
    done = tfds_build("chest_xray_pneumonia", *args, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    for name in ("metadata.json", "fingerprint.json", "build_report.json"):
        there = tmp_path / "chest_xray_pneumonia/32/1.0.0" / name
        # The fingerprint is the same, though the order of fields in a record differs.
        assert there.read_text(encoding="utf-8") == (here / name).read_text(encoding="utf-8"), name


@pytest.mark.slow
def test_a_failed_build_exits_with_1_and_a_message(source: Path, tmp_path: Path) -> None:
    path = source / "chest_xray/train/NORMAL/IM-0001-0001.jpeg"
    path.write_bytes(b"")
    args = (
        "--imports",
        "cxr_tfds.builders",
        "--manual_dir",
        source,
        "--data_dir",
        tmp_path / "data",
    )
    failed = tfds_build("chest_xray_pneumonia", *args, cwd=tmp_path)
    assert failed.returncode == 1
    assert failed.stdout.endswith(
        f"1 unusable file:\n  {path}: empty file (0 bytes)\n"
        "Nothing was built. Replace or remove these files and build again, or leave them out: "
        '--config \'{"name": "224-mine", "on_bad_image": "skip"}\'\n'
    )
    assert not published(tmp_path / "data")
