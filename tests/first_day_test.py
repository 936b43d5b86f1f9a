"""The mistakes of a first day: each ends with one sentence that says what to do, and no traceback.

The commands run as a user types them, in an empty folder with drawn images, a dataset, a run and a
model. Tests of each command cover rarer mistakes.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.command_server import SETUP, CommandServer
from helpers.sources import draw_image

pytestmark = pytest.mark.slow

COMMANDS = (
    "cxr-data",
    "cxr-run",
    "cxr-train",
    "cxr-evaluate",
    "cxr-export",
    "cxr-infer",
    "cxr-app",
    "tfds",
)
DATASET = "chest_xray_pneumonia/64"


class Mistake(NamedTuple):
    """What a user types, the exit code, and what the message must contain.

    `problem` is what was found, `advice` is what to do or to type.
    """

    typed: str
    code: int
    problem: str
    advice: str


TRAIN = f"cxr-train --dataset {DATASET} --data-dir data --epochs 1"
PREDICT = "cxr-infer predict --model models/first-int8.tflite"
IMAGE = "image.png"

WRONG_PATHS = [
    Mistake("cxr-data summary nowhere", 1, "nowhere", "does not exist"),
    Mistake("cxr-data build nowhere", 1, "nowhere", "does not exist"),
    Mistake("cxr-data preview nowhere --out sheet.png", 1, "nowhere", "does not exist"),
    Mistake("cxr-run nowhere --out first", 1, "nowhere", "does not exist"),
    Mistake("cxr-data build empty", 1, "No radiographs in empty", "Make a folder for each class"),
    Mistake(
        f"{TRAIN} --out runs/new --data-dir elsewhere",
        1,
        "elsewhere, but in data",
        "--data-dir data",
    ),
    Mistake(
        f"{TRAIN} --out runs/new --data-dir data/chest_xray_pneumonia",
        1,
        "but in",
        "Add this option: --data-dir",
    ),
    Mistake("cxr-evaluate runs/nowhere", 1, "runs/nowhere does not exist", "cxr-train --out"),
    Mistake("cxr-evaluate images", 1, "images is not a run folder", "cxr-train --out"),
    Mistake("cxr-evaluate runs/first --data-dir elsewhere", 1, "elsewhere", "--data-dir"),
    Mistake(
        "cxr-export runs/nowhere --out new", 1, "runs/nowhere does not exist", "cxr-train --out"
    ),
    Mistake("cxr-export runs/started --out new", 1, "not finished", "--resume"),
    Mistake("cxr-infer info --model nowhere.tflite", 2, "nowhere.tflite", "does not exist"),
    Mistake(f"{PREDICT} nowhere.png", 2, "nowhere.png", "does not exist"),
    Mistake("cxr-app --model nowhere.tflite", 2, "nowhere.tflite", "does not exist"),
    Mistake("cxr-train --config nowhere.json --out new", 2, "nowhere.json", "does not exist"),
]
SWAPPED = [
    Mistake(
        "cxr-export models --out runs/first", 1, "models is not a run folder", "cxr-train --out"
    ),
    Mistake(f"cxr-infer predict --model {IMAGE} models/first-int8.tflite", 1, IMAGE, "cxr-export"),
    Mistake(f"cxr-train --dataset data --data-dir {DATASET} --out new", 2, "data", "chest_xray"),
    Mistake("cxr-train runs/new --dataset chest_xray_pneumonia/64", 2, "Missing option", "--out"),
    Mistake("cxr-infer models/first-int8.tflite image.png", 2, "first-int8.tflite", "predict"),
    Mistake("cxr-infer predict image.png", 2, "--model", "Missing option"),
    Mistake("cxr-data build images data", 2, "data", "unexpected"),
]
MISSPELT = [
    Mistake(f"{TRAIN} --out new --epoch 3", 2, "--epoch", "--epochs"),
    Mistake(f"{TRAIN} --out new --epochs many", 2, "many", "integer"),
    Mistake(f"{TRAIN} --out new --epochs 0", 2, "0", "x>=1"),
    Mistake(f"{TRAIN} --out new --model egde", 2, "egde", "edge"),
    Mistake(f"{TRAIN} --out new --augment stong", 2, "stong", "strong"),
    Mistake(f"{TRAIN} --out new --augment-set rotate=5", 2, "rotate", "rotation_deg"),
    Mistake(
        "cxr-train --dataset chest_xray_pneumona --out new", 2, "pneumona", "chest_xray_pneumonia"
    ),
    Mistake("cxr-export runs/first --out new --format int-8", 2, "int-8", "int8"),
    Mistake("cxr-evaluate runs/first --split tset", 2, "tset", "test"),
    Mistake("cxr-infer predct", 2, "predct", "predict"),
    Mistake("cxr-data sumary images", 2, "sumary", "summary"),
    Mistake("cxr-data build images --dataset xray_foldr", 2, "xray_foldr", "xray_folder"),
    Mistake("cxr-data build images --set sise=320", 1, "sise", "size"),
    Mistake("cxr-data build two --set negative=a1", 1, "a1", "A"),
    Mistake("cxr-data summary images --config {size:3}", 1, "{size:3}", "double quotes"),
    Mistake("cxr-data summary images --config [3]", 1, "[3]", "expected"),
    Mistake(f"{PREDICT} {IMAGE} --threshold 50", 1, "50", "from 0 to 1"),
]
WRONG_CONTENT = [
    Mistake("cxr-data build one", 1, "one", "two"),
    Mistake("cxr-data build two", 1, "negative", "--set negative="),
    Mistake("cxr-run two --out new", 1, "negative", "--set negative="),
    Mistake("cxr-data build unlabelled", 1, "unlabelled", "xray_table"),
    Mistake("cxr-data build broken --data-dir other", 1, "broken/Normal/4.png", "on_bad_image"),
    Mistake(
        f"cxr-infer predict --model runs/first/model.keras {IMAGE}", 1, "model.keras", "cxr-export"
    ),
    Mistake(f"cxr-infer predict --model runs/first {IMAGE}", 2, "runs/first", "is a directory"),
    Mistake(f"cxr-infer predict --model cut.tflite {IMAGE}", 1, "cut.tflite", "cxr-export"),
    Mistake(f"{PREDICT} https://example.org/x.png", 2, "https://example.org/x.png", "Download"),
    Mistake("cxr-data build https://example.org/x.zip", 2, "https://example.org/x.zip", "Download"),
    Mistake(f"{PREDICT} notes.txt", 1, "notes.txt", "not an image"),
    Mistake(f"{PREDICT} empty", 1, "empty", "no image"),
    Mistake(f"{PREDICT} nothing.png", 1, "nothing.png", "empty"),
    Mistake("cxr-infer evaluate --model models/first-int8.tflite two", 1, "A/, B/", "PNEUMONIA"),
]
OUTPUTS = [
    Mistake(f"cxr-train --dataset {DATASET} --data-dir data", 2, "--out", "Missing option"),
    Mistake(f"{TRAIN} --out runs/first", 1, "runs/first exists", "--overwrite"),
    Mistake(f"{TRAIN} --out notes.txt", 2, "notes.txt", "is a file"),
    Mistake(f"{TRAIN} --out notes.txt/new", 1, "notes.txt", "file"),
    Mistake("cxr-train --out runs/first --resume", 1, "finished", "cxr-evaluate runs/first"),
    Mistake("cxr-train --out new --resume", 1, "new", "cxr-train"),
    Mistake("cxr-export runs/first --out models", 1, "models exists", "--overwrite"),
    Mistake("cxr-data phantom --out images", 1, "images exists", "--overwrite"),
    Mistake(f"cxr-data preview images --out {IMAGE}", 1, f"{IMAGE} exists", "--overwrite"),
    Mistake("cxr-data preview images --out sheet.pdf", 2, ".pdf", ".png or .html"),
    Mistake(
        "cxr-data build broken --dataset chest_xray_pneumonia", 1, "broken", "cxr-data build broken"
    ),
    Mistake(
        "cxr-data build other --dataset chest_xray_pneumonia --set name=64 --set size=64",
        1,
        "was built from another source",
        "--overwrite",
    ),
]


@pytest.fixture(scope="module")
def server() -> Iterator[CommandServer]:
    names = dict.fromkeys(COMMANDS, ())
    with tempfile.TemporaryDirectory() as folder, CommandServer(Path(folder), names) as server:
        yield server


@pytest.fixture(scope="module")
def commands(server: CommandServer) -> Path:
    return server.folder


def run(
    typed: str, folder: Path, commands: Path, setup: str = ""
) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        SETUP: setup,
        "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return subprocess.run(
        typed.split(), cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=200
    )


@pytest.fixture(scope="module")
def home(
    phantom: Path, built: Path, commands: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A user's folder: images, data, runs/first, models, and sources with something wrong."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(phantom, home / "images")
    shutil.copytree(built, home / "data")
    small = "--batch-size 8 --steps-per-epoch 2"
    limits = "--max-auc-drop 1 --min-agreement 0 --representative-images 8"
    for typed in (
        f"{TRAIN} {small} --out runs/first",
        f"cxr-export runs/first --out models --format int8 {limits}",
    ):
        done = run(typed, home, commands, "quick_training")
        assert done.returncode == 0, done.stderr
    (home / "runs/started").mkdir()
    shutil.copy(home / "runs/first/config.json", home / "runs/started")
    (home / "empty").mkdir()
    for source, names in {
        "one": ["Normal"],
        "two": ["A", "B"],
        "broken": ["Normal", "Effusion"],
        "unlabelled": ["images_001"],
    }.items():
        for name in names:
            for number in range(12):
                path = home / source / name / f"{name[0]}{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                draw_image(path)
    for split in ("train", "test"):
        for name in ("NORMAL", "PNEUMONIA"):
            for number in range(4):
                stem = f"IM-{number:04}-0001" if name == "NORMAL" else f"person{number}_virus_1"
                path = home / "other/chest_xray" / split / name / f"{split}{stem}.jpeg"
                path.parent.mkdir(parents=True, exist_ok=True)
                draw_image(path)
    (home / "broken/Normal/4.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    draw_image(home / IMAGE)
    (home / "notes.txt").write_text("Not an image.\n", encoding="utf-8")
    (home / "nothing.png").touch()
    content = (home / "models/first-int8.tflite").read_bytes()
    (home / "cut.tflite").write_bytes(content[:1000])
    return home


@pytest.mark.parametrize(
    "mistake",
    [*WRONG_PATHS, *SWAPPED, *MISSPELT, *WRONG_CONTENT, *OUTPUTS],
    ids=lambda mistake: mistake.typed,
)
def test_one_sentence_and_what_to_do(mistake: Mistake, home: Path, commands: Path) -> None:
    done = run(mistake.typed, home, commands)
    message = re.sub(r"\s+", " ", done.stderr if done.returncode else done.stdout)
    assert done.returncode == mistake.code, f"{done.stdout}\n{done.stderr}"
    assert mistake.problem in message, message
    assert mistake.advice in message, message
    assert "Traceback" not in done.stderr + done.stdout
    assert "[Errno" not in message
    assert not re.search(r"\.writing-|incomplete\.", message)  # temporary names are not for people


@pytest.mark.parametrize(
    ("module", "typed", "extra"),
    [
        ("tensorflow", f"{TRAIN} --out new", "train"),
        ("tensorflow_datasets", "cxr-data build images --data-dir other", "train"),
        ("streamlit", "cxr-app --model models/first-int8.tflite", "app"),
    ],
)
def test_a_missing_extra_is_named(module: str, typed: str, extra: str, home: Path) -> None:
    name, *words = typed.split()
    code = f"""
import importlib.metadata, sys
sys.modules[{module!r}] = None
(script,) = importlib.metadata.entry_points(group="console_scripts", name={name!r})
script.load()(prog_name={name!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert f"cxr-tfds[{extra}]" in done.stderr
    assert "Traceback" not in done.stderr


# What is typed, a text on standard error after which Ctrl-C is pressed, and the advice.
@pytest.mark.parametrize(
    ("typed", "moment", "advice"),
    [
        ("cxr-data summary images", "Reading", ""),
        ("cxr-data build images --data-dir interrupted", "Building", ""),
        (
            "cxr-train --dataset chest_xray_pneumonia/64 --data-dir data --out stopped",
            "training",
            "--resume",
        ),
        ("cxr-evaluate runs/first", "scoring", ""),
        ("cxr-export runs/first --out stopped-export", "converting", ""),
        ("cxr-run images --out stopped-run", "training", "type the same command again"),
    ],
)
def test_ctrl_c(
    typed: str,
    moment: str,
    advice: str,
    home: Path,
    server: CommandServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(home)
    reading, writing = os.pipe()
    with open(reading, "rb") as stderr, open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        with open(writing, "wb") as end:  # noqa: PTH123
            process = server.start(typed.split(), nowhere, end)
        seen = b""
        while moment.encode() not in seen:
            byte = stderr.read1(1)
            assert byte, seen
            seen += byte
        os.kill(process.pid, signal.SIGINT)
        seen += stderr.read()
    code = process.wait()
    message = seen.decode()
    assert code == 1, message
    assert "Traceback" not in message
    assert advice in message
    for folder in ("interrupted", "stopped-export"):  # nothing half-built
        assert not [path for path in (home / folder).rglob("*") if path.is_file()]
