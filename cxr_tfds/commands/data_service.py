"""The servers of a tf.data service: `python -m cxr_tfds.commands.data_service`."""

from __future__ import annotations

import threading

import click

from cxr_tfds.commands import options
from cxr_tfds.commands.base import Group
from cxr_tfds.native import load_tensorflow
from cxr_tfds.reading.service import SCHEME, check_address


@click.group(
    cls=Group,
    context_settings={"show_default": True},
    example="python -m cxr_tfds.commands.data_service dispatcher --port 5050",
)
@options.version
def cli() -> None:
    """Serve training records to `cxr-train --data-service`."""


@cli.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=5050,
    help="Port to listen on; 0 chooses a free one.",
)
def dispatcher(port: int) -> None:
    """Run the dispatcher, which assigns shards to workers."""
    load_tensorflow()
    import tensorflow as tf

    server = tf.data.experimental.service.DispatchServer(
        tf.data.experimental.service.DispatcherConfig(port=port, protocol="grpc")
    )
    _serve(server, server.target)


@cli.command()
@click.option(
    "--dispatcher", "address", required=True, metavar="HOST:PORT", help="Address of the dispatcher."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default="a free one",
    help="Port to listen on.",
)
@click.option(
    "--host", default="localhost", help="Name under which training machines reach this worker."
)
def worker(address: str, port: int, host: str) -> None:
    """Run a worker, which reads shards and sends batches."""
    check_address(SCHEME + address)
    load_tensorflow()
    import tensorflow as tf

    # TensorFlow replaces %port% with the port it chose.
    config = tf.data.experimental.service.WorkerConfig(
        dispatcher_address=address, worker_address=f"{host}:{port or '%port%'}", port=port
    )
    server = tf.data.experimental.service.WorkerServer(config)
    _serve(server, f"{host} serves {address}")


def _serve(server: object, ready: str) -> None:
    """Keeps a server until a signal ends the process; TensorFlow's `join` ignores Ctrl-C."""
    click.echo(ready)
    threading.Event().wait()


if __name__ == "__main__":
    cli(prog_name="python -m cxr_tfds.commands.data_service")
