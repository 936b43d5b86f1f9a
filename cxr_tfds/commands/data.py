"""`cxr-data`: source folders of radiographs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxr_tfds.augmentation.presets import PRESETS
from cxr_tfds.commands import options
from cxr_tfds.commands.base import Group, NearestChoice
from cxr_tfds.errors import InputError
from cxr_tfds.files import check_new_folder
from cxr_tfds.native import load_tensorflow
from cxr_tfds.reading.datasets import buildable_datasets
from cxr_tfds.text import did_you_mean

if TYPE_CHECKING:
    from cxr_tfds.looking.contact_sheet import Augmentation
    from cxr_tfds.looking.survey import Scanned


@click.group(cls=Group)
def cli() -> None:
    """Look at source folders of chest radiographs before `tfds build`, or draw one."""


def _buildable(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and value not in (known := list(buildable_datasets())):
        raise click.BadParameter(did_you_mean(value, known), ctx, param)
    return value


_source = click.argument("source", type=click.Path(path_type=Path))
_dataset = click.option(
    "--dataset",
    callback=_buildable,
    help="Read SOURCE as this dataset's builder does.  [default: class folders, with or without splits]",
)
_config = click.option(
    "--config", metavar="JSON", help="Settings as `tfds build --config` takes them."
)


@cli.command()
@_source
@_dataset
@_config
@options.as_json
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Picture to write, PNG."
)
@click.option("--overwrite", is_flag=True, help="Replace the picture if it exists.")
def summary(
    source: Path,
    dataset: str | None,
    config: str | None,
    as_json: bool,
    plot: Path | None,
    overwrite: bool,
) -> None:
    """Count what a folder or zip of radiographs holds, and check it as a build would.

    Every image is decoded: splits, classes, findings, patients, sizes and colours; unusable files,
    byte-identical ones, patients in two splits, and what tells a class without a look at the lung. Of a
    dataset that is built, the report of its build is shown.
    """
    from cxr_tfds.building.build_report import JSON_FILE, report_text
    from cxr_tfds.looking.survey import survey, survey_text

    if plot is not None:
        _check_new_file(plot, (".png",), overwrite=overwrite)
    if (source / JSON_FILE).is_file():
        report = json.loads((source / JSON_FILE).read_text(encoding="utf-8"))
        if plot is not None:
            raise InputError(
                f"{source} is a dataset that is built; --plot takes the source it was built from."
            )
        click.echo(json.dumps(report, indent=2) if as_json else report_text(report))
        return
    scanned = _scan(source, dataset, config)
    with click.progressbar(length=len(scanned.images), label="Reading", file=sys.stderr) as bar:
        found = survey(scanned, bar.update)
    click.echo(json.dumps(found.report, indent=2) if as_json else survey_text(found.report))
    if plot is not None:
        from cxr_tfds.files import complete_file
        from cxr_tfds.looking.survey_plot import draw_survey

        with complete_file(plot) as beside:
            draw_survey(found, beside)


@cli.command()
@_source
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Page: .png or .html.",
)
@_dataset
@_config
@click.option(
    "--each",
    type=click.IntRange(1, 100),
    default=8,
    show_default=True,
    help="Images of a split and class.",
)
@click.option(
    "--size",
    type=click.IntRange(1, 4096),
    help="Side in pixels the images are fitted to.  [default: 224]",
)
@click.option(
    "--fit", type=NearestChoice(["stretch", "pad", "crop"]), help="How.  [default: stretch]"
)
@click.option(
    "--augmented",
    type=NearestChoice(list(PRESETS)),
    is_flag=False,
    flag_value="default",
    metavar="[PRESET]",
    help="Show training images a second time, changed as in training. Without a preset: default.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of the sample."
)
@click.option("--overwrite", is_flag=True, help="Replace the page if it exists.")
def preview(
    source: Path,
    out: Path,
    dataset: str | None,
    config: str | None,
    each: int,
    size: int | None,
    fit: str | None,
    augmented: str | None,
    seed: int,
    overwrite: bool,
) -> None:
    """Show sampled images of each split and class as the network will see them."""
    from cxr_tfds.building.fitting import Fitting
    from cxr_tfds.files import complete_file
    from cxr_tfds.looking import contact_sheet

    _check_new_file(out, contact_sheet.FORMATS, overwrite=overwrite)
    fitting = Fitting(size or 224, 1, fit or "stretch")
    change = _augmentation(augmented, seed) if augmented else None
    scanned = _scan(source, dataset, config)
    rows = contact_sheet.sheet(
        scanned.images, scanned.classes, fitting, each=each, seed=seed, augmented=change
    )
    title = f"{source.name}, {fitting.fit} to {fitting.size} x {fitting.size}"
    if augmented:
        title += f", augmentation {augmented}"
    with complete_file(out) as beside:
        contact_sheet.write_sheet(rows, beside, title)
    click.echo(out)


def _scan(source: Path, dataset: str | None, config: str | None) -> Scanned:
    from cxr_tfds.looking.survey import parse_config, scan

    settings = parse_config(config, dataset)
    if dataset is not None:
        load_tensorflow()  # a builder needs it
    return scan(source, dataset, settings)


def _check_new_file(path: Path, endings: tuple[str, ...], *, overwrite: bool) -> None:
    if path.suffix.casefold() not in endings:
        raise click.UsageError(
            f"{path} ends in {path.suffix or 'nothing'!r}; expected {' or '.join(endings)}."
        )
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists. Choose another name, or give --overwrite to replace it.")


def _augmentation(preset: str, seed: int) -> Augmentation:
    load_tensorflow()
    from cxr_tfds.augmentation.augment import Augment

    layer = Augment(PRESETS[preset], seed=seed, dtype="float32")

    def change(images: Any) -> Any:
        import numpy as np

        return np.asarray(layer(images, training=True)).round().astype(np.uint8)

    return change


@cli.command()
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write chest_xray/ to.",
)
@click.option(
    "--train",
    type=click.IntRange(10, 100_000),
    default=1300,
    show_default=True,
    help="Images to train on, 40% of them NORMAL.",
)
@click.option(
    "--test",
    type=click.IntRange(10, 100_000),
    default=300,
    show_default=True,
    help="Images to test on, 40% of them NORMAL, of other patients.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The same seed draws the same images.",
)
@click.option("--overwrite", is_flag=True, help="Replace a folder that this command wrote.")
def phantom(out: Path, train: int, test: int, seed: int, overwrite: bool) -> None:
    """Draw a stand-in for the Kaggle chest-xray-pneumonia set.

    Same folders and file names as the original, val with its 8 + 8 images included, but no patient: a
    model trained on it shows that the way to the device works, and nothing else.
    """
    from cxr_tfds.phantom.dataset import (  # NumPy and Pillow
        CLASSES,
        ROOT,
        images_per_split,
        write_dataset,
    )

    check_new_folder(out, overwrite=overwrite)
    images = images_per_split(train, test)
    total = sum(sum(classes.values()) for classes in images.values())
    with click.progressbar(length=total, label="Drawing", file=sys.stderr) as bar:
        counts = write_dataset(
            out, images=images, seed=seed, overwrite=overwrite, progress=bar.update
        )
    click.echo("".join(f"{heading:<10}" for heading in ("split", *CLASSES)).rstrip())
    for split, classes in counts.items():
        click.echo(f"{split:<10}" + "".join(f"{classes[name]:<10}" for name in CLASSES).rstrip())
    click.echo(out / ROOT)
