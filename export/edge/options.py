"""Options that several commands of the device take."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_tfds.commands.base import LocalPath, NearestChoice

RUNTIMES = ("auto", "litert", "tflite-runtime")

model = click.option(
    "--model",
    "-m",
    required=True,
    type=LocalPath(exists=True, dir_okay=False, path_type=Path),
    help="The .tflite of cxr-export.",
)
runtime = click.option(
    "--runtime",
    type=NearestChoice(RUNTIMES),
    default="auto",
    show_default=True,
    help="Runtime that executes the model; auto prefers litert.",
)
threads = click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of threads of the runtime.",
)
threshold = click.option(
    "--threshold",
    metavar="VALUE|RULE",
    help="Probability from which the positive class, or any finding, is predicted; or the rule of "
    "an operating point that cxr-infer info shows, such as youden.  [default: the threshold of the "
    "file]",
)
sensitivity = click.option(
    "--sensitivity",
    type=click.FloatRange(0, 1),
    help="Use the most specific operating point of the file that has at least this sensitivity on "
    "the validation split, such as 0.95.",
)
