"""A disk that becomes full at a random byte, under every command that writes."""

from __future__ import annotations

import contextlib
import resource
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import snapshot
from .kills import references
from .stage import Stage
from .trial import Kind, Outcome, draw
from .writers import WRITERS, check_disturbed, repeat

_CYCLE = (
    "predict --html", "build", "data export", "evaluate", "predict --heatmap-dir", "build",
    "export", "preview", "phantom", "train", "data export", "cxr-run",
)  # fmt: skip
_PAGE = 4096
_ENOUGH = "200m"


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """Yields whether a file system of its own could be mounted on `folder`."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_ENOUGH}", "tmpfs", str(folder)]
    try:
        is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        is_mounted = False
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _resize(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def _used_pages(out: Path) -> int:
    sizes = [path.stat().st_size for path in snapshot.list_files(out).values()]
    return sum(-(-size // _PAGE) for size in sizes)


def _fill(stage: Stage, folder: Path, number: int) -> Outcome:
    rng = draw(stage.seed, "disks", number)
    writer = WRITERS[_CYCLE[number % len(_CYCLE)]]
    refs = references(stage)
    refs.snapshots(writer)
    folder.mkdir()
    with _small_disk(folder) as is_mounted:
        out = folder / "out"
        out.mkdir()
        writer.prepare(stage, out)
        before, used = snapshot.take(out), _used_pages(out)
        reference = stage.folder / "reference" / f"{writer.name}-0".replace(" ", "_")
        needed = max(2, _used_pages(reference))
        share = 4 if writer.keeps else 1  # such a command writes a part of the folder
        pages = int(rng.integers(1, max(2, needed // share)))
        if is_mounted:
            _resize(folder, str((used + pages) * _PAGE))
        running = stage.commands.fork(*writer.line(stage, out, 0))
        if not is_mounted:  # then no file may become larger
            limit = (pages * _PAGE, pages * _PAGE)
            resource.prlimit(running.pid, resource.RLIMIT_FSIZE, limit)
        done = running.wait()
        problems = [done.problem] if done.problem else []
        if not problems and done.code == 1 and "rrno" in done.stderr:
            problems.append(f"a bare errno: {done.stderr[-300:].strip()}")
        if not problems and done.code == 0:
            problems += snapshot.compare(snapshot.take(out), refs.get(writer, 0)[0])
        problems += check_disturbed(writer, out, before, refs)
        if is_mounted:
            _resize(folder, _ENOUGH)
        problems += repeat(stage, writer, out, refs)
    how = "full" if is_mounted else "file size limit"
    result = f"{writer.name}: {'had enough' if done.code == 0 else how}"
    return Outcome(number, result, f"{result}: {'; '.join(problems)}" if problems else "")


def _run(stage: Stage, folder: Path, numbers: Sequence[int]) -> list[Outcome]:
    return [_fill(stage, folder / str(number), number) for number in numbers]


DISKS = Kind("disks", _run, batch=1, share=2.0)
