"""Progress of a run while it trains: a bar on stderr, and scalars for TensorBoard."""

from __future__ import annotations

import sys
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from cxr_tfds import run_folder

# The metadata that `tf.summary.scalar` writes; that function needs the tensorboard package.
_SCALAR = tf.compat.v1.SummaryMetadata(data_class=1)
_SCALAR.plugin_data.plugin_name = "scalars"
_PRINTED = ("loss", "val_loss", "val_accuracy", "val_auc")


class Progress(tqdm):
    """A bar over all steps with the remaining time, and a line for each epoch, on stderr."""

    def __init__(self, first_epoch: int, epochs: int, steps: int, *, silent: bool = False) -> None:
        super().__init__(
            total=steps * epochs,
            initial=first_epoch * steps,
            unit="step",
            desc="training",
            file=sys.stderr,
            disable=silent,
            mininterval=0.1 if sys.stderr.isatty() else 10,  # in a log file every update is a line
        )
        self.epochs = epochs

    def advance(self) -> None:
        """Counts one step."""
        self.update()

    def print_epoch(self, row: dict[str, float]) -> None:
        """Prints the part of a row of the history that fits 80 columns."""
        values = "  ".join(f"{name} {row[name]:.3f}" for name in _PRINTED if name in row)
        self.print(f"epoch {row['epoch']}/{self.epochs}  {values}")

    def print(self, text: str) -> None:
        """Prints a line above the bar."""
        if not self.disable:
            self.write(text, file=sys.stderr)


def write_scalars(run: Path, row: dict[str, float]) -> None:
    """Writes a row of the history for `tensorboard --logdir RUN`, one file for each epoch.

    An epoch that is trained again after a kill replaces its earlier file.
    """
    folder, suffix = run / run_folder.TENSORBOARD, f".epoch-{row['epoch']}"
    for path in folder.glob(f"*{suffix}"):
        path.unlink()
    with tf.summary.create_file_writer(str(folder), filename_suffix=suffix).as_default():
        for name, value in row.items():
            if name != "epoch":
                tf.summary.write(
                    name, tf.constant(value, tf.float32), step=int(row["epoch"]), metadata=_SCALAR
                )
