"""The command `cxr-export`: a run folder to `.tflite` files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cxr_tfds.commands import options
from cxr_tfds.commands.base import Command, NearestChoice, print_notice
from cxr_tfds.files import check_new_folder
from cxr_tfds.locks import lock_folder
from cxr_tfds.native import load_tensorflow
from cxr_tfds.reading.run_data import open_run_dataset
from cxr_tfds.run_folder import check_finished
from cxr_tfds.signing import load_private_key
from cxr_tfds.sources.paths import join_names
from cxr_tfds.training.settings import read_run_config
from cxr_tfds.training.threshold_rule import check_threshold_rule

from .formats import FORMATS


@click.command(
    cls=Command,
    context_settings={"show_default": True},
    example="cxr-export runs/first -o models --format int8",
    groups={
        "Files": ("out", "formats", "variant", "sign", "overwrite"),
        "Decision": ("threshold_rule",),
        "Quantization": ("representative_images", "keep_float"),
        "Check": ("max_auc_drop", "min_agreement", "strict", "runtime", "data_dir", "verify"),
    },
)
@options.run
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the .tflite files and export.json; it must be empty without --overwrite.",
)
@click.option(
    "--format",
    "formats",
    type=NearestChoice(list(FORMATS)),
    multiple=True,
    default=("float32", "int8"),
    help=f"Number format of the file: {', '.join(FORMATS)}. Repeat the option for several files.",
)
@click.option(
    "--variant",
    type=NearestChoice(("grey", "plain", "rgb")),
    default="grey",
    help="What the file takes and gives: `grey` takes a grey image and gives logits and the class "
    "activation map; `plain` gives the logits alone; `rgb` takes an RGB image, gives "
    "probabilities with the threshold 0.5, and carries the metadata that MediaPipe Tasks "
    "needs.",
)
@click.option(
    "--sign",
    metavar="PRIVATE_KEY",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Sign the files with this Ed25519 key, in PEM or OpenSSH form. cxr-infer --trust then "
    "accepts them only if they are unchanged.",
)
@options.threshold_rule
@options.data_dir
@options.verify
@click.option(
    "--representative-images",
    type=click.IntRange(min=2),
    default=256,
    help="Number of training images that set the quantization ranges of the integer formats.",
)
@click.option(
    "--keep-float",
    multiple=True,
    metavar="LAYER",
    help="Keep a layer in float32 in the int8 formats. Repeat the option for several layers.",
)
@click.option(
    "--max-auc-drop",
    type=click.FloatRange(0, 1),
    default=0.005,
    help="Do not publish a file that loses more AUC than this on validation.",
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    default=0.98,
    help="Do not publish a file that makes a smaller share of the Keras model's decisions on "
    "validation.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Publish nothing if validation has too few images to show --min-agreement, or if a file "
    "misses a limit on the test split. Without this option, a warning reports it.",
)
@click.option(
    "--runtime",
    type=NearestChoice(("all", "litert")),
    default="all",
    help="Runtimes that must run the file: `all` is LiteRT and tflite-runtime 2.14.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Write to --out although it is not empty, and replace files of the same name.",
)
@options.version
def export(
    run: Path,
    out: Path,
    formats: tuple[str, ...],
    variant: str,
    threshold_rule: str | None,
    data_dir: Path | None,
    verify: bool,
    sign: Path | None,
    representative_images: int,
    keep_float: tuple[str, ...],
    max_auc_drop: float,
    min_agreement: float,
    strict: bool,
    runtime: str,
    overwrite: bool,
) -> None:
    """Convert the model of the run folder RUN to TFLite.

    Each file is run on validation and test. It is published only if it stays within --max-auc-drop
    and --min-agreement.
    """
    # What the user may have to correct, before TensorFlow takes seconds to load. The run comes
    # first, because RUN and --out may have been swapped.
    config = read_run_config(run)
    click.get_current_context().with_resource(lock_folder(out))
    check_new_folder(out, overwrite=overwrite)
    check_finished(run)
    if threshold_rule is not None:
        check_threshold_rule(config, threshold_rule)
    if sign is not None:
        load_private_key(sign)
    dataset = open_run_dataset(config, data_dir)
    load_tensorflow()
    if verify:
        dataset.verify()
    from .edge.runtime import RUNTIMES
    from .pack import Limits, export_run
    from .results import to_text

    runtimes = tuple(RUNTIMES) if runtime == "all" else (runtime,)
    files = export_run(
        run,
        out,
        tuple(dict.fromkeys(formats)),
        data_dir=data_dir,
        variant=variant,
        threshold_rule=threshold_rule,
        representative=representative_images,
        limits=Limits(max_auc_drop, min_agreement, runtimes, strict),
        keep_float=tuple(dict.fromkeys(keep_float)),
        sign=sign,
    )
    click.echo(to_text(files) + "\n")
    for file in files:
        click.echo(f"{file.path}")
    for warning in dict.fromkeys(warning for file in files for warning in file.warnings):
        names = join_names([file.path.name for file in files if warning in file.warnings])
        print_notice("Warning:", "yellow", f"{names}: {warning}", sys.stderr)
