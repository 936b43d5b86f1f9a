"""The soak itself: a few trials of each kind, and that it notices what it looks for."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command_server import SETUP, CommandServer

from soak import __main__ as command
from soak import snapshot
from soak.process import Commands, Running
from soak.stage import Stage
from soak.trial import Kind, Outcome, narrow
from soak.volume import measure_growth

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

# Trials that together take about a minute. They train once and export once.
TRIALS = {
    "images": range(1, 51),
    "dicom": range(50),
    "models": range(100),
    "json": range(1, 8),
    "zips": range(5),
    "walks": range(2),
    "kills": range(3),
    "disks": range(2),
    "clocks": range(1),
    "predict-20000": range(1),
    "folder-100000": range(1),
}
_VOLUME = 20  # 1,000 images and 5,000 files


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    # The path of a socket is limited to 107 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        CommandServer(Path(folder), {}) as server,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        monkeypatch.setenv(SETUP, "quick_training")
        yield Stage(Path(folder), server, seed=1, volume=_VOLUME)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIALS)
def test_trials(stage: Stage, name: str) -> None:
    outcomes = command.run_batch(command.KINDS[name], stage, TRIALS[name])
    assert len(outcomes) == len(TRIALS[name])
    assert not [outcome for outcome in outcomes if outcome.problem]
    if name in ("images", "dicom", "models"):  # some corruptions change nothing that is read
        results = [outcome.result for outcome in outcomes]
        assert 0 < results.count("refused") < len(results)


def test_every_kind_has_a_part_here() -> None:
    assert set(TRIALS) == set(command.KINDS)


class NoServer(CommandServer):
    """Starts no server: these tests spawn."""

    def __init__(self) -> None:
        pass


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(NoServer(), tmp_path)


def python(commands: Commands, code: str, **more: float) -> Running:
    return commands.spawn("python", "-c", code, **more)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("print('fine')", ""),
        ("raise SystemExit(2)", ""),
        ("1 / 0", "traceback"),
        ("raise SystemExit(3)", "exit code 3"),
        ("import os; os.abort()", "exit code -6"),
    ],
)
def test_names_what_must_not_happen(commands: Commands, code: str, problem: str) -> None:
    assert python(commands, code).wait().problems == ([problem] if problem else [])


def test_a_signal_of_its_own_is_not_a_problem(commands: Commands) -> None:
    running = python(commands, "import time; time.sleep(100)")
    assert running.send(15)
    assert (done := running.wait()).code == 143
    assert not done.problems


def test_stops_what_hangs_and_what_takes_memory(commands: Commands) -> None:
    done = python(commands, "import time; time.sleep(100)").wait(0.2)
    assert done.problem.startswith("no end within 0 s")
    code = "import time; kept = bytearray(300_000_000); time.sleep(100)"
    done = python(commands, code, limit_mb=200).wait()
    assert done.problem.startswith("memory: ")


def test_names_processes_that_remain(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soak.process._STOPPING_S", 0.2)
    code = "import subprocess; subprocess.Popen(['sleep', '100'])"
    assert python(commands, code).wait().problem.startswith("processes remain")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b'{"a": 1'),
        ("a.html", b"<html><body>"),
        ("a.png", b"\x89PNG\r\n\x1a\n"),
        ("a.keras", b"PK\3\4"),
        ("a.tflite", b"\0\0\0\0TFL3"),
        ("a.csv", b"a,b\n1,"),
        ("a.md", b"# Title"),
    ],
)
def test_notices_half_a_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert snapshot.find_incomplete(tmp_path)
    (tmp_path / name).rename(tmp_path / f".writing-{name}")
    assert not snapshot.find_incomplete(tmp_path)


def test_notices_lost_changed_and_remaining_files(tmp_path: Path) -> None:
    for name in ("lost.json", "changed.json"):
        (tmp_path / name).write_text("{}")
    before = snapshot.take(tmp_path)
    assert not snapshot.compare(snapshot.take(tmp_path), before)
    (tmp_path / "lost.json").unlink()
    (tmp_path / "changed.json").write_text("[]")
    (tmp_path / "new.json").write_text("{}")
    assert snapshot.compare(snapshot.take(tmp_path), before) == [
        "lost.json is missing",
        "new.json remains",
        "changed.json differs",
    ]


def test_finds_the_trial_that_fails(tmp_path: Path) -> None:
    def run(folder: Path, numbers: range) -> tuple[list[Outcome], str]:
        return [Outcome(number, "fine") for number in numbers], "crash" if 37 in numbers else ""

    outcomes = narrow(run, tmp_path, range(100))
    assert [outcome.number for outcome in outcomes] == list(range(100))
    assert [outcome for outcome in outcomes if outcome.problem] == [Outcome(37, "failed", "crash")]


def test_measures_growth_of_memory() -> None:
    flat = [(images, 100.0) for images in range(0, 20_000, 100)]
    growing = [(images, 100 + images / 500) for images, _ in flat]
    assert measure_growth(flat) == pytest.approx(0)
    assert measure_growth(growing) == pytest.approx(2)


def test_exits_with_1_and_prints_how_to_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Server(NoServer):
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> Server:
            return self

        def __exit__(self, *_: object) -> None: ...

    def run(stage: Stage, folder: Path, numbers: range) -> list[Outcome]:
        return [Outcome(number, "fine", "crash" if number == 2 else "") for number in numbers]

    monkeypatch.setattr(command, "CommandServer", Server)
    monkeypatch.setitem(command.KINDS, "zips", Kind("zips", run, batch=5, share=1))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert command.main(["--kind", "zips", "--time", "0s", "--seed", "7"]) == 1
    printed = capsys.readouterr().out
    assert "FAILED zips, trial 2: crash" in printed
    assert "make soak SEED=7 TRIAL=zips:2" in printed
    assert "| zips | 5 | 1 |" in printed
    assert command.main(["--trial", "zips:3", "--seed", "7"]) == 0
    assert command.main(["--trial", "zips:2", "--seed", "7"]) == 1


def test_trials_depend_on_seed_and_number_only(tmp_path: Path) -> None:
    from soak.images import make_dicom, make_image
    from soak.trial import draw

    for make in (make_image, make_dicom):
        for number in (1, 2, 13):
            first = make(draw(5, "images", number), number)
            assert make(draw(5, "images", number), number) == first
            assert make(draw(6, "images", number), number) != first
