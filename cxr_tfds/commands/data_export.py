"""`cxr-data export`: writes a built dataset in a form that other libraries read."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.core import ParameterSource

from cxr_tfds.commands import options
from cxr_tfds.commands.base import Command, NearestChoice
from cxr_tfds.files import check_new_folder
from cxr_tfds.native import load_tensorflow
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName
from cxr_tfds.text import text_table, to_json

_FORMATS = ("folder", "parquet", "webdataset", "arrayrecord")
_MEGABYTE = 1_000_000


@click.command(
    cls=Command,
    context_settings={"show_default": True},
    example="cxr-data export xray_folder/224 --to parquet -o tables",
)
@options.built_dataset
@click.option(
    "--to",
    "form",
    required=True,
    type=NearestChoice(_FORMATS),
    help="`folder`: one PNG per image and labels.csv. `parquet`: tables with the images. "
    "`webdataset`: tar files. `arrayrecord`: files for random access.",
)
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write.",
)
@options.datasets_dir
@click.option(
    "--file-size",
    type=click.IntRange(1, 100_000),
    default=500,
    help="Approximate size in MB of each file of `parquet` and `webdataset`, before compression.",
)
@click.option("--overwrite", is_flag=True, help="Replace a folder that this command wrote.")
@options.as_json
@click.pass_context
def export(
    ctx: click.Context,
    dataset: DatasetName,
    form: str,
    out: Path,
    data_dir: Path,
    file_size: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a built DATASET as image folders, Parquet, WebDataset or ArrayRecord.

    All splits and all fields are written. Images are stored as PNG without loss; the config
    `original` keeps its source files. The folder appears when it is complete.
    """
    if ctx.get_parameter_source("file_size") is not ParameterSource.DEFAULT and form in (
        "folder",
        "arrayrecord",
    ):
        raise click.UsageError(f"--file-size does not apply to --to {form}. Leave it out.")
    check_new_folder(out, overwrite=overwrite)
    opened = open_dataset(dataset, data_dir)
    load_tensorflow()
    from cxr_tfds.conversion.convert import convert_dataset

    total = sum(opened.sizes.values())
    with click.progressbar(length=total, label="Exporting", file=sys.stderr) as bar:
        counts = convert_dataset(
            opened,
            form,
            out,
            overwrite=overwrite,
            part_bytes=file_size * _MEGABYTE,
            progress=bar.update,
        )
    has_classes = all(name for _, name in counts)
    rows = {
        split: {name: counts[split, name] for name in opened.labels}
        if has_classes
        else {"images": images}
        for split, images in opened.sizes.items()
    }
    if as_json:
        click.echo(to_json({"dataset": opened.name, "folder": str(out), "images": rows}))
        return
    header = opened.labels if has_classes else ["images"]
    table = [("split", *header), *((split, *row.values()) for split, row in rows.items())]
    click.echo(text_table(table))
    click.echo(out)
