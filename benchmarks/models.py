"""Trains every reference system and `edge` by its own recipe on the same images, for one table.

Run: python benchmarks/models.py --source FOLDER/chest_xray (pip install -e ".[train]"; over an
hour). One dataset of the source files serves all systems, so all have the same splits. Each reads
the images at the size of its recipe, at most --largest, and uses the channels, augmentation,
optimizer and epochs of its recipe. Epoch and threshold are chosen on validation; the metrics are of
the test split.

If interrupted, run it again to continue: each system has a run folder in --out, and finished ones
are kept. The minutes are those of the finished epochs.
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
METRICS = ("auc", "accuracy", "sensitivity", "specificity")
REPRESENTATIVE_IMAGES = 64  # set the quantization ranges of int8


def prepare(source: Path, out: Path) -> Path:
    """Returns the folder of the dataset built from `source`; builds it unless it exists."""
    stamp, wanted = out / "source.txt", f"{source.resolve()}\n"
    if stamp.is_file() and (found := stamp.read_text(encoding="utf-8")) != wanted:
        sys.exit(f"{out} holds runs on {found.strip()}. Give another --out.")
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


def draw_phantoms(folder: Path) -> Path:
    """Returns a folder of 100 drawn radiographs with train/ and test/; draws them if needed."""
    from cxr_tfds.phantom.dataset import images_per_split, write_dataset

    if not folder.is_dir():
        write_dataset(folder, images=images_per_split(60, 40))
    return folder / "chest_xray"


def recipe_settings(name: str, data: Path, largest: int, epochs: int | None) -> TrainSettings:
    """Returns the settings of a recipe for the dataset in `data`."""
    recipe = RECIPES[name]
    settings = TrainSettings(
        dataset="chest_xray_pneumonia/original",
        data_dir=str(data.resolve()),
        model=recipe.model,
        size=min(recipe.size, largest),
        channels=recipe.channels,
        **recipe.settings,
    )
    return dataclasses.replace(settings, epochs=min(epochs or settings.epochs, settings.epochs))


def train_one(name: str, settings: TrainSettings, out: Path) -> None:
    """Trains a system and exports it, unless that is done already."""
    from cxr_tfds.training.run import run_training

    run = out / name
    if not (run / run_folder.MODEL).is_file():
        write_json(out / f"{name}.json", read_notes(out, name) | {"started": time.time()})
        run_training(settings, run, resume=(run / run_folder.CONFIG).is_file())
    notes = read_notes(out, name)
    if "int8" not in notes:
        write_json(out / f"{name}.json", notes | export_sizes(run))


def read_notes(out: Path, name: str) -> dict[str, Any]:
    """Returns the seconds of all finished epochs of a system, and its sizes once it is exported.

    An attempt notes when it started, and `history.csv` has the time of its last finished epoch, so
    even the epochs of a killed attempt count.
    """
    path, history = out / f"{name}.json", out / name / run_folder.HISTORY
    notes = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"seconds": 0.0}
    started = notes.pop("started", None)
    if started is not None and history.is_file():
        notes["seconds"] += max(0.0, history.stat().st_mtime - started)
    return notes


def export_sizes(run: Path) -> dict[str, int]:
    """Returns the number of parameters and the bytes of the exported model by format."""
    from cxr_tfds.export.convert import to_tflite
    from cxr_tfds.export.representative import representative_images
    from cxr_tfds.reading.run_data import open_run_dataset

    model = run_folder.load_model(run)
    dataset = open_run_dataset(run_folder.RunConfig.read(run))
    images = representative_images(dataset, REPRESENTATIVE_IMAGES)
    exported = {form: len(to_tflite(model, form, images)) for form in ("float32", "int8")}
    return {"parameters": model.count_params()} | exported


def table_row(name: str, out: Path) -> tuple[str, ...]:
    """Returns the row of a finished system."""
    run = out / name
    notes, metrics = read_notes(out, name), run_folder.read_metrics(run)["test"]
    shape = run_folder.RunConfig.read(run).shape
    return (
        name,
        "×".join(map(str, shape)),  # noqa: RUF001
        f"{notes['parameters']:,}",
        f"{notes['float32'] / 1e6:.1f}",
        f"{notes['int8'] / 1e6:.1f}",
        f"{notes['seconds'] / 60:.1f}",
        *("{value:.3f} ({low:.3f}–{high:.3f})".format_map(metrics[name]) for name in METRICS),  # noqa: RUF001
    )


def report(names: list[str], out: Path, *, is_toy: bool) -> None:
    """Prints and saves the table of the finished systems."""
    runs = {name: out / name for name in names if "int8" in read_notes(out, name)}
    configs = [run_folder.RunConfig.read(run) for run in runs.values()]
    if len({config.dataset["fingerprint"] for config in configs}) > 1:
        sys.exit(f"The runs in {out} are of different images. Remove it and start again.")
    head = ("system", "input", "parameters", "float32 MB", "int8 MB", "minutes", *METRICS)
    result = measure.Report(__file__, is_toy=is_toy)
    for name in runs:
        if RECIPES[name].reported:
            result.note(f"`{name}` was reported, on other images: {RECIPES[name].reported}")
    result.table([measure.Column(title) for title in head], [table_row(x, out) for x in runs])
    result.save()


def main(arguments: argparse.Namespace) -> None:
    """Trains the systems, each in its own process so that it starts with free memory."""
    names, out, source = arguments.only or list(RECIPES), arguments.out, arguments.source
    if arguments.toy:
        names, out = arguments.only or ["edge"], out / "toy"
        source = draw_phantoms(out / "phantoms")
        arguments.largest, arguments.epochs = 32, 1
    if not source.is_dir():
        sys.exit(f"{source} does not exist. Give --source FOLDER/chest_xray.")
    out.mkdir(parents=True, exist_ok=True)
    if len(names) == 1:
        data = prepare(source, out)
        settings = recipe_settings(names[0], data, arguments.largest, arguments.epochs)
        train_one(names[0], settings, out)
    else:
        for name in names:
            print(f"--- {name} ---", file=sys.stderr)
            command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL)
            if done.returncode:
                sys.exit(
                    f"{name} failed with exit code {done.returncode}. Run the same command again "
                    "to continue from its last checkpoint."
                )
    report(names, out, is_toy=arguments.toy)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source", type=Path, default=SHARED, help="Folder with train/ and test/. [%(default)s]"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=measure.WORK / "models",
        help="Folder for dataset and runs. [%(default)s]",
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(RECIPES), help="Systems to train. [all of them]"
    )
    parser.add_argument(
        "--largest", type=int, default=224, help="Largest image side in pixels. [%(default)s]"
    )
    parser.add_argument("--epochs", type=int, help="Largest number of epochs. [the recipe's]")
    parser.add_argument(
        "--toy", action="store_true", help="Train `edge` for one epoch on a few small images."
    )
    main(parser.parse_args())
