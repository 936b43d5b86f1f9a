"""Runs console scripts in forks of one process that has loaded TensorFlow once.

A shell script of many commands would otherwise load it for each of them. `CommandServer.folder`
holds a small script for each command, to be put first on PATH.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# Environment variable: a module of this folder to import before a command.
SETUP = "CXR_TFDS_TEST_SETUP"
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

    def start(self, arguments: Sequence[str], stdout: IO[bytes], stderr: IO[bytes]) -> Fork:
        """Starts a command in a process group of its own, without standard input."""
        with Path(os.devnull).open("rb") as empty:
            files = [file.fileno() for file in (empty, stdout, stderr)]
            return Fork(str(self._socket), arguments, files)


class Fork:
    """A command that the server runs, with the part of `subprocess.Popen` that callers need.

    Args:
      address: The socket of the server.
      arguments: The command and its arguments.
      files: Descriptors that become standard input, output and error.
    """

    def __init__(self, address: str, arguments: Sequence[str], files: Sequence[int]) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(address)
        content = {"argv": list(arguments), "cwd": os.getcwd(), "env": dict(os.environ)}  # noqa: PTH109
        request = json.dumps(content).encode()
        socket.send_fds(self._connection, [len(request).to_bytes(4, "big")], files)
        self._connection.sendall(request)
        self.pid = int.from_bytes(self._connection.recv(4), "big")

        self._code: int | None = None

    def poll(self) -> int | None:
        """Returns the exit code, negative after a signal; None while the command runs."""
        if self._code is None and select.select([self._connection], [], [], 0)[0]:
            return self.wait()
        return self._code

    def wait(self) -> int:
        """Returns the exit code at the end of the command; 1 if the server has ended."""
        if self._code is None:
            answer = self._connection.recv(4)
            self._connection.close()
            self._code = int.from_bytes(answer, "big", signed=True) if answer else 1
        return self._code


def call(address: str, arguments: list[str]) -> int:
    """Runs a command with this process's files and returns its exit code."""
    return Fork(address, arguments, [0, 1, 2]).wait() & 255


def serve(address: str) -> None:
    """Answers calls until it is killed."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # forks neither search nor copy what is loaded
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
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for target, file in enumerate(files):
            os.dup2(file, target)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        sys.argv = request["argv"]
        os._exit(_run())
    for file in files:
        os.close(file)
    connection.sendall(child.to_bytes(4, "big"))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(code.to_bytes(4, "big", signed=True))
    os._exit(0)


def _run() -> int:
    code = 0
    try:
        if module := os.environ.get(SETUP):
            importlib.import_module(module)
        name = sys.argv[0]
        if name == "python":
            _run_python()
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


def _run_python() -> None:
    """Runs `python SCRIPT ARGUMENTS…` or `python -c CODE`."""
    sys.argv = sys.argv[1:]
    if sys.argv[0] == "-c":
        sys.path.insert(0, "")
        exec(compile(sys.argv[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        script = Path(sys.argv[0]).resolve()
        sys.path.insert(0, str(script.parent))
        runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(sys.argv[2])
    else:
        sys.exit(call(sys.argv[2], sys.argv[3:]))
