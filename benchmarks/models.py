"""Every reference system and `edge`, each trained by its own recipe on the same images, in one table.

Run: python benchmarks/models.py --source FOLDER/chest_xray (pip install -e ".[train]"; over an hour). One dataset of
the source files serves all, so that all see the same images in the same splits; each reads them in its
recipe's size, at most --largest, and channels, with its recipe's augmentation, optimizer and epochs. Epoch and
threshold are chosen on validation for all of them; the figures are of the test split.

Interrupted, it goes on where it stopped when it is run again: each system has a run folder in --out, finished
ones are kept as they are. Minutes end with the last epoch; what is measured afterwards takes no part in them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import measure

from cxr_tfds import run_folder
from cxr_tfds.files import write_json
from cxr_tfds.training.recipes import RECIPES
from cxr_tfds.training.settings import TrainSettings

SHARED = Path(__file__).parents[2] / "shared" / "data" / "kermany_224" / "chest_xray"
DATASET = "chest_xray_pneumonia/original"
SHOWN = ("auc", "accuracy", "sensitivity", "specificity")
CALIBRATION = 64  # images that set the ranges of int8
SEED = 0


def prepare(source: Path, out: Path) -> Path:
    """The dataset of the files of `source`, in `out`; built unless it stands there. Loads TensorFlow."""
    stamp, wanted = out / "source.txt", f"{source.resolve()}\n"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") != wanted:
        sys.exit(
            f"{out} holds runs on {stamp.read_text(encoding='utf-8').strip()}. Give another --out."
        )
    data = out / "data"
    if not stamp.is_file():
        import tensorflow_datasets as tfds

        from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import (
            Builder,
        )
        from cxr_tfds.building.config import RadiographConfig

        builder = Builder(data_dir=data, config=RadiographConfig(name="original", size=None))
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=source)
        )
        stamp.write_text(wanted, encoding="utf-8")
    return data


def settings_of(name: str, data: Path, largest: int, epochs: int | None) -> TrainSettings:
    """The recipe's settings, on the dataset in `data`."""
    recipe = RECIPES[name]
    settings = TrainSettings(
        dataset=DATASET,
        data_dir=str(data.resolve()),
        model=recipe.model,
        size=min(recipe.size, largest),
        channels=recipe.channels,
        seed=SEED,
        **recipe.settings,
    )
    if epochs is None:
        return settings
    return dataclasses.replace(settings, epochs=min(epochs, settings.epochs))


def train_one(name: str, settings: TrainSettings, out: Path) -> None:
    """Trains a system, unless its run is finished, and weighs its exports."""
    from cxr_tfds.training.run import train

    run = out / name
    if not (run / run_folder.MODEL).is_file():
        notes = _notes(out, name)
        _write(out, name, notes | {"started": time.time()})
        train(settings, run, resume=(run / run_folder.CONFIG).is_file())
    notes = _notes(out, name)
    if "int8" not in notes:
        _write(out, name, notes | _sizes(run))


def _notes(out: Path, name: str) -> dict[str, Any]:
    """What is noted of a system: `seconds` of finished epochs in all attempts, and the sizes of its exports.

    An attempt leaves when it started, and its last finished epoch the time of `history.csv`; so it counts even
    where it was killed.
    """
    path, history = out / f"{name}.json", out / name / run_folder.HISTORY
    notes = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"seconds": 0.0}
    started = notes.pop("started", None)
    if started is not None and history.is_file():
        notes["seconds"] += max(0.0, history.stat().st_mtime - started)
    return notes


def _write(out: Path, name: str, notes: dict[str, Any]) -> None:
    write_json(out / f"{name}.json", notes)


def _sizes(run: Path) -> dict[str, int]:
    """Parameters, and bytes of the exported model."""
    from cxr_tfds.evaluation.scoring import open_run_dataset
    from cxr_tfds.export.calibration import calibration_images
    from cxr_tfds.export.convert import to_tflite

    model = run_folder.load_model(run)
    images = calibration_images(open_run_dataset(run_folder.RunConfig.read(run)), CALIBRATION)
    exported = {form: len(to_tflite(model, form, images)) for form in ("float32", "int8")}
    return {"parameters": model.count_params()} | exported


def row(name: str, out: Path) -> tuple[str, ...]:
    """What the table says of a finished system."""
    run = out / name
    notes, figures = _notes(out, name), run_folder.read_metrics(run)["test"]
    shape = run_folder.RunConfig.read(run).shape
    return (
        name,
        "×".join(map(str, shape)),  # noqa: RUF001
        f"{notes['parameters']:,}",
        f"{notes['float32'] / 1e6:.1f}",
        f"{notes['int8'] / 1e6:.1f}",
        f"{notes['seconds'] / 60:.1f}",
        *("{value:.3f} ({low:.3f}–{high:.3f})".format_map(figures[metric]) for metric in SHOWN),  # noqa: RUF001
    )


def report(names: list[str], out: Path) -> None:
    """Prints the table of the systems that are finished."""
    finished = [
        name
        for name in names
        if (out / name / run_folder.MODEL).is_file() and "int8" in _notes(out, name)
    ]
    datasets = {run_folder.RunConfig.read(out / name).dataset["fingerprint"] for name in finished}
    if len(datasets) > 1:
        sys.exit(f"the runs in {out} are of different images; remove it and start anew.")
    head = ("system", "input", "parameters", "float32 MB", "int8 MB", "minutes", *SHOWN)
    measure.print_table([head, *(row(name, out) for name in finished)])
    for name in finished:
        if RECIPES[name].reported:
            print(f"`{name}` was reported, on other images: {RECIPES[name].reported}")


def main(arguments: argparse.Namespace) -> None:
    names, out = arguments.only or list(RECIPES), arguments.out
    if not arguments.source.is_dir():
        sys.exit(f"{arguments.source} does not exist; give --source FOLDER/chest_xray.")
    out.mkdir(parents=True, exist_ok=True)
    if len(names) == 1:
        data = prepare(arguments.source, out)
        settings = settings_of(names[0], data, arguments.largest, arguments.epochs)
        train_one(names[0], settings, out)
    else:
        for name in names:  # each in a process of its own: memory of one is not the next one's
            print(f"--- {name} ---", file=sys.stderr)
            command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL)
            if done.returncode:
                sys.exit(
                    f"{name} ended with {done.returncode}; the same command goes on from its last epoch."
                )
    report(names, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source", type=Path, default=SHARED, help="Folder with train/ and test/. [%(default)s]"
    )
    parser.add_argument(
        "--out", type=Path, default=measure.WORK / "models", help="Dataset and runs. [%(default)s]"
    )
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), help="These systems alone.")
    parser.add_argument(
        "--largest", type=int, default=224, help="Side of the largest images. [%(default)s]"
    )
    parser.add_argument("--epochs", type=int, help="At most so many, to try it out.")
    main(parser.parse_args())
