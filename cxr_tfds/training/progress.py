"""What is told of a run while it trains: the bar on stderr, and the scalars of TensorBoard."""

from __future__ import annotations

import sys
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from cxr_tfds import run_folder

# What `tf.summary.scalar` writes; that one needs the package tensorboard to be installed where it writes.
_SCALAR = tf.compat.v1.SummaryMetadata(data_class=1)
_SCALAR.plugin_data.plugin_name = "scalars"


class Progress:
    """One bar over all steps on stderr, with the time left, and a line for each epoch."""

    def __init__(self, first_epoch: int, epochs: int, steps: int, *, silent: bool = False) -> None:
        self.epochs = epochs
        self.bar = tqdm(
            total=steps * epochs,
            initial=first_epoch * steps,
            unit="step",
            desc="training",
            file=sys.stderr,
            disable=silent,
            mininterval=0.1 if sys.stderr.isatty() else 10,  # in a log file every update is a line
        )

    def step(self) -> None:
        self.bar.update()

    def epoch(self, row: dict[str, float]) -> None:
        """Tells a row of the history."""
        values = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if key != "epoch")
        self.say(f"epoch {row['epoch']}/{self.epochs}  {values}")

    def say(self, text: str) -> None:
        if not self.bar.disable:
            self.bar.write(text, file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()  # before an error is told, on a line of its own


def write_scalars(run: Path, row: dict[str, float]) -> None:
    """Adds a row of the history to what `tensorboard --logdir RUN` shows: a file for each epoch.

    An epoch that is trained again after a kill takes the place of its first try.
    """
    folder, suffix = run / run_folder.TENSORBOARD, f".epoch-{row['epoch']}"
    for before in folder.glob(f"*{suffix}"):
        before.unlink()
    with tf.summary.create_file_writer(str(folder), filename_suffix=suffix).as_default():
        for name, value in row.items():
            if name != "epoch":
                tf.summary.write(
                    name, tf.constant(value, tf.float32), step=int(row["epoch"]), metadata=_SCALAR
                )
