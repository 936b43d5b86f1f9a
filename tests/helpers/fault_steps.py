"""Everything that publishes files, in a form that `FaultyProcess` calls: a name and a folder."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError
from cxr_tfds.files import complete_file, complete_folder, write_files, write_json
from cxr_tfds.os_errors import WriteFailed, explain_os_error
from helpers.faults import failing, logged


def _write_json(folder: Path, version: int) -> None:
    write_json(folder / "config.json", {"version": version})


def _write_set(folder: Path, version: int) -> None:
    (folder / "pictures").mkdir(exist_ok=True)
    text = f"{version:99}"
    write_files({folder / "report.html": text, folder / "pictures/roc.png": text.encode()})


def _write_folder(folder: Path, version: int) -> None:
    with complete_folder(folder / "dataset") as new:
        (new / "deep").mkdir(parents=True)
        for name in ("a", "deep/b"):
            (new / name).write_text(str(version), encoding="utf-8")


def _draw_plot(folder: Path, version: int) -> None:
    from PIL import Image

    with complete_file(folder / "plot.png") as path:
        Image.new("L", (64, 64), version).save(path, "PNG")


def _write_history(folder: Path, version: int) -> None:
    run_folder.write_history(folder, [{"epoch": version, "loss": 0.5}])


def _write_page(folder: Path, version: int) -> None:
    from cxr_tfds.export.edge.html_card import Card
    from cxr_tfds.export.edge.html_page import PredictionPage

    info: Any = types.SimpleNamespace(
        labels=("NORMAL", "PNEUMONIA"), several_findings=False, heatmap=False, grey_levels={}
    )
    with PredictionPage(folder / f"page-{version}.html", info, "model.tflite") as page:
        for _ in range(version):
            page.add(Card("x" * 9999, ["0"]))


@functools.cache
def _model() -> Any:
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


def _set_weights(version: int) -> None:
    for weights in _model().weights:
        weights.assign(weights * 0 + version)


def _save_model(folder: Path, version: int) -> None:
    _set_weights(version)
    run_folder.save_model(_model(), folder)


def _save_checkpoint(folder: Path, version: int) -> None:
    import numpy as np

    from cxr_tfds.training.checkpoint import Checkpoint
    from cxr_tfds.training.profile import Profile

    _set_weights(version)
    learner: Any = types.SimpleNamespace(
        devices=None,
        state=lambda: [np.full(1000, version)],
        steps=5,
        steps_done=lambda: 5 * version,
        profile=Profile(wanted=False),
    )
    checkpoint = Checkpoint(folder, learner, None, 300)  # type: ignore[arg-type]
    checkpoint.model = _model()
    checkpoint.history = [
        {"epoch": epoch, "val_accuracy": epoch / 9, "val_loss": 1.0}
        for epoch in range(1, version + 1)
    ]
    checkpoint.save()


def _write_scalars(folder: Path, version: int) -> None:
    from cxr_tfds.training.progress import write_scalars

    write_scalars(folder, {"epoch": 1, "loss": float(version)})


def _export(folder: Path, version: int) -> None:
    from cxr_tfds.export.pack import _publish
    from cxr_tfds.export.results import Exported

    files = [
        (Exported(folder / f"run-{name}.tflite", name, 9, 1.0, 0.5, {}, [], {}, []), body * 5000)
        for name, body in (("float32", b"%d" % version), ("int8", b"%d" % -version))
    ]
    _publish(folder, files)


def _draw_phantom(folder: Path, version: int) -> None:
    from cxr_tfds.phantom.dataset import write_dataset

    images = {"train": {"NORMAL": 1}}
    write_dataset(folder / "phantom", images=images, seed=version, overwrite=True)


def _build(folder: Path, version: int) -> None:
    import tensorflow_datasets as tfds

    from cxr_tfds.builders.xray_folder.xray_folder_dataset_builder import Builder
    from cxr_tfds.building.config import RadiographConfig
    from helpers.sources import draw_image

    for name in ("NORMAL", "PNEUMONIA"):
        for number in range(6):
            path = folder.parent / "source" / name / f"{name}{number}.png"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                draw_image(path)
    builder = Builder(data_dir=folder, config=RadiographConfig(name="mine", size=8 * version))
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(
            manual_dir=folder.parent / "source",
            download_mode=tfds.GenerateMode.REUSE_CACHE_IF_EXISTS,
        )
    )


STEPS: dict[str, Callable[[Path, int], None]] = {
    "json": _write_json,
    "set": _write_set,
    "folder": _write_folder,
    "plot": _draw_plot,
    "history": _write_history,
    "page": _write_page,
    "phantom": _draw_phantom,
    "model": _save_model,
    "checkpoint": _save_checkpoint,
    "scalars": _write_scalars,
    "export": _export,
    "build": _build,
}


def run(name: str, folder: str, version: int) -> list[list[str]]:
    """Performs a step and returns its calls."""
    with logged() as calls:
        STEPS[name](Path(folder), version)
    return calls


def run_failing(
    name: str, folder: str, version: int, call: str, path: str, code: int, after: int
) -> list[Any]:
    """Performs a step in which a call fails; returns the message and whether it was explained."""
    try:
        with failing(call, path, code, after):
            STEPS[name](Path(folder), version)
    except Exception as err:
        message = str(err) if isinstance(err, InputError) else explain_os_error(err)
        return [message or repr(err), isinstance(err, WriteFailed)]
    return [None, False]
