"""What the `tfds` command answers without a traceback."""

from __future__ import annotations

import sys
import types

import pytest

from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
from cxr_tfds.building.config import RadiographConfig


@pytest.fixture(autouse=True)
def _as_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules, "tensorflow_datasets.scripts.cli.main", types.ModuleType("main")
    )


def test_a_wrong_setting() -> None:
    with pytest.raises(SystemExit, match=r"^Error: size=0; expected"):
        RadiographConfig(name="x", size=0)
    with pytest.raises(
        SystemExit, match=r"^Error: a config has no setting sizes; expected some of name, size, "
    ):
        RadiographConfig(name="x", sizes=0)


@pytest.mark.parametrize(
    "words", [["--config", '{"size": 8,}'], ['--config={"size": 8,}', "--overwrite"]]
)
def test_malformed_json(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def imported() -> None:  # as --imports does, before TFDS reads the option
        types.new_class("Mine", (Builder,), {"skip_registration": True})

    monkeypatch.setattr(sys, "argv", ["tfds", "build", "mine", *words])
    with pytest.raises(
        SystemExit,
        match=r"^Error: --config .\{\"size\": 8,\}. is no JSON: .*\. Expected settings as",
    ):
        imported()
    monkeypatch.setattr(sys, "argv", ["tfds", "build", "mine", "--config", "512"])
    imported()
