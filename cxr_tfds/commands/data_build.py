"""`cxr-data build`: builds a dataset from a folder, with the builder that fits its layout."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxr_tfds.commands import options
from cxr_tfds.commands.base import Command, LocalPath
from cxr_tfds.progress import progress_bar
from cxr_tfds.text import to_json

if TYPE_CHECKING:
    from cxr_tfds.sources.unlabelled import Recognition


@click.command(
    cls=Command,
    context_settings={"show_default": True},
    example="cxr-data build my-images --set negative=Clear",
)
@click.argument("source", type=LocalPath(path_type=Path))
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default="data",
    help="Folder for the dataset. It gets the subfolder DATASET/CONFIG/VERSION.",
)
@options.dataset
@options.config
@options.sets
@click.option("--overwrite", is_flag=True, help="Build the dataset again if it exists.")
@options.as_json
def build(
    source: Path,
    data_dir: Path,
    dataset: str | None,
    config: str,
    sets: dict[str, Any],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Build a dataset of TFRecords from a folder or archive of radiographs.

    Recognizes class folders, tables of labels and published datasets. Nothing is published unless
    every image was read and checked.
    """
    from cxr_tfds.building.build import build_source, format_built
    from cxr_tfds.sources.config_json import parse_config

    with show_progress() as progress:
        built = build_source(
            source,
            data_dir,
            dataset=dataset,
            settings=parse_config(config) | sets,
            overwrite=overwrite,
            announce=announce,
            progress=progress,
        )
    if as_json:
        report = {"dataset": built.name, "folder": str(built.folder), "is_new": built.is_new}
        click.echo(to_json(report | {"report": built.report}, indent=2))
    else:
        click.echo(format_built(built, data_dir))


def announce(recognized: Recognition) -> None:
    """Prints which builder reads the source, and why."""
    click.echo(f"Building as {recognized.dataset}: {recognized.reason}", err=True)


@contextlib.contextmanager
def show_progress(label: str = "Building") -> Iterator[Callable[[int, int], None]]:
    """Yields a function that shows the images that were read, of all, as a bar on stderr."""
    with contextlib.ExitStack() as stack:
        shown, advance = 0, None

        def update(read: int, total: int) -> None:
            nonlocal shown, advance
            if advance is None:
                advance = stack.enter_context(progress_bar(label, total))
            advance(read - shown)
            shown = read

        yield update
