"""Runs commands within limits of time and memory, and names what must not happen."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from helpers.command_server import CommandServer, Fork

EXIT_CODES = (0, 1, 2, 130, 143)
LIMIT_S = 300.0
# Of a command that needs no TensorFlow: the limit of the images decoded at a time, and the rest.
DEVICE_MB = 1000.0 + 200
TRAINING_MB = 4000.0  # of one that does; it has about 500 MB when it starts
# An interrupt may reach Python inside a destructor, which can only print it.
_TRACEBACK = r"Traceback \(most recent call last\)"
_IGNORED = re.compile(rf"^Exception ignored in.*\n{_TRACEBACK}", re.MULTILINE)
_EVERY_S = 0.05
_STOPPING_S = 30.0  # for the children of a command that ended


@dataclass
class Done:
    """How a command ended."""

    code: int  # as a shell shows it: 128 + n after the signal n
    stdout: str
    stderr: str
    peak_mb: float
    problems: list[str] = field(default_factory=list)

    @property
    def problem(self) -> str:
        """Everything that must not happen, with the end of standard error; empty if nothing."""
        if not self.problems:
            return ""
        return f"{'; '.join(self.problems)}. Standard error: {self.stderr[-1500:].strip()}"


class Running:
    """A command that was started; `wait` reports how it ended."""

    def __init__(self, process: Fork | subprocess.Popen[bytes], outputs: Path, limit_mb: float):
        self._process, self._outputs, self._limit_mb = process, outputs, limit_mb
        self._sent: list[int] = []
        self.pid = process.pid
        self.peak_mb = 0.0

    def poll(self) -> int | None:
        """Returns the exit code, or None while the command runs."""
        return self._process.poll()

    def send(self, number: int) -> bool:
        """Sends a signal; returns False if the command has ended."""
        if self.poll() is not None:
            return False
        self._sent.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        return True

    def sleep(self, seconds: float) -> None:
        """Waits while the command runs, and notes its memory."""
        end = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < end and self.peak_mb <= self._limit_mb:
            self.peak_mb = max(self.peak_mb, group_mb(self.pid))
            time.sleep(min(_EVERY_S, seconds))

    def count_lines(self) -> int:
        """Returns the number of lines on standard output up to now."""
        return self._outputs.with_suffix(".out").read_bytes().count(b"\n")

    def wait(self, limit_s: float = LIMIT_S) -> Done:
        """Returns how the command ended; it is killed at a limit."""
        problems = []
        self.sleep(limit_s)
        if self.peak_mb > self._limit_mb:
            problems.append(f"memory: {self.peak_mb:.0f} MB, allowed are {self._limit_mb:.0f}")
        if self.poll() is None:
            problems += [] if problems else [f"no end within {limit_s:.0f} s"]
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        stdout = self._outputs.with_suffix(".out").read_text(errors="replace")
        stderr = self._outputs.with_suffix(".err").read_text(errors="replace")
        if not problems:
            if re.search(_TRACEBACK, _IGNORED.sub("", stderr + stdout)):
                problems.append("traceback")
            code = 128 - code if code < 0 and -code in self._sent else code
            if code not in EXIT_CODES and code != 128 + signal.SIGKILL:
                problems.append(f"exit code {code}")
            if not self._group_has_ended():
                problems.append(f"processes remain {_STOPPING_S:.0f} s after the command")
        return Done(code, stdout, stderr, self.peak_mb, problems)

    def _group_has_ended(self) -> bool:
        end = time.monotonic() + _STOPPING_S
        while time.monotonic() < end:
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(_EVERY_S)
        os.killpg(self.pid, signal.SIGKILL)
        return False


class Commands:
    """Starts commands, either as forks of a process that has loaded TensorFlow, or anew.

    Forks start in no time. A new process has its own memory and may preload a library.
    """

    def __init__(self, server: CommandServer, folder: Path) -> None:
        self._server, self._folder, self._count = server, folder, 0

    def _outputs(self) -> Path:
        self._count += 1
        return self._folder / f"command-{self._count}"

    def fork(self, *arguments: object, limit_mb: float = TRAINING_MB) -> Running:
        """Starts a console script, or "python" with the path of a script."""
        outputs = self._outputs()
        with (
            outputs.with_suffix(".out").open("wb") as out,
            outputs.with_suffix(".err").open("wb") as err,
        ):
            process = self._server.start([str(part) for part in arguments], out, err)
        return Running(process, outputs, limit_mb)

    def spawn(
        self,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        limit_mb: float = DEVICE_MB,
    ) -> Running:
        """Starts a console script, or "python", in a new process."""
        outputs = self._outputs()
        name, *others = [str(part) for part in arguments]
        line = [str(Path(sys.executable).parent / name), *others]
        with (
            outputs.with_suffix(".out").open("wb") as out,
            outputs.with_suffix(".err").open("wb") as err,
        ):
            process = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        return Running(process, outputs, limit_mb)

    def run(self, *arguments: object) -> Done:
        """Forks a command that must succeed."""
        return expect_success(arguments, self.fork(*arguments).wait())


def expect_success(arguments: Sequence[object], done: Done) -> Done:
    """Returns `done`; raises a RuntimeError if the command failed."""
    if done.code or done.problems:
        raise RuntimeError(
            f"{' '.join(map(str, arguments))} ended with {done.code}. {done.problem or done.stderr}"
        )
    return done


def group_mb(group: int) -> float:
    """Returns the memory of all processes of a process group, in MB."""
    total = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError):
                if os.getpgid(int(entry.name)) == group:
                    pages = int(Path(entry.path, "statm").read_text().split()[1])
                    total += pages * os.sysconf("SC_PAGE_SIZE")
    return total / 1e6
