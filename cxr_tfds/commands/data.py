"""`cxr-data`: inspects source folders of radiographs, draws one, or exports a built dataset."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxr_tfds.augmentation.presets import PRESETS
from cxr_tfds.commands import options
from cxr_tfds.commands.base import Group, LocalPath, NearestChoice
from cxr_tfds.commands.data_build import build
from cxr_tfds.commands.data_export import export
from cxr_tfds.commands.data_verify import sign, verify
from cxr_tfds.errors import InputError
from cxr_tfds.files import check_new_folder, complete_file
from cxr_tfds.native import load_tensorflow
from cxr_tfds.text import screen_width, text_table, to_json

if TYPE_CHECKING:
    from cxr_tfds.looking.contact_sheet import BatchFunction
    from cxr_tfds.looking.survey import ScannedSource


@click.group(
    cls=Group,
    context_settings={"show_default": True},
    example="cxr-data summary images/chest_xray",
)
@options.version
def cli() -> None:
    """Inspect folders of chest radiographs, draw one, or export a built dataset."""


_source = click.argument("source", type=LocalPath(path_type=Path))


@cli.command(example="cxr-data summary images/chest_xray --plot survey.png")
@_source
@options.dataset
@options.config
@options.sets
@options.as_json
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="PNG file to write a plot to."
)
@click.option("--overwrite", is_flag=True, help="Replace the plot if it exists.")
def summary(
    source: Path,
    dataset: str | None,
    config: str,
    sets: dict[str, Any],
    as_json: bool,
    plot: Path | None,
    overwrite: bool,
) -> None:
    """Count the radiographs in a folder or zip and check them as a build would.

    Decodes every image. Reports splits, classes, findings, patients, sizes and colours; unusable
    and byte-identical files; patients in two splits; and file properties that predict the class.
    For a built dataset, prints the report of its build.
    """
    from cxr_tfds.building.build_report import format_report
    from cxr_tfds.building.report_file import JSON_FILE, read_report
    from cxr_tfds.looking.survey import format_survey, survey_source

    if plot is not None:
        _check_new_file(plot, (".png",), overwrite=overwrite)
    if (source / JSON_FILE).is_file():
        if plot is not None:
            raise InputError(
                f"{source} is a built dataset. For --plot, give the source it was built from."
            )
        report = read_report(source)
        text = format_report(report, width=screen_width())
        click.echo(to_json(report, indent=2) if as_json else text)
        return
    scanned = _scan(source, dataset, config, sets)
    images = len(scanned.listing.images)
    with click.progressbar(length=images, label="Reading", file=sys.stderr) as bar:
        survey = survey_source(scanned, bar.update)
    click.echo(to_json(survey.report, indent=2) if as_json else format_survey(survey.report))
    if plot is not None:
        from cxr_tfds.looking.survey_plot import plot_survey

        with complete_file(plot) as temporary:
            plot_survey(survey, temporary)


@cli.command(
    example="cxr-data preview images/chest_xray -o preview.html",
    groups={
        "Source": ("dataset", "config", "sets"),
        "Images": ("each", "size", "fit", "augmented", "seed"),
        "Output": ("out", "overwrite"),
    },
)
@_source
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, .png or .html.",
)
@options.dataset
@options.config
@options.sets
@click.option(
    "--each",
    type=click.IntRange(1, 100),
    default=8,
    help="Number of images for each split and class.",
)
@click.option(
    "--size",
    type=click.IntRange(1, 4096),
    default=224,
    help="Side in pixels to which the images are fitted.",
)
@click.option(
    "--fit",
    type=NearestChoice(["stretch", "pad", "crop"]),
    default="stretch",
    help="How the images are fitted: `stretch` scales both sides, `pad` adds black borders, "
    "`crop` cuts the centre.",
)
@click.option(
    "--augmented",
    type=NearestChoice(list(PRESETS)),
    is_flag=False,
    flag_value="default",
    metavar="[PRESET]",
    help="Also show the training images as augmented by this preset (`default` if none is named).",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    help="Seed of the sample and the augmentation.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def preview(
    source: Path,
    out: Path,
    dataset: str | None,
    config: str,
    sets: dict[str, Any],
    each: int,
    size: int,
    fit: str,
    augmented: str | None,
    seed: int,
    overwrite: bool,
) -> None:
    """Show sampled images of each split and class as the network will see them."""
    from cxr_tfds.building.fitting import FitSettings
    from cxr_tfds.looking.contact_sheet import FORMATS, sample_rows, write_sheet

    _check_new_file(out, FORMATS, overwrite=overwrite)
    augment = _load_augmentation(augmented, seed) if augmented else None
    scanned = _scan(source, dataset, config, sets)
    rows = sample_rows(
        scanned.listing.images,
        scanned.listing.classes,
        FitSettings(size, fit=fit, levels=scanned.config.grey_levels),
        each=each,
        seed=seed,
        augment=augment,
    )
    title = f"{source.name}, {fit} to {size} x {size}"
    if augmented:
        title += f", augmentation {augmented}"
    with complete_file(out) as temporary:
        write_sheet(rows, temporary, title)
    click.echo(out)


def _scan(source: Path, dataset: str | None, config: str, sets: dict[str, Any]) -> ScannedSource:
    from cxr_tfds.looking.survey import scan_source
    from cxr_tfds.sources.config_json import parse_config

    settings = parse_config(config) | sets
    return scan_source(source, dataset, settings)


def _check_new_file(path: Path, suffixes: tuple[str, ...], *, overwrite: bool) -> None:
    if path.suffix.casefold() not in suffixes:
        raise click.UsageError(
            f"{path} has the suffix {path.suffix!r}; expected {' or '.join(suffixes)}."
        )
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists. Choose another name, or add --overwrite to replace it.")


def _load_augmentation(preset: str, seed: int) -> BatchFunction:
    load_tensorflow()
    import numpy as np

    from cxr_tfds.augmentation.augment import Augment

    layer = Augment(PRESETS[preset], seed=seed, dtype="float32")

    def augment(images: Any) -> Any:
        return np.asarray(layer(images, training=True)).round().astype(np.uint8)

    return augment


@cli.command(example="cxr-data phantom -o images")
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder in which chest_xray/ is created.",
)
@click.option(
    "--train",
    type=click.IntRange(10, 100_000),
    default=1300,
    help="Number of training images, 40% of them NORMAL.",
)
@click.option(
    "--test",
    type=click.IntRange(10, 100_000),
    default=300,
    help="Number of test images, 40% of them NORMAL, of other patients.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    help="Seed; the same seed draws the same images.",
)
@click.option("--overwrite", is_flag=True, help="Replace a folder that this command wrote.")
def phantom(out: Path, train: int, test: int, seed: int, overwrite: bool) -> None:
    """Draw a stand-in for the Kaggle chest-xray-pneumonia set.

    Folders and file names match the original, including val with its 8 + 8 images. The
    images show no patient: a model trained on them proves that the pipeline works, nothing else.
    """
    from cxr_tfds.phantom.dataset import CLASSES, ROOT, images_per_split, write_dataset

    check_new_folder(out, overwrite=overwrite)
    images = images_per_split(train, test)
    total = sum(sum(classes.values()) for classes in images.values())
    with click.progressbar(length=total, label="Drawing", file=sys.stderr) as bar:
        counts = write_dataset(
            out, images=images, seed=seed, overwrite=overwrite, progress=bar.update
        )
    rows = [(split, *(classes[name] for name in CLASSES)) for split, classes in counts.items()]
    click.echo(text_table([("split", *CLASSES), *rows]))
    click.echo(out / ROOT)


cli.add_command(build)
cli.add_command(export)
cli.add_command(sign)
cli.add_command(verify)
