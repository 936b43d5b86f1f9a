"""Tests failing builds: full disk, two at once, interruption, kill, failing --overwrite."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from helpers import sources as testing
from helpers.sources import published
from PIL import Image, ImageOps
from tensorflow_datasets.scripts.cli import build as tfds_build

from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
from cxr_tfds.building import complete_builder, record_builder, shards, tfds_command
from cxr_tfds.building.config import RadiographConfig
from cxr_tfds.building.engines import fit_all
from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName

pytestmark = pytest.mark.slow

NAME = DatasetName("chest_xray_pneumonia", "64")
TESTS = str(Path(__file__).parents[1])  # for `helpers` in a process of its own
OVERWRITE = {"download_mode": tfds.GenerateMode.REUSE_CACHE_IF_EXISTS}


build = partial(testing.build, Builder, name="64", size=64)


def call_halfway(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Calls `act` once, in the middle of the next build."""

    def fit(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for number, result in enumerate(fit_all(*args, **kwargs)):
            if number == 20:
                monkeypatch.setattr(record_builder, "fit_all", fit_all)
                act()
            yield result

    monkeypatch.setattr(record_builder, "fit_all", fit)


def assert_complete(data_dir: Path, built: Path) -> None:
    assert open_dataset(NAME, data_dir).fingerprint == open_dataset(NAME, built).fingerprint
    folder = data_dir / "chest_xray_pneumonia" / "64"
    assert [path.name for path in folder.iterdir()] == ["1.0.0"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KB; the records of `phantom` have 500."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if (
        not sys.platform.startswith("linux")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_fills_up(small_disk: Path, phantom: Path, built: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"^No space left on device: .*/1\.0\.0\. The disk mounted at .*/disk has 0\.\d MB",
    ):
        build(phantom, small_disk)
    assert not published(small_disk)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    build(phantom, small_disk)
    assert_complete(small_disk, built)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_disk_fills_up_in_the_last_split(
    phantom: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, opened = tf.io.TFRecordWriter, []

    def full(path: str) -> tf.io.TFRecordWriter:
        opened.append(path)
        if len(opened) == 3:  # the last split
            Path(path).symlink_to("/dev/full")
        return whole(path)

    with monkeypatch.context() as patch:
        patch.setattr(tf.io, "TFRecordWriter", full)
        with pytest.raises(InputError, match=r"^No space left on device: .*/64/1\.0\.0\. The disk"):
            build(phantom, tmp_path)
    assert not published(tmp_path)
    build(phantom, tmp_path)
    assert_complete(tmp_path, built)


def test_refuses_two_builds_at_once(
    phantom: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def second() -> None:
        with pytest.raises(
            InputError, match=r"64/1\.0\.0 is being written by process \d+ on .*Wait until"
        ) as caught:
            build(phantom, tmp_path)
        refused.append(caught.value)
        build(phantom, tmp_path, name="mine", size=8)  # another dataset may be built

    call_halfway(monkeypatch, second)
    build(phantom, tmp_path)
    assert refused
    assert_complete(tmp_path, built)
    before = (tmp_path / "chest_xray_pneumonia/64/1.0.0/dataset_info.json").stat().st_mtime_ns
    build(phantom, tmp_path)  # reuses the dataset of the first
    assert (
        tmp_path / "chest_xray_pneumonia/64/1.0.0/dataset_info.json"
    ).stat().st_mtime_ns == before


def test_refuses_a_folder_it_cannot_create(phantom: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=r"Not a directory: .*/file/.*/64\. A part of the path is a file\. Choose"
    ):
        build(phantom, tmp_path / "file")


def test_interrupted_build_publishes_nothing(
    phantom: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_halfway(monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        build(phantom, tmp_path)
    assert not published(tmp_path)
    call_halfway(monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
    with monkeypatch.context() as command:
        command.setattr(complete_builder, "is_absl_command", lambda: True)
        # It would end the process of the tests ten seconds after the signal.
        command.setattr(complete_builder, "end_on_signals", contextlib.nullcontext)
        with pytest.raises(
            SystemExit, match=r"^Interrupted\. Nothing was published\. Run the same command again"
        ):
            build(phantom, tmp_path)
    assert not published(tmp_path)
    build(phantom, tmp_path)
    assert_complete(tmp_path, built)


KILLED = """
import os, signal, sys
from pathlib import Path
from cxr_tfds.building import record_builder
from cxr_tfds.building.engines import fit_all
from helpers.sources import build
from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder

def fit(*args, **kwargs):
    for number, result in enumerate(fit_all(*args, **kwargs)):
        if number == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        yield result

record_builder.fit_all = fit
build(Builder, Path(sys.argv[1]), Path(sys.argv[2]), options={"num_shards": 3}, name="64", size=64)
"""


def kill_build(source: Path, data_dir: Path, images: int) -> None:
    """Kills a build in three shards a split after it has decoded a number of images."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(source), str(data_dir), str(images)],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": TESTS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def read_files(data_dir: Path) -> dict[str, bytes]:
    folder = data_dir / "chest_xray_pneumonia/64/1.0.0"
    names = ("*.tfrecord-*", "fingerprint.json", "build_report.json")
    return {path.name: path.read_bytes() for name in names for path in folder.glob(name)}


def test_killed_build_continues(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_shards = partial(build, options={"num_shards": 3})
    source = shutil.copytree(phantom, tmp_path / "source")
    build_shards(source, tmp_path / "whole")
    for _ in range(2):  # the second one has continued the first one
        kill_build(source, tmp_path, 30)
    assert [name for name in published(tmp_path) if "incomplete" in name]
    with pytest.raises(InputError, match="is not built in"):
        open_dataset(NAME, tmp_path)
    kept = sorted(shards.unfinished_folder(tmp_path / "chest_xray_pneumonia/64/1.0.0").iterdir())
    assert len(kept) in (4, 5)  # two complete shards, perhaps a part of another
    complete = [path.with_suffix(".tfrecord") for path in kept if path.suffix == ".json"]
    content = complete[0].read_bytes()
    complete[0].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # corrupt
    shutil.copytree(kept[0].parent, tmp_path / "edited" / kept[0].parent.relative_to(tmp_path))
    capsys.readouterr()
    build_shards(source, tmp_path)
    expected = f"interrupted build: {len(complete) - 1} of 9 shards are complete."
    assert expected in capsys.readouterr().err
    assert read_files(tmp_path) == read_files(tmp_path / "whole")
    assert_complete(tmp_path, tmp_path / "whole")

    for path in (source / "chest_xray").rglob("*.jpeg"):
        os.utime(path, ns=(0, 0))  # every file may have changed
    build_shards(source, tmp_path / "edited")
    assert "interrupted" not in capsys.readouterr().err
    assert_complete(tmp_path / "edited", tmp_path / "whole")


def overwriting_builder(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, config: RadiographConfig
) -> Builder:
    """Returns what `tfds build --overwrite` creates; TFDS deletes what `is_prepared`."""
    monkeypatch.setattr(tfds_command, "is_absl_command", lambda: True)
    monkeypatch.setattr(sys, "argv", ["tfds", "build", "--overwrite"])
    kwargs = {"data_dir": data_dir, "config": config}
    return tfds_build._make_builder(Builder, overwrite=True, fail_if_exists=False, **kwargs)


def test_overwrite_keeps_the_old_dataset_until_the_new_one_is_complete(
    phantom: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(built, tmp_path / "data")
    source = shutil.copytree(phantom, tmp_path / "source")
    broken = next(source.glob("chest_xray/test/NORMAL/*"))
    content = broken.read_bytes()
    broken.write_bytes(b"")
    builder = overwriting_builder(
        tmp_path / "data", monkeypatch, RadiographConfig(name="64", size=64)
    )
    config = tfds.download.DownloadConfig(manual_dir=source, **OVERWRITE)
    with pytest.raises(InputError, match=r"^1 unusable file"):
        builder.download_and_prepare(download_config=config)
    shutil.rmtree(shards.unfinished_folder(Path(builder.data_path)))
    assert_complete(tmp_path / "data", built)

    broken.write_bytes(content)
    ImageOps.invert(Image.open(broken).convert("L")).save(broken, "JPEG")
    builder.download_and_prepare(download_config=config)
    assert (
        open_dataset(NAME, tmp_path / "data").fingerprint != open_dataset(NAME, built).fingerprint
    )
    assert builder.info.metadata["fingerprint"] == open_dataset(NAME, tmp_path / "data").fingerprint
    assert content != broken.read_bytes()
    assert [p.name for p in (tmp_path / "data/chest_xray_pneumonia/64").iterdir()] == ["1.0.0"]


def test_overwrite_changes_settings(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(phantom, tmp_path, name="mine", size=8)
    builder = overwriting_builder(tmp_path, monkeypatch, RadiographConfig(name="mine", size=9))
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=phantom, **OVERWRITE)
    )
    assert open_dataset(DatasetName("chest_xray_pneumonia", "mine"), tmp_path).shape == (9, 9, 1)
