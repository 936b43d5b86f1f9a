"""Every command that writes: its command line, what it leaves, and how it is done again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from . import snapshot
from .process import expect_success
from .snapshot import Snapshot
from .stage import DATASET, SIZE, Stage

Line = list[object]
_RUN_PARTS = ("config.json", "model.keras", "history.csv", "metrics.json")


def _nothing(stage: Stage, out: Path) -> None:
    """For commands that begin with an empty folder."""


class Writer(NamedTuple):
    """A command that writes below a folder `out`."""

    name: str
    # (stage, out, variant) -> command line. Variant 1 gives other results than variant 0.
    line: Callable[[Stage, Path, int], Line]
    variants: int = 2
    prepare: Callable[[Stage, Path], None] = _nothing  # writes what the command changes
    clear: Callable[[Stage, Path], None] = _nothing  # before the command is given again
    # What must never be incomplete together: all files appear at once, or none is ever missing.
    at_once: bool = False
    keeps: bool = False
    check: Callable[[Snapshot, list[Snapshot]], list[str]] = lambda found, references: []


def _page(stage: Stage, out: Path, variant: int) -> Line:
    images = stage.images[variant : 6 + variant]
    return ["cxr-infer", "predict", "--model", stage.model, "--html", out / "page.html", *images]


def _maps(stage: Stage, out: Path, variant: int) -> Line:
    line = ["cxr-infer", "predict", "--model", stage.model, "--heatmap-dir", out / "maps"]
    return [*line, *stage.images[:6]]


def _remove_pictures(stage: Stage, out: Path) -> None:
    """Removes what a person would: the page or the complete pictures, but no temporary file."""
    (out / "page.html").unlink(missing_ok=True)
    for path in (out / "maps").glob("[!.]*.jp*g"):
        path.unlink()


def _build(stage: Stage, out: Path, variant: int) -> Line:
    return [*stage.build_command(out, ("stretch", "pad")[variant]), "--overwrite"]


def _copy(stage: Stage, out: Path, variant: int) -> Line:
    line = ["cxr-data", "export", DATASET, "--data-dir", stage.data, "--out", out / "copy"]
    return [*line, "--to", ("folder", "parquet")[variant], "--overwrite"]


def _preview(stage: Stage, out: Path, variant: int) -> Line:
    line = ["cxr-data", "preview", stage.source, "--each", 2, "--size", 64, "--seed", variant]
    return [*line, "--out", out / "sheet.png", "--overwrite"]


def _phantom(stage: Stage, out: Path, variant: int) -> Line:
    line = ["cxr-data", "phantom", "--out", out / "drawn", "--train", 10, "--test", 10]
    return [*line, "--seed", variant, "--overwrite"]


def _train(stage: Stage, out: Path, variant: int) -> Line:
    return [*stage.train_command(out / "run", seed=1 + variant), "--overwrite"]


def _check_run(found: Snapshot, references: list[Snapshot]) -> list[str]:
    """Returns how a finished run mixes two settings, or lacks a file."""
    if "run/model.keras" not in found:
        return []
    parts = [f"run/{name}" for name in _RUN_PARTS]
    if any(all(found.get(part) == run[part] for part in parts) for run in references):
        return []
    return [f"a finished run has other files than any run ({', '.join(_RUN_PARTS)})"]


def _copy_run(stage: Stage, out: Path) -> None:
    shutil.copytree(stage.run, out / "run")


def _evaluate(stage: Stage, out: Path, variant: int) -> Line:
    return ["cxr-evaluate", out / "run", "--split", ("test", "validation")[variant]]


def _export(stage: Stage, out: Path, variant: int) -> Line:
    line = stage.export_command(stage.run, out / "models")
    return [*line, "--threshold-rule", ("0.5", "0.25")[variant], "--overwrite"]


def _run(stage: Stage, out: Path, variant: int) -> Line:
    settings = ["--set", f"name={SIZE}", "--set", f"size={SIZE}"]
    return ["cxr-run", stage.source, "--out", out / "all", "--epochs", 1, *settings]


WRITERS = {
    writer.name: writer
    for writer in (
        Writer("predict --html", _page, clear=_remove_pictures, at_once=True),
        Writer("predict --heatmap-dir", _maps, variants=1, clear=_remove_pictures),
        Writer("build", _build, at_once=True),
        Writer("data export", _copy, at_once=True),
        Writer("preview", _preview, at_once=True),
        Writer("phantom", _phantom),
        Writer("evaluate", _evaluate, prepare=_copy_run, keeps=True),
        Writer("export", _export),
        Writer("train", _train, check=_check_run),
        Writer("cxr-run", _run, variants=1),
    )
}


class References:
    """What each command writes when nothing disturbs it, and how long that takes."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._found: dict[tuple[str, int], tuple[Snapshot, float]] = {}

    def get(self, writer: Writer, variant: int) -> tuple[Snapshot, float]:
        """Returns the files and the duration in seconds."""
        key = writer.name, variant
        if key not in self._found:
            name = f"{writer.name}-{variant}".replace(" ", "_")
            out = self._stage.folder / "reference" / name
            out.mkdir(parents=True)
            writer.prepare(self._stage, out)
            line = writer.line(self._stage, out, variant)
            running = self._stage.commands.fork(*line)
            started = time.monotonic()
            expect_success(line, running.wait())
            self._found[key] = snapshot.take(out), time.monotonic() - started
        return self._found[key]

    def snapshots(self, writer: Writer) -> list[Snapshot]:
        """Returns the files of each variant."""
        return [self.get(writer, variant)[0] for variant in range(writer.variants)]


def check_disturbed(writer: Writer, out: Path, before: Snapshot, refs: References) -> list[str]:
    """Returns what is wrong with the files of a command that was disturbed."""
    references = refs.snapshots(writer)
    problems = snapshot.find_incomplete(out)
    found = {
        name: digest
        for name, digest in snapshot.take(out).items()
        if not snapshot.TEMPORARY.search(name)
    }
    if writer.at_once and found not in ({}, before, *references):
        nearest = min((snapshot.compare(found, each) for each in references), key=len)
        problems.append(f"neither the old nor the new files: {'; '.join(nearest[:5])}")
    if writer.keeps:
        problems += [f"{name} is lost" for name in before.keys() - found.keys()]
    return problems + writer.check(found, references)


def repeat(
    stage: Stage, writer: Writer, out: Path, refs: References, variant: int = 0
) -> list[str]:
    """Gives the command again, undisturbed; returns what is wrong afterwards."""
    writer.clear(stage, out)
    line = writer.line(stage, out, variant)
    done = stage.commands.fork(*line).wait()
    if done.code or done.problems:
        reason = done.problem or done.stderr[-1500:].strip()
        return [f"the next command ended with {done.code}: {reason}"]
    found = snapshot.take(out)
    # What both variants write may be there together if the command changes a folder.
    expected = refs.snapshots(writer) if writer.keeps else [refs.get(writer, variant)[0]]
    problems = min((snapshot.compare(found, each) for each in expected), key=len)
    left = [name for name in snapshot.list_files(out) if snapshot.TEMPORARY.search(name)]
    return problems + [f"{name} remains after the next command" for name in left]
