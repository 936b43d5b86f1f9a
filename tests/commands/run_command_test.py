"""`cxr-run`: every step once, the same command again, and the question about the negative class."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from helpers.sources import draw_image

from cxr_tfds.commands import run as command
from cxr_tfds.commands.base import Interrupted

pytestmark = pytest.mark.slow


def run(*words: object, answer: str = "") -> Result:
    return CliRunner().invoke(command.run, [str(word) for word in words], input=answer)


@pytest.fixture(scope="module")
def first(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """The result of the command for a phantom, and the folder it wrote. Read-only."""
    out = tmp_path_factory.mktemp("run") / "first"
    call, limits = command._call, ("--max-auc-drop", 1, "--min-agreement", 0)

    def call_without_limits(name: str, *words: object) -> None:
        """A model that has seen every image once may well fail the check of the export."""
        call(name, *words, *(limits if name == "cxr-export" else ()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "_call", call_without_limits)
        return run(phantom, "--out", out, "--set", "size=64", "--epochs", 1), out


@pytest.fixture
def unnamed(tmp_path: Path) -> Path:
    """A source with two classes whose names do not sound negative."""
    for name in ("A", "B"):
        for number in range(12):
            path = tmp_path / "images" / name / f"{name}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw_image(path)
    return tmp_path / "images"


def test_builds_trains_exports_and_predicts(first: tuple[Result, Path]) -> None:
    result, out = first
    assert result.exit_code == 0, result.output
    assert (out / "run/report.html").is_file()
    assert sorted(path.name for path in (out / "models").glob("*.tflite")) == [
        "run-float32.tflite",
        "run-int8.tflite",
    ]
    examples = sorted(path.name for path in (out / "examples").iterdir())
    assert [name.split("-")[0] for name in examples] == ["NORMAL"] * 4 + ["PNEUMONIA"] * 4
    page = (out / "predictions.html").read_text(encoding="utf-8")
    assert all(name in page for name in examples)
    for line in (
        f"Report:       {out}/run/report.html",
        f"Predictions:  {out}/predictions.html",
        f"cxr-infer predict --model {out}/models/run-int8.tflite FILE_OR_FOLDER",
    ):
        assert line in result.stdout
    # Each step can be repeated by hand.
    typed = [line for line in result.stderr.splitlines() if line.startswith("$ ")]
    assert [line.split()[1] for line in typed] == [
        "cxr-data",
        "cxr-train",
        "cxr-export",
        "cxr-infer",
    ]
    assert "--set size=64" in typed[0]


def test_the_same_command_repeats_no_complete_step(
    first: tuple[Result, Path], phantom: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(first[1], tmp_path / "first"))
    before = (out / "models/run-int8.tflite").stat().st_mtime_ns
    shutil.rmtree(out / "examples")
    result = run(phantom, "--out", out, "--set", "size=64")
    assert result.exit_code == 0, result.output
    for line in ("Already built", "Already trained", "Already exported"):
        assert line in result.output
    assert (out / "models/run-int8.tflite").stat().st_mtime_ns == before
    assert len(list((out / "examples").iterdir())) == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "size=64", "--epochs", "3"), "was trained for 1 epochs, not 3"),
        (("--set", "size=32"), "was trained on other images than chest_xray_pneumonia/32"),
    ],
)
def test_refuses_to_mix_two_runs(
    first: tuple[Result, Path], phantom: Path, tmp_path: Path, words: tuple[str], message: str
) -> None:
    out = Path(shutil.copytree(first[1], tmp_path / "first"))
    result = run(phantom, "--out", out, *words)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "--overwrite" in result.stderr


def test_an_unknown_negative_class_is_an_error_without_a_terminal(
    unnamed: Path, tmp_path: Path
) -> None:
    result = run(unnamed, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "Which of the classes A, B is the negative class" in result.stderr
    assert not (tmp_path / "out/run").exists()


@pytest.mark.parametrize(
    ("answer", "setting"), [("a", "--set negative=A"), ("none", "--set negative=")]
)
def test_asks_for_the_negative_class_on_a_terminal(
    unnamed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, setting: str
) -> None:
    monkeypatch.setattr(command, "_can_ask", lambda: True)
    monkeypatch.setattr(command, "_train", lambda *words, **named: sys.exit(3))
    words = (unnamed, "--out", tmp_path / "out", "--set", "size=32")
    result = run(*words, answer=f"C\n{answer}\n")
    assert result.exit_code == 3, result.output
    assert "'C' is not one of 'A', 'B', 'none'" in result.output
    assert setting in result.output
    again = run(*words)
    assert again.exit_code == 3, again.output
    assert setting in again.output
    assert "Which of these" not in again.output


def test_an_interrupted_training_names_the_same_command(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*words: object) -> None:
        raise Interrupted("Continue with: cxr-train --resume")

    monkeypatch.setattr(command, "_call", interrupt)
    result = run(phantom, "--out", tmp_path / "out", "--set", "size=32")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "Error: Interrupted. Complete steps are not repeated. To continue, type the same command "
        "again."
    )
