"""Measures how long commands take to start, as ratios to the imports that they cannot avoid.

  python benchmarks/start.py

Each way runs in processes of its own, in turns, and the tables show medians. CPU time is
the processor time of the process on all cores, which other work on the machine changes less than
the seconds.
"""

from __future__ import annotations

import importlib.metadata
import os
import resource
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

from measure import WORK, Column, Median, Report, Target, options

_PYTHON = (sys.executable, "-c")
# Ends at the first step of the training: before it, or after it with its tracing and compilation.
_TRAIN = """
import os, sys
import cxr_tfds.commands.train as command
load = command.load_tensorflow

def load_and_stop():
    load()
    from cxr_tfds.training.learner import Learner
    step = Learner.step
    def stop(self, batches):
        if {finish}:
            step(self, batches)
            self.take_loss()  # waits for the step
        os._exit(0)
    Learner.step = stop

command.load_tensorflow = load_and_stop
command.train(sys.argv[1:])
"""
IMPORTS, BEGUN, FINISHED = "import tensorflow, keras", "cxr-train, step begins", "…, step ends"
TFDS, HELP = "imports of tfds build", "cxr-train --help"
BUILD, DATA_BUILD = "tfds build, 116 images", "cxr-data build, 116 images"
AGAIN = "cxr-data build, already built"


def main() -> None:
    """Prints the times of each way and the ratios."""
    arguments = options(__doc__).parse_args()
    folder = WORK / "start"
    source, data = folder / "source", folder / "data"
    build = (_command("tfds"), "build", "--imports", "cxr_tfds.builders", "chest_xray_pneumonia")
    build = (*build, "--manual_dir", str(source), "--data_dir")
    data_build = (_command("cxr-data"), "build", str(source), "--data-dir")
    if not data.is_dir():
        draw = ("cxr-data", "phantom", "--train", "60", "--test", "40", "--overwrite", "--out")
        _run((_command(draw[0]), *draw[1:], str(source)), forks=arguments.toy)
        _run((*build, str(data)), forks=arguments.toy)
    train = ("--dataset", "chest_xray_pneumonia/224", "--data-dir", str(data), "--overwrite")
    train = (*train, "--out", str(folder / "run"))
    ways = {
        # Ends as the training below does, without the work of a normal exit.
        IMPORTS: (*_PYTHON, "import os, tensorflow, keras; os._exit(0)"),
        BEGUN: (*_PYTHON, _TRAIN.format(finish=False), *train),
        FINISHED: (*_PYTHON, _TRAIN.format(finish=True), *train),
        # What `tfds build` itself loads before it reads a builder, and TensorFlow, which it needs
        # to write TFRecords.
        TFDS: (*_PYTHON, "import tensorflow_datasets.scripts.cli.main, tensorflow"),
        BUILD: (*build, str(folder / "built")),
        DATA_BUILD: (*data_build, str(folder / "built_by_cxr_data")),
        AGAIN: (*data_build, str(data)),
        HELP: (_command("cxr-train"), "--help"),
    }
    if arguments.toy:
        ways |= dict.fromkeys((IMPORTS, TFDS), (*_PYTHON, "pass"))
    turns = (0, 1) if arguments.toy else (1, arguments.repeats)
    figures = _in_turns(ways, folder, *turns, forks=arguments.toy)
    result = Report(__file__, is_toy=arguments.toy)
    result.table(
        [Column("way"), Column("seconds", ".2f", spread=True), Column("CPU s", ".2f", spread=True)],
        [(name, *times) for name, times in figures.items()],
    )
    pairs = ((BEGUN, IMPORTS), (FINISHED, IMPORTS), (BUILD, TFDS), (DATA_BUILD, TFDS))
    result.targets(
        Target(f"{name} ÷ {base}, {what}", figures[name][place] / figures[base][place], "<=", 1.3)
        for name, base in pairs
        for place, what in enumerate(("seconds", "CPU"))
    )
    result.save()


def _command(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _in_turns(
    ways: dict[str, tuple[str, ...]], folder: Path, warm_ups: int, repeats: int, *, forks: bool
) -> dict[str, tuple[Median, Median]]:
    """Returns the median seconds and CPU seconds of each way. Warm-ups are not counted."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(-warm_ups, repeats):
        for name, command in ways.items():
            for built in folder.glob("built*"):
                shutil.rmtree(built)
            figures = _run(command, forks=forks)
            seconds, cpu = figures
            print(f"{turn + 1}/{repeats} {name}: {seconds:.2f} s, {cpu:.2f} s CPU", file=sys.stderr)
            if turn >= 0:
                found[name].append(figures)
    return {
        name: (Median(run[0] for run in runs), Median(run[1] for run in runs))
        for name, runs in found.items()
    }


def _run(command: tuple[str, ...], *, forks: bool) -> tuple[float, float]:
    """Runs a command and returns its seconds and CPU seconds.

    `forks` runs it in a fork of this process instead of a new one, which imports less.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    if forks:
        code, errors = _run_in_fork(command), ""
    else:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        code, errors = done.returncode, done.stderr[-2000:]
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        sys.exit(f"{' '.join(command)}\n{errors}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _run_in_fork(command: tuple[str, ...]) -> int:
    """Runs `python -c CODE` or a console script, and returns its exit code."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        os.dup2(2, 1)  # results go to stdout
        sys.argv = ["-c", *command[3:]] if command[:2] == _PYTHON else list(command)
        if command[:2] == _PYTHON:
            exec(command[2], {"__name__": "__main__"})
        else:
            name = Path(command[0]).name
            (script,) = importlib.metadata.entry_points(group="console_scripts", name=name)
            script.load()()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    os._exit(code)


if __name__ == "__main__":
    main()
