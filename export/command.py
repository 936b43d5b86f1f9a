"""`cxr-export`: a run folder to `.tflite` files."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_tfds.cli import Command, NearestChoice, check_new_folder, load_tensorflow
from cxr_tfds.commands import options

_FORMATS = ("int8", "float32")


@click.command(cls=Command)
@options.run
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write to.")
@click.option(
    "--format",
    "formats",
    type=NearestChoice(_FORMATS),
    multiple=True,
    default=("float32", "int8"),
    show_default=True,
    help="May be given several times.",
)
@options.data_dir
@click.option(
    "--calibration",
    type=click.IntRange(min=2),
    default=256,
    show_default=True,
    help="Training images that set the int8 ranges.",
)
@click.option(
    "--max-auc-drop",
    type=click.FloatRange(0, 1),
    default=0.005,
    show_default=True,
    help="A file that loses more AUC on validation is not published.",
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    default=0.98,
    show_default=True,
    help="A file that decides fewer validation images as the Keras model does is not published.",
)
@click.option("--overwrite", is_flag=True, help="Replace files of the same name in --out.")
def export(
    run: Path,
    out: Path,
    formats: tuple[str, ...],
    data_dir: Path | None,
    calibration: int,
    max_auc_drop: float,
    min_agreement: float,
    overwrite: bool,
) -> None:
    """Convert the model of RUN to TFLite, and check that it still makes the same decisions."""
    check_new_folder(out, overwrite=overwrite)
    load_tensorflow()
    from .pack import export_run

    exported = export_run(
        run,
        out,
        tuple(dict.fromkeys(formats)),
        data_dir=data_dir,
        calibration=calibration,
        max_auc_drop=max_auc_drop,
        min_agreement=min_agreement,
        say=lambda line: click.echo(line, err=True),
    )
    click.echo(f"{'format':<8} {'KB':>6}  {'split':<10} {'agreement':>9}  {'AUC':>6} {'Keras':>6}  largest difference")
    for file in exported:
        for split, c in file.comparisons.items():
            aucs = f"{c.auc:6.4f} {c.auc_keras:6.4f}" if c.auc is not None else f"{'':6} {'':6}"
            click.echo(
                f"{file.quantization:<8} {file.size_bytes / 1000:6.0f}  {split:<10} {c.agreement:9.2%}  {aucs}  "
                f"{c.max_difference:.4f}"
            )
    click.echo(f"run in: {exported[0].runtime}")
    for file in exported:
        click.echo(f"{file.path}")
