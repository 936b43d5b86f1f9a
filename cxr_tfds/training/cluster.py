"""The machines of a run, as `TF_CONFIG` names them; loads no TensorFlow.

See https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from cxr_tfds.errors import InputError

_ROLES = ("chief", "worker")
_PATIENCE_SECONDS = 600.0
_ANSWER_SECONDS = 2.0
_PAUSE_SECONDS = 0.2


class Cluster(NamedTuple):
    """Number of this machine, from 0, which is the chief, and the HOST:PORT of all."""

    worker: int
    addresses: tuple[str, ...]

    @property
    def chief(self) -> bool:
        return self.worker == 0


def read_cluster(text: str | None = None) -> Cluster | None:
    """The machines of a `TF_CONFIG`; None without one, or with one machine only.

    Args:
      text: the environment's if not given.

    Raises:
      InputError: it is no JSON of a cluster of workers, with one of them as its task.
    """
    text = os.environ.get("TF_CONFIG", "") if text is None else text
    if not text:
        return None
    expected = (
        'expected {"cluster": {"worker": ["HOST:PORT", …]}, "task": {"type": "worker", "index": 0}}, '
        "the same cluster on every machine; there may be a chief, too"
    )
    try:
        config = json.loads(text)
        tasks = {
            (role, i): str(of)
            for role in _ROLES
            for i, of in enumerate(config["cluster"].get(role, ()))
        }
        others = set(config["cluster"]) - set(_ROLES)
        own = config["task"]["type"], int(config["task"]["index"])
    except (json.JSONDecodeError, TypeError, KeyError, AttributeError, ValueError) as err:
        raise InputError(f"TF_CONFIG={text!r} cannot be read; {expected}.") from err
    if (
        others
        or own not in tasks
        or not all(of.rpartition(":")[2].isdecimal() for of in tasks.values())
    ):
        raise InputError(
            f"TF_CONFIG={text!r} has task {own} and roles {', '.join(config['cluster'])}; {expected}."
        )
    return Cluster(list(tasks).index(own), tuple(tasks.values())) if len(tasks) > 1 else None


def wait_for_all(
    cluster: Cluster, say: Callable[[str], object], *, seconds: float = _PATIENCE_SECONDS
) -> None:
    """Returns when every machine has answered at its port; each listens at its own meanwhile.

    TensorFlow's own wait for the others cannot be interrupted, and has no end that could be set.

    Raises:
      InputError: one does not answer, or the port of this machine cannot be had.
    """
    own = cluster.addresses[cluster.worker]
    missing = [address for address in cluster.addresses if address != own]
    deadline = time.monotonic() + seconds
    say(f"waiting for {', '.join(missing)}")
    try:
        listening = socket.create_server(("", int(own.rpartition(":")[2])))
    except OSError as err:
        raise InputError(
            f"TF_CONFIG gives this machine {own}, which cannot be listened at: {err}."
        ) from err
    with listening:
        while missing := [address for address in missing if not _answers(address)]:
            if time.monotonic() > deadline:
                raise InputError(
                    f"{', '.join(missing)} of TF_CONFIG did not answer in {seconds:.0f} s. Start the same command on "
                    "every machine, each with its own task in TF_CONFIG."
                )
            time.sleep(_PAUSE_SECONDS)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
