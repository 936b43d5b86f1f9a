"""`cxr-export`: a run folder to `.tflite` files."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_tfds.commands import options
from cxr_tfds.commands.base import Command, NearestChoice
from cxr_tfds.files import check_new_folder
from cxr_tfds.native import load_tensorflow

from .formats import FORMATS


@click.command(cls=Command)
@options.run
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to.",
)
@click.option(
    "--format",
    "formats",
    type=NearestChoice(list(FORMATS)),
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
    help="Training images that set the ranges of activations in whole numbers.",
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
@click.option(
    "--runtime",
    type=NearestChoice(("all", "litert")),
    default="all",
    show_default=True,
    help="Where each file must run: LiteRT and tflite-runtime 2.14, or LiteRT alone.",
)
@click.option(
    "--input",
    "input_",
    type=NearestChoice(("grey", "rgb")),
    default="grey",
    show_default=True,
    help="rgb: take RGB, give calibrated probabilities, and carry the metadata that MediaPipe Tasks asks for.",
)
@click.option("--heatmap", is_flag=True, help="Give the class activation map as a second output.")
@click.option(
    "--keep-float",
    multiple=True,
    metavar="LAYER",
    help="Leave a layer float32 in the int8 formats. May be given several times.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Write to --out though it is not empty; same names are replaced.",
)
def export(
    run: Path,
    out: Path,
    formats: tuple[str, ...],
    data_dir: Path | None,
    calibration: int,
    max_auc_drop: float,
    min_agreement: float,
    runtime: str,
    input_: str,
    heatmap: bool,
    keep_float: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Convert the model of RUN to TFLite, and check that it still makes the same decisions."""
    check_new_folder(out, overwrite=overwrite)
    load_tensorflow()
    from .edge.runtime import RUNTIMES
    from .pack import Demands, export_run
    from .results import as_text

    exported = export_run(
        run,
        out,
        tuple(dict.fromkeys(formats)),
        data_dir=data_dir,
        calibration=calibration,
        demands=Demands(
            max_auc_drop, min_agreement, tuple(RUNTIMES) if runtime == "all" else (runtime,)
        ),
        heatmap=heatmap,
        rgb=input_ == "rgb",
        keep_float=tuple(dict.fromkeys(keep_float)),
        say=lambda line: click.echo(line, err=True),
    )
    click.echo(as_text(exported) + "\n")
    for file in exported:
        click.echo(f"{file.path}")
