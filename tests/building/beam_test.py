"""The build as a Beam pipeline, in memory: equal to the local one, and nothing is lost unnoticed."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from apache_beam import Filter
from apache_beam.options.pipeline_options import PipelineOptions
from helpers.sources import build

from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
from cxr_tfds.building import beam, builder
from cxr_tfds.building.beam import checked_runner
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


def test_it_equals_the_local_build(phantom: Path, built: Path, tmp_path: Path) -> None:
    pipeline_build(phantom, tmp_path)
    made, wanted = open_dataset(NAME, tmp_path), open_dataset(NAME, built)
    assert made.sizes == wanted.sizes
    assert made.fingerprint == wanted.fingerprint
    names = [
        {path.name for path in folder.rglob("*") if path.is_file()} for folder in (tmp_path, built)
    ]
    assert names[0] == names[1]  # nothing more is left than by the local build
    assert report(tmp_path) == report(built)


def test_bad_files_are_listed_as_by_the_local_build(phantom: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom, tmp_path / "source")
    paths = sorted((tmp_path / "source").glob("chest_xray/*/*/*"))
    for path in (paths[0], paths[40], *paths[-20:]):
        path.write_bytes(b"" if path == paths[0] else path.read_bytes()[:200])
    messages = []
    for how in (local_build, pipeline_build):
        with pytest.raises(InputError, match=r"^22 files cannot be used") as caught:
            how(tmp_path / "source", tmp_path / "data")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert not list((tmp_path / "data").rglob("*tfrecord*"))


def test_bad_files_are_left_out_as_by_the_local_build(phantom: Path, tmp_path: Path) -> None:
    source = shutil.copytree(phantom, tmp_path / "source")
    next(source.glob("chest_xray/train/NORMAL/*")).write_bytes(b"")
    local_build(source, tmp_path / "local", on_bad_image="skip")
    pipeline_build(source, tmp_path / "beam", on_bad_image="skip")
    made, wanted = open_dataset(NAME, tmp_path / "beam"), open_dataset(NAME, tmp_path / "local")
    assert (made.fingerprint, made.sizes) == (wanted.fingerprint, wanted.sizes)
    assert sum(made.sizes.values()) == 115
    assert report(tmp_path / "beam") == report(tmp_path / "local")


def test_an_example_that_a_runner_loses_is_noticed(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = []

    def losing(images: Any, *args: Any) -> Any:
        lost.append(images[-1].image_id)
        return beam.pipeline(images, *args) | "Lose" >> Filter(
            lambda example, gone: example[0] != gone, lost[-1]
        )

    monkeypatch.setattr(builder, "pipeline", losing)
    with pytest.raises(
        InputError, match=r"split \w+: \d+ images in the source, \d+ examples written; missing"
    ) as caught:
        pipeline_build(phantom, tmp_path)
    assert lost[0] in str(caught.value)
    assert not list(tmp_path.rglob("*tfrecord*"))


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
            "multi_processing: .* loses examples",
        ),
        (
            ["--direct_running_mode=multi_threading"],
            "multi_threading: .* loses examples with .*; expected in_memory",
        ),
        (
            ["--runner=FnApiRunner", "--direct_running_mode=multi_processing"],
            f"several machines set {EXECUTOR}",
        ),
        (
            ["--runner=apache_beam.runners.dask.dask_runner.DaskRunner"],
            "DaskRunner cannot write a TFDS dataset",
        ),
        (["--runner=Sparkle"], "Beam has no runner 'Sparkle' here"),
    ],
)
def test_runners_that_lose_examples_are_refused(flags: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked_runner(PipelineOptions(flags), None)


@pytest.mark.parametrize("runner", [None, "DirectRunner", "direct"])
def test_the_local_runner_stays_in_memory(runner: str | None) -> None:
    """Beam's own choice would first try to download a runner."""
    assert type(checked_runner(None, runner)).__name__ == "FnApiRunner"


def test_a_runner_of_a_cluster_is_taken_as_it_is() -> None:
    assert (
        type(checked_runner(PipelineOptions(["--runner=FlinkRunner"]), None)).__name__
        == "FlinkRunner"
    )


def test_one_way_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR, "dask://host:8786")
    with pytest.raises(InputError, match=f"A Beam pipeline and {EXECUTOR} both say where to build"):
        checked_runner(PipelineOptions([]), None)
