"""Tests decoding on a Dask cluster of two processes: same images, same order, even if one dies."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("distributed")

import dask
from distributed import Client, LocalCluster
from distributed.scheduler import KilledWorker
from helpers.sources import build

import cxr_tfds
from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
from cxr_tfds.building import engines, record_builder
from cxr_tfds.building.engines import EXECUTOR, IMAGES_PER_TASK, fit_all, scheduler_address
from cxr_tfds.building.file_stats import FileStats
from cxr_tfds.building.fitting import FitSettings
from cxr_tfds.deadline import TIMEOUT
from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.imaging.pixels import DecodeResult, Radiograph
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName

SMALL = FitSettings(size=32)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A scheduler and two worker processes. Requests to a killed worker time out after 2 s."""
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "2s"}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
    ):
        yield cluster


def use_cluster(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR, cluster.scheduler_address.replace("tcp://", "dask://"))


def list_images(folder: Path) -> list[Path]:
    return sorted(folder.glob("chest_xray/train/*/*"))


def assert_same(results: list[DecodeResult], wanted: list[DecodeResult]) -> None:
    assert len(results) == len(wanted)
    for result, want in zip(results, wanted, strict=True):
        if isinstance(want, BadImage):
            assert str(result) == str(want)
        else:
            assert isinstance(result, Radiograph)
            np.testing.assert_array_equal(result.pixels, want.pixels)
            assert FileStats.from_image(result) == FileStats.from_image(want)


@pytest.mark.slow
def test_dataset_is_the_same_after_a_worker_was_killed(
    cluster: LocalCluster,
    phantom: Path,
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed = []

    def killing(files: list[Path], *, settings: FitSettings) -> Iterator[DecodeResult]:
        for number, result in enumerate(fit_all(files, settings)):
            if number == 3 and not killed:
                with Client(cluster, set_as_default=False) as client:
                    killed.append(next(iter(client.run(os.getpid).values())))
                os.kill(killed[0], signal.SIGKILL)
            yield result

    use_cluster(cluster, monkeypatch)
    monkeypatch.setattr(record_builder, "fit_all", killing)
    monkeypatch.setattr(
        engines, "IMAGES_PER_TASK", 2
    )  # most tasks are not yet submitted, some are in flight
    build(Builder, phantom, tmp_path, name="64", size=64)
    assert killed
    name = DatasetName("chest_xray_pneumonia", "64")
    assert open_dataset(name, tmp_path).fingerprint == open_dataset(name, built).fingerprint
    reports = [
        (data_dir / "chest_xray_pneumonia/64/1.0.0/build_report.json").read_text()
        for data_dir in (tmp_path, built)
    ]
    assert reports[0] == reports[1]


def test_sends_bytes_to_workers_that_do_not_see_the_source(
    cluster: LocalCluster, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in list_images(phantom)[: 2 * IMAGES_PER_TASK]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.jpeg").write_bytes(b"\xff\xd8\xff")
    monkeypatch.chdir(tmp_path)  # the workers keep theirs
    files = [*sorted(Path().glob("*.jpeg")), Path("missing.jpeg")]
    here = list(fit_all(files, SMALL))
    assert [str(files[i]) for i, result in enumerate(here) if isinstance(result, BadImage)] == [
        "broken.jpeg",
        "missing.jpeg",
    ]
    use_cluster(cluster, monkeypatch)
    assert_same(list(fit_all(files, SMALL)), here)
    originals = FitSettings(size=None)
    assert [result.source for result in fit_all(files[1:3], originals)] == [
        f.read_bytes() for f in files[1:3]
    ]


def test_stopping_early_leaves_the_cluster_usable(
    cluster: LocalCluster, phantom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cluster(cluster, monkeypatch)
    files = list_images(phantom)
    results = fit_all(files, SMALL)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(list(fit_all(files[:3], SMALL))) == 3
    assert list(fit_all([], SMALL)) == []


def test_refuses_workers_with_other_versions(
    cluster: LocalCluster, phantom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cluster(cluster, monkeypatch)
    monkeypatch.setattr(cxr_tfds, "__version__", "9.9.9")
    with pytest.raises(
        InputError,
        match=r"worker tcp://\S+ has cxr-tfds 0.*, but this machine has cxr-tfds 9\.9\.9, Pillow ",
    ):
        next(fit_all(list_images(phantom), SMALL))


@pytest.mark.parametrize(
    "value",
    [
        "dask",
        "dask://",
        "dask://host",
        "dask://host:many",
        "dask://host:0",
        "tcp://host:8786",
        "dask://h:1/x",
        "host:1",
    ],
)
def test_refuses_invalid_addresses(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR, value)
    with pytest.raises(InputError, match=rf"{EXECUTOR}='{value}'; expected dask://HOST:PORT"):
        scheduler_address()


@pytest.mark.parametrize(
    ("value", "address"),
    [("", None), ("dask://host:8786", "host:8786"), ("dask://[::1]:8786/", "[::1]:8786")],
)
def test_reads_addresses(value: str, address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR, value)
    assert scheduler_address() == address


def test_reports_a_missing_scheduler(phantom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR, "dask://127.0.0.1:9")  # discard, where nothing listens
    monkeypatch.setattr(engines, "CONNECT_SECONDS", 0.5)
    with pytest.raises(
        InputError, match=r"No Dask scheduler answers at 127\.0\.0\.1:9 within 0\.5 s\. Start one"
    ):
        next(fit_all(list_images(phantom), SMALL))


def test_reports_missing_workers(phantom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "CONNECT_SECONDS", 0.5)
    with LocalCluster(
        n_workers=0, processes=False, protocol="tcp://", dashboard_address=":0"
    ) as empty:
        use_cluster(empty, monkeypatch)
        with pytest.raises(
            InputError, match=r"has no workers\. Start some with: dask worker tcp://127"
        ):
            next(fit_all(list_images(phantom), SMALL))


# Decodes on a cluster of a scheduler and a worker, as a build does.
_DECODE = """
import os, time
from pathlib import Path
from cxr_tfds import deadline
from cxr_tfds.building import engines
from cxr_tfds.commands.base import Command
deadline._GRACE_S = 0.5
engines.IMAGES_PER_TASK = 1

def decode():
    files = [Path(os.environ["FILE"])] * 1_000_000
    for number, _ in enumerate(engines.map_files(files, engines._inspect_worker)):
        if number == 3:
            print("decoding", flush=True)

Command("decode", callback=decode)()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "number"),
    [
        ("scheduler", signal.SIGKILL),  # Dask's client reports it, or waits without end
        ("worker", signal.SIGKILL),
        ("scheduler", signal.SIGSTOP),
    ],
)
def test_a_lost_cluster_ends_the_build(victim: str, number: signal.Signals, tmp_path: Path) -> None:
    file, described = tmp_path / "a.png", tmp_path / "scheduler.json"
    file.write_bytes(b"")
    dask_command = [sys.executable, "-m", "dask"]
    with contextlib.ExitStack() as stack:

        def start(command: list[str], **settings: str) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE if settings else subprocess.DEVNULL,
                    text=True,
                    env={**os.environ, **settings},
                )
            )
            stack.callback(process.kill)
            return process

        options = ["--no-dashboard", "--scheduler-file", str(described)]
        processes = {"scheduler": start([*dask_command, "scheduler", "--port", "0", *options])}
        processes["worker"] = start([*dask_command, "worker", "--no-nanny", *options])
        while not (described.exists() and described.read_text().endswith("}")):
            time.sleep(0.05)
        address = json.loads(described.read_text())["address"].removeprefix("tcp://")
        settings = {EXECUTOR: f"dask://{address}", TIMEOUT: "3", "FILE": str(file)}
        build = start([sys.executable, "-c", _DECODE], **settings)
        assert build.stdout is not None
        assert build.stdout.readline() == "decoding\n"
        processes[victim].send_signal(number)
        _, errors = build.communicate(timeout=120)
    assert build.returncode == 1, errors
    lost = rf"scheduler at {address} was lost|cluster at {address} has not answered for 3 s"
    assert re.search(rf"Error: The Dask ({lost})\. Look at the logs of its scheduler", errors)
    assert "Traceback" not in errors, errors


def test_names_the_extra_without_dask(phantom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR, "dask://127.0.0.1:9")
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'cxr-tfds\[dask\]'"):
        next(fit_all(list_images(phantom), SMALL))


def test_reports_images_that_kill_every_worker(
    phantom: Path, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(*args: object, **kwargs: object) -> Iterator[None]:
        raise KilledWorker(
            "_fit_several-1", last_worker=SimpleNamespace(address="tcp://w"), allowed_failures=3
        )

    use_cluster(cluster, monkeypatch)
    monkeypatch.setattr(engines, "ordered_map", give_up)
    with pytest.raises(
        InputError, match=r"Dask gave up on some images .*_fit_several-1.*too little memory"
    ):
        list(fit_all(list_images(phantom), SMALL))
