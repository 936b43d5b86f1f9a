"""Measures how long commands take to start, as ratios to the imports that they cannot avoid.

  python benchmarks/start.py

Each way runs in processes of its own, in turns, and the tables show medians. CPU time is
the processor time of the process on all cores, which other work on the machine changes less than
the seconds.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from measure import WORK, options, print_table, print_verdicts

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
TFDS, BUILD, HELP = "imports of tfds build", "tfds build, 100 images", "cxr-train --help"


def main() -> None:
    """Prints the times of each way and the ratios."""
    arguments = options(__doc__).parse_args()
    folder = WORK / "start"
    source, data = folder / "source", folder / "data"
    build = (_command("tfds"), "build", "--imports", "cxr_tfds.builders", "chest_xray_pneumonia")
    build = (*build, "--manual_dir", str(source), "--data_dir")
    if not data.is_dir():
        draw = ("cxr-data", "phantom", "--train", "60", "--test", "40", "--overwrite", "--out")
        _run((_command(draw[0]), *draw[1:], str(source)))
        _run((*build, str(data)))
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
        HELP: (_command("cxr-train"), "--help"),
    }
    if arguments.toy:
        ways |= dict.fromkeys((IMPORTS, TFDS), (*_PYTHON, "pass"))
    figures = _in_turns(ways, folder, *((0, 1) if arguments.toy else (1, arguments.repeats)))
    rows = [(name, f"{wall:.2f}", f"{cpu:.2f}") for name, (wall, cpu) in figures.items()]
    print_table([("way", "seconds", "CPU seconds"), *rows])
    print_verdicts(
        [
            (f"{name} ÷ {base}, {what}", figures[name][place] / figures[base][place], "<=", 1.3)
            for name, base in ((BEGUN, IMPORTS), (FINISHED, IMPORTS), (BUILD, TFDS))
            for place, what in enumerate(("seconds", "CPU"))
        ]
    )


def _command(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _in_turns(
    ways: dict[str, tuple[str, ...]], folder: Path, warm_ups: int, repeats: int
) -> dict[str, tuple[float, float]]:
    """Returns the median seconds and CPU seconds of each way. Warm-ups are not counted."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(-warm_ups, repeats):
        for name, command in ways.items():
            shutil.rmtree(folder / "built", ignore_errors=True)
            figures = _run(command)
            seconds, cpu = figures
            print(f"{turn + 1}/{repeats} {name}: {seconds:.2f} s, {cpu:.2f} s CPU", file=sys.stderr)
            if turn >= 0:
                found[name].append(figures)
    return {
        name: (statistics.median(each[0] for each in runs), statistics.median(e[1] for e in runs))
        for name, runs in found.items()
    }


def _run(command: tuple[str, ...]) -> tuple[float, float]:
    """Runs a command and returns its seconds and CPU seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
