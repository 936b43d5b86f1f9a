"""What the trials work on: drawn radiographs, a dataset, runs and a model, built once."""

from __future__ import annotations

import json
import time
from functools import cached_property
from pathlib import Path

from helpers.command_server import CommandServer

from .process import Commands

SIZE = 32
DATASET = f"chest_xray_pneumonia/{SIZE}"


class Stage:
    """Builds everything when it is first needed, with the commands that the trials disturb.

    Args:
      folder: An empty folder.
      server: Runs the commands that need TensorFlow.
      seed: Of all trials.
      volume: Divides the numbers of files of the largest trials.
    """

    def __init__(self, folder: Path, server: CommandServer, seed: int, volume: int = 1) -> None:
        self.folder, self.seed, self.volume = folder, seed, volume
        outputs = folder / "outputs"
        outputs.mkdir()
        self.commands = Commands(server, outputs)
        self.durations: dict[object, float] = {}

    @cached_property
    def source(self) -> Path:
        """Folder of 56 training and 20 test images in the layout of the Kaggle set."""
        out = self.folder / "source"
        self.commands.run("cxr-data", "phantom", "--out", out, "--train", 40, "--test", 20)
        return out / "chest_xray"

    @cached_property
    def images(self) -> list[Path]:
        """The test images."""
        return sorted((self.source / "test").rglob("*.jpeg"))

    @cached_property
    def data(self) -> Path:
        """Folder with the dataset."""
        self.commands.run(*self.build_command(self.folder / "data"))
        return self.folder / "data"

    @cached_property
    def dataset(self) -> Path:
        """Folder of the dataset's version."""
        return next((self.data / DATASET).glob("[0-9]*"))

    @cached_property
    def run(self) -> Path:
        """A run folder of one epoch."""
        out = self.folder / "runs" / "run"
        self.commands.run(*self.train_command(out))
        return out

    @cached_property
    def model(self) -> Path:
        """A model file in float32."""
        out = self.folder / "models"
        self.commands.run(*self.export_command(self.run, out))
        return out / "run-float32.tflite"

    @cached_property
    def rows(self) -> dict[str, dict]:
        """The prediction of each test image by its name."""
        done = self.commands.run(
            "cxr-infer", "predict", "--model", self.model, "--json", *self.images
        )
        return {Path(row.pop("file")).name: row for row in json.loads(done.stdout)}

    def build_command(self, out: Path, fit: str = "stretch") -> list[object]:
        """Returns the command line that builds the dataset."""
        settings = ["--set", f"name={SIZE}", "--set", f"size={SIZE}", "--set", f"fit={fit}"]
        return ["cxr-data", "build", self.source, "--data-dir", out, *settings]

    def train_command(self, out: Path, seed: int = 1) -> list[object]:
        """Returns the command line that trains for an epoch."""
        line = ["cxr-train", "--dataset", DATASET, "--data-dir", self.data, "--out", out]
        line += ["--epochs", 1, "--batch-size", 16, "--augment", "none", "--seed", seed]
        return [*line, "--threshold-rule", "0.5"]

    def export_command(self, run: Path, out: Path, form: str = "float32") -> list[object]:
        """Returns the command line that exports a run to one file."""
        line = ["cxr-export", run, "--out", out, "--format", form, "--runtime", "litert"]
        return [*line, "--max-auc-drop", 1, "--min-agreement", 0]

    def timed(self, key: object, started: float) -> None:
        """Notes how long an undisturbed command took."""
        self.durations[key] = time.monotonic() - started
