"""Edited JSON of a dataset, a run and a model: refused, or without any effect on the result."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from helpers.corruptions import corrupt, truncate, zip_start
from helpers.json_edits import edits

from .process import Done
from .snapshot import digest_tree
from .stage import DATASET, Stage
from .trial import Kind, Outcome, draw

_DATASET_FILES = ("dataset_info.json", "features.json", "metadata.json", "label.labels.txt")
_RUN_FILES = ("config.json", "metrics.json")
_MODEL_INFO, _LABELS = "model.json", "labels.txt"
_EDITS = 0.7  # of the trials; the others change bytes


class Documents:
    """Makes changed copies of a stage's files and asks a command for the result.

    A command for a dataset copies it to a folder, for a run measures it, for a model predicts.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def change(self, folder: Path, number: int) -> tuple[str, Callable[[], tuple[Done, Any]]]:
        """Writes one changed copy; returns what changed, and a function that runs the command."""
        rng = draw(self._stage.seed, "json", number)
        target = number % 8  # a command for a run takes ten times as long
        if target == 0:
            shutil.copytree(self._stage.run, run := folder / "run")
            name = _RUN_FILES[rng.integers(len(_RUN_FILES))]
            return self._edit(run / name, rng, is_covered=False), lambda: self.measure(run)
        if target < 4:
            model = folder / "run-float32.tflite"
            what = self._edit_model(model, rng)
            return what, lambda: self.predict(model)
        data = folder / "data"
        shutil.copytree(self._stage.data / DATASET, data / DATASET)
        (version,) = (data / DATASET).glob("[0-9]*")
        name = _DATASET_FILES[rng.integers(len(_DATASET_FILES))]
        what = self._edit(version / name, rng, is_covered=True)
        return what, lambda: self.copy_dataset(data, folder / "copy")

    def _edit(self, path: Path, rng: np.random.Generator, *, is_covered: bool) -> str:
        """Changes a file; a fingerprint must notice any change of one that is covered."""
        text = path.read_bytes()
        if path.suffix == ".json" and rng.random() < _EDITS:
            what, content = _choose(json.loads(text), rng)
            path.write_text(json.dumps(content), encoding="utf-8")
            return f"{path.name}: {what}"
        path.write_bytes(corrupt(text, rng) if is_covered else truncate(text, rng))
        return f"{path.name}: bytes"

    def _edit_model(self, path: Path, rng: np.random.Generator) -> str:
        """Writes a model file whose digests fit its changed model info."""
        content = self._stage.model.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            fields, labels = json.loads(archive.read(_MODEL_INFO)), archive.read(_LABELS)
        digests = fields.pop("flatbuffer")
        digests.pop("model_card_sha256", None)
        what, fields = _choose(fields, rng)
        if isinstance(fields, dict):
            sorted_fields = json.dumps(fields, sort_keys=True).encode()
            digests["card"] = hashlib.sha256(sorted_fields).hexdigest()
            fields = {**fields, "flatbuffer": digests}
        buffer = io.BytesIO(content[: zip_start(content)])
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr(_LABELS, labels)
            archive.writestr(_MODEL_INFO, json.dumps(fields))
        path.write_bytes(buffer.getvalue())
        return f"{_MODEL_INFO}: {what}"

    def measure(self, run: Path) -> tuple[Done, Any]:
        """Returns how `cxr-evaluate` ended, and its metrics."""
        line = ("cxr-evaluate", run, "--json", "--threshold-rule", "0.5")
        done = self._stage.commands.fork(*line).wait()
        return done, done.stdout

    def predict(self, model: Path) -> tuple[Done, Any]:
        """Returns how `cxr-infer predict` ended, and its rows."""
        line = ("cxr-infer", "predict", "--model", model, "--json", self._stage.images[0])
        done = self._stage.commands.fork(*line).wait()
        return done, done.stdout

    def copy_dataset(self, data: Path, out: Path) -> tuple[Done, Any]:
        """Returns how `cxr-data export` ended, and the digests of the files that it wrote."""
        line = ("cxr-data", "export", DATASET, "--data-dir", data, "--to", "folder", "--out", out)
        done = self._stage.commands.fork(*line).wait()
        return done, digest_tree(out)

    @cached_property
    def expected(self) -> list[Any]:
        """The results of unchanged files, in the order of the targets."""
        folder = self._stage.folder / "unchanged"
        shutil.copytree(self._stage.run, folder / "run")
        copy = self.copy_dataset(self._stage.data, folder / "copy")
        found = [self.measure(folder / "run"), self.predict(self._stage.model), copy]
        for done, _ in found:
            if done.code or done.problem:
                raise RuntimeError(f"The unchanged files: {done.problem or done.stderr}")
        return [result for _, result in found]


def _choose(content: Any, rng: np.random.Generator) -> tuple[str, Any]:
    found = list(edits(content))
    return found[rng.integers(len(found))]


_documents: dict[Path, Documents] = {}


def _run(stage: Stage, folder: Path, numbers: Sequence[int]) -> list[Outcome]:
    documents = _documents.setdefault(stage.folder, Documents(stage))
    run, model, dataset = documents.expected
    outcomes = []
    for number in numbers:
        (own := folder / str(number)).mkdir()
        what, command = documents.change(own, number)
        done, result = command()
        problem = done.problem
        if not problem and done.code not in (0, 1):
            problem = f"exit code {done.code}"
        target = number % 8
        if not problem and not done.code:
            expected = run if target == 0 else model if target < 4 else dataset
            problem = "" if result == expected else "silently another result"
        answer = "refused" if done.code else "no effect"
        outcomes.append(Outcome(number, answer, f"{what}: {problem}" if problem else ""))
    return outcomes


JSON = Kind("json", _run, batch=8, share=1.2)
