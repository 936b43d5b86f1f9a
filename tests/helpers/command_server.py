"""Runs console scripts in forks of one process that has loaded TensorFlow once.

A shell script of many commands would otherwise load it for each of them. `CommandServer.folder`
holds a small script for each command, to be put first on PATH.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import runpy
import shlex
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

PRELOADED = (
    "tensorflow",
    "tensorflow_datasets.scripts.cli.main",
    "cxr_tfds.builders",
    "cxr_tfds.commands.data",
    "cxr_tfds.commands.train",
    "cxr_tfds.commands.evaluate",
    "cxr_tfds.export.command",
    "cxr_tfds.export.edge.command",
    "cxr_tfds.training.run",
)


class CommandServer:
    """Starts the server, and stops it at the end of a `with` block.

    Args:
      folder: Where to write the scripts; short, because a socket's path is limited to 107 bytes.
      commands: Names of console scripts, and arguments to add to each call.
    """

    def __init__(self, folder: Path, commands: Mapping[str, Sequence[str]]) -> None:
        self.folder = folder
        self._socket = folder / "socket"
        client = shlex.join([sys.executable, "-I", "-S", __file__, "client", str(self._socket)])
        for name, added in commands.items():
            script = folder / name
            script.write_text(f'#!/bin/sh\nexec {client} {name} "$@" {shlex.join(added)}\n')
            script.chmod(0o755)

    def __enter__(self) -> CommandServer:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "server", str(self._socket)],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self.__exit__()
            raise RuntimeError("The server did not start. Its standard error shows the reason.")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def call(address: str, arguments: list[str]) -> int:
    """Sends a command with this process's files to the server; returns its exit code."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        request = json.dumps({"argv": arguments, "cwd": os.getcwd(), "env": dict(os.environ)})  # noqa: PTH109
        socket.send_fds(connection, [len(request.encode()).to_bytes(4, "big")], [0, 1, 2])
        connection.sendall(request.encode())
        answer = connection.recv(1)
    return answer[0] if answer else 1


def serve(address: str) -> None:
    """Answers calls until it is killed."""
    for name in PRELOADED:
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)  # noqa: T201
        while True:
            connection, _ = listener.accept()
            if not os.fork():
                listener.close()
                _answer(connection)
            connection.close()
            while _reap():
                pass


def _reap() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] > 0
    except ChildProcessError:
        return False


def _answer(connection: socket.socket) -> None:
    """Runs one command in a child, whose end the caller learns of even if it crashes."""
    size, files, _, _ = socket.recv_fds(connection, 4, 3)
    text = b""
    while len(text) < int.from_bytes(size, "big"):
        text += connection.recv(1 << 16)
    request = json.loads(text)
    child = os.fork()
    if not child:
        for target, file in enumerate(files):
            os.dup2(file, target)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        sys.argv = request["argv"]
        os._exit(_run())
    for file in files:
        os.close(file)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(bytes([status & 255]))
    os._exit(0)


def _run() -> int:
    code = 0
    try:
        name = sys.argv[0]
        if name == "python":
            sys.argv = sys.argv[1:]
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            (script,) = importlib.metadata.entry_points(group="console_scripts", name=name)
            code = script.load()() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)  # noqa: T201
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(sys.argv[2])
    else:
        sys.exit(call(sys.argv[2], sys.argv[3:]))
