"""The machines of a run, as `TF_CONFIG` lists them. Loads no TensorFlow.

See https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import Annotated, NamedTuple, TypedDict

from msgspec import Meta

from cxr_tfds.deadline import serves
from cxr_tfds.errors import InputError
from cxr_tfds.schema import Count, parse_json

_ROLES = ("chief", "worker")
_WAIT_SECONDS = 600.0
_PAUSE_SECONDS = 0.2
_EXPECTED = (
    'expected {"cluster": {"worker": ["HOST:PORT", …]}, "task": {"type": "worker", "index": 0}} '
    "with the same cluster on every machine; a chief is optional"
)


class _Task(TypedDict):
    type: str
    index: Count | Annotated[str, Meta(pattern=r"^\d{1,6}\Z")]


class _Config(TypedDict):
    cluster: dict[str, list[Annotated[str, Meta(pattern=r"^\S+:\d{1,5}\Z")]]]
    task: _Task


class Cluster(NamedTuple):
    """The number of this machine, from 0, which is the chief, and HOST:PORT of each machine."""

    worker: int
    addresses: tuple[str, ...]

    @property
    def is_chief(self) -> bool:
        """Whether this machine is the chief, which alone writes files."""
        return self.worker == 0


def read_cluster(text: str | None = None) -> Cluster | None:
    """Returns the machines of a `TF_CONFIG`, or None if it is empty or lists one machine only.

    `text` is the environment variable by default. Raises an InputError if it is invalid.
    """
    text = os.environ.get("TF_CONFIG", "") if text is None else text
    if not text:
        return None
    try:
        config = parse_json(text, _Config, "TF_CONFIG", "", allow_unknown=True)
    except InputError as err:
        raise InputError(f"Invalid TF_CONFIG {text!r}; {_EXPECTED}. ({err})") from err
    tasks = {
        (role, i): address
        for role in _ROLES
        for i, address in enumerate(config["cluster"].get(role, ()))
    }
    own = config["task"]["type"], int(config["task"]["index"])
    has_other_roles = bool(set(config["cluster"]) - set(_ROLES))
    if has_other_roles or own not in tasks or len(set(tasks.values())) < len(tasks):
        raise InputError(f"Invalid TF_CONFIG {text!r}; {_EXPECTED}.")
    return Cluster(list(tasks).index(own), tuple(tasks.values())) if len(tasks) > 1 else None


def is_chief() -> bool:
    """Returns whether this machine is the chief, or the only one."""
    cluster = read_cluster()
    return cluster is None or cluster.is_chief


def wait_for_all(cluster: Cluster, *, seconds: float = _WAIT_SECONDS) -> None:
    """Waits until every machine answers at its port, and listens at the own port meanwhile.

    TensorFlow's own wait cannot be interrupted and has no time limit.
    """
    own = cluster.addresses[cluster.worker]
    missing = [address for address in cluster.addresses if address != own]
    deadline = time.monotonic() + seconds
    print(f"waiting for {', '.join(missing)}", file=sys.stderr)  # noqa: T201
    try:
        listening = socket.create_server(("", int(own.rpartition(":")[2])))
    except OSError as err:
        raise InputError(
            f"This machine cannot listen at its address in TF_CONFIG, {own}: {err}. "
            "Choose a free port."
        ) from err
    with listening:
        while missing := [address for address in missing if not serves(address, sends_first=False)]:
            if time.monotonic() > deadline:
                raise InputError(
                    f"No answer from {', '.join(missing)} of TF_CONFIG in {seconds:.0f} s. Start "
                    "the same command on every machine, each with its own task in TF_CONFIG."
                )
            time.sleep(_PAUSE_SECONDS)
