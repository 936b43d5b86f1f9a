"""`cxr-data verify` and `cxr-data sign`: whether a built dataset is unchanged, and who built it."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_tfds.commands import options
from cxr_tfds.commands.base import Command
from cxr_tfds.native import load_tensorflow
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName
from cxr_tfds.signing import load_private_key
from cxr_tfds.text import to_json


@click.command(
    cls=Command,
    context_settings={"show_default": True},
    example="cxr-data verify xray_folder/224",
)
@options.built_dataset
@options.datasets_dir
@options.trust_dataset
@options.as_json
def verify(dataset: DatasetName, data_dir: Path, trust: Path | None, as_json: bool) -> None:
    """Compare every record, class name and setting of a built DATASET with its fingerprint.

    Prints what was changed after the build and exits with 1, or confirms that nothing was. Without
    --trust this finds accidents: whoever changes a dataset on purpose can write a new fingerprint.
    """
    opened = open_dataset(dataset, data_dir)
    load_tensorflow()
    key = opened.verify(trust)
    row = {
        "dataset": opened.name,
        "fingerprint": opened.fingerprint,
        "images": opened.sizes,
        "covers": "records and settings" if opened.recorded is not None else "records",
        "key": key,
    }
    if as_json:
        click.echo(to_json(row, indent=2))
        return
    images = ", ".join(f"{count:,} in {split}" for split, count in opened.sizes.items())
    click.echo(f"{opened.name} is unchanged: {images}.\nFingerprint {opened.fingerprint}")
    if key is not None:
        click.echo(f"Signed with the key {key}")
    if opened.recorded is None:
        click.echo(
            "An earlier version built it: the fingerprint does not cover class names and settings. "
            "Build it again.",
            err=True,
        )


@click.command(
    cls=Command,
    context_settings={"show_default": True},
    example="cxr-data sign xray_folder/224 --key key.pem",
)
@options.built_dataset
@options.datasets_dir
@click.option(
    "--key",
    metavar="PRIVATE_KEY",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Ed25519 private key, in PEM or OpenSSH form.",
)
def sign(dataset: DatasetName, data_dir: Path, key: Path) -> None:
    """Sign a built DATASET, after a comparison of every record with its fingerprint.

    Writes fingerprint.sig next to the shards. `cxr-data verify` and `cxr-train` check it with
    --trust.
    """
    from cxr_tfds.reading.verify import check_has_fingerprint, sign_dataset

    opened = open_dataset(dataset, data_dir)
    # Before TensorFlow takes seconds to load.
    load_private_key(key)
    check_has_fingerprint(opened)
    load_tensorflow()
    click.echo(sign_dataset(opened, key))
