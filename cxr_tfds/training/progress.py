"""Progress of a run while it trains: a bar on stderr, and scalars for TensorBoard."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from cxr_tfds import run_folder
from cxr_tfds.files import complete_file

# The metadata that `tf.summary.scalar` writes; that function needs the tensorboard package.
_SCALAR = tf.compat.v1.SummaryMetadata(data_class=1)
_SCALAR.plugin_data.plugin_name = "scalars"
_PRINTED = ("loss", "val_loss", "val_accuracy", "val_auc")


class Progress(tqdm):
    """A bar over all steps with the remaining time, and a line for each epoch, on stderr."""

    def __init__(self, first_step: int, epochs: int, steps: int, *, silent: bool = False) -> None:
        super().__init__(
            total=steps * epochs,
            initial=first_step,
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
    folder, epoch = run / run_folder.TENSORBOARD, int(row["epoch"])
    folder.mkdir(exist_ok=True)
    earlier = list(folder.glob(f"*.epoch-{epoch}"))
    now = time.time()
    values = [
        tf.compat.v1.Summary.Value(
            tag=name, tensor=tf.make_tensor_proto(value, tf.float32), metadata=_SCALAR
        )
        for name, value in row.items()
        if name != "epoch"
    ]
    events = (
        tf.compat.v1.Event(wall_time=now, file_version="brain.Event:2"),
        tf.compat.v1.Event(wall_time=now, step=epoch, summary=tf.compat.v1.Summary(value=values)),
    )
    # Not with `tf.summary`, which ignores a full disk. TensorBoard reads names in their order.
    new = folder / f"events.out.tfevents.{now:.0f}.{epoch:06}.epoch-{epoch}"
    with complete_file(new) as path, tf.io.TFRecordWriter(str(path)) as writer:
        for event in events:
            writer.write(event.SerializeToString())
    for path in set(earlier) - {new}:
        path.unlink()
