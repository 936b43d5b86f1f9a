"""`cxr-app` serves a page that predicts radiographs in a browser, without TensorFlow."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from cxr_tfds import __version__
from cxr_tfds.commands.base import Command

from ..options import model


@click.command(cls=Command, example="cxr-app -m models/first-int8.tflite")
@model
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to serve at. The default accepts connections from this machine only; 0.0.0.0 "
    "accepts them from the network, without a password and without encryption.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8501,
    show_default=True,
    help="TCP port to serve at.",
)
@click.version_option(__version__, prog_name="cxr-app")
def app(model: Path, host: str, port: int) -> None:
    """Serve a page that predicts radiographs in a browser. Not a medical device.

    Images stay in the memory of this machine: nothing is written to disk, logged or sent elsewhere.
    Ctrl-C ends the page.
    """
    importlib.import_module("streamlit")  # a missing extra is reported before the model is loaded

    from cxr_tfds.native import suppress_native_stderr

    from .server import LOOPBACK, check_address, serve
    from .uploads import open_model

    check_address(host, port)
    open_model.cache_clear()  # an earlier page of this process may not have asked for --trust
    with suppress_native_stderr():
        open_model(model)
    if host not in LOOPBACK:
        click.echo("Everyone who can reach this machine can use the page.", err=True)
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"Page: http://{shown}:{port} (Ctrl-C ends it)")
    serve(model, host, port)
