"""The machines of a tf.data service: `python -m cxr_tfds.commands.data_service`."""

from __future__ import annotations

import click

from cxr_tfds.commands.base import Group
from cxr_tfds.native import load_tensorflow
from cxr_tfds.reading.service import _SCHEME, check_address


@click.group(cls=Group)
def cli() -> None:
    """Serve records to `cxr-train --data-service`."""


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), default=5050, show_default=True)
def dispatcher(port: int) -> None:
    """Run the dispatcher, which hands shards to workers."""
    load_tensorflow()
    import tensorflow as tf

    server = tf.data.experimental.service.DispatchServer(
        tf.data.experimental.service.DispatcherConfig(port=port, protocol="grpc")
    )
    click.echo(server.target)
    server.join()


@cli.command()
@click.option(
    "--dispatcher", "address", required=True, metavar="HOST:PORT", help="Of the dispatcher."
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="a free one")
@click.option(
    "--host",
    default="localhost",
    show_default=True,
    help="Name under which trainers reach this worker.",
)
def worker(address: str, port: int, host: str) -> None:
    """Run a worker, which reads shards and sends batches."""
    check_address(_SCHEME + address)
    load_tensorflow()
    import tensorflow as tf

    # TensorFlow puts the port it chose in the place of %port%.
    config = tf.data.experimental.service.WorkerConfig(
        dispatcher_address=address, worker_address=f"{host}:{port or '%port%'}", port=port
    )
    server = tf.data.experimental.service.WorkerServer(config)
    click.echo(f"{host} serves {address}")
    server.join()


if __name__ == "__main__":
    cli(prog_name="python -m cxr_tfds.commands.data_service")
