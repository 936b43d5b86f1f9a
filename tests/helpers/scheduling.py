"""Distributes the tests to the processes of pytest-xdist."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

# The tests of these folders share a trained run or a dataset, so one process runs all of them.
_SHARING = ("tests/export/", "tests/reading/", "tests/soak/")
# Started first, longest first, so that no process works alone at the end.
_LONGEST = (
    "tests/docs_test.py",
    "tests/export/",
    "tests/first_day_test.py",
    "tests/training/distributed_test.py",
    "tests/training/run_test.py",
    "tests/reading/",
    "tests/soak/",
    "tests/models/backbones_test.py",
    "tests/augmentation/augment_test.py",
    "tests/commands/train_command_test.py",
)


class LongestFirst(LoadFileScheduling):
    """Distributes files as `--dist loadfile` does, in the order of the collection."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((folder for folder in _SHARING if file.startswith(folder)), file)


def place(nodeid: str) -> int:
    """Returns the place of a test in the order in which tests start."""
    places = (place for place, start in enumerate(_LONGEST) if nodeid.startswith(start))
    return next(places, len(_LONGEST))
