"""Ends the work with an error if something no longer answers, and a process after a signal.

Python interrupts neither TensorFlow's waits nor a read from a network share that does not answer.
So a thread measures how long each wait lasts, and another one ends a process that does not react to
its signal. Standard library only.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

from cxr_tfds.errors import InputError
from cxr_tfds.text import printable

TIMEOUT = "CXR_TFDS_TIMEOUT"  # environment variable
FILE_ADVICE = "Check its disk or network share, then start again."
_TIMEOUT_S = 40.0
_GRACE_S = 10.0  # between a signal and the end of a process that does not react; docker waits 10 s
_TICK_S = 0.25
_PAUSE_S = 1.0  # between two questions
_PROBE_S = 2.0
_END = b"\0"  # not the number of a signal


class Wait:
    """A wait of one thread for an answer; `what` and `advice` are for the error message."""

    def __init__(self, what: str, advice: str) -> None:
        self.what, self.advice, self.seconds = what, advice, 0.0

    def restart(self) -> None:
        """Begins the time anew after a sign of life. Any thread may call it."""
        self.seconds = 0.0


class _State:
    """What the threads of this process share."""

    waits: ClassVar[set[Wait]] = set()
    blocks = 0  # of `deadlines`, one in another
    failure = ""  # why the main thread was interrupted; "" if a person did it
    end_message = "Interrupted."
    ends_process = False  # whether the process is a command, which may be ended


def read_timeout() -> float:
    """Returns the number of seconds in CXR_TFDS_TIMEOUT, or the default.

    Raises:
      InputError: The value is not a positive number.
    """
    text = os.environ.get(TIMEOUT, "")
    if not text:
        return _TIMEOUT_S
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise InputError(
        f"{TIMEOUT}={text!r}; expected a number of seconds above 0, such as {_TIMEOUT_S:g}."
    )


@contextlib.contextmanager
def expect_answer(what: str, advice: str) -> Iterator[Wait]:
    """Limits how long the block may wait for `what`; has no effect outside of `deadlines`."""
    wait = Wait(what, advice)
    _State.waits.add(wait)
    try:
        yield wait
    finally:
        _State.waits.discard(wait)


@contextlib.contextmanager
def keep_asking(
    names: Callable[[], Iterable[str]], answers: Callable[[str], bool], *, what: str, advice: str
) -> Iterator[None]:
    """Asks others in a thread whether they are alive, while the block runs.

    Args:
      names: Returns whom to ask.
      answers: Returns whether one of them answers. It may wait for ever, or raise an error.
      what: For the error message, with {} for the name.
      advice: For the error message.
    """
    stop = threading.Event()
    with expect_answer(what.format("…"), advice) as wait:

        def is_answered(name: str) -> bool:
            wait.what = what.format(name)
            return answers(name)

        def ask() -> None:
            while not stop.wait(_PAUSE_S):
                with contextlib.suppress(Exception):  # whatever a lost connection raises
                    if all(is_answered(name) for name in names()):
                        wait.restart()

        threading.Thread(target=ask, daemon=True).start()
        try:
            yield
        finally:
            stop.set()


@contextlib.contextmanager
def deadlines() -> Iterator[None]:
    """Enforces the deadlines of all threads while the block runs in the main thread.

    Raises:
      InputError: Something has not answered for CXR_TFDS_TIMEOUT seconds. While the main thread is
        in native code, the error is raised when that returns; see `end_on_signals`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop = threading.Event()
    try:
        if not _State.blocks:
            _State.failure = ""
            threading.Thread(target=_watch, args=(read_timeout(), stop), daemon=True).start()
        _State.blocks += 1
        try:
            yield
        finally:
            _State.blocks -= 1
            stop.set()
    except KeyboardInterrupt:
        if not _State.failure:
            raise
        raise InputError(_State.failure) from None


def is_overdue() -> bool:
    """Returns whether a deadline interrupted the main thread, and not a person."""
    return bool(_State.failure)


def _watch(timeout: float, stop: threading.Event) -> None:
    # Ticks are counted, because clocks run on while a process is stopped (Ctrl-Z).
    while not stop.wait(_TICK_S):
        for wait in tuple(_State.waits):
            wait.seconds += _TICK_S
            if wait.seconds >= timeout:
                name = printable(wait.what)
                _State.failure = f"{name} has not answered for {timeout:g} s. {wait.advice}"
                _interrupt_main_thread()
                return


def _interrupt_main_thread() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # nohup ignores the first
        if signal.getsignal(number) is signal.default_int_handler:
            if hasattr(signal, "pthread_kill"):  # ends a system call of Python, too
                signal.pthread_kill(threading.main_thread().ident or 0, number)
            else:
                signal.raise_signal(number)
            return
    if _State.ends_process:
        _end_process(1)


@contextlib.contextmanager
def sigterm_as_interrupt(message: str) -> Iterator[None]:
    """Treats SIGTERM, with which schedulers end a job, like Ctrl-C.

    `message` is printed if the process has to be ended, see `end_on_signals`.
    """
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    _State.end_message = message
    try:
        yield
    finally:
        _State.end_message = "Interrupted."
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def end_on_signals() -> Iterator[None]:
    """Ends the process if it does not end within 10 s after a signal or a deadline.

    Only for the block of a complete command: Python runs signal handlers in the main thread, which
    may be in native code. Exit codes: 1 after a deadline, 130 and 143 after SIGINT and SIGTERM.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if _State.ends_process or not is_main or sys.platform == "win32":  # without `select` on a pipe
        yield
        return
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    previous = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    signalled = threading.Event()
    end = threading.Thread(target=_end_after_signal, args=(receiver, signalled), daemon=True)
    end.start()
    _State.ends_process = True
    try:
        yield
    finally:
        _State.ends_process = False
        signal.set_wakeup_fd(previous)
        os.write(sender, _END)
        end.join()
        for descriptor in (receiver, sender):
            os.close(descriptor)
        if signalled.is_set():
            # A thread that still waits would keep the interpreter from ending.
            null = os.open(os.devnull, os.O_WRONLY)
            faulthandler.dump_traceback_later(_GRACE_S, exit=True, file=null)


def _end_after_signal(receiver: int, signalled: threading.Event) -> None:
    ends = (*_END, signal.SIGINT, signal.SIGTERM)
    while (number := os.read(receiver, 1)[0]) not in ends:
        pass
    if number == _END[0]:
        return
    signalled.set()
    end = time.monotonic() + _GRACE_S
    while select.select([receiver], (), (), max(0, end - time.monotonic()))[0]:
        if os.read(receiver, 1) == _END:
            return
    _end_process(1 if _State.failure else 128 + number)


def _end_process(code: int) -> None:
    # Not through `sys.stderr`, whose lock another thread may hold.
    with contextlib.suppress(OSError):
        os.write(2, f"\nError: {_State.failure or _State.end_message}\n".encode())
    os._exit(code)


def serves(address: str, *, sends_first: bool = True) -> bool:
    """Returns whether a server listens at HOST:PORT and answers.

    `sends_first` also expects its first byte, because the system accepts connections for a process
    that hangs. Every gRPC server sends one (RFC 9113, section 3.4).
    """
    import socket  # takes 4 ms

    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_PROBE_S) as connection:
            return not sends_first or bool(connection.recv(1))
    except OSError:
        return False
