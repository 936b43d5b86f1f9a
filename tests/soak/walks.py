"""Folders with hostile entries, which change while a command walks them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .process import DEVICE_MB, Done
from .stage import Stage
from .trial import Kind, Outcome, draw

_COMMANDS = ("predict", "summary", "predict", "evaluate", "build")
_SPARSE_BYTES = 30 * 2**30
_EVERY_S = 0.003
_COPIES = 15  # of the test images


def _add_hostile(folder: Path, outside: Path) -> None:
    """Adds entries that are neither folders nor images."""
    (folder / "self.png").symlink_to("self.png")
    (folder / "broken.png").symlink_to("nowhere.png")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "forbidden").symlink_to(outside, target_is_directory=True)
    os.mkfifo(folder / "pipe.png")
    with contextlib.suppress(OSError):  # only root may
        os.mknod(folder / "device.png", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        here = os.open(folder, os.O_RDONLY)  # a socket's path is limited to 107 bytes
        server.bind(f"/proc/self/fd/{here}/socket.png")
        os.close(here)
    (folder / "new\nline,=1+1|<b>.png").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(folder) + b"/not-\xff-text.png")).write_bytes(b"x")
    (folder / "empty.png").touch()
    with (folder / "sparse.png").open("wb") as file:
        file.truncate(_SPARSE_BYTES)


@contextlib.contextmanager
def _changing(folder: Path, image: Path, rng: np.random.Generator) -> Iterator[None]:
    """Creates, removes, replaces and lengthens files until the block ends."""
    stop = threading.Event()
    names = [f"changing-{number:02}.jpeg" for number in range(30)]

    def change() -> None:
        content = image.read_bytes()
        while not stop.wait(_EVERY_S):
            path = folder / names[rng.integers(len(names))]
            with contextlib.suppress(OSError):
                match rng.integers(5):
                    case 0:
                        path.write_bytes(content)
                    case 1:
                        path.unlink()
                    case 2:
                        path.write_bytes(content[: rng.integers(len(content))])
                    case 3:
                        with path.open("ab") as file:
                            file.write(content)
                    case _:
                        deep = folder / f"deep-{rng.integers(3)}"
                        shutil.rmtree(deep) if deep.exists() else shutil.copytree(
                            folder / "deep", deep
                        )

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _walk(stage: Stage, folder: Path, number: int) -> Outcome:
    rng = draw(stage.seed, "walks", number)
    command = _COMMANDS[number % len(_COMMANDS)]
    source = folder / "chest_xray"
    shutil.copytree(stage.source, source)
    place = source / "test" / "NORMAL"
    (place / "deep" / "deeper").mkdir(parents=True)
    for copy in range(_COPIES if command == "predict" else 0):
        shutil.copytree(stage.source / "test", source / f"copy-{copy:02}")
    (outside := folder / "outside").mkdir()
    shutil.copy(stage.images[0], outside)
    has_hostile = command == "predict" or bool(rng.integers(2))
    if has_hostile:
        _add_hostile(place, outside)
    outside.chmod(0)
    if command == "predict":
        line = ("cxr-infer", "predict", "--json", "--model", stage.model, source)
    elif command == "evaluate":
        line = ("cxr-infer", "evaluate", "--json", "--model", stage.model, source)
    elif command == "summary":
        line = ("cxr-data", "summary", "--json", source)
    else:
        line = ("cxr-data", "build", source, "--data-dir", folder / "data", "--set", "size=32")
    with _changing(place, stage.images[0], rng):
        if command == "build":
            running = stage.commands.fork(*line)
        else:
            running = stage.commands.spawn(*line, limit_mb=DEVICE_MB)
        done = running.wait(120)
    outside.chmod(0o700)
    problem = done.problem or _judge(stage, command, done, folder)
    entries = "hostile entries" if has_hostile else "changing files"
    result = f"{command}, {entries}: {'refused' if done.code else 'answered'}"
    return Outcome(number, result, f"{result}: {problem}" if problem else "")


def _judge(stage: Stage, command: str, done: Done, folder: Path) -> str:
    if done.code not in (0, 1):
        return f"exit code {done.code}: {done.stderr[-500:]}"
    if command == "predict":
        rows = json.loads(done.stdout)
        expected = {path.name: 0 for path in stage.images}
        for row in rows:
            name = Path(row.pop("file")).name
            if "error" not in row and name in expected:
                expected[name] += row == stage.rows[name]
        fewest = min(expected.values())
        return "" if fewest >= _COPIES + 1 else f"an intact image has only {fewest} rows"
    if command == "build":
        left = list((folder / "data").rglob("*incomplete*"))
        return f"{left[0]} remains" if left else ""
    return ""


def _run(stage: Stage, folder: Path, numbers: Sequence[int]) -> list[Outcome]:
    outcomes = []
    for number in numbers:
        (own := folder / str(number)).mkdir()
        outcomes.append(_walk(stage, own, number))
    return outcomes


WALKS = Kind("walks", _run, batch=1, share=0.7)
