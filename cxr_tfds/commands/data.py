"""`cxr-data`: source folders of radiographs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cxr_tfds.cli import Group, check_new_folder


@click.group(cls=Group)
def cli() -> None:
    """Make source folders of chest radiographs ready for `tfds build`."""


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
    from cxr_tfds.phantom_dataset import CLASSES, ROOT, images_per_split, write_dataset  # NumPy and Pillow

    check_new_folder(out, overwrite=overwrite)
    images = images_per_split(train, test)
    total = sum(sum(classes.values()) for classes in images.values())
    with click.progressbar(length=total, label="Drawing", file=sys.stderr) as bar:
        counts = write_dataset(out, images=images, seed=seed, overwrite=overwrite, progress=bar.update)
    click.echo("".join(f"{heading:<10}" for heading in ("split", *CLASSES)).rstrip())
    for split, classes in counts.items():
        click.echo(f"{split:<10}" + "".join(f"{classes[name]:<10}" for name in CLASSES).rstrip())
    click.echo(out / ROOT)
