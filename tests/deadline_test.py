"""What no longer answers ends the work with an error, and a signal always ends a command."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr_tfds import deadline, regular_files
from cxr_tfds.deadline import (
    TIMEOUT,
    deadlines,
    expect_answer,
    keep_asking,
    read_timeout,
    serves,
    sigterm_as_interrupt,
)
from cxr_tfds.errors import InputError


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT, "0.5")
    monkeypatch.setattr(deadline, "_TICK_S", 0.05)
    monkeypatch.setattr(deadline, "_PAUSE_S", 0.02)
    monkeypatch.setattr(deadline, "_PROBE_S", 0.2)


def wait_for_lock() -> None:
    threading.Lock().acquire()
    blocked = threading.Lock()
    blocked.acquire()
    blocked.acquire()


def read_pipe() -> None:
    receiver, _sender = os.pipe()
    os.read(receiver, 1)


@pytest.mark.parametrize("wait", [wait_for_lock, read_pipe, lambda: time.sleep(600)])
def test_a_wait_of_the_main_thread_ends_with_an_error(wait: Callable[[], None]) -> None:
    with (
        pytest.raises(InputError, match=r"^Nobody has not answered for 0\.5 s\. Ask again\.$"),
        deadlines(),
        expect_answer("Nobody", "Ask again."),
    ):
        wait()
    assert not deadline._State.waits


def test_a_wait_of_another_thread_ends_the_main_thread_with_an_error() -> None:
    receiver, sender = os.pipe()

    def read() -> None:
        with expect_answer("b.png", "Check the disk."):
            os.read(receiver, 1)

    thread = threading.Thread(target=read)
    thread.start()
    with pytest.raises(InputError, match=r"^b\.png has not answered"), deadlines():
        thread.join()
    os.write(sender, b"x")
    thread.join()


class Ticks:
    """Replaces the event that ends the watch, and calls a function at each tick."""

    def __init__(self, ticks: int, at_tick: Callable[[int], object] = lambda tick: None) -> None:
        self.ticks, self.at_tick, self.tick = ticks, at_tick, 0

    def wait(self, seconds: float) -> bool:
        self.tick += 1
        self.at_tick(self.tick)
        return self.tick > self.ticks


@pytest.mark.parametrize(
    ("restarts_at", "failure"),
    [
        ((), "a.png has not answered for 1 s. "),
        ((3, 6, 9), ""),  # 0.25 s apart; the last is followed by fewer than 4
        ((3, 6), "a.png has not answered for 1 s. "),
    ],
)
def test_a_sign_of_life_begins_the_time_anew(
    restarts_at: tuple[int, ...], failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "_TICK_S", 0.25)
    monkeypatch.setattr(deadline, "_interrupt_main_thread", lambda: None)
    monkeypatch.setattr(deadline._State, "failure", "")
    monkeypatch.setattr(deadline._State, "waits", set())  # a test before may still wait
    with expect_answer("a.png", "") as wait:
        stop = Ticks(11, lambda tick: tick in restarts_at and wait.restart())
        deadline._watch(1.0, stop)  # type: ignore[arg-type]
    assert deadline._State.failure == failure


def test_many_short_waits_are_not_one_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "_interrupt_main_thread", pytest.fail)
    with contextlib.ExitStack() as stack:

        def next_file(tick: int) -> None:
            stack.close()
            stack.enter_context(expect_answer(f"{tick}.png", ""))

        deadline._watch(0.1, Ticks(50, next_file))  # type: ignore[arg-type]


def test_only_blocks_of_the_main_thread_enforce_deadlines() -> None:
    def work() -> None:
        with deadlines(), expect_answer("a.png", ""):
            threads.append(threading.active_count())

    threads = [threading.active_count() + 1]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with expect_answer("a.png", ""):
        assert threading.active_count() == threads[1] - 1 == threads[0] - 1


def test_ctrl_c_stays_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt), deadlines():
        signal.raise_signal(signal.SIGINT)


def test_the_inner_of_two_blocks_raises_the_error() -> None:
    with deadlines():
        with pytest.raises(InputError), deadlines(), expect_answer("a", ""):
            time.sleep(600)
        assert deadline._State.blocks == 1


@pytest.mark.parametrize("hangs", [False, True])
def test_keeps_asking(hangs: bool) -> None:
    asked, lost = [], threading.Event()

    def answers(name: str) -> bool:
        asked.append(name)
        if lost.is_set() and name == "b:2":
            return bool(hangs and threading.Event().wait())
        return True

    def work() -> None:
        with keep_asking(lambda: ("a:1", "b:2"), answers, what="Machine {}", advice="Look."):
            while len(asked) < 10:
                time.sleep(0.01)
            lost.set()
            time.sleep(600)

    with (
        pytest.raises(InputError, match=r"^Machine b:2 has not answered for 0\.5 s\. Look\."),
        deadlines(),
    ):
        work()
    assert {"a:1", "b:2"} == set(asked)


def test_an_error_is_no_answer() -> None:
    def answers(name: str) -> bool:
        raise ConnectionResetError(name)

    with (
        pytest.raises(InputError, match="has not answered"),
        deadlines(),
        keep_asking(lambda: ("a:1",), answers, what="{}", advice=""),
    ):
        time.sleep(600)


def test_a_server_that_hangs_does_not_serve() -> None:
    with socket.create_server(("localhost", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
        assert serves(address, sends_first=False)  # the system accepts for the process
        assert not serves(address)
        server.accept()[0].close()

        def accept() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.sendall(b"\0")

        thread = threading.Thread(target=accept)
        thread.start()
        assert serves(address)
        thread.join()
    assert not serves(address, sends_first=False)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "inf", "nan"])
def test_refuses_an_invalid_timeout(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT, text)
    with pytest.raises(InputError, match=rf"^{TIMEOUT}='{text}'; expected a number of seconds"):
        read_timeout()


def test_the_default_ends_the_work_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT, "")
    assert read_timeout() + deadline._GRACE_S < 60


def test_sigterm_interrupts_like_ctrl_c() -> None:
    def ended() -> None:
        with sigterm_as_interrupt("Interrupted."):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        ended()
    assert signal.getsignal(signal.SIGTERM) == before


# A command whose main thread is in native code, to which a signal does not return, or that another
# thread keeps from ending.
_COMMAND = """
import contextlib, ctypes, os, threading, time
from cxr_tfds import deadline, regular_files
from cxr_tfds.commands.base import Command
from cxr_tfds.deadline import expect_answer, sigterm_as_interrupt
deadline._GRACE_S = 0.5

def main_thread():
    other = threading.Thread(target=threading.Event().wait, daemon=True)
    other.start()
    while True:
        with contextlib.suppress(KeyboardInterrupt):  # if the signal comes before the call
            print("ready", flush=True)
            ctypes.CDLL(None).pthread_join(ctypes.c_ulong(other.ident), None)

def other_thread():
    threading.Thread(target=threading.Event().wait).start()
    print("ready", flush=True)
    time.sleep(600)

def work():
    with sigterm_as_interrupt("Interrupted. Continue with --resume."), expect_answer("x", "Look."):
        globals()[os.environ['WHERE']]()

Command("work", callback=work)()
"""


@pytest.mark.parametrize(
    ("where", "number", "code", "message"),
    [
        ("main_thread", signal.SIGINT, 130, "Error: Interrupted. Continue with --resume."),
        ("main_thread", signal.SIGTERM, 143, "Error: Interrupted. Continue with --resume."),
        ("main_thread", None, 1, "Error: x has not answered for 1 s. Look."),
        ("other_thread", signal.SIGTERM, 1, "Aborted!"),
        ("other_thread", None, 1, "Error: x has not answered for 1 s. Look."),
    ],
)
def test_a_command_that_does_not_react_is_ended(
    where: str, number: signal.Signals | None, code: int, message: str
) -> None:
    seconds = "600" if number else "1"
    with subprocess.Popen(
        [sys.executable, "-c", _COMMAND],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, TIMEOUT: seconds, "WHERE": where},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if number:
            process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode == code, errors
    assert errors.strip() == message


def test_a_read_that_hangs_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads a pipe whose writer is silent, in place of a file on a network share that hangs."""
    os.mkfifo(path := tmp_path / "a.png")
    monkeypatch.setattr(regular_files, "_check_regular", lambda status: None)
    monkeypatch.setattr(regular_files, "_open_without_waiting", os.open)
    writer = os.open(path, os.O_RDWR)
    message = f"{path} has not answered for 0.5 s. Check its disk or network share, then start"
    with pytest.raises(InputError, match=f"^{re.escape(message)}"), deadlines():
        regular_files.read_regular_file(path)
    os.close(writer)
