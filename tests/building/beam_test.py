"""Tests the build as a Beam pipeline in memory: equal to the local build, no loss unnoticed."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from apache_beam import Filter
from apache_beam.options.pipeline_options import PipelineOptions
from helpers.sources import build, published

from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
from cxr_tfds.building import beam, record_builder
from cxr_tfds.building.beam import check_complete, choose_runner
from cxr_tfds.building.build_log import BuildLog
from cxr_tfds.building.builder import RadiographBuilder
from cxr_tfds.building.engines import EXECUTOR
from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName

NAME = DatasetName("chest_xray_pneumonia", "64")


local_build = partial(build, Builder, name="64", size=64)


def pipeline_build(
    source: Path, data_dir: Path, most: int | None = None, **settings: Any
) -> RadiographBuilder:
    options = {"beam_options": PipelineOptions([]), "max_examples_per_split": most}
    return local_build(source, data_dir, options=options, **settings)


def report(data_dir: Path) -> str:
    return (data_dir / "chest_xray_pneumonia/64/1.0.0/build_report.json").read_text(
        encoding="utf-8"
    )


@pytest.mark.slow
def test_equals_the_local_build(phantom: Path, built: Path, tmp_path: Path) -> None:
    pipeline_build(phantom, tmp_path)
    made, wanted = open_dataset(NAME, tmp_path), open_dataset(NAME, built)
    assert made.sizes == wanted.sizes
    assert made.fingerprint == wanted.fingerprint
    names = [
        {path.name for path in folder.rglob("*") if path.is_file()} for folder in (tmp_path, built)
    ]
    assert names[0] == names[1]  # no more files than the local build
    assert report(tmp_path) == report(built)


@pytest.mark.slow
def test_lists_bad_files_like_the_local_build(phantom: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom, tmp_path / "source")
    paths = sorted((tmp_path / "source").glob("chest_xray/*/*/*"))
    for path in (paths[0], paths[40], *paths[-20:]):
        path.write_bytes(b"" if path == paths[0] else path.read_bytes()[:200])
    messages = []
    for how in (local_build, pipeline_build):
        with pytest.raises(InputError, match=r"^22 unusable files") as caught:
            how(tmp_path / "source", tmp_path / "data")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert not published(tmp_path / "data")


@pytest.mark.slow
def test_skips_bad_files_like_the_local_build(phantom: Path, tmp_path: Path) -> None:
    source = shutil.copytree(phantom, tmp_path / "source")
    next(source.glob("chest_xray/train/NORMAL/*")).write_bytes(b"")
    local_build(source, tmp_path / "local", on_bad_image="skip")
    pipeline_build(source, tmp_path / "beam", on_bad_image="skip")
    made, wanted = open_dataset(NAME, tmp_path / "beam"), open_dataset(NAME, tmp_path / "local")
    assert (made.fingerprint, made.sizes) == (wanted.fingerprint, wanted.sizes)
    assert sum(made.sizes.values()) == 115
    assert report(tmp_path / "beam") == report(tmp_path / "local")


@pytest.mark.slow
def test_notices_an_example_lost_by_a_runner(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = []

    def losing(images: Any, *args: Any) -> Any:
        lost.append(images[-1].image_id)
        return beam.make_pipeline(images, *args) | "Lose" >> Filter(
            lambda example, gone: example[0] != gone, lost[-1]
        )

    monkeypatch.setattr(record_builder, "make_pipeline", losing)
    with pytest.raises(
        InputError, match=r"Split \w+: \d+ images in the source, but \d+ examples written; missing"
    ) as caught:
        pipeline_build(phantom, tmp_path)
    assert lost[0] in str(caught.value)
    assert not list(tmp_path.rglob("*tfrecord*"))


@pytest.mark.slow
def test_max_examples_per_split(phantom: Path, tmp_path: Path) -> None:
    info = pipeline_build(phantom, tmp_path, most=2).info
    assert {name: split.num_examples for name, split in info.splits.items()} == dict.fromkeys(
        ("train", "validation", "test"), 2
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--direct_running_mode=multi_processing", "--direct_num_workers=2"],
            "multi_processing; expected in_memory.* loses examples",
        ),
        (
            ["--direct_running_mode=multi_threading"],
            "multi_threading; expected in_memory.* loses examples",
        ),
        (
            ["--runner=FnApiRunner", "--direct_running_mode=multi_processing"],
            f"several machines, set {EXECUTOR}",
        ),
        (
            ["--runner=apache_beam.runners.dask.dask_runner.DaskRunner"],
            "DaskRunner cannot write a TFDS dataset",
        ),
        (["--runner=Sparkle"], "Beam has no runner 'Sparkle'"),
    ],
)
def test_refuses_runners_that_lose_examples(flags: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_runner(PipelineOptions(flags), None)


@pytest.mark.parametrize("runner", [None, "DirectRunner", "direct"])
def test_runs_in_memory_locally(runner: str | None) -> None:
    """Beam's own choice would first try to download a runner."""
    assert type(choose_runner(None, runner)).__name__ == "FnApiRunner"


def test_accepts_cluster_runners() -> None:
    assert (
        type(choose_runner(PipelineOptions(["--runner=FlinkRunner"]), None)).__name__
        == "FlinkRunner"
    )


def test_refuses_beam_and_dask_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR, "dask://host:8786")
    with pytest.raises(InputError, match=f"Both a Beam pipeline and {EXECUTOR} are given"):
        choose_runner(PipelineOptions([]), None)


def test_reports_images_that_no_worker_logged() -> None:
    log = BuildLog(bad={"a": "empty file"})
    check_complete(log, {"a"})
    with pytest.raises(InputError, match=r"^Beam lost 1 of 2 images, such as \['b'\]"):
        check_complete(log, {"a", "b"})
