"""Fixtures for the tests of all packages."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_SHARED_DATA = Path(__file__).parents[1] / "shared" / "data"

# A shell starts background jobs with Ctrl-C ignored, and so would every command that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Importing and collecting makes millions of objects that stay. Searching them for garbage again
# and again takes a seventh of the time of a training.
gc.disable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Adds to `--dist loadfile` which files are started first and which belong together."""
    if config.option.dist != "loadfile":
        return None
    from helpers.scheduling import LongestFirst

    config.option.loadscopereorder = False
    return LongestFirst(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # in a process of xdist
        from helpers.scheduling import place

        items.sort(key=lambda item: place(item.nodeid))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _no_kaggle_credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hides the Kaggle credentials of the user, which would let a test download a dataset."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path_factory.mktemp("no_kaggle")))
        for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Returns the folder of real images, which only some checkouts have. Skips without it."""
    if not _SHARED_DATA.is_dir():
        pytest.skip(f"no real images in {_SHARED_DATA}")
    return _SHARED_DATA
